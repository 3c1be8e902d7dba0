"""The policy's commands at the server's prompt, on the database of a Slipway that ran."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bot.store import audit, holds
from bot.store.database import Database, sqlite_url
from bot.store.holds import Lock
from bot.store.migrate import migrate
from bot.terminal import app
from tests.unit.catalog.directories import good


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A catalog, and a database beside it."""
    place = good(tmp_path / "catalog")
    (place / ".slipway").mkdir()
    db = Database(sqlite_url(place / ".slipway" / "slipway.db"))
    migrate(db)
    db.close()
    return place


def run(directory: Path, *words: str) -> tuple[int, str]:
    """Exit code and output."""
    ran = CliRunner().invoke(app, [*words, "--config", str(directory)])
    return ran.exit_code, ran.output


def test_a_pass_is_given_for_a_right_a_time_and_a_reason(directory: Path) -> None:
    """And stands in the audit log, whose chain stays whole."""
    asked = ("pass", "pay", "prod", "1.2", "--as", "olive", "--for", "30m")
    code, said = run(directory, *asked, "--reason", "chat is down")
    assert (code, said.startswith("olive may deploy pay 1.2 to prod once, until")) == (0, True)
    db = Database(sqlite_url(directory / ".slipway" / "slipway.db"))
    (entry,) = [one.entry for one in db.run_sync(lambda tx: audit.entries(tx))]
    db.close()
    assert (entry.action, entry.subject) == ("pass:give", "p-1 pay/prod 1.2")
    assert entry.actor.startswith("server:")
    assert run(directory, "audit", "verify") == (0, "1 entries, the chain is whole\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("pass", "pay", "prod", "--reason", "x"), "Who deploys? Add --as PERSON."),
        (("pass", "pay", "prod", "--as", "olive", "--reason", "x", "--for", "soon"), "--for must be a time such as"),
    ],
)
def test_what_is_missing_is_said(directory: Path, words: tuple[str, ...], said: str) -> None:
    """One sentence, nothing done."""
    code, output = run(directory, *words)
    assert code == 1
    assert said in output


def test_why_knows_the_locks_of_the_running_slipway(directory: Path) -> None:
    """The same answer as in chat, at the prompt of the server."""
    assert (
        "permitted: Olive Owner may, as owner. [owners services/pay.yaml:1]" in run(directory, "why", "pay", "prod")[1]
    )
    db = Database(sqlite_url(directory / ".slipway" / "slipway.db"))
    db.run_sync(lambda tx: holds.take(tx, Lock("pay/prod", "leo", "load test", datetime.now(UTC))))
    db.close()
    _, said = run(directory, "why", "pay", "prod", "--kind", "hotfix")
    assert "refused" in said
    assert "x locked: Leo Lead holds the lock on pay/prod: load test." in said
    assert "by files " in said
    assert run(directory, "why", "pay", "prod", "--kind", "nonsense")[0] == 1


def test_a_report_of_nothing(directory: Path) -> None:
    """Counts, even when there is nothing to count."""
    assert run(directory, "policy", "report", "--since", "30d") == (
        0,
        "0 emergencies, 0 reviewed, 0 owed, 0 overdue\n",
    )


def test_nothing_to_explain(directory: Path) -> None:
    """A number that is none, and one that is not there."""
    for ref in ("pay", "d-1"):
        assert run(directory, "policy", "explain", ref)[0] == 1


def test_without_other_systems_nothing_is_to_be_compared(directory: Path) -> None:
    """Exit code 0: this runs in a company's own CI."""
    assert run(directory, "policy", "compare") == (0, "nothing there blocks what we allow\n")
