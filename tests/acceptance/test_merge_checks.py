"""A merge request is checked by itself: for whom, of what, once a head, and beside it stands how it went."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import SecretStr

from bot.deployments.model import State
from tests.acceptance.test_webhooks import hooked
from tests.fakes.github import FakeGitHub, pull_request_hook, rerequested_hook, signature
from tests.fakes.gitlab import TOKEN, FakeGitLab, merge_request_hook
from tests.fakes.repositories import git
from tests.fakes.serving import serving
from tests.support.world import PEOPLE, World, make_world

CHECK = """steps:
  - name: test
    run: [sh, test.sh]
  - name: count
    run: [sh, -c, 'echo checked >> {effects}/checks.log']
artifact: null
"""
MORE: Mapping[str, Any] = {"auto_check": True, "check": {"options": {"file": ".slipway/check.yaml"}}}


@pytest.fixture
def checked(tmp_path: Path) -> World:
    """A company in which a developer is known to GitHub as ada, and an outsider as eve."""
    people = {name: {"name": name.title(), "email": f"{name}@slipway.example"} for name in PEOPLE}
    people["developer"]["chats"] = {"github": ["ada"]}  # type: ignore[assignment]
    people["outsider"]["chats"] = {"github": ["eve"]}  # type: ignore[assignment]
    world = make_world(tmp_path / "world", people=people)
    set_up(world)
    (world.source / ".slipway" / "check.yaml").write_text(CHECK.replace("{effects}", str(world.effects)))
    world.push("with a check")
    return world


def set_up(world: World, **defaults: Any) -> None:
    path = world.directory / "slipway.yaml"
    root = json.loads(path.read_text())
    root["defaults"] |= {**MORE, **defaults}
    path.write_text(json.dumps(root))


async def pulled(client: httpx.AsyncClient, body: bytes, delivery: str, event: str = "pull_request") -> Any:
    headers = {
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": delivery,
        "X-Hub-Signature-256": signature("github-secret", body),
    }
    return (await client.post("/hooks/github", content=body, headers=headers)).json()


async def merging(client: httpx.AsyncClient, body: bytes, event: str) -> Any:
    headers = {"X-Gitlab-Token": "gitlab-token", "Idempotency-Key": event}
    return (await client.post("/hooks/gitlab", content=body, headers=headers)).json()


def app_settings(url: str, directory: Path) -> dict[str, Any]:
    """Signs in as an App."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private, pem = serialization.PrivateFormat.TraditionalOpenSSL, serialization.Encoding.PEM
    path = directory / "app.pem"
    path.write_bytes(key.private_bytes(pem, private, serialization.NoEncryption()))
    return {"github_url": url, "github_app_id": "1", "github_installation": "2", "github_app_key_file": path}


async def test_a_pull_request_is_checked_once_and_told(checked: World, tmp_path: Path) -> None:
    """Opened: the check pipeline runs, and nothing else; its check run ends green. A repeat does nothing."""
    commit = checked.push("refunds", branch="refunds")
    fake = FakeGitHub("repos/app/x.yml")
    async with serving(fake.app) as url, hooked(checked, **app_settings(url, tmp_path)) as (slipway, client):
        said = await pulled(client, pull_request_hook(commit, "refunds"), "1")
        assert said["detail"] == ["app pull request #9: d-1"]
        await pulled(client, pull_request_hook(commit, "refunds", "reopened"), "2")
        seen = await slipway.ends()
        assert await slipway.get(2) is None
        assert [one for one in await slipway.messages("developer") if one.place == "#releases"] == []
    assert (seen.state, seen.requested_by, seen.digest) == (State.SUCCEEDED, "developer", "")
    assert (seen.reason, seen.branch) == ("pull request #9", "refunds")
    assert (checked.count("checks"), checked.count("builds"), checked.config_log()) == (1, 0, [])
    (run,) = fake.check_runs
    assert (run["name"], run["head_sha"], run["status"], run["conclusion"]) == (
        *("slipway/app", commit, "completed"),
        "success",
    )


async def test_a_failed_check_brings_the_lines_to_its_author_and_the_pull_request(
    checked: World, tmp_path: Path
) -> None:
    """The author is told in person what to do; the check run holds the lines; a fix is checked by itself."""
    bad = checked.push("bad", "echo 'total_test.go:9: got 3, want 4'; exit 1", branch="refunds")
    fake = FakeGitHub("repos/app/x.yml")
    async with serving(fake.app) as url, hooked(checked, **app_settings(url, tmp_path)) as (slipway, client):
        await pulled(client, pull_request_hook(bad, "refunds"), "1")
        assert (await slipway.ends()).state is State.FAILED
        (told,) = [one for one in await slipway.cards("developer", "d-1") if one["place"] == "@slipway"]
        assert told["title"] == f"The check of app {bad[:12]} from refunds failed at the step 'build'"
        assert "Push a fix to refunds, and it is checked again. /logs d-1 shows more." in told["text"]
        assert "got 3, want 4" in told["excerpt"]
        fixed = checked.push("good", branch="refunds")
        await pulled(client, pull_request_hook(fixed, "refunds", "synchronize"), "2")
        assert (await slipway.ends(2)).state is State.SUCCEEDED
    first, second = fake.check_runs
    assert (first["conclusion"], second["conclusion"]) == ("failure", "success")
    assert "got 3, want 4" in first["output"]["summary"]


async def test_a_check_is_run_again_from_github(checked: World, tmp_path: Path) -> None:
    """By the button at our own check run; each press once, and only for who may; another App's checks are not ours."""
    commit = checked.push("refunds", branch="refunds")
    fake = FakeGitHub("repos/app/x.yml")
    async with serving(fake.app) as url, hooked(checked, **app_settings(url, tmp_path)) as (slipway, client):
        await pulled(client, pull_request_hook(commit, "refunds"), "1")
        await slipway.ends()
        press = rerequested_hook(commit, "refunds")
        assert (await pulled(client, press, "2", "check_run"))["detail"] == ["app pull request #9: d-2"]
        await pulled(client, press, "2", "check_run")
        assert (await slipway.ends(2)).state is State.SUCCEEDED
        other = rerequested_hook(commit, "refunds", name="lint")
        assert (await pulled(client, other, "3", "check_run"))["status"] == "ignored"
        stranger = rerequested_hook(commit, "refunds", sender="eve")
        assert "not_permitted" in (await pulled(client, stranger, "4", "check_run"))["status"]
        assert await slipway.get(3) is None
    assert [one["conclusion"] for one in fake.check_runs] == ["success", "success"]
    assert checked.count("checks") == 2


async def test_a_newer_head_replaces_what_waits_and_what_runs(checked: World) -> None:
    """Only the newest head is worth a check; the statuses of the others say that they were given up."""
    fake = FakeGitLab("repos/app")
    heads = [checked.push("one", test=checked.held, branch="refunds")]
    settings: dict[str, Any] = {"gitlab_token": SecretStr(TOKEN)}
    async with serving(fake.app) as url, hooked(checked, gitlab_url=url, **settings) as (slipway, client):
        await merging(client, merge_request_hook(heads[0], "refunds"), "1")
        await slipway.reaches(State.BUILDING)
        for number, test in ((2, checked.held), (3, "exit 0")):
            heads.append(checked.push(f"push {number}", test=test, branch="refunds"))
            hook = merge_request_hook(heads[-1], "refunds", "update", oldrev=heads[-2])
            assert (await merging(client, hook, str(number)))["detail"] == [f"app merge request !9: d-{number}"]
        ends = [(await slipway.ends(number)) for number in (1, 2, 3)]
        await slipway.quiet()
        mine = [one for one in await slipway.messages("developer") if one.place == "@slipway"]
    assert [one.state for one in ends] == [State.SUPERSEDED, State.SUPERSEDED, State.SUCCEEDED]
    assert checked.count("checks") == 1
    assert mine == []
    last = {sha: body["state"] for sha, body in fake.statuses}
    assert [last[head] for head in heads] == ["canceled", "canceled", "success"]
    assert fake.statuses[-1][1]["name"] == "slipway/app"


async def test_what_is_closed_is_checked_no_longer(checked: World) -> None:
    """Nobody waits for the answer any more; a check that a person asked for goes on."""
    commit = checked.push("slow", test=checked.held, branch="refunds")
    async with hooked(checked) as (slipway, client):
        await merging(client, merge_request_hook(commit, "refunds"), "1")
        await slipway.reaches(State.BUILDING)
        checked.push("other", test=checked.held, branch="other")
        await slipway.say("developer", "/build app other --check")
        await slipway.reaches(State.BUILDING, 2)
        said = await merging(client, merge_request_hook(commit, "refunds", "close"), "2")
        assert said["detail"] == ["d-1: given up"]
        seen = await slipway.ends()
        checked.let_go()
        assert (await slipway.ends(2)).state is State.SUCCEEDED
    assert (seen.state, seen.data.given_up) == (State.SUPERSEDED, "The merge request !9 is closed.")


async def test_forks_strangers_and_drafts_are_not_checked(checked: World) -> None:
    """Their code would run with the company's credentials. Each no is on record, and told to who is known."""
    commit = checked.push("refunds", branch="refunds")
    elsewhere = {"ref": "refunds", "sha": commit, "repo": {"id": 2}}
    async with hooked(checked) as (slipway, client):
        fork = await pulled(client, pull_request_hook(commit, "refunds", head=elsewhere), "1")
        gone = await pulled(client, pull_request_hook(commit, "refunds", head=elsewhere | {"repo": None}), "2")
        stranger = await pulled(client, pull_request_hook(commit, "refunds", sender="mallory"), "3")
        outsider = await pulled(client, pull_request_hook(commit, "refunds", sender="eve"), "4")
        draft = await pulled(client, pull_request_hook(commit, "refunds", draft=True), "5")
        older = await pulled(client, pull_request_hook("a" * 40, "refunds"), "6")
        away = await pulled(client, pull_request_hook(commit, "removed"), "7")
        base = {"ref": "legacy", "sha": "0" * 40, "repo": {"id": 1}}
        aside = await pulled(client, pull_request_hook(commit, "refunds", base=base), "8")
        assert await slipway.get(1) is None
        entries = [(one.actor, one.action, one.code) for one in await slipway.audit()]
        await slipway.quiet()
        told = [one.text for one in await slipway.messages("developer") if one.place == "@slipway"]
    assert [one["status"] for one in (fork, gone, stranger, outsider)] == [
        "app pull request #9: refused (fork)",
        "app pull request #9: refused (fork)",
        "app pull request #9: refused (unknown_caller)",
        "app pull request #9: refused (not_permitted)",
    ]
    assert draft["status"] == "app pull request #9: a draft"
    assert older["status"] == "app pull request #9: refunds is at another commit by now"
    assert aside["status"] == "ignored"
    assert away["status"] == "app pull request #9: refused (rejected)"
    assert ("developer", "merge_request:check", "fork") in entries
    assert ("mallory", "merge_request:check", "unknown_caller") in entries
    assert "Your pull request #9 was not checked. It comes from another repository" in told[0]
    assert checked.count("checks") == 0


async def test_the_catalog_says_which_are_checked(checked: World) -> None:
    """Off unless it is wanted; drafts if so; of a shared repository only the services whose files it changes."""
    commit = checked.write({"pay/main.go": "x"}, "pay", branch="refunds")
    set_up(checked, auto_check=False)
    async with hooked(checked) as (slipway, client):
        assert (await pulled(client, pull_request_hook(commit, "refunds"), "1"))["status"] == "ignored"
        assert await slipway.get(1) is None
    set_up(checked, check_drafts=True, paths=["{service}/*"])
    async with hooked(checked) as (slipway, client):
        said = await pulled(client, pull_request_hook(commit, "refunds", draft=True), "2")
        assert said["status"] == "app pull request #9: touches nothing of it"
    git(checked.source, "checkout", "--quiet", "main")
    checked.push("main goes on, which is not of the merge request")
    set_up(checked, check_drafts=True, paths=["message.txt"])
    async with hooked(checked) as (slipway, client):
        said = await pulled(client, pull_request_hook(commit, "refunds", draft=True), "2b")
        assert said["status"] == "app pull request #9: touches nothing of it"
    set_up(checked, check_drafts=True, paths=["pay/*"])
    async with hooked(checked) as (slipway, client):
        said = await pulled(client, pull_request_hook(commit, "refunds", draft=True), "3")
        assert said["detail"] == ["app pull request #9: d-1"]
        assert (await slipway.ends()).state is State.SUCCEEDED
