"""From rows and real Git to a report, on both databases, and what people and programs are told of it."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bot.catalog.load import load_catalog
from bot.catalog.model import Kind
from bot.deployments.model import Data, Deployment, Emergency, StageNote, State
from bot.errors import BadInput
from bot.git import Git
from bot.reports.gather import Reporter
from bot.reports.telling import card_of, json_of
from bot.sources.git import Source
from bot.store import deployments as rows
from bot.store import emergencies
from bot.store.database import Database, Tx
from bot.store.migrate import migrate
from tests.support.rows import new_deployment
from tests.support.world import World, make_world

WRITTEN = Data(revision="r" * 40, stages=(StageNote(name="test", state="succeeded", seconds=40.0),))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "world", services=("app", "other"))


def reporter(db: Database, world: World, tmp_path: Path) -> Reporter:
    catalog = load_catalog(world.directory)
    return Reporter(db, lambda: catalog, Source(tmp_path / "mirrors", Git()), world.directory)


def deploy(
    tx: Tx,
    key: str,
    commit: str,
    began: datetime,
    path: list[State],
    data: Data = WRITTEN,
    kind: Kind = Kind.NORMAL,
) -> Deployment:
    """A deployment of app to prod that went that way, a minute in each state."""
    from dataclasses import replace

    seen, _ = rows.create(tx, replace(new_deployment(key, data=data), commit=commit, kind=kind), began)
    for number, state in enumerate(path, 1):
        seen = rows.move(tx, seen, state, at=began + timedelta(minutes=number), actor="slipway")
    return seen


async def test_a_week_from_rows_and_git(db: Database, world: World, tmp_path: Path) -> None:
    """Two commits shipped at once, a rollback of what failed later, an emergency, and something of before."""
    first = world.push("one")
    world.push("two")
    third = world.push("three")
    now = datetime.now(UTC) + timedelta(hours=5)
    good = [State.BUILDING, State.SYNCING, State.SUCCEEDED]
    passed = WRITTEN.model_copy(
        update={
            "emergency": Emergency(
                rule="r", needed=1, subject="s", asked_at=now, expires_at=now, pass_minutes=5, pass_until_at=now
            )
        }
    )

    def fill(tx: Tx) -> None:
        deploy(tx, "before", first, now - timedelta(days=30), good)
        deploy(tx, "shipped", third, now - timedelta(hours=3), good)
        deploy(tx, "undone", third, now - timedelta(hours=2), good, passed)
        deploy(tx, "rollback", first, now - timedelta(hours=1), good, kind=Kind.ROLLBACK)
        emergencies.owe(tx, emergencies.Review(3, "app", "prod", "r", "owner", now, now))
        deploy(tx, "unbuilt", third, now - timedelta(minutes=30), [State.BUILDING, State.FAILED], Data())

    db.run_sync(fill)
    made = await reporter(db, world, tmp_path).report(now - timedelta(days=7), now)
    whole = made.whole
    assert whole.by_state == {"failed": 1, "succeeded": 3}
    assert (whole.changes, whole.failures, whole.emergency, whole.owed) == (2, ("d-3",), ("d-3",), ("d-3",))
    assert whole.lead_commits == 2
    assert whole.lead_time is not None
    assert timedelta(hours=1) < whole.lead_time < timedelta(hours=3)
    assert whole.time_to_restore == timedelta(hours=1)
    assert {stage.name for stage in whole.slowest} >= {"build", "pipeline: test"}
    assert made.teams == {"shop": whole}
    card = card_of(made, "shop")
    assert card.fields["change failure rate"] == "50% (1 of 2)"
    assert card.chart is not None
    assert sum(card.chart.series[0].values) == 3
    told = json.loads(json.dumps(json_of(made)))
    assert (told["whole"]["change_failure_rate"], told["teams"]["shop"]["time_to_restore_seconds"]) == (0.5, 3600.0)


async def test_git_that_does_not_answer_leaves_out_the_lead_time_alone(
    db: Database, world: World, tmp_path: Path
) -> None:
    """A report on Monday morning must not fail because one repository moved."""
    now = datetime.now(UTC)
    good = [State.BUILDING, State.SUCCEEDED]

    def fill(tx: Tx) -> None:
        deploy(tx, "a", "a" * 40, now - timedelta(days=2), good)
        deploy(tx, "b", "b" * 40, now - timedelta(days=1), good)

    db.run_sync(fill)
    world.write_root(defaults={"repo": "repos/gone", "gitops": {"repo": "repos/config.git"}})
    made = await reporter(db, world, tmp_path).report(now - timedelta(days=7), now)
    assert (made.whole.changes, made.whole.lead_time) == (2, None)
    assert card_of(made).fields["lead time for changes"] == "not known"


async def test_an_idle_week_says_so(db: Database, world: World, tmp_path: Path) -> None:
    """No chart of nothing, no failure rate of nothing."""
    now = datetime.now(UTC)
    card = card_of(await reporter(db, world, tmp_path).report(now - timedelta(days=7), now))
    assert card.chart is None
    assert card.fields["change failure rate"] == "nothing changed"


@pytest.mark.parametrize(("team", "days"), [("shpo", "7"), ("", "0"), ("", "93"), ("", "-1"), ("", "a week")])
async def test_a_wrong_question_is_a_sentence(db: Database, world: World, tmp_path: Path, team: str, days: str) -> None:
    """From the command line and over HTTP."""
    with pytest.raises(BadInput):
        await reporter(db, world, tmp_path).asked(team, days, datetime.now(UTC))


def test_the_command_line_prints_json(world: World) -> None:
    """`slipway report`, beside a Slipway that runs or alone."""
    data = world.directory / ".slipway"
    data.mkdir()
    db = Database(f"sqlite:///{data / 'slipway.db'}")
    migrate(db)
    good = [State.BUILDING, State.SUCCEEDED]
    db.run_sync(lambda tx: deploy(tx, "a", "a" * 40, datetime.now(UTC) - timedelta(hours=1), good))
    db.close()
    argv = [sys.executable, "-m", "bot.cli", "report", "--team", "shop", "--config", str(world.directory)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["whole"]["deployments"], told["whole"]["deployment_frequency_per_day"]) == (1, 1 / 8)
