"""The card of an environment that spans clusters: one line each, and numbers that move."""

from __future__ import annotations

from datetime import UTC, datetime

from bot.catalog.model import Kind
from bot.deployments.model import Data, Deployment, Origin, PlaceNote, State
from notifiers.render import steps


def seen(state: State, **data: object) -> Deployment:
    at = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
    return Deployment(
        id=1,
        intent="slw-1",
        service="pay",
        environment="prod",
        kind=Kind.NORMAL,
        state=state,
        version=1,
        requested_by="owner",
        origin=Origin("console", "#releases"),
        reason="",
        release_version="1.1",
        commit="c" * 40,
        branch="main",
        digest="",
        data=Data.model_validate(data),
        created_at=at,
        changed_at=at,
    )


PLACES = (
    PlaceNote(name="east/pay", state="succeeded"),
    PlaceNote(name="west/pay", state="failed", detail="one or more objects failed to apply"),
    PlaceNote(name="south/pay", state="pending", detail="It was not begun."),
)


def test_every_cluster_has_a_line_also_at_the_end() -> None:
    """Where it failed and where it runs is what people ask first."""
    failure = {"step": "deploy", "message": "1 of 2 clusters are well."}
    shown = steps(seen(State.FAILED, places=PLACES, failure=failure))
    lines = [(one.name, one.state, one.detail) for one in shown if one.name.startswith("Deploy")]
    assert lines == [
        ("Deploy", "failed", ""),
        ("Deploy: east/pay", "succeeded", ""),
        ("Deploy: west/pay", "failed", "one or more objects failed to apply"),
        ("Deploy: south/pay", "pending", "It was not begun."),
    ]


def test_the_detail_counts_resources() -> None:
    """`applied n/m, healthy n/m`, and what is waited for."""
    numbers = {"sync_applied": 9, "sync_healthy": 7, "sync_total": 12, "sync_message": "waiting for hooks"}
    (deploy,) = (one for one in steps(seen(State.SYNCING, **numbers)) if one.name == "Deploy")
    assert deploy.detail == "Applied 9/12, healthy 7/12. waiting for hooks"
