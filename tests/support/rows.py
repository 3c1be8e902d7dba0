"""Rows for tests of what works on rows."""

from __future__ import annotations

from bot.catalog.model import Kind
from bot.deployments.model import Data, NewDeployment, Origin, State


def new_deployment(
    key: str, state: State = State.QUEUED, service: str = "app", data: Data | None = None
) -> NewDeployment:
    """A deployment of `service` to prod, asked by owner in #releases."""
    return NewDeployment(
        idempotency_key=key,
        service=service,
        environment="prod",
        kind=Kind.NORMAL,
        state=state,
        requested_by="owner",
        origin=Origin("console", "#releases"),
        reason="",
        release_version="v1",
        commit="c" * 40,
        branch="main",
        digest="",
        data=data or Data(),
    )
