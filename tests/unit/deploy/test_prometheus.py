"""The dashboard and the alert rules ask only for figures that there are, and promtool agrees with them."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from bot.metrics import Metrics
from tests.support.tools import program

DEPLOY = Path(__file__).parents[3] / "deploy"
RULES = DEPLOY / "prometheus" / "slipway.rules.yaml"


def series() -> set[str]:
    """Every name Prometheus would have of us."""
    found = set()
    for family in Metrics({}, []).registry.collect():
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(family.type, ("",))
        found |= {f"{family.name}{suffix}" for suffix in suffixes}
    return found


def expressions() -> list[str]:
    rules = [rule["expr"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    dashboard = json.loads((DEPLOY / "grafana" / "slipway.json").read_text())
    return rules + [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


@pytest.mark.parametrize("expression", expressions())
def test_only_figures_that_there_are(expression: str) -> None:
    """A renamed figure would leave an alert silent for ever, and nobody would notice."""
    named = set(re.findall(r"\bslipway_\w+", re.sub(r"\{[^}]*\}", "", expression)))
    assert named <= series()


def test_every_alert_says_what_to_do() -> None:
    """Whoever is woken at night needs the next step, not only the symptom."""
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            assert set(rule["annotations"]) == {"summary", "action"}, rule["alert"]
            assert rule["labels"]["severity"] in ("critical", "warning")


@pytest.mark.parametrize(
    "argv", [["check", "rules", "slipway.rules.yaml"], ["test", "rules", "slipway.rules.test.yaml"]], ids=" ".join
)
def test_promtool_agrees(argv: list[str]) -> None:
    """Syntax, and that alerts fire when they should and stay silent before."""
    promtool = program("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (make tools, or Debian: apt-get install prometheus)")
    done = subprocess.run([promtool, *argv], cwd=RULES.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
