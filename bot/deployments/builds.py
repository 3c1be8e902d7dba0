"""Builds that are asked for by themselves: rows like deployments, but of a branch instead of an environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.catalog.model import Catalog, Kind, Service
from bot.deployments import plan
from bot.deployments.model import Data, Deployment, NewDeployment, Proposal, State
from bot.errors import Refused
from bot.policy.model import ReasonCode
from bot.policy.permissions import may_build
from bot.store import deployments as rows
from bot.store.database import Tx

if TYPE_CHECKING:
    from bot.deployments.service import Wish

MARK = "@"
"""Begins what stands in place of an environment; no environment's name does."""


def place(branch: str, *, check: bool) -> str:
    """Where a build stands in the queue: builds of one branch wait for each other, and for nothing else."""
    return f"{MARK}{branch[:55]}{' check' if check else ''}"


def refuse_stranger(catalog: Catalog, person: str, service: Service) -> None:
    """Raises Refused: the person may not run the service's pipelines."""
    if not may_build(catalog, person, service):
        raise Refused(
            f"Only the team and the owners of {service.name} and release managers may build it.",
            hint="Ask one of them.",
            code=ReasonCode.NOT_PERMITTED,
        )


def new_build(wish: Wish, *, check: bool, proposal: Proposal | None = None) -> NewDeployment:
    """The row. Its plan keeps the environment whose settings the pipeline has."""
    data = Data(plan=plan.freeze(wish.service, wish.target), author=wish.author, check=check, proposal=proposal)
    return NewDeployment(
        idempotency_key=wish.key,
        service=wish.service.name,
        environment=place(wish.branch, check=check),
        kind=Kind.BUILD,
        state=State.QUEUED,
        requested_by=wish.person.id,
        origin=wish.origin,
        reason=wish.reason,
        release_version=wish.version,
        commit=wish.commit,
        branch=wish.branch,
        digest="",
        data=data,
    )


def same_on_its_way(tx: Tx, new: NewDeployment) -> Deployment | None:
    """A build of the same commit that is not over. A merge request is told only of its own."""
    for other in rows.open_for(tx, new.service, new.environment):
        is_told = new.data.proposal in (None, other.data.proposal)
        if other.commit == new.commit and other.state is not State.CANCELLING and is_told:
            return other
    return None
