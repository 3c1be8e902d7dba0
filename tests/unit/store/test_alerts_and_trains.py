"""What is kept of alerts and trains, on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from bot.deployments.train_model import Car, CarState, Data, Train, TrainState
from bot.store import alerts, trains
from bot.store.alerts import Alert
from bot.store.database import Database

AT = datetime(2026, 11, 25, 20, tzinfo=UTC)
ALERT = Alert("f1", "Slow", "pay", "prod", "p99 is 3 s", AT, AT + timedelta(hours=5))
TRAIN = Train(
    id=0,
    environment="prod",
    source="",
    requested_by="owner",
    origin={"platform": "", "place": ""},
    reason="",
    state=TrainState.RUNNING,
    version=0,
    data=Data(cars=(Car(service="pay"),)),
    created_at=AT,
)


async def test_an_alert_holds_until_it_ends_is_lifted_or_is_not_heard_of(db: Database) -> None:
    """A repeat of a lifted firing changes nothing; a new firing of the same alert holds again."""

    async def firing(at: datetime = AT) -> list[str]:
        return [one.what for one in await db.read(lambda tx: alerts.firing(tx, at))]

    await db.run(lambda tx: alerts.fire(tx, ALERT))
    await db.run(lambda tx: alerts.fire(tx, replace(ALERT, fingerprint="f2", environment="")))
    assert await firing() == ["pay/prod", "pay/*"]
    assert [one.name for one in await db.run(lambda tx: alerts.lift(tx, "pay/prod", "owner", AT))] == ["Slow"]
    await db.run(lambda tx: alerts.fire(tx, ALERT))
    assert await firing() == ["pay/*"]
    await db.run(lambda tx: alerts.fire(tx, replace(ALERT, started_at=AT + timedelta(minutes=9))))
    assert await firing() == ["pay/*", "pay/prod"]
    assert await db.run(lambda tx: alerts.resolve(tx, "f2"))
    assert not await db.run(lambda tx: alerts.resolve(tx, "f2"))
    assert await firing(AT + timedelta(hours=6)) == []
    assert await db.run(lambda tx: alerts.forget(tx, AT + timedelta(days=1))) == 1


async def test_a_train_is_made_once_and_written_under_guard(db: Database) -> None:
    """Two replicas that look at once: the second finds that it was first."""
    made, is_new = await db.run(lambda tx: trains.create(tx, "key", TRAIN, AT))
    again, is_new_again = await db.run(lambda tx: trains.create(tx, "key", TRAIN, AT))
    assert (is_new, is_new_again, made.id) == (True, False, again.id)
    cars = (Car(service="pay", state=CarState.SUCCEEDED),)
    done = made.with_cars(cars).model_copy(update={"state": TrainState.SUCCEEDED})
    after = await db.run(lambda tx: trains.change(tx, made, done, AT))
    assert after is not None
    assert (after.state, after.version, after.data.cars, after.ended_at) == (TrainState.SUCCEEDED, 1, cars, AT)
    assert await db.run(lambda tx: trains.change(tx, made, done, AT)) is None
    assert await db.read(trains.unfinished) == []
