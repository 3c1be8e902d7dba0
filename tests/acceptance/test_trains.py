"""Many services ship as one train: planned, in waves, stopped when too many fail, and taken back as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bot.catalog.model import Kind
from bot.deployments.model import Deployment, Origin, State
from bot.deployments.train_model import Car, CarState, Data, Train, TrainState
from bot.deployments.trains import Trains
from bot.store import deployments as rows
from bot.store import trains
from bot.store.database import Tx
from tests.support.running import Running, running
from tests.support.world import World, make_world

NEEDS: Mapping[str, str] = {"web": "api", "api": "auth", "auth": "", "news": ""}


def make_train_world(directory: Path, needs: Mapping[str, str] = NEEDS) -> World:
    """Several services on one repository; production wants nothing but them."""
    world = make_world(directory, tuple(needs))
    lines = [
        f"{name}: {{team: shop, owners: [owner], labels: {{tier: {'gold' if name == 'web' else 'base'}}}, "
        f"needs: [{said}]}}"
        for name, said in needs.items()
    ]
    (world.directory / "services" / "all.yaml").write_text("\n".join(lines))
    return world


async def fill_dev(slipway: Running, names: list[str], first: int = 1) -> None:
    """The newest release in dev, for each; their deployments are numbered from `first`."""
    for name in names:
        await slipway.say("owner", f"/deploy {name} dev")
    for number in range(first, first + len(names)):
        assert (await slipway.ends(number)).state is State.SUCCEEDED


async def train_ends(slipway: Running, number: int = 1) -> Train:
    """Wait until a train is at its end and its card says so."""

    async def ended() -> bool:
        found = await slipway.app.db.read(lambda tx: trains.get(tx, number))
        return found is not None and not found.is_open

    await slipway.until(ended, f"the end of t-{number}")
    await slipway.quiet()
    found = await slipway.app.db.read(lambda tx: trains.get(tx, number))
    assert found is not None
    return found


def second_driver(slipway: Running) -> Trains:
    """What another replica would do at the same time: it drives the same trains."""
    app = slipway.app
    twin = Trains(app.db, app.catalog, app.deployments, (), app._clock, lambda _train: {}, lambda: None)
    app.moves.on_end(twin.poke)
    return twin


async def the_card(slipway: Running, title: str) -> dict[str, Any]:
    found = [card for card in await slipway.cards("owner") if card["title"] == title]
    assert found, [card["title"] for card in await slipway.cards("owner")]
    return found[-1]


async def test_services_ship_in_the_order_in_which_they_need_each_other(tmp_path: Path) -> None:
    """One command: planned and shown first, then three waves, one card, one promotion each, the same digests."""
    world = make_train_world(tmp_path / "world")
    async with running(world) as slipway:
        await fill_dev(slipway, ["web", "api", "auth"])
        await slipway.say("owner", "/train prod --plan")
        plan = await the_card(slipway, "Plan of a train to prod")
        assert [(step["name"], step["state"]) for step in plan["steps"]] == [
            ("1. auth", "pending"),
            ("2. api", "pending"),
            ("3. web", "pending"),
            ("news", "skipped"),
        ]
        assert "Nothing of news runs in dev" in plan["steps"][-1]["detail"]
        assert (plan["fields"]["waves"], await slipway.get(4)) == ("3", None)
        twin = second_driver(slipway)
        twin.start()
        await slipway.say("owner", "/train prod --reason sprint 12", event_id="typed")
        await slipway.say("owner", "/train prod --reason sprint 12", event_id="typed")
        train = await train_ends(slipway)
        await twin.stop()
        card = await the_card(slipway, "Train t-1 to prod has arrived")
        made = await slipway.app.db.read(lambda tx: rows.history(tx, environment="prod"))
        assert (await slipway.app.db.read(lambda tx: trains.get(tx, 2))) is None
    assert train.state is TrainState.SUCCEEDED
    order = [(one.service, one.kind.value, one.reason) for one in reversed(made)]
    assert order == [(name, "promotion", "part of train t-1: sprint 12") for name in ("auth", "api", "web")]
    assert len({one.digest for one in made}) == 1
    assert card["progress"] == 100
    assert sum(1 for step in card["steps"] if step["state"] == "succeeded") == 3


async def test_a_failure_over_the_budget_stops_it_and_the_cohort_goes_back(tmp_path: Path) -> None:
    """What ran before runs again, the last wave first, each by a commit in Git; its card and a message say how."""
    world = make_train_world(tmp_path / "world", {"api": "auth", "auth": ""})
    world.change_environment("prod", verify={"timeout": "1s"})
    async with running(world) as slipway:
        await fill_dev(slipway, ["api", "auth"])
        await slipway.say("owner", "/train prod")
        await train_ends(slipway)
        world.push("second", branch="develop")
        await fill_dev(slipway, ["api", "auth"], 5)
        breaks(world, "api", "prod")
        await slipway.say("owner", "/train prod")
        second = await train_ends(slipway, 2)
        states = {car.service: car.state for car in second.data.cars}
        assert second.state is TrainState.STOPPED
        assert states == {"auth": CarState.SUCCEEDED, "api": CarState.FAILED}
        told = [one.text for one in await slipway.messages("owner") if one.place == "@slipway"]
        assert any("Train t-2 to prod was stopped" in text for text in told), told
        refused = (await slipway.say("developer", "/train t-2 rollback"))[-1].text
        assert "t-2 is not yours" in refused
        await slipway.say("releaser", "/train t-2 rollback")
        back = await train_ends(slipway, 2)
        undo = await slipway.get(next(car.undo or 0 for car in back.data.cars if car.service == "auth"))
        first = await slipway.app.db.read(lambda tx: rows.good_with(tx, "auth", "prod", undo.release_version))  # type: ignore[union-attr]
    assert back.state is TrainState.ROLLED_BACK
    assert undo is not None
    assert first is not None
    assert (undo.state, undo.kind.value, undo.requested_by) == (State.SUCCEEDED, "rollback", "releaser")
    assert undo.reason == "rolled back with train t-2"


def breaks(world: World, service: str, environment: str) -> None:
    """From now on this one never becomes healthy there."""
    machine = world.directory / "machine.sh"
    text = machine.read_text().replace(
        "healthy=true; message=", f'healthy=true; message=; [ "$3/$4" = {service}/{environment} ] && healthy=false', 1
    )
    machine.write_text(text)


async def test_chosen_by_team_label_and_pattern_and_what_means_nothing_is_told(tmp_path: Path) -> None:
    """Words are never guessed; a wrong source and a train that is none are one sentence each."""
    world = make_train_world(tmp_path / "world")
    async with running(world) as slipway:

        async def said(text: str) -> str:
            return (await slipway.say("owner", text))[-1].text

        async def planned(what: str) -> set[str]:
            await slipway.say("owner", f"/train dev {what} --plan")
            card = await the_card(slipway, "Plan of a train to dev")
            return {step["name"].rpartition(". ")[2] for step in card["steps"]}

        assert await planned("tier=gold") == {"web"}
        assert await planned("a* news") == {"api", "auth", "news"}
        assert await planned("team:shop") == set(NEEDS)
        assert "'wep' is no service, team or label in dev. Did you mean web?" in await said("/train dev wep")
        await slipway.say("owner", "/train prod web --from prod --plan")
        card = await the_card(slipway, "Plan of a train to prod")
        assert "web has no prod in front of prod" in card["steps"][0]["detail"]
        assert "There is no train t-9" in await said("/train t-9")
        assert "limit" in await said("/train dev --limit 0")
        await slipway.say("outsider", "/train dev")
        card = [one for one in await slipway.cards("outsider") if "nothing was started" in one["text"]][-1]
        assert all("may not" in step["detail"] for step in card["steps"]), card
        assert await slipway.get(1) is None


FLEET = 40
WAVES = 4


def fleet_world(directory: Path) -> World:
    """Four waves of ten: each service needs the one of its place in the wave before."""
    wave = FLEET // WAVES
    needs = {f"s{n:02}": f"s{n - wave:02}" if n >= wave else "" for n in range(FLEET)}
    return make_train_world(directory, needs)


async def depart(slipway: Running, budget: int) -> Train:
    """A train with all of the fleet, as `/train` plans it, without a look at forty repositories."""
    app, wave = slipway.app, FLEET // WAVES
    names = sorted(app.catalog().services)
    cars = [
        Car(service=name, wave=1 + at // wave, kind=Kind.NORMAL, version="2", commit=f"{at:040x}", branch="develop")
        for at, name in enumerate(names)
    ]
    owner = app.catalog().people["owner"]
    data = Data(cars=tuple(cars), limit=6, budget=budget)
    return await app.trains.depart("fleet", owner, "dev", "", Origin("console", "#releases"), "sprint", data)


async def run_fleet(slipway: Running, bad: set[str]) -> int:
    """In the engine's place: everything that was started ends, the bad ones badly. Returns how many at once at most."""
    app, most = slipway.app, 0

    def end(tx: Tx) -> list[Deployment]:
        nonlocal most
        going = [one for one in rows.history(tx, limit=FLEET * 3) if not one.state.is_final]
        most = max(most, len(going))
        train = trains.get(tx, 1)
        if train is not None and train.state is TrainState.RUNNING:
            left = [car for car in train.data.cars if car.state in (CarState.RUNNING, CarState.WAITING)]
            if len(going) < min(6, sum(1 for car in left if car.wave == left[0].wave)):
                return []  # Others are about to begin.
        return [
            app.moves.move(
                tx, one, State.FAILED if one.service in bad else State.SUCCEEDED, at=app._clock(), actor="test"
            )
            for one in going
        ]

    async def over() -> bool:
        for one in await app.db.run(end):
            app.moves.announce_changed(one.id, one)
        train = await app.db.read(lambda tx: trains.get(tx, 1))
        return train is not None and not train.is_open

    await slipway.until(over, "the train to come to its end")
    return most


async def test_forty_services_are_stopped_by_their_budget_and_decided_by_buttons(tmp_path: Path) -> None:
    """Six at most are under way; the third failure stops it; then its people, and nobody else, decide on its card."""
    bad = {"s03", "s11", "s12"}
    async with running(fleet_world(tmp_path / "world")) as slipway:
        await slipway.app.engine.stop()  # What a deployment does is not the question here.
        await depart(slipway, budget=2)
        assert await run_fleet(slipway, bad) == 6

        async def card(title: str) -> dict[str, Any]:
            await slipway.quiet()
            everywhere = [one for one in await slipway.cards("owner") if one["title"] == f"Train t-1 to dev {title}"]
            assert all(one["buttons"] == [] for one in everywhere if one["place"] != "#releases")
            return next(one for one in everywhere if one["place"] == "#releases")

        async def cars() -> dict[str, CarState]:
            train = await slipway.app.db.read(lambda tx: trains.get(tx, 1))
            assert train is not None
            return {car.service: car.state for car in train.data.cars}

        seen = await card("was stopped")
        assert [button["id"] for button in seen["buttons"]] == ["train-continue", "train-rollback"]
        stopped = await cars()
        assert {name for name, state in stopped.items() if state is CarState.FAILED} == bad
        assert all(stopped[f"s{n}"] is CarState.SKIPPED for n in range(20, FLEET))
        for person in ("outsider", "developer"):
            answer = await slipway.click(person, seen["ref"], "train-continue")
            assert (answer.accepted, "t-1 is not yours" in answer.error) == (False, True)
        assert (await slipway.click("releaser", seen["ref"], "train-continue")).accepted
        assert not (await slipway.click("owner", seen["ref"], "train-continue")).accepted
        await run_fleet(slipway, set())
        seen = await card("has arrived without all services")
        after = await cars()
        behind = {name for name, state in after.items() if state is CarState.SKIPPED}
        assert behind == {"s13", "s21", "s22", "s23", "s31", "s32", "s33"}
        assert [button["id"] for button in seen["buttons"]] == ["train-rollback"]
        assert (await slipway.click("owner", seen["ref"], "train-rollback")).accepted
        await run_fleet(slipway, set())
        seen = await card("was rolled back")
        assert seen["buttons"] == []
        assert not (await slipway.click("owner", seen["ref"], "cancel")).accepted
        entries = [entry for entry in await slipway.audit() if entry.action.startswith("train:")]
    decided = [(entry.action, entry.actor) for entry in entries if entry.actor != "slipway"]
    assert decided == [("train:start", "owner"), ("train:continue", "releaser"), ("train:rollback", "owner")]


async def test_a_stopped_slipway_goes_on_with_its_train(tmp_path: Path) -> None:
    """What was started is not started again, and what waited is started after the restart."""
    world = make_train_world(tmp_path / "world", {"web": "api", "api": ""})
    async with running(world) as slipway:
        await fill_dev(slipway, ["web", "api"])
        await slipway.say("owner", "/train prod")
        await slipway.until(lambda: _exists(slipway, 3), "the first service to start")
    async with running(world) as slipway:
        train = await train_ends(slipway)
        made = await slipway.app.db.read(lambda tx: rows.history(tx, environment="prod"))
    assert train.state is TrainState.SUCCEEDED
    assert [one.service for one in reversed(made)] == ["api", "web"]


async def _exists(slipway: Running, number: int) -> bool:
    return await slipway.get(number) is not None


async def test_a_circle_is_a_mistake_of_the_catalog(tmp_path: Path) -> None:
    """Found before it is merged, with the way round."""
    from bot.catalog.check import check, render_report

    world = make_train_world(tmp_path / "world", {"web": "api", "api": "web", "news": "nothing"})
    report = render_report(check(world.directory))
    assert "they need each other in a circle: web -> api -> web" in report
    assert "nothing" in report


async def test_stop_lets_finish_what_runs(tmp_path: Path) -> None:
    """Nothing half-done, nothing new."""
    world = make_train_world(tmp_path / "world", {"web": "api", "api": ""})
    (world.effects / "hold").touch()
    machine = world.directory / "machine.sh"
    machine.write_text(
        machine.read_text().replace(
            "  deploy)\n",
            f'  deploy)\n    while [ "$4" = prod ] && [ -e {world.effects}/hold ]; do sleep 0.02; done\n',
            1,
        )
    )
    async with running(world) as slipway:
        await slipway.say("owner", "/train dev")  # In front of it is nothing, so the newest commits are built.
        assert (await train_ends(slipway)).state is TrainState.SUCCEEDED
        await slipway.say("owner", "/train prod")
        await slipway.reaches(State.SYNCING, 3)
        await slipway.say("owner", "/train t-2 stop")
        (world.effects / "hold").unlink()
        train = await train_ends(slipway, 2)
    assert train.state is TrainState.STOPPED
    assert {car.service: car.state.value for car in train.data.cars} == {"api": "succeeded", "web": "skipped"}
    assert train.data.said == "Stopped by Owner."
