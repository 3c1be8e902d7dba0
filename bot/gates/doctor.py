"""What `slipway doctor` looks at in the systems that gates ask: whether each answers and takes our credentials."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TYPE_CHECKING

from bot.catalog.model import Catalog
from bot.clock import utc_now
from bot.doctor import Finding
from bot.gates.outside import client_of
from bot.pipelines.doctor import Probe, asked

if TYPE_CHECKING:
    import httpx

    from bot.pipelines.settings import CiSettings
    from bot.settings import Settings

PATHS = {
    "sonar": ("api/qualitygates/list", "SLIPWAY_SONAR_TOKEN", ()),
    # What these are asked for is not there, and that is an answer.
    "testing": ("v1/jobs/slipway-doctor", "SLIPWAY_TESTING_TOKEN", (404,)),
    "reports": ("slipway-doctor", "SLIPWAY_REPORTS_TOKEN", (404,)),
    "harbor": ("api/v2.0/projects?page_size=1", "SLIPWAY_HARBOR_USER and SLIPWAY_HARBOR_PASSWORD", ()),
    "registry": ("v2/", "SLIPWAY_REGISTRY_USER and SLIPWAY_REGISTRY_PASSWORD", ()),
}
"""System -> a harmless question, the setting that a refusal is about, and which other answers are good."""


async def check(settings: Settings, _catalog: Catalog) -> AsyncIterator[Finding]:
    """A finding for each system with an address; nothing is started."""
    for name, (path, token, answers) in PATHS.items():
        if getattr(settings, f"{name}_url"):
            client: Callable[[CiSettings], httpx.AsyncClient] = partial(client_of, name, clock=utc_now)
            yield await asked(name, Probe(client, path, token, answers), settings)
