"""A gate that stands in front of the others."""

from __future__ import annotations

from bot.catalog.model import Service, Target
from bot.gates.base import GateResult


class MissingGates:
    """Stops a release whose catalog asks for a gate that is not set up here: fail closed."""

    name = "set-up"

    def __init__(self, known: tuple[str, ...]) -> None:
        """known: the gates that are set up."""
        self._known = frozenset(known)

    async def check(self, service: Service, target: Target, commit: str, digest: str) -> GateResult:
        """Pass if every gate of the target is known here."""
        missing = sorted(set(target.gates) - self._known)
        if not missing:
            return GateResult(self.name, True, "")
        text = f"The gate {', '.join(missing)} is not set up here; set its address, or correct its name."
        return GateResult(self.name, False, text)
