"""A pause at gray: what is remembered of it, and when it ends by itself; pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from bot.catalog.model import GrayRule
from bot.delivery.base import GrayStage
from bot.deployments import plan
from bot.deployments.model import Deployment, Gray


def at_pause(stage: GrayStage, number: int, seen: Deployment, now: datetime) -> Gray:
    """What is remembered on arriving. number: which pause of this deployment it is, from 1."""
    _, target = plan.thaw(seen.data.plan)
    weights = target.gray.weights
    shown = stage.weight
    if shown is None and weights:
        shown = weights[min(number, len(weights)) - 1]
    return Gray(stage=stage.id, step=stage.step, steps=stage.steps, number=number, weight=shown, since_at=now)


def differing(stage: GrayStage, number: int, weights: Sequence[int]) -> str:
    """A warning if the pause it really stands at is not the catalog's; empty if it is, or if one of them says none."""
    wanted = weights[min(number, len(weights)) - 1] if weights else None
    if wanted is None or stage.weight is None or stage.weight == wanted:
        return ""
    return f"It stands at {stage.weight} percent, where the catalog says {wanted}: the Rollout's own steps decide."


def asked(gray: Gray, now: datetime) -> Gray:
    """The wish was handed on; it is kept out of the next pause."""
    return gray.model_copy(update={"wish": "", "wish_stage": "", "asked_at": now})


def due_at(rule: GrayRule, gray: Gray) -> datetime | None:
    """When it goes on by itself, None if a person decides."""
    if not rule.pauses or gray.since_at is None:
        return None
    return gray.since_at + rule.pauses[min(gray.number, len(rule.pauses)) - 1]


def where(gray: Gray) -> str:
    """`gray at 20 %, pause 1`."""
    share = f" at {gray.weight} %" if gray.weight is not None else ""
    return f"gray{share}, pause {gray.number}"
