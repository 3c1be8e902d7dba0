"""Addresses and credentials of Argo CDs: a wrong one names itself, and no secret is ever in the message."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.delivery.argocd_settings import argo_servers
from bot.settings import SettingsInvalid, read_settings

TOKEN = "argo-secret-token"


def servers(tmp_path: Path, **environment: str) -> dict[str, str]:
    settings = read_settings({"SLIPWAY_CONFIG": str(tmp_path), **environment})
    return {name: server.url for name, server in argo_servers(settings).items()}


def test_one_by_the_environment_and_more_by_a_file(tmp_path: Path) -> None:
    """Most have one; those with several clusters name them."""
    (tmp_path / "west.password").write_text("right\n")
    text = "east: {url: 'https://east', token_file: east.token}\n"
    text += "west: {url: 'https://west/argo', username: bot, password_file: west.password}\n"
    (tmp_path / "argo.yaml").write_text(text)
    found = servers(
        tmp_path,
        SLIPWAY_ARGOCD_URL="https://argo.example",
        SLIPWAY_ARGOCD_TOKEN=TOKEN,
        SLIPWAY_ARGOCD_FILE=str(tmp_path / "argo.yaml"),
    )
    assert found == {"default": "https://argo.example", "east": "https://east", "west": "https://west/argo"}


WRONG: list[tuple[dict[str, str], str, str]] = [
    ({"SLIPWAY_ARGOCD_URL": "https://a"}, "", "needs exactly one of SLIPWAY_ARGOCD_TOKEN"),
    ({"SLIPWAY_ARGOCD_TOKEN": TOKEN}, "", "SLIPWAY_ARGOCD_URL is missing"),
    ({"SLIPWAY_ARGOCD_URL": f"https://bot:{TOKEN}@a", "SLIPWAY_ARGOCD_TOKEN": TOKEN}, "", "SLIPWAY_ARGOCD_URL"),
    ({}, "east: {url: 'https://east'}", "argo.yaml: east: give exactly one of token_file and password_file"),
    ({}, f"east: {{url: 'https://east', token: {TOKEN}}}", "argo.yaml: east.token: Extra inputs"),
    ({}, "east: {url: 'https://e', password_file: p}", "username is missing"),
    ({}, "[", "not valid YAML"),
    ({}, "- east", "not a mapping"),
]


@pytest.mark.parametrize(("environment", "text", "said"), WRONG)
def test_what_is_wrong_is_named_without_the_secret(
    tmp_path: Path, environment: dict[str, str], text: str, said: str
) -> None:
    """A start that fails is read by many, and logged."""
    if text:
        (tmp_path / "argo.yaml").write_text(text)
        environment = environment | {"SLIPWAY_ARGOCD_FILE": str(tmp_path / "argo.yaml")}
    with pytest.raises(SettingsInvalid) as caught:
        servers(tmp_path, **environment)
    assert said in str(caught.value)
    assert TOKEN not in str(caught.value)
