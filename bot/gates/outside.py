"""Makes the gates and the connections they ask by. A gate whose system is not set up says so, and never passes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bot.clock import Clock
from bot.gates.base import Gate
from bot.pipelines.base import Pipeline
from bot.pipelines.settings import CiSettings

if TYPE_CHECKING:
    import httpx
    from pydantic import BaseModel

VARIABLES = {
    "reports": "SLIPWAY_REPORTS_URL",
    "sonar": "SLIPWAY_SONAR_URL",
    "testing": "SLIPWAY_TESTING_URL",
    "harbor": "SLIPWAY_HARBOR_URL",
    "registry": "SLIPWAY_REGISTRY_URL",
    "github": "SLIPWAY_GITHUB_URL",
    "gitlab": "SLIPWAY_GITLAB_URL",
}
"""What a gate asks -> the variable that sets it up."""

SAID = {
    "reports": "The report server",
    "sonar": "SonarQube",
    "testing": "The test platform",
    "harbor": "Harbor",
    "registry": "The image registry",
    "github": "GitHub",
    "gitlab": "GitLab",
}


@dataclass(frozen=True, slots=True)
class OutsideGates:
    """What was made. close: ends their connections."""

    gates: tuple[Gate, ...]
    closing: tuple[Callable[[], Awaitable[None]], ...]


def outside_gates(settings: CiSettings, clock: Clock, pipelines: Mapping[str, Pipeline]) -> OutsideGates:
    """Every gate, in the order in which a card shows them. pipelines: they may have kept reports.

    Raises:
        SlipwayError: an address without credentials, or credentials that cannot be read.
    """
    from bot.gates.asking import Systems
    from bot.gates.checks import ChecksGate
    from bot.gates.quality import CoverageGate, JobGate, SonarGate, TestsGate
    from bot.gates.scan import ScanGate
    from bot.gates.signature import SignatureGate
    from bot.pipelines.http import Http

    clients = {name: client_of(name, settings, clock) for name in VARIABLES if getattr(settings, f"{name}_url")}
    http = {name: Http(SAID[name], client, clock) for name, client in clients.items()}
    systems = Systems(clock, http, VARIABLES, pipelines)
    kinds = (TestsGate, CoverageGate, SonarGate, ScanGate, SignatureGate, ChecksGate, JobGate)
    return OutsideGates(tuple(kind(systems) for kind in kinds), tuple(client.aclose for client in clients.values()))


def gate_options() -> dict[str, type[BaseModel]]:
    """Gate -> the model of its settings, for `slipway check` and the catalog's loader."""
    from bot.gates.checks import ChecksOptions
    from bot.gates.quality import CoverageOptions, JobOptions, SonarOptions, TestsOptions
    from bot.gates.scan import ScanOptions
    from bot.gates.signature import SignatureOptions

    return {
        "tests": TestsOptions,
        "coverage": CoverageOptions,
        "sonarqube": SonarOptions,
        "scan": ScanOptions,
        "signature": SignatureOptions,
        "checks": ChecksOptions,
        "test_job": JobOptions,
    }


def client_of(name: str, settings: CiSettings, clock: Clock) -> httpx.AsyncClient:
    """A client of one of `VARIABLES`. Raises SlipwayError: without credentials."""
    from bot.gates.registry_auth import RegistryAuth
    from bot.pipelines.http import make_client
    from bot.pipelines.outside import github_client, gitlab_client

    address = f"{getattr(settings, f'{name}_url').rstrip('/')}/"
    match name:
        case "github":
            return github_client(settings, clock)
        case "gitlab":
            return gitlab_client(settings)
        case "harbor":
            password = settings.ci_secret("harbor_password")
            return make_client(address, auth=(settings.harbor_user, password) if settings.harbor_user else None)
        case "registry":
            auth = RegistryAuth(settings.registry_user, settings.ci_secret("registry_password"))
            return make_client(address, auth=auth)
    token = settings.ci_secret(f"{name}_token")
    return make_client(address, {"Authorization": f"Bearer {token}"} if token else None)
