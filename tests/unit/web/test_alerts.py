"""What Alertmanager posts is read as it means, and nonsense is answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette

from bot.deployments.alarms import Alarm
from bot.web.alerts import alert_routes

TOKEN = "alertmanager-token"
ALERT: dict[str, Any] = {
    "status": "firing",
    "labels": {"alertname": "Slow", "app": "pay", "env": "prod"},
    "annotations": {"description": "p99 is 3 s, password=hunter22"},
    "startsAt": "2026-11-25T20:00:00.739266876+02:00",
    "endsAt": "0001-01-01T00:00:00Z",
    "fingerprint": "c4b1d3f5a6e70812",
}


class Heard:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.alarms: list[Alarm] = []

    async def heard(self, alarms: Sequence[Alarm]) -> int:
        self.alarms += alarms
        return len(alarms)


def post(body: bytes, heard: Heard) -> httpx.Response:
    app = Starlette(routes=alert_routes(TOKEN, ("app", "env"), heard))

    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://slipway") as client:
            return await client.post("/hooks/alertmanager", content=body, headers={"authorization": f"Bearer {TOKEN}"})

    return asyncio.run(send())


def test_an_alert_is_read_by_the_labels_that_are_set_up() -> None:
    """Other names than ours, nanoseconds, a description instead of a summary; no secret of it is kept."""
    heard = Heard()
    assert post(json.dumps({"version": "4", "alerts": [ALERT]}).encode(), heard).status_code == 202
    (one,) = heard.alarms
    assert (one.service, one.environment, one.name, one.firing) == ("pay", "prod", "Slow", True)
    assert one.started_at.isoformat() == "2026-11-25T18:00:00.739266+00:00"
    assert one.fingerprint == ALERT["fingerprint"]
    assert "hunter22" not in one.summary


def test_without_a_fingerprint_the_labels_are_one() -> None:
    """The same labels are the same alert, others are another."""
    heard = Heard()
    odd = {**ALERT, "fingerprint": "a\u0000b"}
    other = {**odd, "labels": {**ALERT["labels"], "pod": "pay-1"}}
    post(json.dumps({"alerts": [odd, odd, other]}).encode(), heard)
    prints = [one.fingerprint for one in heard.alarms]
    assert (prints[0] == prints[1], prints[0] == prints[2], len(prints[0])) == (True, False, 64)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
ALERTS = st.fixed_dictionaries(
    {},
    optional={
        "status": JSON,
        "labels": JSON,
        "annotations": JSON,
        "startsAt": st.sampled_from(["0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00", "yesterday"]) | JSON,
        "fingerprint": JSON,
    },
)


@settings(max_examples=100, deadline=None)
@given(JSON | st.fixed_dictionaries({"alerts": st.lists(ALERTS, max_size=3) | JSON}))
def test_nonsense_is_answered(body: Any) -> None:
    """A proxy or a new version may send anything, and it knows the token."""
    assert post(json.dumps(body).encode(), Heard()).status_code in (200, 202, 400)


@settings(max_examples=50, deadline=None)
@given(st.fixed_dictionaries({name: st.just(value) | JSON for name, value in ALERT.items()}))
def test_a_field_that_is_off_is_answered(alert: Any) -> None:
    """All right but for one or two fields."""
    assert post(json.dumps({"alerts": [alert]}).encode(), Heard()).status_code in (200, 202, 400)
