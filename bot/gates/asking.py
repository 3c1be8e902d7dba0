"""What the gates share: settings from the catalog, systems to ask, patience, and a verdict for every way it can end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from bot import logs
from bot.clock import Clock
from bot.errors import ProviderError, ProviderRejected, ProviderUnavailable
from bot.gates.base import GateRequest, GateResult, GateVerdict
from bot.options import Duration, Options, read_options
from bot.pipelines.base import BuiltBy, Counting, Pipeline, Reporting, RunResults
from bot.pipelines.http import Http

EVIDENCE = 20
"""Lines of evidence that are shown."""


class GateOptions(Options):
    """What every gate knows. advisory: a no is only a warning; timeout: for what is not there yet."""

    advisory: bool = False
    timeout: Duration = timedelta(minutes=30)


OptionsT = TypeVar("OptionsT", bound=GateOptions)


@dataclass(frozen=True, slots=True)
class Systems:
    """What gates ask. http: by name, only what is set up; variables: name -> the variable that sets it up.

    pipelines: they may have kept the reports of their runs.
    """

    clock: Clock
    http: Mapping[str, Http]
    variables: Mapping[str, str]
    pipelines: Mapping[str, Pipeline]


class NotYet(ProviderUnavailable):
    """It works on it, or it is not there yet: waited for, and unknown if it stays so."""


class AskingGate(ABC, Generic[OptionsT]):
    """A gate that reads its settings, asks, and turns every way of not knowing into UNKNOWN."""

    name: str = ""
    options: type[OptionsT]

    def __init__(self, systems: Systems) -> None:
        """systems: shared by all gates."""
        self._systems = systems

    async def check(self, request: GateRequest) -> GateResult:
        """Look and decide; what cannot be told in time is UNKNOWN, and so is what is set up wrongly."""
        where = f"gates.{self.name} of {request.service.name} in {request.target.environment}"
        try:
            options = read_options(self.options, dict(request.target.gates[self.name]), where)
        except ProviderRejected as error:
            return self._unknown(error.sentence())
        try:
            result = await self._look(options, request)
        except ProviderRejected as error:
            return self._unknown(error.sentence())
        except ProviderError as error:
            late = self._systems.clock() - request.since_at >= options.timeout
            said = f"{error.message} It was waited for long enough." if late else error.message
            return GateResult(self.name, GateVerdict.UNKNOWN, said, waiting=not late)
        if result.verdict is GateVerdict.FAIL and options.advisory:
            return GateResult(result.gate, GateVerdict.WARN, result.message, result.lines, result.link)
        return result

    @abstractmethod
    async def _look(self, options: OptionsT, request: GateRequest) -> GateResult:
        """Ask, and say what came of it. Raises ProviderError: it cannot be told now, or not at all."""

    # --- what the gates are made of

    def _pass(self, message: str, lines: tuple[str, ...] = (), link: str = "") -> GateResult:
        return self._said(GateVerdict.PASS, message, lines, link)

    def _warn(self, message: str, lines: tuple[str, ...] = (), link: str = "") -> GateResult:
        return self._said(GateVerdict.WARN, message, lines, link)

    def _fail(self, message: str, lines: tuple[str, ...] = (), link: str = "") -> GateResult:
        return self._said(GateVerdict.FAIL, message, lines, link)

    def _unknown(self, message: str, lines: tuple[str, ...] = (), link: str = "") -> GateResult:
        return self._said(GateVerdict.UNKNOWN, message, lines, link)

    def _said(self, verdict: GateVerdict, message: str, lines: tuple[str, ...], link: str) -> GateResult:
        shown = tuple(logs.redact(logs.clean(line))[: logs.LINE_LIMIT] for line in lines[:EVIDENCE])
        return GateResult(self.name, verdict, message, shown, _safe_link(link))

    def _system(self, name: str) -> Http:
        """Raises ProviderRejected: it is not set up here."""
        found = self._systems.http.get(name)
        if found is None:
            variable = self._systems.variables[name]
            raise ProviderRejected(f"The gate {self.name} is not set up here.", hint=f"Set {variable}.")
        return found

    async def _reports(self, pattern: str, request: GateRequest) -> list[tuple[str, bytes]]:
        """The report on the report server; without a pattern, those that the build itself kept. With their names.

        Raises:
            NotYet: the report is not there.
            ProviderRejected: nobody keeps reports.
        """
        if pattern:
            path = fill(pattern, request)
            response = await self._system("reports").get(path.lstrip("/"))
            if response is None:
                raise NotYet(f"The report of gate {self.name} for {request.commit[:12]} is not there yet.")
            return [(path, response.content)]
        kept = await self._kept(request, request.run_id)
        if kept is None:
            raise ProviderRejected(
                f"The build of {request.commit[:12]} left no reports for gate {self.name}.",
                hint=f"Name `gates.{self.name}.report`, or `reports` in the pipeline's file.",
            )
        return kept

    async def _kept(self, request: GateRequest, run_id: str) -> list[tuple[str, bytes]] | None:
        """What a run kept, None if it kept nothing or cannot."""
        pipeline: object = self._systems.pipelines.get(request.target.pipeline.provider)
        return await pipeline.reports(run_id) if isinstance(pipeline, Reporting) and run_id else None

    async def _counted(self, request: GateRequest, built: BuiltBy | None) -> tuple[RunResults, tuple[str, ...]] | None:
        """What the CI system itself counted in a run; None if it cannot, or did not."""
        pipeline: object = self._systems.pipelines.get(request.target.pipeline.provider)
        if built is None or not isinstance(pipeline, Counting):
            return None
        return await pipeline.counted(request.service, request.target, built)

    def _link_to(self, pattern: str, request: GateRequest) -> str:
        """Where a person sees a report of the report server; empty for reports that a build kept."""
        http = self._systems.http.get("reports")
        if not pattern or http is None:
            return ""
        return f"{str(http.client.base_url).rstrip('/')}/{fill(pattern, request).lstrip('/')}"


def fill(pattern: str, request: GateRequest) -> str:
    """A pattern with the names of the release in it."""
    words = {
        "service": request.service.name,
        "environment": request.target.environment,
        "team": request.service.team,
        "language": request.service.language,
        "commit": request.commit,
        "version": request.version,
        "branch": request.branch,
        "digest": request.digest,
    }
    for name, value in words.items():
        pattern = pattern.replace("{" + name + "}", value)
    return pattern


def model_of(gate: type[AskingGate[Any]]) -> type[BaseModel]:
    """The model of a gate's settings, for `slipway check`."""
    model: type[BaseModel] = gate.options
    return model


def _safe_link(link: str) -> str:
    """A link from outside is shown only if it is one."""
    fit = link.startswith(("https://", "http://")) and len(link) <= 500 and not any(map(str.isspace, link))
    return logs.redact(link) if fit else ""
