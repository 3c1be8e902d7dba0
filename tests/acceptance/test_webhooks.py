"""Events from repositories and CI systems: what they start, what they wake, and what they must not do."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from bot.app import App, Outside
from bot.deployments.engine import EngineSettings
from bot.deployments.model import State
from bot.errors import ProviderUnavailable
from bot.pipelines import remote
from bot.pipelines.remote import RemotePipeline
from bot.store import deployments as rows
from bot.store import inbox
from bot.store.database import Tx
from bot.times import say_when
from tests.fakes.github import signature
from tests.fakes.jenkins import FakeJenkins, notification
from tests.fakes.serving import serving
from tests.support import FakeClock
from tests.support.running import POLL, Running, settings_for
from tests.support.world import World

SECRETS = {
    "github_hook_secret": SecretStr("github-secret"),
    "gitlab_hook_secret": SecretStr("gitlab-token"),
    "jenkins_hook_secret": SecretStr("jenkins-token"),
    "tekton_hook_secret": SecretStr("tekton-token"),
    "yunxiao_hook_secret": SecretStr("yunxiao-token"),
    "sonar_hook_secret": SecretStr("sonar-secret"),
}


@asynccontextmanager
async def hooked(
    world: World, outside: Outside | None = None, **settings: Any
) -> AsyncIterator[tuple[Running, httpx.AsyncClient]]:
    """A Slipway with hooks, and a client that calls them."""
    app = App(settings_for(world).model_copy(update={**SECRETS, **settings}), outside or Outside(poll=POLL))
    await app.start()
    transport = httpx.ASGITransport(app.asgi)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://slipway") as client:
            yield Running(app), client
    finally:
        await app.stop()


def change(world: World, **defaults: Any) -> None:
    """Lay values over the catalog's defaults."""
    path = world.directory / "slipway.yaml"
    root = json.loads(path.read_text())
    root["defaults"] |= defaults
    path.write_text(json.dumps(root))


def push_body(commit: str, email: str = "owner@slipway.example", branch: str = "main", **more: object) -> bytes:
    """What GitHub posts on a push to the service's repository."""
    body = {
        "ref": f"refs/heads/{branch}",
        "after": commit,
        "repository": {"full_name": "repos/app"},
        "pusher": {"name": "x", "email": email},
        "head_commit": {"id": commit, "message": "second"},
        "commits": [{"added": [], "modified": ["message.txt"], "removed": []}],
    }
    return json.dumps(body | more).encode()


async def push(client: httpx.AsyncClient, body: bytes, delivery: str = "d1", secret: str = "github-secret") -> Any:
    headers = {"X-GitHub-Event": "push", "X-GitHub-Delivery": delivery, "X-Hub-Signature-256": signature(secret, body)}
    return await client.post("/hooks/github", content=body, headers=headers)


async def test_a_push_deploys_what_follows_its_branch(world: World) -> None:
    """Merge to main and it runs; every repeat of the event, in whatever form, does nothing more."""
    change(world, auto_deploy=True)
    commit = world.push("second")
    async with hooked(world) as (slipway, client):
        answer = await push(client, push_body(commit))
        assert (answer.status_code, answer.json()["detail"]) == (202, ["app/prod: d-1"])
        for delivery in ("d1", "d2"):
            await push(client, push_body(commit), delivery)
        seen = await slipway.ends()
        assert await slipway.get(2) is None
    assert (seen.state, seen.requested_by, seen.reason) == (State.SUCCEEDED, "owner", "push to main")
    assert (world.count("builds"), world.count("deploys")) == (1, 1)


async def test_a_forged_or_useless_event_changes_nothing(world: World) -> None:
    """Without the signature nobody deploys; a body we cannot read is told so; an unknown event is answered politely."""
    change(world, auto_deploy=True)
    body = push_body(world.push("second"))
    async with hooked(world) as (slipway, client):
        assert (await push(client, body, secret="guess")).status_code == 401
        assert (await client.post("/hooks/github", content=body)).status_code == 401
        assert (await client.post("/hooks/jenkins?token=wrong", content=b"{}")).status_code == 401
        assert (await client.post("/hooks/gitlab", content=b"{}")).status_code == 401
        assert (await client.post("/hooks/tekton", content=b"{}")).status_code == 401
        assert (await client.post("/hooks/yunxiao?token=", content=b"{}")).status_code == 401
        assert (await client.post("/hooks/sonar", content=b"{}")).status_code == 401
        assert (await client.post("/hooks/standard", content=b"{}")).status_code == 404
        assert (await client.post("/hooks/jenkins?token=jenkins-token", content=b"[]")).status_code == 400
        headers = {"X-Hub-Signature-256": signature("github-secret", b"{}"), "X-GitHub-Event": "star"}
        answer = await client.post("/hooks/github", content=b"{}", headers=headers)
        assert (answer.status_code, answer.json()) == (200, {"status": "ignored"})
        assert (await client.post("/hooks/jenkins?token=x", content=b"x" * 6_000_000)).status_code == 413
        assert await slipway.get(1) is None


async def test_who_may_not_deploy_does_not_by_pushing(world: World) -> None:
    """A push is a request like any other: the rules are asked, and the refusal is on record."""
    change(world, auto_deploy=True)
    commit = world.push("second")
    async with hooked(world) as (slipway, client):
        outsider = await push(client, push_body(commit, "outsider@slipway.example"), "d1")
        stranger = await push(client, push_body(commit, "evil@example.org"), "d2")
        assert outsider.json()["status"] == "app/prod: refused (not_permitted)"
        assert stranger.json()["status"] == "app/prod: refused (unknown_caller)"
        entries = [(entry.actor, entry.action, entry.outcome) for entry in await slipway.audit()]
        assert await slipway.get(1) is None
    assert ("outsider", "push:deploy", "refused") in entries
    assert ("evil@example.org", "push:deploy", "refused") in entries


async def test_what_is_not_meant_is_not_deployed(world: World) -> None:
    """By hand unless the catalog says otherwise; skip markers, other branches, other files, older commits."""
    commit = world.push("second")
    async with hooked(world) as (slipway, client):
        assert (await push(client, push_body(commit), "d1")).json()["status"] == "ignored"
        change(world, auto_deploy=True, paths=["pay/*"])
    async with hooked(world) as (slipway, client):
        assert (await push(client, push_body(commit), "d2")).json()["status"] == "ignored"
    change(world, auto_deploy=True, paths=[])
    async with hooked(world) as (slipway, client):
        skipped = push_body(commit, head_commit={"id": commit, "message": "typo [skip deploy]"})
        assert "skipped" in (await push(client, skipped, "d3")).json()["status"]
        assert (await push(client, push_body(commit, branch="feature"), "d4")).json()["status"] == "ignored"
        older = (await push(client, push_body("a" * 40), "d5")).json()["status"]
        assert older == "app/prod: main is at another commit by now"
        assert await slipway.get(1) is None


async def test_a_newer_push_replaces_one_that_still_waits(world: World) -> None:
    """Three merges in a row: the first is on its way, the second never need be."""
    change(world, auto_deploy=True)
    first = world.push("second", test="sleep 2")
    async with hooked(world) as (slipway, client):
        await push(client, push_body(first), "d1")
        await slipway.reaches(State.BUILDING, 1)
        for number, text in enumerate(("third", "fourth"), 2):
            await push(client, push_body(world.push(text)), f"d{number}")
        ends = [(await slipway.ends(number)).state for number in (1, 2, 3)]
    assert ends == [State.SUCCEEDED, State.SUPERSEDED, State.SUCCEEDED]


async def test_a_tag_is_a_release_where_the_catalog_says_so(world: World) -> None:
    """Tagged on the branch, it goes out under its name; other names, and tags beside the branch, do not."""
    environments = {"prod": {"branch": "main", "order": 2, "defaults": {"auto_deploy_tags": ["v*"]}}}
    world.write_root(environments=environments)
    commit = world.push("second")
    for tag in ("v1.4.2", "nightly"):
        world.tag(tag)
    aside = world.push("not merged", branch="aside")
    world.tag("v2.0.0")

    def tagged(tag: str, head: str) -> bytes:
        return push_body(head, ref=f"refs/tags/{tag}", commits=[])

    async with hooked(world) as (slipway, client):
        assert (await push(client, push_body(commit), "d0")).json()["status"] == "ignored"
        assert (await push(client, tagged("nightly", commit), "d1")).json()["status"] == "ignored"
        refused = (await push(client, tagged("v2.0.0", aside), "d2")).json()["status"]
        assert refused == "app/prod: refused (not_on_branch)"
        assert (await push(client, tagged("v1.4.2", commit), "d3")).json()["detail"] == ["app/prod: d-1"]
        await push(client, tagged("v1.4.2", commit), "d4")
        seen = await slipway.ends()
        assert await slipway.get(2) is None
        await slipway.quiet()
        told = [one.text for one in await slipway.messages("owner") if one.place == "@slipway" and one.text]
    assert (seen.state, seen.release_version, seen.reason) == (State.SUCCEEDED, "v1.4.2", "tag v1.4.2")
    assert told == [
        "Your tag v2.0.0 did not deploy app/prod. The tag v2.0.0 of app is not on main, so app/prod does not follow it."
    ]


async def test_who_sends_about_runs_and_gates_wakes_whom_it_concerns(world: World) -> None:
    """Tekton, Yunxiao and SonarQube tell of their ends; a repeated CloudEvent is seen before, a strange one ignored."""
    world.push("second", test="sleep 60")
    bearer = {"Authorization": "Bearer tekton-token"}
    async with hooked(world) as (slipway, client):
        await slipway.say("owner", "/deploy app prod")
        seen = await slipway.reaches(State.BUILDING)
        intent = f"{seen.intent}-r1"
        metadata = {"name": "slipway-1", "annotations": {"slipway.dev/intent": intent}}
        event = {"ce-type": "dev.tekton.event.pipelinerun.running.v1", "ce-id": "1", "ce-source": "/x"}
        for said in ("woken", "seen before"):
            run = {"pipelineRun": {"metadata": metadata}}
            answer = await client.post("/hooks/tekton", json=run, headers=bearer | event)
            assert answer.json()["status"] == said
        params = {"SLIPWAY_INTENT": intent}
        task: dict[str, Any] = {"event": "task", "task": {"pipelineId": 1, "buildNumber": 2}, "globalParams": params}
        answer = await client.post("/hooks/yunxiao?token=yunxiao-token", json=task)
        assert answer.json()["status"] == "woken"
        raw = json.dumps({"taskId": "AY", "revision": seen.commit}).encode()
        signed = {"X-Sonar-Webhook-HMAC-SHA256": signature("sonar-secret", raw).removeprefix("sha256=")}
        answer = await client.post("/hooks/sonar", content=raw, headers=signed)
        assert (answer.status_code, answer.json()["status"]) == (200, "ignored")  # It builds, it is not at its gates.
        await slipway.say("owner", "/cancel d-1")
        await slipway.ends()


async def test_a_jenkins_run_is_known_by_its_hook(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way with a CI system elsewhere; the poll is so slow here that only the hook can be the reason."""
    monkeypatch.setattr(remote, "FASTEST", timedelta(minutes=1))
    monkeypatch.setattr(remote, "SLOWEST", timedelta(minutes=1))
    change(world, pipeline={"provider": "jenkins", "name": "team/app"})
    world.push("second")
    fake = FakeJenkins("team/app")
    fake.queue_looks = 0
    async with serving(fake.app) as url:
        jenkins: dict[str, Any] = {"jenkins_url": url, "jenkins_user": "bot", "jenkins_token": SecretStr("t0ken")}
        async with hooked(world, **jenkins) as (slipway, client):
            await slipway.say("owner", "/deploy app prod")
            seen = await slipway.reaches(State.BUILDING)

            async def looked_at() -> bool:
                return fake.app.count(r"GET /job/team/job/app/1/api") > 0

            await slipway.until(looked_at, "Jenkins to be looked at")
            ((_, build),) = fake.jobs["team/app"].builds.values()
            build.looks = 10
            body = notification("team/app", 1, f"{seen.intent}-r1")
            answer = await client.post("/hooks/jenkins?token=jenkins-token", content=body)
            assert answer.json()["status"] == "woken"

            async def built() -> bool:
                now = await slipway.get(1)
                return now is not None and now.state is not State.BUILDING

            await slipway.until(built, "the hook to be followed")
            ended = await slipway.ends()
    assert ended.state is State.SUCCEEDED
    assert len(fake.built) == 1
    assert fake.built[0]["SLIPWAY_COMMIT"] == ended.commit


async def test_a_jenkins_run_is_known_within_one_poll_without_its_hook(
    world: World, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its hook was lost: it is looked at when its turn comes, not before and not later. No time passes by itself."""
    turn = timedelta(minutes=2)
    monkeypatch.setattr(remote, "FASTEST", turn)
    monkeypatch.setattr(remote, "SLOWEST", turn)
    change(world, pipeline={"provider": "jenkins", "name": "team/app"})
    fake = FakeJenkins("team/app")
    fake.queue_looks = 0
    async with serving(fake.app) as url:
        jenkins: dict[str, Any] = {"jenkins_url": url, "jenkins_user": "bot", "jenkins_token": SecretStr("t0ken")}
        async with hooked(world, Outside(clock=clock, poll=POLL), **jenkins) as (slipway, _client):

            async def waits() -> bool:
                """For its turn, let go by whoever looked at it."""
                seen, looked = await slipway.get(1), fake.app.count(r"GET /job/team/job/app/1/api")
                due = seen is not None and seen.state is State.BUILDING and slipway.app.engine.busy == 0
                return due and looked > 0 and await slipway.app.db.read(wakes) == clock() + turn

            async def built() -> bool:
                seen = await slipway.get(1)
                return seen is not None and seen.state is not State.BUILDING

            def wakes(tx: Tx) -> datetime | None:
                return rows.next_wake(tx, [State.BUILDING])

            await slipway.say("owner", "/deploy app prod")
            await slipway.until(waits, "Jenkins to be looked at")
            ((_, build),) = fake.jobs["team/app"].builds.values()
            build.looks = 10  # It ends, and nobody tells us.
            clock.advance(turn - timedelta(seconds=1))
            slipway.app.engine.poke_all()
            await slipway.say("owner", "/deploy app dev")  # Others are at work meanwhile.
            assert (await built(), fake.app.count(r"GET /job/team/job/app/1/api")) == (False, 1)
            clock.advance(timedelta(seconds=1))
            slipway.app.engine.poke_all()
            await slipway.until(built, "the turn to be taken")


async def test_a_system_that_hangs_is_named_and_delays_nobody_else(world: World) -> None:
    """Many deployments on a CI system that says nothing: they say so and since when, and the others go on."""
    change(world, pipeline={"provider": "jenkins", "name": "team/app"})
    path = world.directory / "services" / "all.yaml"
    waiting = [f"app{number}" for number in range(12)]
    path.write_text(
        "".join(f"{name}: {{team: shop, owners: [owner]}}\n" for name in waiting)
        + "other: {team: shop, owners: [owner], pipeline: {provider: shell}, repo: repos/app}\n"
    )
    fake = FakeJenkins("team/app")
    fake.app.fail("", "hang", times=1000)
    async with serving(fake.app) as url:
        jenkins: dict[str, Any] = {"jenkins_url": url, "jenkins_user": "bot", "jenkins_token": SecretStr("t0ken")}
        few = Outside(poll=POLL, engine=EngineSettings(limit=10))
        async with hooked(world, outside=few, patience_seconds=600.0, **jenkins) as (slipway, _client):
            for pipeline in slipway.app.providers.pipelines.values():
                if isinstance(pipeline, RemotePipeline):
                    pipeline.system._http.client.timeout = httpx.Timeout(1.0)  # type: ignore[attr-defined]
            for name in waiting:
                await slipway.say("owner", f"/deploy {name} prod")
            await slipway.say("owner", "/deploy other prod")
            assert (await slipway.ends(13)).state is State.SUCCEEDED

            async def said_so() -> bool:
                seen = await slipway.get(1)
                return seen is not None and seen.data.waiting_for == "Jenkins does not answer."

            await slipway.until(said_so, "the silence to be noticed")
            seen = await slipway.get(1)
            answer = (await slipway.say("owner", "/status"))[-1]
    assert seen is not None
    assert seen.state is State.BUILDING
    assert seen.data.waiting_since_at is not None
    since = say_when(seen.data.waiting_since_at, "UTC")
    assert answer.card is not None
    assert f", waiting since {since}: Jenkins does not answer." in answer.card["text"]
    assert fake.app.count("POST") == 0


async def test_a_push_is_not_lost_when_the_repository_is_away(world: World) -> None:
    """GitHub sends a push once. It is stored, answered, and done when the repository is there again."""
    change(world, auto_deploy=True)
    commit = world.push("second")
    away = world.source.with_name("away")
    async with hooked(world) as (slipway, client):
        world.source.rename(away)
        events = slipway.app.dispatcher._others["push"]

        async def unreachable(row: Any) -> Any:
            if not world.source.exists():
                raise ProviderUnavailable("The repository does not answer.")
            return await events(row)

        slipway.app.dispatcher.also("push", unreachable)
        answer = await push(client, push_body(commit))
        assert (answer.status_code, answer.json()["status"]) == (202, "taken; it is tried again")
        assert await slipway.get(1) is None
        away.rename(world.source)
        await slipway.app.db.run(inbox.forget_leases)
        await slipway.app.dispatcher.recover()

        async def begun() -> bool:
            return await slipway.get(1) is not None

        await slipway.until(begun, "the push to be done")
        assert (await slipway.ends()).state is State.SUCCEEDED
        again = await push(client, push_body(commit), "d1")
        assert again.json()["status"] == "seen before"
        assert await slipway.get(2) is None
