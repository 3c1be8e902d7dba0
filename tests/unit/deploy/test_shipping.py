"""What is shipped agrees with the program: paths, ports, users, and no privilege that is not needed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.tools import helm

ROOT = Path(__file__).parents[3]
CHART = ROOT / "deploy" / "helm" / "slipway"


def leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted names of everything in the values."""
    for key, value in tree.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")


def values() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    return found


def test_every_value_that_a_template_uses_is_declared() -> None:
    """A misspelt value renders as nothing, without a word."""
    known = set(leaves(values()))
    for template in (CHART / "templates").iterdir():
        used = set(re.findall(r"\.Values\.([A-Za-z.]+)", template.read_text()))
        assert used <= known, template.name


def test_the_schema_knows_every_value() -> None:
    """`additionalProperties: false` would refuse our own defaults otherwise, and a typo of yours is found."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(values()) <= set(schema["properties"])
    for section, value in values().items():
        inner = schema["properties"][section].get("properties")
        if isinstance(value, dict) and inner is not None:
            assert set(value) <= set(inner), section
            assert schema["properties"][section]["additionalProperties"] is False


SECRETS = {"secrets": ["slipway"]}


def rendered(**wanted: Any) -> dict[str, list[dict[str, Any]]]:
    """Kind -> objects, as Helm makes them."""
    answer = helm("render", CHART, SECRETS | wanted)
    assert "error" not in answer, answer["error"]
    found: dict[str, list[dict[str, Any]]] = {}
    for text in answer["files"].values():
        for one in yaml.safe_load_all(text):
            if one:
                found.setdefault(one["kind"], []).append(one)
    return found


def test_helm_lints_it() -> None:
    """With the values a company would start with."""
    assert helm("lint", CHART, SECRETS) == {"lint": []}


def test_nothing_runs_with_more_than_it_needs() -> None:
    """No root, no writable root file system, no capability, no token unless it deploys to Kubernetes itself."""
    (deployment,) = rendered()["Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {probe for probe in container if probe.endswith("Probe")} == {
        "startupProbe",
        "livenessProbe",
        "readinessProbe",
    }
    assert "Role" not in rendered()


def test_every_option_renders() -> None:
    """Ingress, monitoring, rights and a network policy with both directions."""
    found = rendered(
        ingress={"enabled": True, "host": "bot.example", "tlsSecret": "tls"},
        rbac={"create": True},
        prometheus={"serviceMonitor": True, "tokenSecret": "figures"},
        networkPolicy={"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
    )
    assert set(found) == {
        "Deployment",
        "Service",
        "Ingress",
        "PodDisruptionBudget",
        "NetworkPolicy",
        "ServiceAccount",
        "Role",
        "RoleBinding",
        "ServiceMonitor",
    }
    (policy,) = found["NetworkPolicy"]
    assert policy["spec"]["ingress"] == []
    assert len(policy["spec"]["egress"]) == 2
    (ingress,) = found["Ingress"]
    paths = {path["path"] for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]}
    assert "/metrics" not in paths


@pytest.mark.parametrize(
    ("wanted", "said"),
    [({"secrets": None}, "needs PostgreSQL"), ({"replicas": 0}, "replicas"), ({"repliccas": 2}, "repliccas")],
)
def test_a_mistake_is_refused(wanted: dict[str, Any], said: str) -> None:
    """Before anything is installed."""
    assert said in helm("render", CHART, SECRETS | wanted).get("error", "")


def test_the_image_is_nobodys_and_pinned() -> None:
    """Not root, hash-checked packages, and every package of ours is in it."""
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)
    assert "--require-hashes" in text
    for package in ("bot", "commands", "notifiers", "migrations"):
        assert f"COPY {package} " in text
        assert f"!{package}" in (ROOT / ".dockerignore").read_text()


def test_the_unit_is_valid_and_closed() -> None:
    """As systemd itself sees it, where it is installed; its program does not exist here, which is all it may say."""
    unit = ROOT / "deploy" / "systemd" / "slipway.service"
    for line in ("NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet="):
        assert line in unit.read_text().splitlines()
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    done = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True, check=False)
    wrong = [line for line in done.stderr.splitlines() if "slipway.service" in line and "not executable" not in line]
    assert wrong == []
