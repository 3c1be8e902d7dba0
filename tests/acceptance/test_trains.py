"""Many services ship as one train: planned, in waves, stopped when too many fail, and taken back as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bot.deployments.model import State
from bot.deployments.train_model import CarState, Train, TrainState
from bot.deployments.trains import Trains
from bot.store import deployments as rows
from bot.store import trains
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
