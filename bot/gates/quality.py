"""Gates on the quality of a release, each set per environment in the catalog: `gates: {tests: {report: ...}}`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from pydantic import Field

from bot.errors import ProviderRejected
from bot.gates.asking import AskingGate, GateOptions, NotYet, fill
from bot.gates.base import GateRequest, GateResult
from bot.gates.reports import Counted, ReportUnreadable, is_coverage, is_junit, read_junit, read_lines


class TestsOptions(GateOptions):
    """report: path below SLIPWAY_REPORTS_URL; left out: what the build kept. at_least: none that ran is no proof."""

    __test__ = False
    report: str = ""
    at_least: int = Field(default=1, ge=0)


class CoverageOptions(GateOptions):
    """minimum: covered lines in percent. baseline: another report; drop: points that may be lost against it.

    With drop and no baseline, the reports kept by the build that was deployed there before are the measure.
    """

    report: str = ""
    minimum: float = Field(default=0, ge=0, le=100, strict=False)
    baseline: str = ""
    drop: float | None = Field(default=None, ge=0, le=100, strict=False)


class SonarOptions(GateOptions):
    """project: its key in SonarQube. branch: whose analysis of the release's commit is asked for."""

    project: str = "{service}"
    branch: str = ""


class JobOptions(GateOptions):
    """suite: what the test platform runs. parameters: handed on."""

    suite: str = "{service}"
    parameters: dict[str, str] = Field(default_factory=dict)


class TestsGate(AskingGate[TestsOptions]):
    """Unit tests, from JUnit reports; where none is named or kept, as the CI system itself counted them."""

    __test__ = False
    name = "tests"
    options = TestsOptions

    async def _look(self, options: TestsOptions, request: GateRequest) -> GateResult:
        try:
            tests = await self._tests(options, request)
        except ReportUnreadable as error:
            return self._unknown(f"The test report cannot be read: {error}.")
        ran, link = tests.total - tests.skipped, self._link_to(options.report, request)
        if tests.failed:
            return self._fail(f"{len(tests.failed)} of {tests.total} tests failed.", tests.failed, link)
        if not ran and options.at_least:
            return self._unknown("No test ran, so nothing is proven.")
        if ran < options.at_least:
            return self._fail(f"Only {ran} tests ran; at least {options.at_least} must.")
        skipped = f", {tests.skipped} were skipped" if tests.skipped else ""
        return self._pass(f"{ran} tests passed{skipped}.")

    async def _tests(self, options: TestsOptions, request: GateRequest) -> Counted:
        """Raises ReportUnreadable, and as `_reports`."""
        told = await self._counted(request, request.built) if not options.report else None
        if told is not None and told[0].tests is not None:
            results, names = told
            unnamed = ("(without a name)",) * (results.failed - len(names))
            return Counted(results.tests or 0, results.skipped, (*names, *unnamed))
        reports = await self._reports(options.report, request)
        if not options.report:
            reports = [one for one in reports if is_junit(one[1])]
        return sum((read_junit(data) for _, data in reports), Counted())


class CoverageGate(AskingGate[CoverageOptions]):
    """Line coverage, from JaCoCo, Cobertura or LCOV; where none is named or kept, as the CI system itself tells it."""

    name = "coverage"
    options = CoverageOptions

    async def _look(self, options: CoverageOptions, request: GateRequest) -> GateResult:
        try:
            now = await self._percent(options.report, request)
            before = await self._before(options, request)
        except ReportUnreadable as error:
            return self._unknown(f"The coverage report cannot be read: {error}.")
        link, drop = self._link_to(options.report, request), options.drop or 0
        if now < options.minimum:
            return self._fail(f"Coverage is {now:.1f} %; at least {options.minimum:g} % is wanted.", link=link)
        if before is not None and before - now > drop:
            text = f"Coverage fell from {before:.1f} % to {now:.1f} %; it may fall by {drop:g} points."
            return self._fail(text, link=link)
        return self._pass(f"Coverage is {now:.1f} %.", link=link)

    async def _before(self, options: CoverageOptions, request: GateRequest) -> float | None:
        """What it was; None if nothing is there to compare with."""
        if options.baseline:
            return await self._percent(options.baseline, request)
        if options.drop is None or options.report:
            return None
        told = await self._counted(request, request.built_before)
        if told is not None and told[0].coverage is not None:
            return told[0].coverage
        kept = [data for _, data in await self._kept(request, request.before_run_id) or () if is_coverage(data)]
        return _covered(kept) if kept else None

    async def _percent(self, pattern: str, request: GateRequest) -> float:
        told = await self._counted(request, request.built) if not pattern else None
        if told is not None and told[0].coverage is not None:
            return told[0].coverage
        reports = await self._reports(pattern, request)
        if not pattern:
            reports = [one for one in reports if is_coverage(one[1])]
        return _covered([data for _, data in reports])


def _covered(reports: Sequence[bytes]) -> float:
    """Covered lines of all reports together, in percent. Raises ReportUnreadable."""
    counted = [read_lines(data) for data in reports]
    covered, total = sum(one for one, _ in counted), sum(one for _, one in counted)
    if total <= 0:
        raise ReportUnreadable("it counts no lines")
    return 100 * covered / total


class SonarGate(AskingGate[SonarOptions]):
    """SonarQube's quality gate, computed for the analysis of exactly this commit.

    Source: api/project_analyses/search and api/qualitygates/project_status; by project alone the live gate of whichever
    commit came last would answer.
    """

    name = "sonarqube"
    options = SonarOptions

    async def _look(self, options: SonarOptions, request: GateRequest) -> GateResult:
        http = self._system("sonar")
        project = fill(options.project, request)
        analysis = await self._analysis(project, fill(options.branch, request), request.commit)
        answer = await http.get_json("api/qualitygates/project_status", {"analysisId": analysis}) or {}
        status = answer.get("projectStatus", {})
        bad = [one for one in status.get("conditions", ()) if one.get("status") in ("ERROR", "WARN")]
        lines = tuple(
            f"{one.get('metricKey')} is {one.get('actualValue')}, wanted {one.get('errorThreshold')}" for one in bad
        )
        link = f"{str(http.client.base_url).rstrip('/')}/dashboard?id={quote(project, safe='')}"
        match status.get("status"):
            case "OK":
                return self._pass(f"SonarQube passed {project}.", link=link)
            case "WARN":  # Only old servers say so.
                return self._warn(f"SonarQube passed {project} with warnings.", lines, link)
            case "ERROR":
                return self._fail(f"SonarQube's quality gate of {project} failed.", lines, link)
        return self._unknown(f"SonarQube has no quality gate for {project}, so nothing is proven.", link=link)

    async def _analysis(self, project: str, branch: str, commit: str) -> str:
        params = {"project": project, "ps": 100} | ({"branch": branch} if branch else {})
        answer = await self._system("sonar").get_json("api/project_analyses/search", params)
        if answer is None:
            raise ProviderRejected(f"SonarQube has no project {project}.", hint="Correct `gates.sonarqube.project`.")
        found = next((one["key"] for one in answer.get("analyses", ()) if one.get("revision") == commit), None)
        if found is None:
            raise NotYet(f"SonarQube has no analysis of {project} at {commit[:12]} yet.")
        return str(found)


class JobGate(AskingGate[JobOptions]):
    """A test platform behind HTTP: started once per release and environment, followed to its end.

    The same key starts nothing twice there, so asking again is looking; see docs/gates.md for the contract.
    """

    name = "test_job"
    options = JobOptions

    async def _look(self, options: JobOptions, request: GateRequest) -> GateResult:
        http, suite = self._system("testing"), fill(options.suite, request)
        service, environment = request.service.name, request.target.environment
        target = {"service": service, "environment": environment, "digest": request.digest}
        parameters = {name: fill(value, request) for name, value in options.parameters.items()}
        response = await http.tell(
            "v1/jobs",
            json={"suite": suite, "target": target, "parameters": parameters},
            headers={"Idempotency-Key": ":".join((service, environment, suite, request.digest))},
        )
        if response.status_code >= 400:
            said = f"The test platform refused {suite} ({response.status_code})."
            raise ProviderRejected(said, hint="Correct `gates.test_job` in the catalog.")
        job = http.read_json(response)
        if job.get("state") in ("queued", "running"):
            job = await http.get_json(f"v1/jobs/{quote(str(job['id']), safe='')}") or job
        return self._judged(suite, job)

    def _judged(self, suite: str, job: Mapping[str, Any]) -> GateResult:
        state, result, link = job.get("state"), job.get("result") or {}, str(job.get("url") or "")
        if state == "passed":
            return self._pass(f"{suite}: {result.get('passed', 'all')} tests passed.", link=link)
        if state in ("queued", "running"):
            progress = job.get("progress") or {}
            done = f"{progress.get('done', 0)} of {progress.get('total', '?')} done"
            raise NotYet(f"The test job {suite} is {state} ({done}).")
        failures = tuple(f"{one.get('name')}: {one.get('message', '')}" for one in result.get("failures", ()))
        if state == "failed":
            return self._fail(f"{suite}: {result.get('failed', 'some')} tests failed.", failures, link)
        text = f"{suite} ended without a verdict ({str(state)[:40]}), so nothing is proven."
        return self._unknown(text, failures, link)
