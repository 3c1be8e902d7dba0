"""Whoever sets Slipway up learns of everything that is missing at the first try."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bot.catalog.load import load_catalog
from bot.catalog.problems import CatalogProblems
from bot.providers import known_here
from bot.settings import Settings, SettingsInvalid, read_settings
from bot.startup import NotSetUp, everything, refuse_if_half
from tests.support.world import make_world


def test_settings_of_every_part_are_named_at_once(tmp_path: Path) -> None:
    """A wrong field of one part hides nothing that is missing in another."""
    given = {
        "SLIPWAY_CONFIG": str(tmp_path),
        "PORT": "none",
        "FEISHU_APP_ID": "cli_1",
        "SLACK_APP_TOKEN": "xapp-1",
        "DINGTALK_APP_KEY": "k",
        "SLIPWAY_GIT_SSH_KEY_FILE": str(tmp_path / "none"),
    }
    with pytest.raises(SettingsInvalid) as caught:
        read_settings(given)
    for name in (
        "PORT",
        "FEISHU_APP_SECRET",
        "FEISHU_ENCRYPT_KEY",
        "SLACK_BOT_TOKEN",
        "DINGTALK_APP_SECRET",
        "SLIPWAY_GIT_SSH_KEY_FILE",
    ):
        assert name in caught.value.message, name


def test_a_missing_catalog_hides_nothing_either() -> None:
    """The first thing that is forgotten."""
    with pytest.raises(SettingsInvalid) as caught:
        read_settings({"SLACK_APP_TOKEN": "xapp-1"})
    assert "SLIPWAY_CONFIG is missing" in caught.value.message
    assert "SLACK_BOT_TOKEN" in caught.value.message


def test_what_the_catalog_needs_must_be_set_up(tmp_path: Path) -> None:
    """A deployment would fail tomorrow with what can be said today, once for each system."""
    defaults = {"repo": "r", "gitops": {"repo": "c"}, "pipeline": {"provider": "jenkins"}}
    world = make_world(tmp_path / "world", ("app", "other"), defaults=defaults | {"delivery": {"provider": "argocd"}})
    settings = Settings(config=world.directory, console=True)
    with pytest.raises(NotSetUp) as caught:
        refuse_if_half(settings, load_catalog(world.directory), {"shell"}, {"shell"})
    said = caught.value.message
    for wanted in ("SLIPWAY_JENKINS_URL", "SLIPWAY_ARGOCD_URL", "SLIPWAY_CONSOLE_TOKENS_FILE"):
        assert said.count(wanted) == 1, said


def test_one_mistake_is_a_sentence_and_several_are_a_list(tmp_path: Path) -> None:
    """The error that ended the start comes with those that would have ended the next ones."""
    world = make_world(tmp_path / "world", windows=[{"name": "w"}])
    settings = Settings.model_validate(
        {
            "SLIPWAY_CONFIG": world.directory,
            "SLIPWAY_GITLAB_URL": "https://git.example",
            "SLIPWAY_JENKINS_URL": "https://ci.example",
            "SLIPWAY_ARGOCD_TOKEN": "t",
        }
    )
    said = everything(settings, SettingsInvalid("The database does not answer.")).message
    for wanted in (
        "The database does not answer.",
        "SLIPWAY_GITLAB_TOKEN",
        "SLIPWAY_JENKINS_USER",
        "SLIPWAY_ARGOCD_URL",
        "slipway.yaml",
    ):
        assert wanted in said, said
    whole = make_world(tmp_path / "whole")
    alone = everything(Settings(config=whole.directory), SettingsInvalid("The database does not answer."))
    assert alone.message == "The database does not answer."


def test_serve_says_it_and_ends(tmp_path: Path) -> None:
    """From the command line: one exit code, every line, no traceback."""
    world = make_world(tmp_path / "world", admins=["nobody"])
    environment = {
        "PATH": os.environ["PATH"],
        "SLIPWAY_CONFIG": str(world.directory),
        "SLIPWAY_GITLAB_URL": "https://git.example",
        "SLIPWAY_CONSOLE": "1",
    }
    argv = [sys.executable, "-m", "bot.cli", "serve", "--port", "0"]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    for wanted in ("nobody", "SLIPWAY_GITLAB_TOKEN", "SLIPWAY_CONSOLE_TOKENS_FILE"):
        assert wanted in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_a_mistake_in_options_is_told_too(tmp_path: Path) -> None:
    """The start checks the options of every provider, so what it refuses must be found again when it is told."""
    world = make_world(tmp_path / "world", defaults={"repo": "r", "gitops": {"repo": "c"}})
    settings = Settings(config=world.directory)
    with pytest.raises(CatalogProblems) as refused:
        load_catalog(world.directory, known_here())
    assert "'deploy' is missing" in everything(settings, refused.value).message
