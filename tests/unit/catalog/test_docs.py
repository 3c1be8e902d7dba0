"""What the manual shows can be copied."""

from __future__ import annotations

import re
from pathlib import Path

from bot.catalog.check import check, render_report
from tests.unit.catalog.directories import write

MANUAL = Path(__file__).parents[3] / "docs" / "policy.md"
AROUND = """\
environments: {prod: {branch: main, cluster: east-1, protected: true}, dev: {cluster: east-1}}
people: {leo: {}, rita: {}, olive: {}, mia: {}, ann: {}}
teams: {shop: {leads: [olive]}}
defaults: {repo: "group/{service}", gitops: {repo: config}}
"""


def test_the_manuals_rules_are_right(tmp_path: Path) -> None:
    """An example that `slipway check` refuses teaches the wrong thing."""
    times, approvals = re.findall(r"```yaml\n(.*?)```", MANUAL.read_text("utf-8"), re.DOTALL)[:2]
    services = "pay: {team: shop, labels: {tier: gold}}\nbatch-1: {team: shop}\n"
    files = {"a.yaml": AROUND, "times.yaml": times, "approvals.yaml": approvals, "services/all.yaml": services}
    assert " is right" in render_report(check(write(tmp_path, files)))
