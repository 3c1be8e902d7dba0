"""A company's own table of cases for its rules: who, what, where, when, and what the verdict must be.

cases:
  - {person: olive, service: pay, environment: prod, at: 2026-11-24T10:00, expect: allowed, because: window_open}
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from bot.catalog import messages, units
from bot.catalog.document import Document
from bot.catalog.explain import read
from bot.catalog.model import Catalog, Kind
from bot.catalog.problems import CatalogProblems, Problem
from bot.catalog.schema import Instant, Words, Written
from bot.policy.decide import decide
from bot.policy.model import Facts, Outcome, Permission, PolicyRequest, ReasonCode, Verdict


class CaseIn(Written):
    """One case."""

    person: str
    service: str
    environment: str
    at: Instant
    """Without an offset it is local to the catalog's zone."""
    expect: Outcome
    name: str = ""
    kind: Kind = Kind.NORMAL
    because: Words = Field(default=[])
    """Codes of reasons that the verdict must give."""
    size: Annotated[int, Field(ge=0)] | None = None


class CasesFile(Written):
    """A file of cases."""

    cases: Annotated[list[CaseIn], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Checked:
    """One case and what came of it. problem: empty if it is as expected; else one sentence."""

    line: int
    name: str
    verdict: Verdict
    problem: str = ""


def read_cases(file: str, text: str, catalog: Catalog) -> tuple[Document, CasesFile]:
    """The cases of a file, every name checked. Raises CatalogProblems with file and line of every mistake."""
    document = Document(file, text)
    found, problems = read(CasesFile, document.values, document, ())
    problems = [*document.problems, *problems]
    if found is not None:
        problems += _unknown(found, document, catalog)
    if problems or found is None:
        raise CatalogProblems(problems)
    return document, found


def _unknown(found: CasesFile, document: Document, catalog: Catalog) -> Iterator[Problem]:
    codes = [code.value for code in ReasonCode]
    for at, case in enumerate(found.cases):
        if case.service not in catalog.services:
            text = messages.unknown("service", case.service, catalog.services)
            yield document.problem(("cases", at, "service"), text)
        if case.environment not in catalog.environments:
            text = messages.unknown("environment", case.environment, catalog.environments)
            yield document.problem(("cases", at, "environment"), text)
        if case.person not in catalog.people:
            yield document.problem(("cases", at, "person"), messages.unknown("person", case.person, catalog.people))
        for code in case.because:
            if code not in codes:
                yield document.problem(("cases", at, "because"), messages.not_allowed(code, codes))


def check_cases(document: Document, found: CasesFile, catalog: Catalog) -> list[Checked]:
    """Judge every case."""
    return [_check(document, at, case, catalog) for at, case in enumerate(found.cases)]


def _check(document: Document, at: int, case: CaseIn, catalog: Catalog) -> Checked:
    permission = Permission.RELEASE_ROLLBACK if case.kind is Kind.ROLLBACK else Permission.RELEASE_DEPLOY
    request = PolicyRequest(case.person, permission, case.service, case.environment, case.kind, "case", size=case.size)
    verdict = decide(catalog, request, Facts(), units.in_zone(case.at, catalog.zone))
    name = case.name or f"{case.person} {case.kind.value} {case.service} {case.environment} {case.at:%Y-%m-%dT%H:%M}"
    return Checked(document.line(("cases", at)), name, verdict, _problem(case, verdict))


def _problem(case: CaseIn, verdict: Verdict) -> str:
    given = " ".join(reason.text for reason in (verdict.blocking or verdict.reasons))
    if verdict.outcome is not case.expect:
        return f"expected {case.expect.value}, but it is {verdict.outcome.value}: {given}"
    codes = {reason.code.value for reason in verdict.reasons}
    missing = [code for code in case.because if code not in codes]
    return f"it is {case.expect.value}, but not because of {', '.join(missing)}: {given}" if missing else ""
