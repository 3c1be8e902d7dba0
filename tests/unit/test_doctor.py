"""`slipway doctor` on the database and on CI systems: what is well, and what to do where it is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bot.catalog.load import load_catalog
from bot.doctor import Finding, examine
from bot.settings import Settings
from bot.store.database import Database
from bot.store.migrate import HEAD, migrate
from tests.fakes.serving import serving
from tests.support.network import free_port
from tests.support.running import settings_for
from tests.support.world import make_world


async def findings(settings: Settings) -> tuple[int, list[Finding]]:
    found: list[Finding] = []
    wrong = await examine(settings, load_catalog(settings.config), found.append)
    return wrong, found


def database(tmp_path: Path, url: str) -> Settings:
    settings = settings_for(make_world(tmp_path / "world"), "" if url.startswith("sqlite") else url)
    settings.data_directory.mkdir(parents=True, exist_ok=True)
    db = Database(settings.database)
    migrate(db)
    db.close()
    return settings


async def test_a_database_that_is_well(tmp_path: Path, database_url: str) -> None:
    """Reached, new enough, at this version; and whether its account may rewrite history."""
    settings = database(tmp_path, database_url)
    wrong, found = await findings(settings)
    said = " ".join(one.text for one in found if one.system == "database")
    assert wrong == 0
    assert f"the tables are those of this version ({HEAD})" in said
    assert ("roles.sql" in said) is (settings.database_url is not None)


@pytest.mark.parametrize(("revision", "fix"), [("0001", "slipway migrate"), ("9999", "newer Slipway")])
async def test_another_versions_tables_are_told(tmp_path: Path, database_url: str, revision: str, fix: str) -> None:
    """Before the start refuses them."""
    settings = database(tmp_path, database_url)
    db = Database(settings.database)
    db.run_sync(lambda tx: tx.execute(text(f"UPDATE alembic_version SET version_num = '{revision}'")))
    db.close()
    wrong, found = await findings(settings)
    assert wrong == 1
    assert any(fix in one.fix for one in found)


async def test_a_database_that_does_not_answer(tmp_path: Path) -> None:
    """And its password is not told."""
    url = f"postgresql://u:hunter2@127.0.0.1:{free_port()}/x"
    wrong, found = await findings(settings_for(make_world(tmp_path / "world"), url))
    assert wrong == 1
    assert "hunter2" not in str(found)


async def ci(request: Request) -> Response:
    """Version for the right token, a refusal for another one, and nothing anywhere else."""
    if request.headers.get("private-token") != "good":
        return JSONResponse({}, 401)
    return JSONResponse({"version": "17"})


@pytest.mark.parametrize(
    ("path", "token", "said"),
    [("", "good", ""), ("", "bad", "SLIPWAY_GITLAB_TOKEN"), ("/wrong", "good", "SLIPWAY_GITLAB_URL")],
)
async def test_a_ci_system_is_asked(tmp_path: Path, path: str, token: str, said: str) -> None:
    """The address, then the credentials; each wrong one by the name of its setting."""
    world = make_world(tmp_path / "world")
    async with serving(Starlette(routes=[Route("/api/v4/version", ci)])) as url:
        more = {"gitlab_url": f"{url}{path}", "gitlab_token": SecretStr(token)}
        wrong, found = await findings(settings_for(world).model_copy(update=more))
    (finding,) = [one for one in found if one.system == "gitlab"]
    assert (wrong, said in finding.fix) == (bool(said), True)


async def test_a_ci_system_that_is_away_is_told(tmp_path: Path) -> None:
    """By the name of its address."""
    more = {"gitlab_url": f"http://127.0.0.1:{free_port()}", "gitlab_token": SecretStr("hush")}
    wrong, found = await findings(settings_for(make_world(tmp_path / "world")).model_copy(update=more))
    assert wrong == 1
    assert "SLIPWAY_GITLAB_URL" in found[-1].fix
    assert "hush" not in str(found)


async def gates(request: Request) -> Response:
    """A SonarQube that wants a token, a report server without the report, and a registry behind both."""
    if request.url.path.startswith("/api/") and request.headers.get("authorization") != "Bearer good":
        return JSONResponse({}, 401)
    known = ("/api/qualitygates/list", "/v2/")
    return JSONResponse({}, 200 if request.url.path in known else 404)


async def test_the_systems_of_the_gates_are_asked(tmp_path: Path) -> None:
    """Each that is set up, by its own harmless question; what is wrong is told by the name of its setting."""
    settings = settings_for(make_world(tmp_path / "world"))
    async with serving(Starlette(routes=[Route("/{path:path}", gates)])) as url:
        more: dict[str, object] = {"sonar_url": url, "reports_url": url, "testing_url": url, "registry_url": url}
        _, found = await findings(settings.model_copy(update=more | {"sonar_token": SecretStr("good")}))
        good = {one.system for one in found if one.good}
        more = {"sonar_url": url, "registry_url": f"{url}/wrong", "testing_url": f"http://127.0.0.1:{free_port()}"}
        _, wrong = await findings(settings.model_copy(update=more | {"sonar_token": SecretStr("hunter2")}))
    fixes = {one.system: one.fix for one in wrong if not one.good}
    assert {"sonar", "reports", "testing", "registry"} <= good
    assert "SLIPWAY_SONAR_TOKEN" in fixes["sonar"]
    assert "SLIPWAY_REGISTRY_URL" in fixes["registry"]
    assert "SLIPWAY_TESTING_URL" in fixes["testing"]
    assert "hunter2" not in str(wrong)


def test_the_manifest_has_every_command() -> None:
    """Also those that are made with the application: a slash command that is missing there does not exist in Slack."""
    argv = [sys.executable, "-m", "bot.cli", "manifest", "slack"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    for name in ("/deploy", "/jobs", "/report", "/train", "/help"):
        assert f"command: {name}\n" in done.stdout, name
