"""Makes the gates and the connections they ask by. A gate whose system is not set up says so, and never passes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from bot.clock import Clock
from bot.gates.base import Gate
from bot.later import later, named
from bot.pipelines.base import Pipeline
from bot.pipelines.settings import CiSettings

if TYPE_CHECKING:
    import httpx

    from bot.gates.asking import Systems

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


KINDS = (
    "bot.gates.quality:TestsGate",
    "bot.gates.quality:CoverageGate",
    "bot.gates.quality:SonarGate",
    "bot.gates.scan:ScanGate",
    "bot.gates.signature:SignatureGate",
    "bot.gates.checks:ChecksGate",
    "bot.gates.quality:JobGate",
)
"""Every gate, in the order in which a card shows them."""

GATE_OPTIONS = {
    "tests": "bot.gates.quality:TestsOptions",
    "coverage": "bot.gates.quality:CoverageOptions",
    "sonarqube": "bot.gates.quality:SonarOptions",
    "scan": "bot.gates.scan:ScanOptions",
    "signature": "bot.gates.signature:SignatureOptions",
    "checks": "bot.gates.checks:ChecksOptions",
    "test_job": "bot.gates.quality:JobOptions",
}
"""Gate -> the model of its settings, for the catalog's loader and `slipway check`."""


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
    clients = {name: client_of(name, settings, clock) for name in VARIABLES if getattr(settings, f"{name}_url")}

    def make_systems() -> Systems:
        from bot.gates.asking import Systems
        from bot.pipelines.http import Http

        http = {name: Http(SAID[name], client, clock) for name, client in clients.items()}
        return Systems(clock, http, VARIABLES, pipelines)

    systems = later(make_systems)
    gates = tuple(later(partial(_make_gate, place, systems)) for place in KINDS)
    return OutsideGates(gates, tuple(client.aclose for client in clients.values()))


def _make_gate(place: str, systems: Systems) -> Gate:
    kind = named(place)
    gate: Gate = kind(systems)
    return gate


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
