"""Makes the gates whose systems are set up; nothing of the others is imported."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bot.clock import Clock
from bot.gates.base import Gate
from bot.gates.missing import MissingGates
from bot.pipelines.settings import CiSettings


@dataclass(frozen=True, slots=True)
class OutsideGates:
    """What was made. close: ends their connections."""

    gates: tuple[Gate, ...]
    closing: tuple[Callable[[], Awaitable[None]], ...]


def outside_gates(settings: CiSettings, clock: Clock) -> OutsideGates:
    """The gates that can be asked, and one in front that refuses what cannot."""
    if not any((settings.reports_url, settings.sonar_url, settings.testing_url)):
        return OutsideGates((MissingGates(()),), ())
    from bot.gates.quality import CoverageGate, JobGate, SonarGate, TestsGate
    from bot.pipelines.http import Http, make_client

    makers = {
        "reports": ("The report server", (TestsGate, CoverageGate)),
        "sonar": ("SonarQube", (SonarGate,)),
        "testing": ("The test platform", (JobGate,)),
    }
    gates: list[Gate] = []
    closing: list[Callable[[], Awaitable[None]]] = []
    for name, (said, kinds) in makers.items():
        if address := getattr(settings, f"{name}_url"):
            token = settings.ci_secret(f"{name}_token")
            client = make_client(f"{address.rstrip('/')}/", {"Authorization": f"Bearer {token}"} if token else None)
            gates += [kind(Http(said, client, clock)) for kind in kinds]
            closing.append(client.aclose)
    known = tuple(gate.name for gate in gates)
    return OutsideGates((MissingGates(known), *gates), tuple(closing))
