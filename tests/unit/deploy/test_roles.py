"""The account that runs Slipway can do its work and cannot rewrite what happened."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from bot.app import App, Outside
from bot.errors import SlipwayError
from bot.store import audit
from bot.store.archive import may_archive
from bot.store.database import Database
from bot.store.migrate import migrate
from tests.support.postgres import PostgresServer
from tests.support.running import POLL, Running, settings_for
from tests.support.world import make_world

ROLES = Path(__file__).parents[3] / "deploy" / "postgres" / "roles.sql"


def grant(owner: Database, app: str) -> None:
    """What psql does with the script."""
    lines = [line for line in ROLES.read_text().splitlines() if not line.startswith(("--", "\\"))]
    script = "\n".join(lines).replace(':"app"', f'"{app}"')

    def work(tx: object) -> None:
        tx.execute(text(f'DROP ROLE IF EXISTS "{app}"'))  # type: ignore[attr-defined]
        tx.execute(text(f'CREATE ROLE "{app}" LOGIN'))  # type: ignore[attr-defined]
        for statement in filter(str.strip, script.split(";")):
            tx.execute(text(statement))  # type: ignore[attr-defined]

    owner.run_sync(work)


@pytest.fixture
def app_url(postgres_url: str, postgres_server: PostgresServer) -> str:
    owner = Database(postgres_url)
    migrate(owner)
    grant(owner, "slipway_app")
    owner.close()
    return postgres_url.replace("postgres@", "slipway_app@")


async def test_the_whole_job_with_the_small_account(tmp_path: Path, app_url: str, postgres_url: str) -> None:
    """A deployment from command to card, and then each way of rewriting history is refused by the database."""
    world = make_world(tmp_path / "world")
    app = App(settings_for(world, app_url), Outside(poll=POLL))
    await app.start()
    try:
        slipway = Running(app)
        await slipway.say("owner", "/deploy app prod")
        assert (await slipway.ends()).state.value == "succeeded"
        for statement in (
            "UPDATE audit SET actor = 'somebody'",
            "DELETE FROM audit",
            "TRUNCATE audit",
            "DELETE FROM audit_head",
            "DELETE FROM transitions",
            "UPDATE votes SET person = 'somebody'",
            "DROP TABLE audit",
        ):
            with pytest.raises(ProgrammingError):
                await app.db.run(lambda tx, statement=statement: tx.execute(text(statement)))  # type: ignore[misc]
        count, problem = await app.db.read(audit.verify)
        assert (count > 3, problem) == (True, "")
    finally:
        await app.stop()
        owner = Database(postgres_url)
        owner.run_sync(lambda tx: tx.execute(text("DROP OWNED BY slipway_app; DROP ROLE slipway_app")))
        owner.close()


def test_a_schema_that_is_not_ours_to_make_is_said_in_a_sentence(postgres_url: str) -> None:
    """The new version started with the small account before anybody migrated."""
    owner = Database(postgres_url)
    small = Database(postgres_url.replace("postgres@", "slipway_small@"))
    try:
        owner.run_sync(lambda tx: tx.execute(text("CREATE ROLE slipway_small LOGIN")))
        with pytest.raises(SlipwayError, match="may not change the tables") as refusal:
            migrate(small)
        assert "slipway migrate" in refusal.value.sentence()
    finally:
        small.close()
        owner.run_sync(lambda tx: tx.execute(text("DROP ROLE slipway_small")))
        owner.close()


def test_the_small_account_puts_no_history_away(app_url: str, postgres_url: str) -> None:
    """Its job leaves that to `slipway archive` with the owner's account, instead of failing every night."""
    for url, may in ((app_url, False), (postgres_url, True)):
        db = Database(url)
        assert db.run_sync(may_archive) is may
        db.close()
