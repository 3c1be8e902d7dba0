"""Groups whose members other systems know: read in pages, mapped to people, believed for a while and no longer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest

from bot.catalog.model import Catalog, Group
from bot.errors import ProviderRejected
from bot.pipelines.http import Http
from bot.sources.members import GitHubTeams, GitLabMembers, Memberships, OnCall
from tests.fakes.rosters import FakeRosters
from tests.support import FakeClock
from tests.support.rules import a_catalog, a_service


@pytest.fixture
def fake() -> FakeRosters:
    return FakeRosters()


@pytest.fixture
async def http(fake: FakeRosters, clock: FakeClock) -> AsyncIterator[Http]:
    transport = httpx.ASGITransport(app=fake.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://roster/") as client:
        yield Http("It", client, clock)


def members(*names: str, level: int = 40) -> list[dict[str, Any]]:
    """As GitLab says it."""
    return [{"username": name, "access_level": level, "state": "active"} for name in names]


async def test_a_github_team_is_read_to_its_last_page(fake: FakeRosters, http: Http) -> None:
    """A team of more than a hundred must not lose its second page."""
    fake.lists["orgs/acme/teams/payments/members"] = [{"login": f"u{n}"} for n in range(230)]
    assert len(await GitHubTeams(http).members("acme/payments")) == 230


@pytest.mark.parametrize("name", ["acme", "acme/", "acme/a/b", "acme/nobody"])
async def test_what_is_no_team_is_said(http: Http, name: str) -> None:
    """Instead of an empty group that nobody understands."""
    with pytest.raises(ProviderRejected):
        await GitHubTeams(http).members(name)


async def test_gitlab_members_by_level(fake: FakeRosters, http: Http) -> None:
    """Maintainers own unless the catalog says developers do; whoever is blocked is nobody; a project counts too."""
    blocked = [{"username": "out", "access_level": 50, "state": "blocked"}]
    fake.lists["groups/acme/members/all"] = [*members("ann", level=50), *members("dev", level=30), *blocked]
    fake.lists["projects/acme%2Fpay/members/all"] = members("olive")
    gitlab = GitLabMembers(http)
    assert list(await gitlab.members("acme")) == ["ann"]
    assert list(await gitlab.members("acme:developer")) == ["ann", "dev"]
    assert list(await gitlab.members("acme/pay")) == ["olive"]
    for wrong in ("acme:king", "nowhere"):
        with pytest.raises(ProviderRejected):
            await gitlab.members(wrong)


@pytest.mark.parametrize(
    "body",
    [
        ["olive", "lead@slipway.example"],
        {"people": ["olive", "lead@slipway.example"]},
        {"users": [{"id": "olive"}, {"email": "lead@slipway.example", "id": "P1"}]},
        {"oncalls": [{"user": {"id": "olive"}}, {"user": {"email": "lead@slipway.example"}}]},
        {"data": {"participants": [{"name": "olive"}, {"name": "lead@slipway.example"}]}},
    ],
)
async def test_the_usual_answers_of_on_call_systems(fake: FakeRosters, http: Http, body: Any) -> None:
    """Each has its own shape, all name people."""
    fake.now = body
    assert list(await OnCall(http).members("schedules/payments")) == ["olive", "lead@slipway.example"]


def catalog() -> Catalog:
    """`oncall` approves; `payers` own pay; rae's login is another one than her id."""
    made = a_catalog(
        {"pay": a_service(owners=(), owner_groups=("payers",))},
        groups={
            "payers": Group("payers", sources={"github": ("acme/payments",)}),
            "oncall": Group("oncall", sources={"oncall": ("schedules/payments",)}),
        },
    )
    rae = replace(made.people["rae"], chats={"github": ("Rae-L",)})
    people = {**made.people, "rae": rae, "out": replace(made.people["out"], active=False)}
    by_email = {one.email: one for one in people.values()}
    return replace(made, people=people, by_chat_id={("github", "Rae-L"): rae}, by_email=by_email)


async def test_members_own_and_approve_until_nobody_confirms_them(
    fake: FakeRosters, http: Http, clock: FakeClock
) -> None:
    """Strangers and those who left are nobody; a system that stays silent takes the rights of its groups along."""
    fake.lists["orgs/acme/teams/payments/members"] = [{"login": "Rae-L"}, {"login": "stranger"}]
    fake.now = ["dev", "lead@slipway.example", "out", "nobody"]
    known, plain = Memberships({"github": GitHubTeams(http), "oncall": OnCall(http)}, clock), catalog()
    assert known.complete(plain).untold == {"payers", "oncall"}
    await known.refresh(plain)
    made = known.complete(plain)
    assert made.untold == frozenset()
    assert made.services["pay"].owners == ("rae",)
    assert made.groups["oncall"].people == ("dev", "lead")
    fake.app.fail("GET", "503", times=9)
    await known.refresh(plain)
    assert known.problems[("github", "acme/payments")] == "It answered 503."
    clock.advance(timedelta(minutes=11))
    assert known.complete(plain).groups["oncall"].people == ()
    assert known.complete(plain).services["pay"].owners == ("rae",)
    clock.advance(timedelta(minutes=50))
    assert known.complete(plain).services["pay"].owners == ()
    assert known.complete(plain).untold == {"payers", "oncall"}


async def test_a_system_that_is_not_set_up_is_a_problem_that_is_told(clock: FakeClock) -> None:
    """The group is empty, and `/owners` says why."""
    known = Memberships({}, clock)
    await known.refresh(catalog())
    assert known.problems[("github", "acme/payments")] == "github is not set up here"
