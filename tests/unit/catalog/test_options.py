"""Providers' options are checked where they are written, before the first deployment finds out."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.catalog.check import check
from bot.providers import known_everywhere, known_here
from tests.unit.catalog.directories import ROOT, SERVICES, write

DEFAULTS = """\
  delivery:
    options:
      deploy: [./deploy, "{service}"]
      running: [./running, "{service}"]
"""


def problems(directory: Path, root: str, services: str) -> list[str]:
    """Every problem as `slipway check` prints it."""
    written = write(directory, {"slipway.yaml": root, "services/all.yaml": services})
    return [str(one) for one in check(written, known_everywhere()).problems]


def test_right_options_are_right(tmp_path: Path) -> None:
    """Without this, every other case here could be wrong for another reason."""
    assert problems(tmp_path, ROOT + DEFAULTS, SERVICES) == []


@pytest.mark.parametrize(
    ("root", "services", "words"),
    [
        (ROOT + DEFAULTS.replace("running:", "runing:"), SERVICES, "slipway.yaml:17: defaults.delivery.options.runing"),
        (
            ROOT + DEFAULTS.replace('[./deploy, "{service}"]', "./deploy"),
            SERVICES,
            "slipway.yaml:16: defaults.delivery",
        ),
        (
            ROOT + DEFAULTS,
            "pay:\n  team: shop\n  owners: [olive]\n  pipeline:\n    options: {file: ../x}\n",
            "services/all.yaml:5: pay.pipeline.options.file: 'file' must be a path inside the service's repository",
        ),
        (
            ROOT + DEFAULTS,
            "pay:\n  team: shop\n  environments:\n    prod:\n      delivery:\n        options: {cwdd: x}\n",
            "services/all.yaml:6: pay.environments.prod.delivery.options.cwdd: There is no field 'cwdd' here. Did you",
        ),
        (ROOT, SERVICES, "slipway.yaml:11: defaults.delivery: 'deploy' is missing; add it."),
        (
            ROOT + DEFAULTS,
            "pay:\n  team: shop\n  gitops:\n    format: kustomize\n    options: {imag: x}\n",
            "services/all.yaml:5: pay.gitops.options.imag: There is no field 'imag' here. Did you",
        ),
        (
            ROOT + DEFAULTS,
            "pay:\n  team: shop\n  gitops: {format: argocd-source}\n",
            "services/all.yaml:3: pay.gitops: This needs `image` (for a kustomize application)",
        ),
        (
            ROOT + DEFAULTS,
            "pay:\n  team: shop\n  gitops: {merge_request: {host: gitlub}}\n",
            "services/all.yaml:3: pay.gitops.merge_request.host",
        ),
    ],
)
def test_a_wrong_option_is_named_where_it_is_written(tmp_path: Path, root: str, services: str, words: str) -> None:
    """A default's mistake in the defaults, a service's in the service."""
    found = problems(tmp_path, root, services)
    assert any(one.startswith(words) for one in found), found


def test_a_mistake_in_a_default_is_told_once(tmp_path: Path) -> None:
    """Not once for each of 5,000 services."""
    services = "".join(f"s{n}: {{team: shop}}\n" for n in range(30))
    assert len(problems(tmp_path, ROOT + DEFAULTS.replace("running:", "runing:"), services)) == 1


def test_an_ordinary_start_loads_no_sdk() -> None:
    """Only what every process has anyway."""
    assert {provider for what, provider in known_here().options if what not in ("gate", "gitops")} == {
        "shell",
        "pipeline",
    }
