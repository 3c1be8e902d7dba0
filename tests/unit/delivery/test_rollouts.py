"""Where a Rollout stands: which pause, and with how much of the traffic."""

from __future__ import annotations

from typing import Any

import pytest

from bot.delivery.rollouts import pause_of

STEPS = [{"setWeight": 10}, {"pause": {}}, {"setWeight": 50}, {"pause": {"duration": "10m"}}]
CANARY: dict[str, Any] = {"strategy": {"canary": {"steps": STEPS}}}
CASES: list[tuple[dict[str, Any], tuple[int, int, int | None]]] = [
    ({"spec": CANARY, "status": {"currentStepIndex": 1}}, (1, 4, 10)),
    ({"spec": CANARY, "status": {"currentStepIndex": 3}}, (3, 4, 50)),
    ({"spec": CANARY, "status": {"currentStepIndex": None}}, (0, 4, 10)),
    ({"spec": CANARY, "status": {"currentStepIndex": 3, "canary": {"weights": {"canary": {"weight": 7}}}}}, (3, 4, 7)),
    ({"spec": {"strategy": {"blueGreen": {}}}, "status": {}}, (0, 0, None)),
    ({"spec": {"paused": True}, "status": {}}, (0, 0, None)),
    ({}, (0, 0, None)),
]


@pytest.mark.parametrize(("manifest", "expected"), CASES)
def test_step_and_weight(manifest: dict[str, Any], expected: tuple[int, int, int | None]) -> None:
    """Traffic routing reports the weight; without it the last step that set one tells."""
    stage = pause_of("web", manifest)
    assert (stage.step, stage.steps, stage.weight) == expected


def test_two_pauses_are_two_stages() -> None:
    """A wish is made at one pause: it must not be carried out at the next one."""
    ids = {pause_of("web", {"spec": CANARY, "status": {"currentStepIndex": index}}).id for index in (1, 3)}
    other = pause_of("web", {"spec": CANARY, "status": {"currentStepIndex": 1, "currentPodHash": "new"}}).id
    assert len(ids | {other}) == 3
