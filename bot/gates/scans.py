"""What image scanners say: Trivy, Grype and Harbor. Pure: a document in, findings by severity out.

A report that does not name the image it is about, or is about another one, proves nothing.

Source: aquasecurity/trivy `integration/testdata/*.json.golden`, anchore/grype `grype/presenter/json/testdata/snapshot`,
Harbor's `scan_overview` (`application/vnd.security.vulnerability.report; version=1.1`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

SEVERITIES = ("critical", "high", "medium", "low", "negligible", "unknown")
"""From the worst. What a scanner calls otherwise counts as unknown."""


class ScanUnreadable(ValueError):
    """It is no report of a known scanner; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One vulnerability in one package. fix: the version that has it no more, empty if there is none yet."""

    id: str
    severity: str
    package: str = ""
    fix: str = ""
    link: str = ""

    def __str__(self) -> str:
        """As a line of evidence."""
        said = f"{self.severity} {self.id} in {self.package}" if self.package else f"{self.severity} {self.id}"
        return f"{said}, fixed in {self.fix}" if self.fix else said


@dataclass(frozen=True, slots=True)
class Scan:
    """One report. digests: of the images it is about; counts: severity -> how many; findings: the worst first."""

    scanner: str
    digests: frozenset[str]
    counts: Mapping[str, int]
    findings: tuple[Finding, ...] = ()
    fixable: Mapping[str, int] = field(default_factory=dict)


def read_scan(data: bytes) -> Scan:
    """A report of Trivy or of Grype, told apart by its form. Raises ScanUnreadable."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ScanUnreadable("it is not valid JSON") from error
    if not isinstance(document, dict):
        raise ScanUnreadable("it is no report of Trivy or Grype")
    try:
        if document.get("SchemaVersion") == 2 and "ArtifactName" in document:
            return _scan("Trivy", _trivy_digests(document), list(_trivy(document)))
        if isinstance(document.get("matches"), list) and "source" in document:
            return _scan("Grype", _grype_digests(document), list(_grype(document)))
    except (AttributeError, KeyError, TypeError) as error:
        raise ScanUnreadable("it is damaged") from error
    raise ScanUnreadable("it is no report of Trivy or Grype")


def read_harbor(artifact: Mapping[str, Any]) -> tuple[str, Scan | None]:
    """Harbor's word for how far its scan is, and what it found once that is `Success`. Raises ScanUnreadable."""
    overviews = artifact.get("scan_overview") or {}
    overview = next(iter(overviews.values()), None) if isinstance(overviews, dict) else None
    if not isinstance(overview, dict):
        return "Not Scanned", None
    status = str(overview.get("scan_status", ""))
    if status.casefold() != "success":
        return status, None
    try:
        summary = overview["summary"]
        counts = _by_severity({name: int(count) for name, count in (summary.get("summary") or {}).items()})
        total = int(summary["total"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ScanUnreadable("it is damaged") from error
    if sum(counts.values()) < total:  # What is not told by severity is not lost.
        counts["unknown"] += total - sum(counts.values())
    digest = str(artifact.get("digest", ""))
    return status, Scan("Harbor", frozenset({digest}), counts)


def _scan(scanner: str, digests: frozenset[str], findings: list[Finding]) -> Scan:
    ranked = sorted(findings, key=lambda one: (SEVERITIES.index(one.severity), not one.fix, one.id))
    fixable = Counter(one.severity for one in findings if one.fix)
    return Scan(scanner, digests, Counter(one.severity for one in findings), tuple(ranked), fixable)


def _trivy(document: Mapping[str, Any]) -> Iterator[Finding]:
    for result in document.get("Results") or ():
        for one in result.get("Vulnerabilities") or ():  # A clean target has no such key.
            yield Finding(
                str(one["VulnerabilityID"]),
                _severity(one.get("Severity")),
                str(one.get("PkgName", "")),
                str(one.get("FixedVersion") or ""),
                str(one.get("PrimaryURL") or ""),
            )


def _trivy_digests(document: Mapping[str, Any]) -> frozenset[str]:
    metadata = document.get("Metadata") or {}
    named = [*(metadata.get("RepoDigests") or ()), str(document["ArtifactName"])]
    return frozenset(name.rpartition("@")[2] for name in named if "@sha256:" in name)


def _grype(document: Mapping[str, Any]) -> Iterator[Finding]:
    for match in document["matches"]:
        found, package = match["vulnerability"], match.get("artifact") or {}
        fix = found.get("fix") or {}
        versions = fix.get("versions") or () if fix.get("state") == "fixed" else ()
        name = str(package.get("name", ""))
        yield Finding(
            str(found["id"]),
            _severity(found.get("severity")),
            name,
            ", ".join(map(str, versions)),
            str(found.get("dataSource") or ""),
        )


def _grype_digests(document: Mapping[str, Any]) -> frozenset[str]:
    target = (document["source"] or {}).get("target")
    if not isinstance(target, dict):
        return frozenset()
    named = [*(target.get("repoDigests") or ()), str(target.get("userInput", ""))]
    digests = {name.rpartition("@")[2] for name in named if "@sha256:" in name}
    return frozenset(digests | {str(target["manifestDigest"])} if target.get("manifestDigest") else digests)


def _by_severity(counts: Mapping[str, int]) -> Counter[str]:
    found: Counter[str] = Counter()
    for name, count in counts.items():
        found[_severity(name)] += count
    return found


def _severity(word: object) -> str:
    known = str(word or "").casefold()
    return known if known in SEVERITIES else "unknown"
