"""Who an account is: by account, e-mail or mobile; who left has no rights; who cannot be asked about is not let in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import timedelta

import pytest
from pydantic import SecretStr

from bot.catalog.model import Catalog, Group, Person, Service, Team
from bot.chat.feishu_people import FeishuPeople
from bot.errors import ProviderUnavailable
from notifiers.feishu_api import FeishuApi
from tests.fakes.feishu import APP_ID, APP_SECRET, FakeFeishu
from tests.support.clock import FakeClock

USER = "GET /open-apis/contact/v3/users/{id}"


def catalog_of(*people: Person) -> Catalog:
    """A catalog of people alone."""
    known = {one.id: one for one in people}
    chats = {("feishu", name): one for one in people for name in one.chats.get("feishu", ())}
    emails = {one.email.casefold(): one for one in people if one.email}
    return Catalog("d", {}, {}, known, {}, (), (), (), by_chat_id=chats, by_email=emails)


def written(*accounts: str) -> Mapping[str, tuple[str, ...]]:
    return {"feishu": accounts}


@pytest.fixture
async def feishu() -> AsyncIterator[FakeFeishu]:
    async with FakeFeishu() as fake:
        yield fake


@pytest.fixture
async def people(feishu: FakeFeishu, clock: FakeClock) -> AsyncIterator[FeishuPeople]:
    api = FeishuApi(APP_ID, SecretStr(APP_SECRET), feishu.url, timeout=2)
    yield FeishuPeople(api, clock)
    await api.close()


@pytest.mark.parametrize(
    "person",
    [
        Person("ada", "Ada", chats=written("ou_ada")),
        Person("ada", "Ada", chats=written("on_ada")),
        Person("ada", "Ada", chats=written("u_ada")),
        Person("ada", "Ada", chats=written("+8613800000000")),
        Person("ada", "Ada", email="Ada@example.com"),
    ],
    ids=["open_id", "union_id", "user_id", "mobile", "e-mail"],
)
async def test_a_person_is_found_however_they_are_written(
    feishu: FakeFeishu, people: FeishuPeople, person: Person
) -> None:
    """And the completed catalog has the open_id first, because that is where messages go."""
    feishu.user("ou_ada", email="ada@example.com", mobile="+8613800000000")
    catalog = catalog_of(person)
    await people.refresh(catalog)
    completed = people.complete(catalog)
    found = await people.person(completed, "ou_ada")
    assert found is not None
    assert found.id == "ada"
    await people.refresh(catalog)
    completed = people.complete(catalog)
    assert completed.people["ada"].chats["feishu"][0] == "ou_ada"
    assert people.complete(catalog) is completed


async def test_an_address_nobody_has_is_nobody(feishu: FakeFeishu, people: FeishuPeople) -> None:
    """Unknown addresses come back without an id."""
    feishu.user("ou_other", email="other@example.com")
    catalog = catalog_of(Person("ada", "Ada", email="ada@example.com"))
    await people.refresh(catalog)
    assert people.complete(catalog) is catalog
    assert await people.person(catalog, "ou_other") is None
    assert await people.person(catalog, "ou_unknown") is None


@pytest.mark.parametrize("how", ["is_resigned", "is_frozen"])
async def test_who_left_has_no_rights(feishu: FakeFeishu, people: FeishuPeople, clock: FakeClock, how: str) -> None:
    """By the list, without an event, in half an hour at the latest; also for messages and votes."""
    user = feishu.user("ou_ada", email="ada@example.com")
    catalog = catalog_of(Person("ada", "Ada", chats=written("ou_ada")))
    assert await people.person(catalog, "ou_ada") is not None
    user["status"][how] = True
    clock.advance(timedelta(minutes=31))
    assert await people.person(catalog, "ou_ada") is None
    assert not people.complete(catalog).people["ada"].active


async def test_who_may_have_left_is_not_let_in(feishu: FakeFeishu, people: FeishuPeople) -> None:
    """Without its scope the status is simply not in the answer, and a frozen account looks like any other."""
    feishu.user("ou_ada", email="ada@example.com")
    feishu.granted.remove("contact:user.employee:readonly")
    catalog = catalog_of(Person("ada", "Ada", chats=written("ou_ada")))
    with pytest.raises(ProviderUnavailable, match="still work here"):
        await people.person(catalog, "ou_ada")


@pytest.mark.parametrize("account", ["ou_ada", "on_ada", "u_ada"])
async def test_an_event_acts_at_once(feishu: FakeFeishu, people: FeishuPeople, account: str) -> None:
    """Somebody deleted presses a button a second later, however the catalog calls them."""
    feishu.user("ou_ada", email="ada@example.com")
    catalog = catalog_of(Person("ada", "Ada", chats=written(account)))
    assert await people.person(catalog, "ou_ada") is not None
    people.changed({"open_id": "ou_ada"}, gone=True)
    assert await people.person(catalog, "ou_ada") is None
    assert not people.complete(catalog).people["ada"].active


async def test_a_change_of_address_is_seen(feishu: FakeFeishu, people: FeishuPeople) -> None:
    """An event makes us ask again."""
    user = feishu.user("ou_ada", email="old@example.com")
    catalog = catalog_of(Person("ada", "Ada", email="ada@example.com"))
    assert await people.person(catalog, "ou_ada") is None
    user["email"] = "ada@example.com"
    people.changed({"open_id": "ou_ada"}, gone=False)
    assert await people.person(catalog, "ou_ada") is catalog.people["ada"]


async def test_who_cannot_be_asked_about_is_not_let_in(feishu: FakeFeishu, people: FeishuPeople) -> None:
    """Feishu is away, or a scope is missing: nothing is done, and the person is told to try again."""
    feishu.user("ou_ada", email="ada@example.com")
    catalog = catalog_of(Person("ada", "Ada", chats=written("ou_ada")))
    for fault in ({"code": 99991400, "status": 429}, {"code": 99991672}, {"code": 500, "status": 500}):
        feishu.fail(USER, **fault)
        with pytest.raises(ProviderUnavailable):
            await people.person(catalog, "ou_ada")
    assert await people.person(catalog, "ou_ada") is not None


async def test_many_people_are_looked_up_in_portions(feishu: FakeFeishu, people: FeishuPeople) -> None:
    """Fifty at a time is the limit."""
    for number in range(120):
        feishu.user(f"ou_{number}", email=f"p{number}@example.com")
    catalog = catalog_of(*(Person(f"p{n}", f"P{n}", email=f"p{n}@example.com") for n in range(120)))
    await people.refresh(catalog)
    assert all(one.chats["feishu"] for one in people.complete(catalog).people.values())
    assert feishu.calls["POST /open-apis/contact/v3/users/batch_get_id"] == 3


def company(feishu: FakeFeishu) -> Catalog:
    """A department with one below it, a user group of a person and the department, and services that name them."""
    feishu.departments = {"od-shop": "0", "od-pay": "od-shop", "od-hr": "0"}
    for name, department in (("ada", "od-shop"), ("bob", "od-pay"), ("cyd", "od-hr"), ("dan", "od-hr")):
        feishu.user(f"ou_{name}", email=f"{name}@example.com", departments=[department])
    feishu.user_groups = {"g1": ["ou_cyd", "od-pay"]}
    people = [Person(one, one.title(), email=f"{one}@example.com") for one in ("ada", "bob", "cyd", "dan", "eve")]
    groups = {
        "shop": Group("shop", chats={"feishu": ("od-shop",)}),
        "mixed": Group("mixed", people=("eve",), chats={"feishu": ("g1",)}),
    }
    services = {
        "pay": Service("pay", "t", "r", owners=("eve",), owner_groups=("mixed",)),
        "hr": Service("hr", "t", "r", owners=("dan",)),
    }
    teams = {"t": Team("t", "T", lead_groups=("shop",))}
    return replace(catalog_of(*people), groups=groups, services=services, teams=teams, admin_groups=("shop",))


async def test_groups_and_departments_own(feishu: FakeFeishu, people: FeishuPeople) -> None:
    """With all departments below, and the departments inside a group; nobody before Feishu was asked."""
    catalog = company(feishu)
    before = people.complete(catalog)
    assert before.admins == catalog.admins
    assert before.untold == {"shop", "mixed"}
    await people.refresh(catalog)
    completed = people.complete(catalog)
    assert completed.services["pay"].owners == ("eve", "bob", "cyd")
    assert completed.services["hr"] is catalog.services["hr"]
    assert completed.teams["t"].leads == ("ada", "bob")
    assert completed.admins == ("ada", "bob")
    assert completed.groups["mixed"].people == ("eve", "bob", "cyd")


async def test_who_leaves_a_group_owns_no_longer(feishu: FakeFeishu, people: FeishuPeople, clock: FakeClock) -> None:
    """By event at once, also for somebody who is asked about before the department is read again; else by the list."""
    catalog = company(feishu)
    await people.refresh(catalog)
    feishu.users["ou_bob"]["departments"] = ["od-hr"]
    people.changed({"open_id": "ou_bob"}, gone=False)
    assert await people.person(catalog, "ou_bob") is not None
    assert people.complete(catalog).services["pay"].owners == ("eve", "cyd")
    feishu.user_groups["g1"] = []
    await people.refresh(catalog)
    assert people.complete(catalog).services["pay"].owners == ("eve",)
    feishu.users["ou_ada"]["status"]["is_resigned"] = True
    await people.refresh(catalog)
    assert people.complete(catalog).teams["t"].leads == ()


async def test_a_group_that_cannot_be_read_is_believed_for_an_hour(
    feishu: FakeFeishu, people: FeishuPeople, clock: FakeClock
) -> None:
    """Then nobody is in it; the other groups are read nevertheless."""
    catalog = company(feishu)
    await people.refresh(catalog)
    feishu.granted.remove("contact:group:readonly")
    clock.advance(timedelta(minutes=59))
    await people.refresh(catalog)
    assert "bob" in people.complete(catalog).services["pay"].owners
    assert "permission" in people.groups.problems["g1"]
    clock.advance(timedelta(minutes=2))
    await people.refresh(catalog)
    assert people.complete(catalog).services["pay"].owners == ("eve",)
    assert people.complete(catalog).teams["t"].leads == ("ada", "bob")


async def test_large_groups_come_in_pages(feishu: FakeFeishu, people: FeishuPeople) -> None:
    """Fifty at a time."""
    feishu.departments = {"od-all": "0"}
    for number in range(120):
        feishu.user(f"ou_{number}", email=f"p{number}@example.com", departments=["od-all"])
    everybody = [Person(f"p{n}", f"P{n}", email=f"p{n}@example.com") for n in range(120)]
    groups = {"all": Group("all", chats={"feishu": ("od-all",)})}
    catalog = replace(catalog_of(*everybody), groups=groups)
    await people.refresh(catalog)
    assert len(people.complete(catalog).groups["all"].people) == 120


async def test_a_reloaded_catalog_is_completed_anew(feishu: FakeFeishu, people: FeishuPeople) -> None:
    """What was made for another catalog must not be served for this one."""
    feishu.user("ou_ada", email="ada@example.com")
    catalog = catalog_of(Person("ada", "Ada", email="ada@example.com"))
    await people.refresh(catalog)
    assert people.complete(catalog).people["ada"].chats
    other = replace(catalog, people={"ada": replace(catalog.people["ada"], email="new@example.com")})
    assert not people.complete(other).people["ada"].chats
