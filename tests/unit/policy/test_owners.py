"""OWNERS as Prow resolves them, and nobody where a file cannot be understood."""

from __future__ import annotations

import pytest

from bot.policy.owners import Owners

FILES = {
    "": "approvers: [Root, team-release]\nreviewers: [bob]\n",
    "web": "approvers: ['@Alice']\noptions: {no_parent_owners: true}\n",
    "db": 'filters:\n  ".*": {approvers: [alice]}\n  "\\\\.sql$": {approvers: [dba]}\n',
    "empty": "options: {no_parent_owners: true}\n",
    "api": "approvers: [carol]\n",
    "api/v2": "approvers: [dave]\n",
}
ALIASES = "aliases:\n  team-release: [Rae, '@Nested']\n  nested: [never]\n  nobody:\n"


@pytest.mark.parametrize(
    ("path", "people"),
    [
        ("main.go", {"root", "rae", "nested"}),
        ("web/x.js", {"alice"}),
        ("db/a.go", {"alice", "root", "rae", "nested"}),
        ("db/a.sql", {"alice", "dba", "root", "rae", "nested"}),
        ("empty/x", {"root", "rae", "nested"}),  # no_parent_owners counts only once somebody was found
        ("api/v2/x", {"dave", "carol", "root", "rae", "nested"}),
        ("api/v2", {"dave", "carol", "root", "rae", "nested"}),
        ("webby/x", {"root", "rae", "nested"}),
        ("not/there/x", {"root", "rae", "nested"}),
    ],
)
def test_who_approves_a_path(path: str, people: set[str]) -> None:
    """Levels add up, names are normalised, an alias expands once, filters search the relative path."""
    assert Owners(FILES, ALIASES).approvers(path).people == people


def test_each_level_says_where_it_is_from() -> None:
    """`/owners` must name the file, nearest first."""
    found = Owners(FILES, ALIASES).approvers("api/v2/x")
    assert [name for name, _ in found.levels] == ["api/v2/OWNERS", "api/OWNERS", "OWNERS"]


@pytest.mark.parametrize(
    "text",
    ["approvers: [a", "- a", "approvers: alice", "approvers: [1]", 'filters: {"(": {approvers: [a]}}', "filters: [a]"],
)
def test_an_unreadable_file_is_nobody_on_its_way_up(text: str) -> None:
    """Falling through to the parents would give rights that the file may have taken away."""
    owners = Owners({**FILES, "api": text}, ALIASES)
    found = owners.approvers("api/v2/x")
    assert (found.people, found.broken) == (frozenset(), "api/OWNERS")
    assert owners.approvers("web/x").people == {"alice"}


@pytest.mark.parametrize("text", ["aliases: [a", "aliases: [a]", "aliases: {team-release: rae}", "aliases: {x: [1]}"])
def test_unreadable_aliases_are_nobody_at_all(text: str) -> None:
    """An alias that is not expanded would be taken for the login of somebody of that name."""
    assert Owners(FILES, text).approvers("web/x").people == frozenset()


def test_reviewers_are_resolved_by_themselves() -> None:
    """A directory that names only approvers leaves the parents' reviewers in force."""
    assert Owners(FILES, ALIASES).reviewers("web/x").people == {"bob"}
