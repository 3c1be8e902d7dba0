"""What takes a place that another one needs: by environment, team, cluster, or all together."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

import pytest

from bot.catalog.model import Kind, Limit, Per, Scope
from bot.deployments.limits import no_room
from bot.deployments.model import Data, Deployment, NewDeployment, Origin, State
from bot.store import deployments as rows
from bot.store.database import Database, Tx
from bot.store.migrate import migrate
from tests.support.clock import MONDAY_MORNING
from tests.support.rules import HERE, a_catalog, a_service

SERVICES = {
    "pay": a_service("pay"),
    "web": a_service("web"),
    "map": a_service("map", team="other"),
}


def queued(service: str, environment: str) -> NewDeployment:
    """One that waits."""
    return NewDeployment(
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


def at_work(tx: Tx, service: str, environment: str) -> Deployment:
    """One that builds."""
    made, _ = rows.create(tx, queued(service, environment), MONDAY_MORNING)
    return rows.move(tx, made, State.BUILDING, at=MONDAY_MORNING, actor="slipway")


def create(service: str, tx: Tx) -> None:
    """One that waits, in the table."""
    rows.create(tx, queued(service, "prod"), MONDAY_MORNING)


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


def test_the_limit_holds_when_everybody_begins_at_once(database_url: str) -> None:
    """Twelve that want to begin at the same moment, on two replicas: exactly three do."""
    replicas = (
        [Database(database_url), Database(database_url)] if "postgres" in database_url else [Database(database_url)]
    )
    migrate(replicas[0])
    names = [f"svc{n}" for n in range(12)]
    catalog = a_catalog({one: a_service(one) for one in names}, limits=(Limit("three", Scope(), 3, Per.ALL, HERE),))
    for one in names:
        replicas[0].run_sync(partial(create, one))

    def begin(number: int) -> bool:
        def work(tx: Tx) -> bool:
            seen = rows.get(tx, number)
            assert seen is not None
            if no_room(tx, catalog, seen):
                return False
            rows.move(tx, seen, State.BUILDING, at=MONDAY_MORNING, actor="slipway")
            return True

        return replicas[number % len(replicas)].run_sync(work)

    async def all_at_once() -> list[bool]:
        if len(replicas) == 1:  # SQLite has one writer, and one connection for it
            return [begin(number) for number in range(1, 13)]
        return await asyncio.gather(*(asyncio.to_thread(begin, number) for number in range(1, 13)))

    began = asyncio.run(all_at_once())
    assert began.count(True) == len(replicas[0].run_sync(rows.at_work)) == 3
    for replica in replicas:
        replica.close()
