"""Upgrades while deployments are on their way: a newer replica beside an older one, and a newer one after it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from pydantic import SecretStr
from sqlalchemy import text

from bot.app import App, Outside
from bot.chat.base import IncomingCommand
from bot.deployments.model import Data, State
from bot.store import deployments as rows
from bot.store.database import Database
from bot.store.migrate import SchemaTooNew, migrate
from tests.acceptance.conftest import closed_window, emergency
from tests.fakes.argocd import TOKEN, FakeArgoCD, running_argocd
from tests.fakes.repositories import git
from tests.support.rows import new_deployment
from tests.support.running import POLL, Running, settings_for
from tests.support.world import World, make_world

MIGRATIONS = Path(__file__).parents[2] / "migrations"
NEXT = """
ALTER TABLE deployments ADD COLUMN soaked_at timestamptz;
ALTER TABLE outbox ADD COLUMN urgency integer NOT NULL DEFAULT 0;
CREATE TABLE soaks (id bigint PRIMARY KEY, note text NOT NULL DEFAULT '');
UPDATE alembic_version SET version_num = '9999';
"""
"""What a migration of the next version may do: add, and nothing that the version before would trip over."""
WAITS = (State.GRAY, State.AWAITING_APPROVAL, State.BUILDING)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """app and asks by Argo CD; asks has a closed window in prod; the tests of dev wait for a file called `go`."""
    world = make_world(tmp_path / "world", ("app", "asks"))
    world.write_root(
        defaults={
            "repo": "repos/app",
            "gitops": {"repo": "repos/config.git"},
            "pipeline": {"timeout": "1m"},
            "delivery": {"provider": "argocd", "options": {"degraded_for": "1s"}},
            "verify": {"timeout": "5s", "settle": "1ms", "interval": "20ms"},
            "gray": {"interval": "50ms"},
        },
        windows=[closed_window() | {"services": ["asks"]}],
        emergency=[emergency()],
    )
    go = world.directory / "go"
    world.push("waits", test=f"while [ ! -e {go} ]; do sleep 0.05; done", branch="develop")
    git(world.source, "checkout", "--quiet", "main")
    return world


@pytest.fixture
async def argo(world: World) -> AsyncIterator[FakeArgoCD]:
    def image(revision: str) -> str:
        path = git(world.config, "show", "--name-only", "--format=", revision).split()[0]
        lines = dict(line.split(": ") for line in git(world.config, "show", f"{revision}:{path}").splitlines())
        return f"registry.example/app@{lines['digest'].strip(chr(34))}"

    async with running_argocd(FakeArgoCD(render=image)) as fake:
        for name in ("app-prod", "app-dev", "asks-prod", "asks-dev"):
            fake.add(name)
        fake.outcome["app-prod"] = "paused"
        yield fake


@asynccontextmanager
async def replica(world: World, url: str, argo: FakeArgoCD) -> AsyncIterator[Running]:
    """One replica; stopped in order, and its pipelines go on without it."""
    more = {"argocd_url": argo.url, "argocd_token": SecretStr(TOKEN)}
    app = App(settings_for(world, url).model_copy(update=more), Outside(poll=POLL))
    await app.start()
    try:
        yield Running(app)
    finally:
        await app.stop()


async def begin(slipway: Running) -> None:
    """Three deployments, each in one of the long waits."""
    await slipway.say("owner", "/deploy app prod")
    await slipway.reaches(State.GRAY, 1)
    await slipway.say("owner", "/deploy asks prod --reason now")
    (card,) = [one for one in await slipway.cards("owner", "d-2") if one["place"] == "#releases"]
    assert (await slipway.click("owner", card["ref"], "emergency", reason="now")).accepted
    await slipway.reaches(State.AWAITING_APPROVAL, 2)
    await slipway.say("owner", "/deploy app dev")
    await slipway.reaches(State.BUILDING, 3)


async def finish(slipway: Running, world: World, argo: FakeArgoCD) -> None:
    """Decide, and let everything end well; each effect once."""
    argo.outcome["app-prod"] = "good"
    await slipway.say("owner", "/continue d-1", event_id="goes on")
    await slipway.say("lead", "/approve d-2", event_id="approves")
    (world.directory / "go").touch()
    for number in (1, 2, 3):
        seen = await slipway.ends(number)
        assert (seen.state, seen.data.failure) == (State.SUCCEEDED, None), number
    assert sorted(name for name, _ in argo.operations) == ["app-dev", "app-prod", "asks-prod"]
    assert len(world.config_log()) == 3
    await slipway.audit()
    places = [
        (card["deployment"], card["state"]) for card in await slipway.cards("owner") if card["place"] == "#releases"
    ]
    assert sorted(place for place in places if place[0]) == [(f"d-{number}", "succeeded") for number in (1, 2, 3)]


async def test_a_rolling_upgrade_with_deployments_in_every_wait(
    world: World, argo: FakeArgoCD, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The schema first, then replica by replica: the old one works on and leaves alone what it does not know."""
    async with AsyncExitStack() as older:
        old = await older.enter_async_context(replica(world, postgres_url, argo))
        await begin(old)

        def write_as_the_next_version(tx: Any) -> None:
            for statement in filter(str.strip, NEXT.split(";")):
                tx.execute(text(statement))
            data = Data.model_validate({"soak": {"minutes": 30}})
            made, _ = rows.create(tx, new_deployment("next", State("soaking"), "asks", data), datetime.now(UTC))
            tx.execute(text(f"UPDATE deployments SET kind = 'experiment', wake_at = now() WHERE id = {made.id}"))
            note = "('poll:1', 'console', '#releases', 'poll', now(), now())"
            tx.execute(text(f"INSERT INTO outbox (key, platform, place, kind, next_at, created_at) VALUES {note}"))

        await old.app.db.run(write_as_the_next_version)
        monkeypatch.setattr("bot.store.migrate.HEAD", "9999")
        async with replica(world, postgres_url, argo) as new:
            await old.app.dispatcher.command(IncomingCommand("console", "x", "developer", "#releases", "/status asks"))
            await old.until(lambda: old._answered("x"), "the old replica to answer on the new schema")
            old.app.outbox.poke()
            for number, state in enumerate(WAITS, 1):
                seen = await new.get(number)
                assert seen is not None
                assert seen.state is state
            await older.aclose()
            new.app.engine.poke_all()
            foreign = "DELETE FROM outbox WHERE kind = 'poll' RETURNING sent, dead, attempts"
            assert await new.app.db.run(lambda tx: list(tx.execute(text(foreign)).one())) == [0, False, 0]
            await finish(new, world, argo)
            untouched = await new.get(4)
            assert untouched is not None
            assert (untouched.state.value, untouched.version, untouched.attempts) == ("soaking", 0, 0)
            assert json.loads(untouched.data.model_dump_json())["soak"] == {"minutes": 30}
    monkeypatch.undo()
    with pytest.raises(SchemaTooNew, match="newer Slipway") as refusal:
        App(settings_for(world, postgres_url))
    assert "restore the backup" in refusal.value.sentence()


async def test_what_the_version_before_left_goes_on(world: World, argo: FakeArgoCD, database_url: str) -> None:
    """Its schema, and rows without a single field that was new since: everything absent has a meaning."""
    async with replica(world, database_url, argo) as before:
        await begin(before)
    step_back(database_url)
    async with replica(world, database_url, argo) as after:
        await finish(after, world, argo)


def step_back(url: str) -> None:
    """The database as the version before would have left it."""
    db = Database(url)
    migrate(db)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with db.engine.connect() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "-1")
        connection.commit()

    def strip(tx: Any) -> None:
        for number, data in tx.execute(text("SELECT id, data FROM deployments")).all():
            held = json.loads(data) if isinstance(data, str) else data
            small = Data.model_validate(held).model_dump(mode="json", exclude_defaults=True)
            tx.execute(
                text("UPDATE deployments SET data = :data WHERE id = :id"), {"data": json.dumps(small), "id": number}
            )

    db.run_sync(strip)
    db.close()
