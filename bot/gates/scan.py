"""The gate on an image's vulnerabilities: Harbor's own scan, or a report of Trivy or Grype."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal
from urllib.parse import quote

from pydantic import Field

from bot.errors import ProviderRejected
from bot.gates.asking import EVIDENCE, AskingGate, GateOptions, NotYet
from bot.gates.base import GateRequest, GateResult
from bot.gates.images import Image, parse_image
from bot.gates.scans import SEVERITIES, Scan, ScanUnreadable, read_harbor, read_scan

Severity = Literal["critical", "high", "medium", "low", "negligible", "unknown"]
_REPORT = "application/vnd.security.vulnerability.report; version=1.1"


def _nothing_grave() -> dict[Severity, int]:
    return {"critical": 0, "high": 0}


class ScanOptions(GateOptions):
    """maximum: severity -> how many are still allowed; warn: the same, above which is warned.

    harbor: Harbor is asked about the image; else report: the path of a Trivy or Grype report below
    SLIPWAY_REPORTS_URL. fixable: only what has a fix counts (not with Harbor, which does not tell it by severity).
    """

    maximum: dict[Severity, int] = Field(default_factory=_nothing_grave)
    warn: dict[Severity, int] = Field(default_factory=dict)
    harbor: bool = False
    report: str = ""
    fixable: bool = False


class ScanGate(AskingGate[ScanOptions]):
    """Counts by severity, of exactly the image that is to be deployed."""

    name = "scan"
    options = ScanOptions

    async def _look(self, options: ScanOptions, request: GateRequest) -> GateResult:
        if options.harbor == bool(options.report):
            raise ProviderRejected("The gate scan needs one of `harbor: true` and `report`.", hint="Add one.")
        if options.harbor and options.fixable:
            raise ProviderRejected("Harbor does not tell which severities have a fix.", hint="Remove `fixable`.")
        try:
            if options.harbor:
                scan, link = await self._harbor(parse_image(request.image, request.digest)), ""
            else:
                ((_, data),) = await self._reports(options.report, request)
                scan, link = read_scan(data), self._link_to(options.report, request)
        except ScanUnreadable as error:
            return self._unknown(f"The scan report cannot be read: {error}.")
        if not scan.digests:
            return self._unknown(f"The {scan.scanner} report does not say by digest which image it is about.")
        if request.digest not in scan.digests:
            return self._unknown(f"The {scan.scanner} report is about another image than {request.digest[:19]}.")
        return self._judged(options, scan, link)

    def _judged(self, options: ScanOptions, scan: Scan, link: str) -> GateResult:
        counts = scan.fixable if options.fixable else scan.counts
        text = f"{scan.scanner} found {_said(counts)}."
        over = _over(counts, options.maximum)
        shown = [one for one in scan.findings if one.severity in (over or options.maximum)]
        lines = tuple(str(one) for one in shown if one.fix or not options.fixable)[:EVIDENCE]
        link = link or next((one.link for one in shown if one.link), "")
        if over:
            allowed = ", ".join(f"{options.maximum[name]} {name}" for name in over)
            return self._fail(f"{text} At most {allowed} may be there.", lines, link)
        if _over(counts, options.warn):
            return self._warn(text, tuple(str(one) for one in scan.findings)[:EVIDENCE])
        return self._pass(text)

    async def _harbor(self, image: Image) -> Scan:
        http = self._system("harbor")
        project, _, repository = image.repository.partition("/")
        # A repository with a slash in it is encoded twice.
        place = f"projects/{quote(project, safe='')}/repositories/{quote(quote(repository, safe=''), safe='')}"
        artifact = await http.get_json(
            f"api/v2.0/{place}/artifacts/{image.digest}",
            {"with_scan_overview": "true"},
            headers={"X-Accept-Vulnerabilities": _REPORT},
        )
        if artifact is None:
            raise NotYet(f"Harbor does not have {image.repository}@{image.digest[:19]} yet.")
        status, scan = read_harbor(artifact)
        if scan is None:
            if status.casefold() in ("error", "stopped"):
                raise ProviderRejected(f"Harbor's scan of {image.repository} ended without a result ({status[:20]}).")
            raise NotYet(f"Harbor's scan of {image.repository} is not finished ({status[:20]}).")
        return scan


def _over(counts: Mapping[str, int], limits: Mapping[Severity, int]) -> list[Severity]:
    return [name for name, limit in limits.items() if counts.get(name, 0) > limit]


def _said(counts: Mapping[str, int]) -> str:
    found = [f"{counts[name]} {name}" for name in SEVERITIES if counts.get(name)]
    return ", ".join(found) or "nothing"
