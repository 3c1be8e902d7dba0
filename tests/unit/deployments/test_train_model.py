"""Which service of a train goes when, and when nothing goes any more."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bot.catalog.model import Catalog, Service
from bot.deployments import train_model as model
from bot.deployments.train_model import Car, CarState, Data, Train, TrainState, parse_train

W, R, S, F, K = (
    CarState.WAITING,
    CarState.RUNNING,
    CarState.SUCCEEDED,
    CarState.FAILED,
    CarState.SKIPPED,
)


def catalog(**needs: str) -> Catalog:
    """Services and what they need, as words."""
    services = {name: Service(name, "shop", "", needs=tuple(said.split())) for name, said in needs.items()}
    return Catalog("", {}, {}, {}, services, (), (), ())


def train(*cars: Car, state: TrainState = TrainState.RUNNING, limit: int = 4, budget: int = 0) -> Train:
    return Train(
        id=1,
        environment="prod",
        source="",
        requested_by="owner",
        origin={},
        reason="",
        state=state,
        version=0,
        data=Data(cars=cars, limit=limit, budget=budget),
        created_at=datetime(2026, 11, 25, tzinfo=UTC),
    )


def test_a_service_comes_after_everything_it_needs() -> None:
    """Also through a service that does not travel; a circle, which the catalog refuses, does not hang."""
    known = catalog(web="api", api="auth ledger", auth="", ledger="", news="")
    assert model.waves(known, ["web", "api", "auth", "news"]) == {"web": 3, "api": 2, "auth": 1, "news": 1}
    assert model.waves(known, ["web", "auth"]) == {"web": 2, "auth": 1}
    assert set(model.waves(catalog(a="b", b="a"), ["a", "b"])) == {"a", "b"}
    assert model.needed(known, "web") == {"api", "auth", "ledger"}


BEGUN = [
    ([("a", 1, W), ("b", 1, W), ("c", 2, W)], 4, ["a", "b"]),
    ([("a", 1, W), ("b", 1, W), ("c", 1, W)], 2, ["a", "b"]),
    ([("a", 1, R), ("b", 1, W), ("c", 1, W)], 2, ["b"]),
    ([("a", 1, R), ("b", 1, S), ("c", 2, W)], 4, []),
    ([("a", 1, F), ("b", 1, S), ("c", 2, W)], 4, ["c"]),
    ([("a", 1, K), ("b", 1, S)], 4, []),
]


@pytest.mark.parametrize(("cars", "limit", "names"), BEGUN)
def test_one_wave_at_a_time_and_no_more_at_once_than_may(
    cars: list[tuple[str, int, CarState]], limit: int, names: list[str]
) -> None:
    """The next wave waits for the last of this one."""
    made = train(*(Car(service=name, wave=wave, state=state) for name, wave, state in cars), limit=limit)
    assert [car.service for car in model.to_begin(made)] == names


def test_back_it_goes_the_other_way_round() -> None:
    """What needs others leaves first."""
    cars = [Car(service="a", wave=1, state=S), Car(service="b", wave=2, state=S), Car(service="c", wave=2, state=F)]
    back = model.undoing(train(*cars), "owner")
    assert [car.service for car in model.to_begin(back)] == ["b"]
    assert back.state is TrainState.ROLLING_BACK
    undone = [car.model_copy(update={"state": CarState.UNDONE}) for car in back.data.cars if car.state is not F]
    assert model.arrived(back.with_cars(undone)).state is TrainState.ROLLED_BACK


def test_failures_over_the_budget_stop_it_and_within_it_skip_what_needs_them() -> None:
    """What runs is waited for; nothing that needs a failed service is started."""
    known = catalog(a="", b="", c="a", d="b")
    cars = [
        Car(service="a", wave=1, state=F, blocks=True),
        Car(service="b", wave=1, state=R),
        Car(service="c", wave=2),
        Car(service="d", wave=2),
    ]
    strict = model.looked(train(*cars), {})
    assert strict.state is TrainState.STOPPING
    assert [car.state for car in strict.data.cars] == [F, R, K, K]
    assert model.arrived(strict).state is TrainState.STOPPING
    patient = model.without_blocked(model.looked(train(*cars, budget=1), {}), known)
    assert [car.state for car in patient.data.cars] == [F, R, K, W]
    assert patient.data.cars[2].why == "it needs a, which did not get there"


ENDS = [
    (TrainState.RUNNING, [S, K], TrainState.SUCCEEDED),
    (TrainState.RUNNING, [S, F], TrainState.FAILED),
    (TrainState.RUNNING, [S, R], TrainState.RUNNING),
    (TrainState.STOPPING, [S, F], TrainState.STOPPED),
    (TrainState.ROLLING_BACK, [CarState.UNDONE, F], TrainState.ROLLED_BACK),
]


@pytest.mark.parametrize(("state", "cars", "wanted"), ENDS)
def test_it_ends_when_nothing_moves(state: TrainState, cars: list[CarState], wanted: TrainState) -> None:
    """Each end has its own word."""
    made = train(*(Car(service=str(at), state=one) for at, one in enumerate(cars)), state=state)
    assert model.arrived(made).state is wanted


def test_a_train_may_go_back_by_itself_when_it_is_stopped() -> None:
    """As `--rollback` asks; what failed has gone back on its own."""
    made = train(Car(service="a", state=S), Car(service="b", state=F, blocks=True))
    asked = made.model_copy(update={"data": made.data.model_copy(update={"undo_on_stop": True})})
    back = model.arrived(model.looked(asked, {}))
    assert back.state is TrainState.ROLLING_BACK
    assert [car.state for car in back.data.cars] == [CarState.UNDO_WAITING, F]


@pytest.mark.parametrize(
    ("text", "number"), [("t-3", 3), ("T-12", 12), ("3", None), ("test", None), ("t-x", None), ("t-", None)]
)
def test_a_trains_name_is_no_environments(text: str, number: int | None) -> None:
    """`t-3` is a train; `test` and `3` are not."""
    assert parse_train(text) == number


def test_a_stopped_train_goes_on_and_its_failures_are_forgiven_once() -> None:
    """What needs the failed one stays behind; the next failure stops it again; what goes back does not go on."""
    known = catalog(a="", b="", c="a", d="b")
    cars = [Car(service="a", state=F, blocks=True), Car(service="b", state=S)]
    cars += [Car(service="c", wave=2), Car(service="d", wave=2)]
    stopped = model.arrived(model.looked(train(*cars), {}))
    assert (stopped.state, model.can_resume(stopped)) == (TrainState.STOPPED, True)
    again = model.without_blocked(model.looked(model.resumed(stopped, "Continued."), {}), known)
    assert (again.state, again.data.budget) == (TrainState.RUNNING, 1)
    assert [car.state for car in again.data.cars] == [F, S, K, W]
    assert [car.service for car in model.to_begin(again)] == ["d"]
    worse = again.with_cars([*again.data.cars[:3], again.data.cars[3].model_copy(update={"state": F})])
    assert model.looked(worse, {}).state is TrainState.STOPPING
    assert not model.can_resume(model.undoing(stopped, "owner"))
    assert not model.can_undo(model.undoing(stopped, "owner"))


@pytest.mark.parametrize(
    ("key", "number"), [(model.key_of(12, "console:#r"), 12), ("train:x:y", None), ("deployment:3:x", None)]
)
def test_a_card_is_known_by_its_key(key: str, number: int | None) -> None:
    """A press tells which train is meant by the message it was on, never by what the press says itself."""
    assert model.train_of(key) == number
