"""What takes a place that another one needs: by environment, team, cluster, or all together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from bot.catalog.model import Kind, Limit, Per, Scope
from bot.deployments.limits import no_room
from bot.deployments.model import Data, Deployment, NewDeployment, Origin, State
from bot.store import deployments as rows
from bot.store.database import Database, Tx
from bot.store.migrate import migrate
from tests.support.clock import MONDAY_MORNING
from tests.support.rules import HERE, a_catalog, a_service


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    migrate(database)
    yield database
    database.close()


SERVICES = {
    "pay": a_service("pay"),
    "web": a_service("web"),
    "map": a_service("map", team="other"),
}


def at_work(tx: Tx, service: str, environment: str) -> Deployment:
    """One that builds."""
    new = NewDeployment(
        idempotency_key=f"{service}/{environment}",
        service=service,
        environment=environment,
        kind=Kind.NORMAL,
        state=State.QUEUED,
        requested_by="olive",
        origin=Origin("", ""),
        reason="",
        release_version="1",
        commit="c" * 40,
        branch="main",
        digest="",
        data=Data(),
    )
    made, _ = rows.create(tx, new, MONDAY_MORNING)
    return rows.move(tx, made, State.BUILDING, at=MONDAY_MORNING, actor="slipway")


@pytest.mark.parametrize(
    ("per", "working", "waits"),
    [
        (Per.ALL, ("map", "dev"), True),
        (Per.ENVIRONMENT, ("map", "prod"), True),
        (Per.ENVIRONMENT, ("map", "dev"), False),
        (Per.TEAM, ("web", "dev"), True),
        (Per.TEAM, ("map", "prod"), False),
        (Per.CLUSTER, ("map", "prod"), True),
        (Per.CLUSTER, ("web", "dev"), False),
    ],
)
def test_who_takes_whose_place(db: Database, per: Per, working: tuple[str, str], waits: bool) -> None:
    """A limit per team is no limit of the company."""
    catalog = a_catalog(SERVICES, limits=(Limit("one", Scope(), 1, per, HERE),))

    def work(tx: Tx) -> str:
        seen = at_work(tx, *working)
        return no_room(tx, catalog, replace(seen, id=99, service="pay", environment="prod"))

    said = db.run_sync(work)
    assert bool(said) is waits
    assert not waits or f"at work are d-1 ({working[0]}/{working[1]})" in said


def test_a_rollback_never_waits_for_room(db: Database) -> None:
    """Going back is what one does when too much is going on."""
    catalog = a_catalog(SERVICES, limits=(Limit("one", Scope(), 1, Per.ALL, HERE),))
    seen = db.run_sync(lambda tx: at_work(tx, "map", "prod"))
    back = replace(seen, id=99, service="pay", kind=Kind.ROLLBACK)
    assert db.run_sync(lambda tx: no_room(tx, catalog, back)) == ""
