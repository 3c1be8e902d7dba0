"""Setting up: what has no address costs nothing, what is half set up says what is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from bot.catalog.references import Known
from bot.clock import utc_now
from bot.errors import SlipwayError
from bot.pipelines.http import FileToken
from bot.pipelines.outside import _makers, github_client, outside_pipelines
from bot.providers import known_everywhere
from bot.settings import SettingsInvalid, read_settings
from bot.store.database import Database
from bot.store.runs import StoredRuns

HALF = {
    "SLIPWAY_JENKINS_URL": "SLIPWAY_JENKINS_USER",
    "SLIPWAY_GITLAB_URL": "SLIPWAY_GITLAB_TOKEN",
    "SLIPWAY_GITHUB_URL": "SLIPWAY_GITHUB_TOKEN",
    "SLIPWAY_TEKTON_URL": "SLIPWAY_TEKTON_TOKEN",
    "SLIPWAY_PROW_URL": "SLIPWAY_PROW_TOKEN",
    "SLIPWAY_YUNXIAO_URL": "SLIPWAY_YUNXIAO_TOKEN",
}


@pytest.mark.parametrize(("given", "missing"), HALF.items())
def test_half_a_setting_names_the_other_half(tmp_path: Path, given: str, missing: str) -> None:
    """At the start, not in the middle of the first release."""
    settings = read_settings({"SLIPWAY_CONFIG": "/x", given: "https://ci.example"})
    notes = StoredRuns(Database(f"sqlite:///{tmp_path}/x.db"))
    with pytest.raises(SlipwayError, match=missing):
        outside_pipelines(settings, notes, utc_now)


async def test_everything_that_is_set_up_is_made(tmp_path: Path) -> None:
    """By its address, with the token from its file."""
    token = tmp_path / "token"
    token.write_text("glpat-from-a-file\n")
    environment = {
        "SLIPWAY_CONFIG": "/x",
        "SLIPWAY_JENKINS_URL": "https://ci.example/jenkins",
        "SLIPWAY_JENKINS_USER": "bot",
        "SLIPWAY_JENKINS_TOKEN": "t",
        "SLIPWAY_GITLAB_URL": "https://git.example",
        "SLIPWAY_GITLAB_TOKEN_FILE": str(token),
        "SLIPWAY_GITHUB_URL": "https://api.github.example",
        "SLIPWAY_GITHUB_TOKEN": "t",
        "SLIPWAY_TEKTON_URL": "https://kubernetes.default.svc",
        "SLIPWAY_TEKTON_TOKEN_FILE": str(token),
        "SLIPWAY_PROW_URL": "https://gangway.example",
        "SLIPWAY_PROW_API_KEY": "k",
        "SLIPWAY_PROW_CLUSTER_URL": "https://kubernetes.default.svc",
        "SLIPWAY_PROW_CLUSTER_TOKEN_FILE": str(token),
        "SLIPWAY_PROW_DECK_URL": "https://prow.example",
        "SLIPWAY_YUNXIAO_URL": "https://yunxiao.example",
        "SLIPWAY_YUNXIAO_TOKEN": "t",
    }
    settings = read_settings(environment)
    made = outside_pipelines(settings, StoredRuns(Database(f"sqlite:///{tmp_path}/x.db")), utc_now)
    assert list(made.pipelines) == ["jenkins", "gitlab", "github", "tekton", "prow", "yunxiao"]
    gitlab = made.pipelines["gitlab"].system._http.client  # type: ignore[attr-defined]
    assert gitlab.headers["PRIVATE-TOKEN"] == "glpat-from-a-file"
    assert "glpat" not in repr(settings)
    for close in made.closing:
        await close()


def test_a_token_that_is_renewed_is_read_again(tmp_path: Path) -> None:
    """A service account's token lives for an hour."""
    path, seen = tmp_path / "token", []
    for value in ("one", "two"):
        path.write_text(f"{value}\n")
        request = next(FileToken(path).auth_flow(httpx.Request("GET", "http://x")))
        seen.append(request.headers["Authorization"])
    assert seen == ["Bearer one", "Bearer two"]


def test_the_catalog_may_name_what_can_be_made() -> None:
    """A provider that the catalog's check does not know could not be used at all."""
    assert {"shell", *_makers()} == Known().pipelines
    checked = {name for what, name in known_everywhere().options if what == "pipeline"}
    assert checked == Known().pipelines


def test_telling_github_needs_to_know_where_it_is() -> None:
    """Switched on without an address it says what is missing."""
    settings = read_settings({"SLIPWAY_CONFIG": "/x", "SLIPWAY_GITHUB_DEPLOYMENTS": "1"})
    with pytest.raises(SlipwayError, match="SLIPWAY_GITHUB_DEPLOYMENTS is set but SLIPWAY_GITHUB_URL is missing"):
        github_client(settings)


def test_an_address_with_credentials_is_refused() -> None:
    """It would be shown in links and errors."""
    with pytest.raises(SettingsInvalid, match="SLIPWAY_GITLAB_URL"):
        read_settings({"SLIPWAY_CONFIG": "/x", "SLIPWAY_GITLAB_URL": "https://user:secret@git.example"})


def test_nothing_is_imported_that_is_not_set_up() -> None:
    """An idle Slipway stays small."""
    code = (
        "import sys, bot.pipelines.outside as o\n"
        "from bot.settings import read_settings\n"
        "o.outside_pipelines(read_settings({'SLIPWAY_CONFIG': '/x'}), None, None)\n"
        "print([m for m in sys.modules if m in ('bot.pipelines.jenkins', 'bot.pipelines.http', 'cryptography')])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
