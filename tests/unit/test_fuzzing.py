"""Whatever comes in: an answer, never a crash, and never something that sticks. Bounded, so it runs every time."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette

from bot.app import App, Outside
from bot.chat.base import IncomingCommand
from bot.clock import utc_now
from bot.deployments.hooked import GateHint, Push, RunHint
from bot.deployments.merge_checks import MergeRequest
from bot.errors import CatalogInvalid
from bot.store import inbox
from bot.web.webhooks import webhook_routes
from tests.support.running import POLL, Running, settings_for
from tests.support.world import make_world

BY_TOKEN = ("jenkins", "tekton", "yunxiao")
SECRETS = {"github": "g" * 32, "gitlab": "l" * 32, "sonar": "o" * 32, "standard": "s" * 32} | dict.fromkeys(
    BY_TOKEN, "t" * 32
)
WORDS = """ref after before repository full_name commits pusher head_commit workflow_run workflow_job run_id id build
number parameters url object_kind object_attributes variables key value project path_with_namespace type data provider
event task pipelineId buildNumber globalParams pipelineRun metadata annotations revision user team
channel text ts actions action_id container message view state values payload command"""
PIPELINE_RUN = "dev.tekton.event.pipelinerun.failed.v1"
_KEYS = st.sampled_from(sorted(WORDS.split())) | st.text(max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=6),
    max_leaves=20,
)
BODIES = JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=200)


class Deaf:
    """Takes every event and does nothing."""

    async def run_changed(self, hint: RunHint) -> bool:
        assert isinstance(hint.intent, str)
        return False

    async def gate_changed(self, hint: GateHint) -> bool:
        assert isinstance(hint.commit, str)
        return False

    async def pushed(self, push: Push) -> Sequence[str]:
        assert isinstance(push.branch, str)
        return ()

    async def proposed(self, change: MergeRequest) -> Sequence[str]:
        assert isinstance(change.number, int)
        return ()


def post(path: str, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
    app = Starlette(routes=webhook_routes(SECRETS, Deaf(), utc_now))

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://slipway") as client:
            return await client.post(path, content=body, headers=dict(headers))

    return asyncio.run(send())


def github(body: bytes) -> str:
    return "sha256=" + hmac.new(SECRETS["github"].encode(), body, hashlib.sha256).hexdigest()


@settings(max_examples=150, deadline=None)
@given(BODIES, st.sampled_from(["push", "workflow_run", "workflow_job", "ping", "odd"]))
def test_signed_nonsense_from_github_is_answered(body: bytes, event: str) -> None:
    """A proxy or a new version may send anything, and it is signed."""
    answer = post("/hooks/github", body, {"x-github-event": event, "x-hub-signature-256": github(body)})
    assert answer.status_code in (200, 202, 400)


@settings(max_examples=100, deadline=None)
@given(BODIES)
def test_genuine_nonsense_from_the_others_is_answered(body: bytes) -> None:
    """The same with a token, or SonarQube's signature."""
    signed = hmac.new(SECRETS["sonar"].encode(), body, hashlib.sha256).hexdigest()
    answers = [
        post("/hooks/gitlab", body, {"x-gitlab-token": SECRETS["gitlab"]}),
        post("/hooks/sonar", body, {"x-sonar-webhook-hmac-sha256": signed}),
        *(post(f"/hooks/{name}", body, {"authorization": f"Bearer {SECRETS[name]}"}) for name in BY_TOKEN),
        post("/hooks/tekton", body, {"authorization": f"Bearer {SECRETS['tekton']}", "ce-type": PIPELINE_RUN}),
    ]
    assert {answer.status_code for answer in answers} <= {200, 202, 400}


@settings(max_examples=100, deadline=None)
@given(
    st.binary(max_size=200),
    st.dictionaries(
        st.sampled_from(["x-hub-signature-256", "x-gitlab-token", "authorization"]),
        st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=80),
    ),
)
def test_whoever_has_no_secret_is_turned_away(body: bytes, headers: dict[str, str]) -> None:
    """On every hook, with any header."""
    sent = {name: value.encode("latin-1") for name, value in headers.items()}
    for name in SECRETS:
        assert post(f"/hooks/{name}", body, sent).status_code == 401  # type: ignore[arg-type]


def test_a_deep_body_is_no_outage() -> None:
    """Ten thousand brackets exhaust the parser's stack."""
    body = b"[" * 100_000
    answer = post("/hooks/github", body, {"x-github-event": "push", "x-hub-signature-256": github(body)})
    assert answer.status_code == 400


@pytest.mark.parametrize("database_url", ["sqlite", "postgres"], indirect=True)
async def test_any_text_is_answered_and_none_sticks(tmp_path: Path, database_url: str) -> None:
    """Also letters a database refuses: a zero byte, half a surrogate, marks of direction, ten thousand of anything."""
    world = make_world(tmp_path / "world")
    app = App(settings_for(world, database_url), Outside(poll=POLL))
    await app.start()
    odd = ["\x00", "/deploy app\x00 prod", "/deploy \ud800 prod", "/\u202edeploy app prod", "/status " + "x" * 10_000]
    odd += [
        "/deploy '",
        "/deploy app prod --reason",
        "//",
        "／",
        "/\n",
        "/deploy " + "app " * 500,
        "/status %s %(x)s {0}",
    ]
    try:
        slipway = Running(app)
        for number, text in enumerate(odd):
            event = f"odd{number}"
            await app.dispatcher.command(IncomingCommand("console", event, "owner", "#releases", text))

            async def done(event: str = event) -> bool:
                row = await app.db.read(lambda tx: inbox.by_event(tx, "console", event))
                return row is not None and row.done_at is not None

            await slipway.until(done, f"an answer to {text[:30]!r}")
        await slipway.audit()
        assert await slipway.get(1) is None
    finally:
        await app.stop()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(["environments", "teams", "people", "windows", "periodics", "channels", "x"]), JSON, max_size=4
    )
)
def test_a_catalog_of_any_shape_is_refused_in_words(tmp_path: Path, content: dict[str, Any]) -> None:
    """Loaded, or refused with a file and a field; nothing else."""
    from bot.catalog.load import load_catalog

    (tmp_path / "slipway.yaml").write_text(json.dumps(content))
    with contextlib.suppress(CatalogInvalid):
        load_catalog(tmp_path)
