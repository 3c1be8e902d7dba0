"""What `slipway doctor` looks at in the CI systems: whether each answers, and whether it takes our credentials."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from bot.catalog.model import Catalog
from bot.doctor import Finding
from bot.errors import SlipwayError
from bot.pipelines.http import make_client
from bot.pipelines.outside import cluster_client, github_client, gitlab_client, yunxiao_client
from bot.pipelines.settings import CiSettings

if TYPE_CHECKING:
    from bot.settings import Settings


@dataclass(frozen=True, slots=True)
class Probe:
    """A harmless question. path: below the client's address; token: the setting that a refusal is about.

    answers: statuses below 500 that are as good as a yes, such as a 404 where what is asked for need not be there.
    """

    client: Callable[[CiSettings], httpx.AsyncClient]
    path: str
    token: str
    answers: tuple[int, ...] = ()


def _jenkins(settings: CiSettings) -> httpx.AsyncClient:
    secret = settings.ci_secret("jenkins_token") or settings.ci_secret("jenkins_password")
    return make_client(f"{settings.jenkins_url.rstrip('/')}/", auth=(settings.jenkins_user, secret))


PROBES = {
    "jenkins": Probe(_jenkins, "api/json?tree=mode", "SLIPWAY_JENKINS_USER and SLIPWAY_JENKINS_TOKEN"),
    "gitlab": Probe(gitlab_client, "version", "SLIPWAY_GITLAB_TOKEN"),
    "github": Probe(github_client, "rate_limit", "SLIPWAY_GITHUB_TOKEN, or the App's settings"),
    "tekton": Probe(
        lambda settings: cluster_client(settings, "tekton", settings.tekton_url), "version", "SLIPWAY_TEKTON_TOKEN"
    ),
    "prow_cluster": Probe(
        lambda settings: cluster_client(settings, "prow_cluster", settings.prow_cluster_url),
        "version",
        "SLIPWAY_PROW_CLUSTER_TOKEN",
    ),
    "yunxiao": Probe(yunxiao_client, "pipelines?perPage=1", "SLIPWAY_YUNXIAO_TOKEN"),
}
"""By the name of the setting with its address, without `_url`."""


async def check(settings: Settings, _catalog: Catalog) -> AsyncIterator[Finding]:
    """A finding for each system with an address; nothing is started."""
    for name, probe in PROBES.items():
        if getattr(settings, f"{name}_url"):
            yield await asked(name, probe, settings)


async def asked(name: str, probe: Probe, settings: CiSettings) -> Finding:
    """What one system says."""
    try:
        async with probe.client(settings) as client:
            answer = await client.get(probe.path)
    except SlipwayError as error:
        return Finding(name, error.message, error.hint or "Correct it.")
    except httpx.HTTPError as error:
        address = f"SLIPWAY_{name.upper()}_URL"
        return Finding(name, f"it does not answer ({type(error).__name__})", f"Check {address} and the network.")
    if answer.status_code in probe.answers:
        return Finding(name, "it answers and takes our credentials")
    if answer.status_code in (401, 403):
        return Finding(name, f"it refuses our credentials ({answer.status_code})", f"Put a new one into {probe.token}.")
    if not answer.is_success:
        address = f"SLIPWAY_{name.upper()}_URL"
        return Finding(name, f"it answers {answer.status_code} where it should tell its version", f"Check {address}.")
    return Finding(name, "it answers and takes our credentials")
