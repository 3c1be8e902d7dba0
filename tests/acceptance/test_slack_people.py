"""Who may do what through Slack: several workspaces, strangers in shared channels, people who leave, and buttons."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bot.app import Outside
from bot.deployments.engine import EngineSettings
from bot.deployments.model import State
from tests.acceptance.conftest import closed_window, emergency
from tests.acceptance.test_slack import action, cards, press, refusals
from tests.fakes.slack import FakeSlack, buttons, words
from tests.support.running import POLL
from tests.support.slack import USERS, SlackRunning, running_on_slack
from tests.support.world import World, make_world


@pytest.fixture
async def two(slack: FakeSlack) -> FakeSlack:
    """A second workspace with a channel, an account of the owner, and a namesake of the owner's account."""
    slack.workspace("xoxb-fake-2", "T2", "UBOT2")
    slack.channel("C9", "ops", team="T2")
    slack.user("UOLIVE2", email="owner@slipway.example", team="T2")
    slack.user("UELSE2", email="somebody@else.example", team="T2")
    return slack


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "world", channels={"slack": "C1"})


@pytest.fixture
def shut(tmp_path: Path) -> World:
    return make_world(tmp_path / "world", channels={"slack": "C1"}, windows=[closed_window()], emergency=[emergency(2)])


@pytest.mark.parametrize("socket", [False, True], ids=["http", "socket"])
async def test_two_workspaces(tmp_path: Path, two: FakeSlack, socket: bool) -> None:
    """One process serves both: the answer goes back with the right token, and one human is one person in both."""
    world = make_world(tmp_path / "world", channels={"slack": "T2:#ops"})
    world.push(test="exit 1")
    async with running_on_slack(world, two, socket=socket, more_tokens="xoxb-fake-2") as slipway:
        await two.command("UOLIVE2", "/deploy app prod", channel="C9")
        await slipway.ends()
        (card,) = cards(two, "C9")
        assert card["user"] == "UBOT2"
        world.push(message="fixed")
        await two.click("UOLIVE2", "C9", card["ts"], action(card, "retry"))
        await slipway.ends(2)
        await two.mention("UELSE2", "<@UBOT2> deploy app dev", channel="C9", team="T2")
        await slipway.answered(3)
        assert await slipway.get(3) is None
        await two.mention(USERS["owner"], "<@UBOT> whoami")
        await slipway.answered(4)
    assert two.posts("C1")[-1]["user"] == "UBOT"
    assert len(cards(two, "C9")) == 3  # two deployments, one refusal: the catalog's #ops and C9 are one place


async def test_the_same_id_elsewhere_is_somebody_else(world: World, two: FakeSlack) -> None:
    """Ids are of a workspace: the catalog's owner is in the first one."""
    world.write_root(
        channels={"slack": "C1"},
        people={"owner": {"name": "Owner", "chats": {"slack": ["UELSE2"]}}, "lead": {"name": "Lead"}},
        teams={"shop": {"leads": ["lead"]}},
        release_managers=[],
        admins=[],
    )
    async with running_on_slack(world, two, more_tokens="xoxb-fake-2") as slipway:
        await two.command("UELSE2", "/deploy app prod", channel="C9")
        await slipway.answered(1)
        (refused,) = await refusals(slipway, "command")
    assert refused.code == "unknown_caller"
    assert refused.actor == "slack:T2:UELSE2"


async def test_a_workspace_we_are_not_in(world: World, slack: FakeSlack) -> None:
    """Whoever installs the app elsewhere is told so, and gets nothing."""
    slack.users["USTRANGE"] = {"id": "USTRANGE", "team_id": "T7", "profile": {}, "deleted": False}
    async with running_on_slack(world, slack) as slipway:
        status, text = await slack.command("USTRANGE", "/deploy app prod")
        await slipway.quiet()
        assert [one for one in await slipway.audit() if one.subject != "catalog"] == []
    assert (status, "not connected" in text) == (200, True)


@pytest.mark.parametrize("told", [{"user_team": "T9999"}, {}], ids=["said so", "not said"])
async def test_a_stranger_in_a_shared_channel(world: World, slack: FakeSlack, told: dict[str, str]) -> None:
    """Another organisation's member, whom the app can see and Slack therefore does not call a stranger."""
    slack.user("UFOREIGN", email="owner@slipway.example", team="T9999", is_stranger=False)
    async with running_on_slack(world, slack) as slipway:
        await slack.mention("UFOREIGN", "<@UBOT> deploy app prod", **told)
        await slipway.answered(1)
        (refused,) = await refusals(slipway, "command")
        assert await slipway.get(1) is None
    assert refused.code == "unknown_caller"


async def test_whoever_leaves_loses_buttons_and_votes(shut: World, slack: FakeSlack) -> None:
    """At once, by the event: the press is refused, and the yes of before does not count any more."""
    async with running_on_slack(shut, slack) as slipway:
        await slack.command(USERS["owner"], "/deploy app prod --reason now")
        await slipway.answered(1)
        (card,) = cards(slack, "C1")
        await press(slack, "owner", card, "emergency", "C1")
        await slipway.until(lambda: _true(bool(slack.views)), "the form")
        await slack.submit(USERS["owner"], next(iter(slack.views.values())))
        await slipway.reaches(State.AWAITING_APPROVAL)
        (card,) = cards(slack, "C1")
        await press(slack, "lead", card, "approve", "C1")
        await slipway.answered(3)
        await slack.event({"type": "user_change", "user": slack.user(USERS["lead"], deleted=True)})
        await press(slack, "lead", card, "reject", "C1")
        await slipway.until(lambda: _true(len(slack.views) == 2), "the form")
        await slack.submit(USERS["lead"], list(slack.views.values())[1], reason="no")
        await slipway.answered(4)
        (refused,) = await refusals(slipway)
        await press(slack, "releaser", card, "approve", "C1")
        await slipway.answered(5)
        seen = await slipway.get(1)
    assert refused.code == "unknown_caller"
    assert seen is not None
    assert seen.state is State.AWAITING_APPROVAL


async def test_dangerous_buttons_ask_again_and_the_others_do_not_surprise(tmp_path: Path, slack: FakeSlack) -> None:
    """Cancel and roll back, each from its own button behind a dialog; a bystander's press changes nothing."""
    world = make_world(tmp_path / "world", channels={"slack": "C1"})
    async with running_on_slack(world, slack) as slipway:
        await slack.command(USERS["owner"], "/deploy app prod")
        await slipway.ends(1)
        world.push(message="better", test="sleep 60")
        await slack.command(USERS["owner"], "/deploy app prod")
        await slipway.reaches(State.BUILDING, 2)
        card = cards(slack, "C1")[-1]
        assert "Cancel d-2 (app/prod)?" in question(card, "cancel")
        await press(slack, "outsider", card, "cancel", "C1")
        await slipway.answered(3)
        assert slack.whispers[-1]["user"] == USERS["outsider"]
        await press(slack, "owner", card, "cancel", "C1")
        assert (await slipway.ends(2)).state is State.CANCELLED
        world.push(message="best")
        await slack.command(USERS["owner"], "/deploy app prod")
        assert (await slipway.ends(3)).state is State.SUCCEEDED
        card = cards(slack, "C1")[-1]
        assert "back to what ran before" in question(card, "rollback")
        await press(slack, "owner", card, "rollback", "C1")
        last, first = await slipway.ends(4), await slipway.get(1)
    assert first is not None
    assert last.state is State.SUCCEEDED
    assert last.digest == first.digest


@pytest.fixture
def owned_by_group(tmp_path: Path) -> World:
    """The service belongs to whoever is in Slack's group @payments; prod is closed."""
    groups = {"payers": {"chats": {"slack": ["@payments"]}}}
    rules: dict[str, Any] = {"windows": [closed_window()], "emergency": [emergency()]}
    world = make_world(tmp_path / "world", channels={"slack": "C1"}, groups=groups, **rules)
    (world.directory / "services" / "all.yaml").write_text("app: {team: shop, owners: [payers]}")
    return world


def change(slack: FakeSlack, **users: list[str]) -> dict[str, object]:
    """The event that people came to or left @payments."""
    team = {"subteam_id": "S1", "team_id": "T0001", "date_update": 2, "date_previous_update": 1}
    return {"type": "subteam_members_changed", "added_users": [], "removed_users": [], **team, **users}


async def test_a_user_group_owns_a_service(owned_by_group: World, slack: FakeSlack) -> None:
    """Its members may, a guest in it may not, and who comes or goes does so at once."""
    slack.group("S1", "payments", [USERS["developer"], "UGUEST"])
    slack.user("UGUEST", email="outsider@slipway.example", is_restricted=True)
    async with running_on_slack(owned_by_group, slack) as slipway:
        await slipway.until(lambda: _true(not slipway.app.catalog().untold), "the members to be known")
        assert slipway.app.catalog().services["app"].owners == ("developer",)
        await slack.event(change(slack, added_users=[USERS["owner"]], removed_users=[USERS["developer"]]))
        assert slipway.app.catalog().services["app"].owners == ("owner",)
        gone = slack.group("S1", "payments", [USERS["owner"]], date_delete=1_700_000_000)
        await slack.event({"type": "subteam_updated", "subteam": gone})
        assert slipway.app.catalog().services["app"].owners == ()


async def test_a_restart_takes_nobodys_rights(owned_by_group: World, slack: FakeSlack) -> None:
    """While Slack has not told who is in the group, what its members asked for waits; it does not fail."""
    slack.group("S1", "payments", [USERS["developer"]])
    async with running_on_slack(owned_by_group, slack) as slipway:
        await slipway.until(lambda: _true(not slipway.app.catalog().untold), "the members to be known")
        await slack.command(USERS["developer"], "/deploy app prod")
        await slipway.answered(1)
        (card,) = cards(slack, "C1")
        await press(slack, "developer", card, "emergency", "C1")
        await slipway.until(lambda: _true(bool(slack.views)), "the form")
        await slack.submit(USERS["developer"], next(iter(slack.views.values())))
        await slipway.reaches(State.AWAITING_APPROVAL)
    slack.fail("usergroups.list", error="service_unavailable")
    patient = Outside(poll=POLL, engine=EngineSettings(patience=timedelta(minutes=5)))
    async with running_on_slack(owned_by_group, slack, outside=patient) as slipway:
        (card,) = cards(slack, "C1")
        await press(slack, "lead", card, "approve", "C1")
        await slipway.until(lambda: _waits_for(slipway, "does not tell now who is in payers"), "it to wait")
        assert slipway.app.slack_adapter is not None
        slipway.app.slack_adapter.catalog_changed()
        assert (await slipway.ends()).state is State.SUCCEEDED


async def _waits_for(slipway: SlackRunning, why: str) -> bool:
    seen = await slipway.get(1)
    return seen is not None and why in seen.data.waiting_for


def question(card: dict[str, object], name: str) -> str:
    """What the dialog of a button asks."""
    button = next(one for one in buttons(card) if one["action_id"].endswith(f":{name}"))
    return words(button["confirm"])


async def _true(value: bool) -> bool:
    return value
