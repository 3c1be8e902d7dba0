"""A build as every CI system has it: stages, a log, a result. Time is counted in looks, so nothing sleeps."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

FAILING_LOG = """\
F
======================================================================
FAIL: test_total (test_total.Total.test_total)
----------------------------------------------------------------------
Traceback (most recent call last):
  File "test_total.py", line 5, in test_total
    self.assertEqual(2, 3)
AssertionError: 2 != 3

----------------------------------------------------------------------
Ran 1 test in 0.001s

FAILED (failures=1)
"""
STAGES = ("test", "build")


def commit_of(kind: str) -> str:
    """The commit that builds so: `good`, `failing`, `slow`."""
    return hashlib.sha1(kind.encode(), usedforsecurity=False).hexdigest()


KINDS = {commit_of(kind): kind for kind in ("good", "failing", "slow")}


def digest_of(commit: str) -> str:
    """What building this commit gives."""
    return "sha256:" + hashlib.sha256(commit.encode()).hexdigest()


@dataclass
class Build:
    """One run. looks: how often it was looked at; each look brings it on by one step."""

    kind: str
    commit: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    looks: int = 0
    aborted: bool = False
    big_log: int = 0

    def look(self) -> None:
        """Time goes by."""
        if not self.over:
            self.looks += 1

    @property
    def over(self) -> bool:
        return self.result != ""

    @property
    def result(self) -> str:
        """`good`, `bad`, `aborted`, or nothing while it runs."""
        if self.aborted:
            return "aborted"
        if self.kind == "failing" and self.looks > 2:
            return "bad"
        return "good" if self.kind == "good" and self.looks > 4 else ""

    def states(self) -> dict[str, str]:
        """Stage -> `waiting`, `running`, `good`, `bad`, `aborted`, `skipped`."""
        if self.kind == "failing":
            return {"test": "bad", "build": "skipped"} if self.over else {"test": "running", "build": "waiting"}
        if self.kind == "slow":
            return {"test": "aborted" if self.aborted else "running", "build": "skipped" if self.aborted else "waiting"}
        step = 2 if self.over else max(0, self.looks - 1) // 2
        words = ["good" if place < step else "running" if place == step else "waiting" for place in range(2)]
        return dict(zip(STAGES, words, strict=True))

    def log_of(self, stage: str) -> str:
        """What a stage has printed so far."""
        if self.states()[stage] in ("waiting", "skipped"):
            return ""
        if stage == "build":
            image = f"registry.example/hello@{digest_of(self.commit)}"
            return f"building\nslipway-artifact: {image}\n" if self.over else "building\n"
        filler = "".join(f"line {number} of a long log\n" for number in range(self.big_log))
        return filler + {"good": "tests pass\n", "slow": "waiting\n", "failing": FAILING_LOG}[self.kind]
