"""Every mistake names its file, its line, its field and what is allowed; no mistake makes the bot more permissive."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.catalog.check import check, render_report
from bot.catalog.load import load_catalog
from bot.catalog.problems import CatalogProblems, Problem
from tests.unit.catalog.directories import ROOT, SERVICES, good, write


def problems_of(directory: Path) -> tuple[Problem, ...]:
    with pytest.raises(CatalogProblems) as caught:
        load_catalog(directory)
    return caught.value.problems


WINDOW = "windows:\n  - {name: w, days: daily"
RULES = [
    ("windows:\n  - {name: w, days: [tuesdey]}\n", 2, "windows[0].days", "Did you mean tue?"),
    (f'{WINDOW}, hours: "10:00-10:00"}}\n', 2, "windows[0].hours", "is empty"),
    (f'{WINDOW}, hours: "00:00-00:00"}}\n', 2, "windows[0].hours", "00:00-24:00"),
    (f'{WINDOW}, hours: "25:00-26:00"}}\n', 2, "windows[0].hours", "10:00-18:00"),
    (f"{WINDOW}, zone: Asia/Shangai}}\n", 2, "windows[0].zone", "Asia/Shanghai"),
    (f"{WINDOW}, envronments: [prod]}}\n", 2, "windows[0].envronments", "Did you mean environments?"),
    (f"{WINDOW}, environments: [prd]}}\n", 2, "windows[0].environments[0]", "Did you mean prod?"),
    (f"{WINDOW}, services: [pey]}}\n", 2, "windows[0].services[0]", "Did you mean pay?"),
    (f"{WINDOW}, labels: [gold]}}\n", 2, "windows[0].labels[0]", "key=value"),
    (f"{WINDOW}, kinds: [hotfx]}}\n", 2, "windows[0].kinds[0]", "Did you mean hotfix?"),
    (f"{WINDOW}}}\n  - {{name: w, days: mon}}\n", 3, "windows[1].name", "already defined in more.yaml:2"),
    ("freezes:\n  - {name: f, from: 2026-11-12, until: 2026-11-09}\n", 2, "freezes[0].until", "after 'from'"),
    ("freezes:\n  - {name: f, from: tomorrow}\n", 2, "freezes[0].from", "2026-11-09"),
    ("freezes:\n  - {name: f}\n", 2, "freezes[0]", "This has no time; write `from`"),
    ("emergency:\n  - {name: e, approvers: {count: 3, roles: [team_lead]}}\n", 2, "emergency[0]", "only 1 person"),
    ("emergency:\n  - {name: e, approvers: {count: 1}}\n", 2, "emergency[0].approvers", "roles or people"),
    ("emergency:\n  - {name: e, approvers: {roles: [anyone]}}\n", 2, "emergency[0].approvers", "anyone"),
    ("emergency:\n  - {name: e, approvers: {people: [ritta]}}\n", 2, "emergency[0].approvers.people[0]", "rita"),
    ("emergency:\n  - {name: e, approvers: {roles: [owner]}, pass_for: 0m}\n", 2, "emergency[0].pass_for", "1h30m"),
    ("admins: [ghost]\n", 1, "admins[0]", "There is no person 'ghost'"),
    ("channels: {slcak: x}\n", 1, "channels.slcak", "Did you mean slack?"),
    ("zone: Mars/Olympus\n", 1, "zone", "There is no time zone"),
    ("enviroments: {}\n", 1, "enviroments", "Did you mean environments?"),
    ("people: {}\n", 1, "people", "already in"),
    ("zone: UTC\nzone: UTC\n", 2, "zone", "first in line 1"),
    ("locale: [en\n", 2, "", "not valid YAML"),
    ("locale:\n\t- en\n", 2, "", "use spaces"),
    ("locale: !!python/object/apply:os.system [id]\n", 1, "locale", "tag"),
    ("- a\n", 1, "", "mapping"),
]


@pytest.mark.parametrize(("text", "line", "field", "words"), RULES, ids=[text for text, *_ in RULES])
def test_a_mistake_in_a_rule_is_named(tmp_path: Path, text: str, line: int, field: str, words: str) -> None:
    """Somebody who edits a rule must find the place without reading our code."""
    problems = problems_of(good(tmp_path, more=text))
    found = [one for one in problems if words in one.message and one.field.startswith(field)]
    assert found, problems
    assert {(one.file, one.line) for one in found} <= {("more.yaml", line), ("slipway.yaml", 4)}


SERVICE_MISTAKES = [
    ("pay:\n  team: shp\n", 2, "pay.team", "Did you mean shop?"),
    ("pay:\n  tem: shop\n", 2, "pay.tem", "Did you mean team?"),
    ("pay:\n  tem: shop\n", 1, "pay.team", "missing"),
    ("pay:\n  team: shop\n  owners: [oliv]\n", 3, "pay.owners[0]", "Did you mean olive?"),
    ("pay:\n  team: shop\n  only: [prd]\n", 3, "pay.only[0]", "Did you mean prod?"),
    ("pay:\n  team: shop\n  environments: {prd: {}}\n", 3, "pay.environments.prd", "Did you mean prod?"),
    ("pay:\n  team: shop\n  pipeline: {provider: jekins}\n", 3, "pay.pipeline.provider", "Did you mean jenkins?"),
    ("pay:\n  team: shop\n  pipeline: {timeout: 5}\n", 3, "pay.pipeline.timeout", "30s"),
    ("pay:\n  team: shop\n  rollback_on_failure: maybe\n", 3, "pay.rollback_on_failure", "true or false"),
    ("pay:\n  team: shop\n  gitops: {path: ../x}\n", 3, "pay.gitops.path", "without .."),
    ("pay:\n  team: shop\n  gitops: {path: /etc/x}\n", 3, "pay.gitops.path", "inside the repository"),
    ("pay:\n  team: shop\n  repo: x/{environment}\n", 1, "pay.repo", "{environment}"),
    ("../x:\n  team: shop\n", 1, "../x", "letters, digits"),
    ("pay: {team: shop}\nPay: {team: shop}\n", 2, "Pay", "upper and lower case"),
    ("pay: {team: shop}\nx: {team: shop, gitops: {path: same}}\n", 2, "x.gitops.path", "both write to"),
]


@pytest.mark.parametrize(("text", "line", "field", "words"), SERVICE_MISTAKES, ids=[row[2] for row in SERVICE_MISTAKES])
def test_a_mistake_in_a_service_is_named(tmp_path: Path, text: str, line: int, field: str, words: str) -> None:
    """Service files are edited by people who have never seen the bot."""
    problems = problems_of(write(good(tmp_path), {"services/pay.yaml": text}))
    assert [one for one in problems if words in one.message and (one.line, one.field) == (line, field)], problems


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """One round of corrections is enough."""
    files = {"services/a.yaml": "a: {team: x}\nb: {owners: []}\n", "more.yaml": "zone: X\nadmins: [y]\n"}
    problems = problems_of(write(good(tmp_path), files))
    assert {(one.file, one.line) for one in problems} >= {
        ("services/a.yaml", 1),
        ("services/a.yaml", 2),
        ("more.yaml", 1),
        ("more.yaml", 2),
    }


def test_a_broken_file_does_not_make_the_others_look_wrong(tmp_path: Path) -> None:
    """A missing quote in people.yaml must not be 5,000 unknown owners."""
    root = ROOT.replace("people:", "unused:").splitlines(keepends=True)
    write(tmp_path, {"slipway.yaml": "".join(root[:3] + root[7:]), "people.yaml": "people: {olive: {name: '}\n"})
    write(tmp_path, {"services/pay.yaml": SERVICES})
    assert {one.file for one in problems_of(tmp_path)} == {"people.yaml"}


def test_a_section_in_two_files_names_both(tmp_path: Path) -> None:
    """Which of the two counts would be a guess."""
    (problem,) = problems_of(good(tmp_path, other="teams: {shop: {leads: [leo]}}\n"))
    assert (problem.file, problem.line, problem.field) == ("slipway.yaml", 8, "teams")
    assert "other.yaml:1" in problem.message


def test_a_service_in_two_files_names_both(tmp_path: Path) -> None:
    """Which of the two counts would be a guess."""
    (problem,) = problems_of(write(good(tmp_path), {"services/deep/er.yaml": SERVICES}))
    assert (problem.file, problem.line) == ("services/pay.yaml", 1)
    assert "services/deep/er.yaml:1" in problem.message


def test_one_account_is_one_person(tmp_path: Path) -> None:
    """Somebody else's account would be somebody else's rights."""
    root = ROOT.replace("rita: {}", "rita: {chats: {slack: U1}, email: OLIVE@slipway.example}")
    problems = problems_of(write(good(tmp_path), {"slipway.yaml": root}))
    assert {one.field for one in problems} == {"people.rita.chats.slack", "people.rita.email"}
    assert all("'olive'" in one.message for one in problems)


def test_a_token_in_an_address_is_refused_and_not_repeated(tmp_path: Path) -> None:
    """Addresses are shown in logs and cards."""
    services = "pay: {team: shop, repo: 'https://bot:s3cret@git.example/pay'}\n"
    (problem,) = problems_of(write(good(tmp_path), {"services/pay.yaml": services}))
    assert problem.field == "pay.repo"
    assert "s3cret" not in str(problem)


def test_a_rule_file_with_another_ending_is_not_left_out_silently(tmp_path: Path) -> None:
    """A freeze in freezes.yml that nobody reads is worse than none."""
    (problem,) = problems_of(write(good(tmp_path), {"freezes.yml": "freezes: []\n"}))
    assert "freezes.yml" in str(problem)


def test_hidden_and_working_folders_are_left_alone(tmp_path: Path) -> None:
    """The directory may be a Git checkout and hold the demo's repositories."""
    files = {".git/x.yaml": "[", "repos/a/x.yaml": "[", "state/x.yaml": "[", ".hidden.yaml": "["}
    assert "pay" in load_catalog(write(good(tmp_path), files)).services


@pytest.mark.parametrize("text", ["[" * 200_000, "- " * 200_000, "? " * 200_000, "{a: " * 200_000])
def test_nesting_does_not_end_the_process(tmp_path: Path, text: str) -> None:
    """The C parser overruns its stack: the bot would be gone, without a word."""
    assert [one for one in problems_of(good(tmp_path, more=text)) if one.file == "more.yaml"]


def test_aliases_cannot_grow_without_end(tmp_path: Path) -> None:
    """Nine lines must not become a billion values."""
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert "values" in str(problems_of(good(tmp_path, more="\n".join(lines))))
    assert problems_of(good(tmp_path, more="a: &a [*a]\n"))


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"zone: \xe4\n", b"zone: \x00\n"])
def test_what_is_no_text_is_a_problem_of_that_file(tmp_path: Path, content: bytes) -> None:
    """A wrong encoding is told as such."""
    good(tmp_path)
    (tmp_path / "more.yaml").write_bytes(content)
    assert {one.file for one in problems_of(tmp_path)} == {"more.yaml"}


def test_an_empty_and_a_missing_directory(tmp_path: Path) -> None:
    """The first start with a wrong --config."""
    assert "no catalog here" in str(problems_of(tmp_path))
    assert "no such directory" in str(problems_of(tmp_path / "nowhere"))


def test_the_same_default_missing_everywhere_is_told_once(tmp_path: Path) -> None:
    """5,000 lines would hide the other mistakes."""
    root = ROOT.replace("  gitops: {repo: repos/config.git}\n", "")
    services = "".join(f"s{n}: {{team: shop}}\n" for n in range(50))
    (problem,) = problems_of(write(tmp_path, {"slipway.yaml": root, "services/all.yaml": services}))
    assert "49 more services" in problem.message


def test_the_report_reads_like_a_compiler(tmp_path: Path) -> None:
    """Editors jump to file:line."""
    report = render_report(check(good(tmp_path, more="zone: X\n")))
    assert report.startswith("more.yaml:1: zone: There is no time zone 'X'.")
    assert report.endswith(f"1 problem in {tmp_path}")
    assert render_report(check(good(tmp_path, more=""))).startswith(f"{tmp_path} is right: 1 service, 2 environments")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    at=st.integers(0, len(ROOT)),
    length=st.integers(0, 12),
    text=st.text(alphabet="aop:,-[]{}'\"#&*!|>? \n\t0\u4e2d", max_size=12),
)
def test_whatever_is_typed_is_a_catalog_or_a_list_of_problems(tmp_path: Path, at: int, length: int, text: str) -> None:
    """A slip of the finger while the bot runs must never be an unexpected error."""
    written = ROOT[:at] + text + ROOT[at + length :]
    report = check(write(tmp_path, {"slipway.yaml": written, "services/pay.yaml": SERVICES}))
    lines = written.count("\n") + 2
    assert all(0 <= one.line <= lines for one in report.problems)
    assert (report.catalog is None) == bool(report.problems)
