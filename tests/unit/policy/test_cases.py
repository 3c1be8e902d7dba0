"""A company's own cases for its rules, as its CI runs them."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from bot.catalog.problems import CatalogProblems
from bot.policy.cases import check_cases, read_cases
from bot.terminal import app
from tests.support.rules import a_catalog, a_window
from tests.unit.catalog.directories import good

CASES = """\
cases:
  - {person: olive, service: pay, environment: prod, at: 2026-01-06T10:00, expect: allowed, because: window_open}
  - {person: olive, service: pay, environment: prod, at: 2026-01-06T18:00, expect: refused, because: [window_closed]}
  - {person: out, service: pay, environment: prod, at: 2026-01-06T10:00, expect: allowed}
  - {person: olive, service: pay, environment: prod, at: 2026-01-06T10:00, expect: allowed, because: freeze_exempt}
"""


def test_each_case_is_judged_and_named_by_line() -> None:
    """A rule that was changed by mistake fails in the company's CI, with the sentence a person would read."""
    catalog = a_catalog(windows=(a_window(),))
    document, found = read_cases("cases.yaml", CASES, catalog)
    checked = check_cases(document, found, catalog)
    assert [(one.line, bool(one.problem)) for one in checked] == [(2, False), (3, False), (4, True), (5, True)]
    assert checked[2].problem.startswith("expected allowed, but it is refused: You may not deploy pay in prod;")
    assert "not because of freeze_exempt" in checked[3].problem


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cases: []\n", "c.yaml:1: cases"),
        (CASES.replace("service: pay", "service: pya", 1), "c.yaml:2: cases[0].service: There is no service 'pya'"),
        (CASES.replace("person: out", "person: nobdy"), "c.yaml:4: cases[2].person"),
        (CASES.replace("window_open", "window_opn"), "Did you mean window_open"),
        (CASES.replace("expect: refused", "expect: no"), "c.yaml:3: cases[1].expect"),
    ],
)
def test_mistakes_in_the_cases_are_named(text: str, words: str) -> None:
    """A case about a service that is gone would otherwise pass for ever."""
    with pytest.raises(CatalogProblems) as caught:
        read_cases("c.yaml", text, a_catalog())
    assert any(words in str(one) for one in caught.value.problems), caught.value.problems


def test_the_command_fails_with_file_and_line(tmp_path: Path) -> None:
    """An exit code for CI, and a line an editor jumps to."""
    directory = good(tmp_path / "catalog")
    cases = tmp_path / "cases.yaml"
    cases.write_text(
        "cases:\n"
        "  - {person: olive, service: pay, environment: prod, at: 2026-01-06T10:00, expect: allowed}\n"
        "  - {person: olive, service: pay, environment: prod, at: 2026-01-06T10:00, expect: refused}\n"
    )
    ran = CliRunner().invoke(app, ["policy", "test", str(cases), "--config", str(directory)])
    assert ran.exit_code == 1
    assert f"{cases}:3: " in ran.output
    assert "1 of 2 cases are as expected" in ran.output


def test_export_prints_sync_windows(tmp_path: Path) -> None:
    """What is pasted into an AppProject."""
    directory = good(tmp_path, windows="windows: [{name: w, environments: [prod], days: [tue], hours: '10:00-18:00'}]")
    ran = CliRunner().invoke(app, ["policy", "export", "argocd", "--config", str(directory)])
    assert ran.exit_code == 0
    assert "syncWindows:" in ran.output
    assert "schedule: 0 10 * * tue" in ran.output
