"""What the manual shows can be copied."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent, indent

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bot.catalog.check import check, render_report
from bot.pipelines.definition import read_definition
from bot.providers import known_here
from tests.unit.catalog.directories import write

DOCS = Path(__file__).parents[3] / "docs"
MANUAL = DOCS / "policy.md"
DELIVERY = MANUAL.with_name("delivery.md")
AROUND = """\
environments: {prod: {branch: main, cluster: east-1, protected: true}, dev: {cluster: east-1}}
people: {leo: {}, rita: {}, olive: {}, mia: {}, ann: {}}
teams: {shop: {leads: [olive]}}
release_managers: [rita]
defaults: {repo: "group/{service}", gitops: {repo: config}}
"""


def rules_of_the_manual() -> dict[str, str]:
    """Files of a catalog with every kind of rule that the manual shows."""
    found = re.findall(r"```yaml\n(.*?)```", MANUAL.read_text("utf-8"), re.DOTALL)
    rules = [next(one for one in found if one.startswith(first)) for first in ("zone:", "groups:", "emergency:")]
    services = "pay: {team: shop, labels: {tier: gold}}\nbatch-1: {team: shop}\n"
    return {"a.yaml": AROUND, "services/all.yaml": services} | {
        f"rules{number}.yaml": text for number, text in enumerate(rules)
    }


def test_the_manuals_rules_are_right(tmp_path: Path) -> None:
    """An example that `slipway check` refuses teaches the wrong thing."""
    assert " is right" in render_report(check(write(tmp_path / "rules", rules_of_the_manual())))
    found = re.findall(r"```yaml\n(.*?)```", MANUAL.read_text("utf-8"), re.DOTALL)
    owning = next(one for one in found if one.startswith("defaults: {owners_file"))
    service = 'pay: {team: shop, repo: group/pay, gitops: {repo: config, path: "{service}/{environment}.yaml"}}\n'
    files = {"a.yaml": "environments: {prod: {}}\n", "own.yaml": owning, "services/all.yaml": service}
    assert " is right" in render_report(check(write(tmp_path / "own", files)))


def test_the_manuals_gates_are_right(tmp_path: Path) -> None:
    """Every gate's settings, with a real key where the manual has dots, and the file that keeps reports."""
    gates, pipeline = re.findall(r"```yaml\n(.*?)```", (DOCS / "gates.md").read_text("utf-8"), re.DOTALL)[:2]
    key = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    middle = key.decode().strip().splitlines()[1]
    files = {
        "a.yaml": AROUND.partition("\n")[2].replace("config}}", "config}, delivery: {provider: argocd}}"),
        "environments.yaml": gates.replace("...\\n", f"{middle}\\n"),
        "services/all.yaml": "pay: {team: shop}\n",
    }
    assert " is right" in render_report(check(write(tmp_path, files), known_here()))
    read_definition(pipeline.replace("[...]", "[{name: test, run: [make]}]").encode(), "the manual")


def test_the_examples_of_gray_promotion_and_naming_are_right(tmp_path: Path) -> None:
    """What the delivery chapter shows under `defaults` and `environments` can be copied, too."""
    blocks = re.findall(r"```yaml\n(.*?)```", DELIVERY.read_text("utf-8"), re.DOTALL)
    gray = next(block for block in blocks if block.lstrip().startswith("gray:"))
    promote = next(block for block in blocks if "promote:" in block)
    naming = next(block for block in blocks if "versions:" in block)
    rest = "people: {olive: {}}\nteams: {shop: {leads: [olive]}}\n"
    places = '  repo: "group/{service}"\n  gitops: {repo: config}\n'
    roots = (f"{promote}defaults:\n{places}{indent(dedent(gray), '  ')}", f"{naming}{places}")
    services = "pay: {team: shop}\nweb: {team: shop, needs: [pay]}\n"
    for number, root in enumerate(roots):
        files = {"a.yaml": f"{root}{rest}", "services/all.yaml": services}
        report = render_report(check(write(tmp_path / str(number), files)))
        assert " is right" in report, report
