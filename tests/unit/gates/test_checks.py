"""What other systems said about the commit: each required check must be there and green."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bot.catalog.model import PipelineSpec
from bot.deployments.gating import ask_gates
from bot.deployments.model import GateNote
from bot.gates.base import GateRequest
from bot.gates.outside import OutsideGates, outside_gates
from bot.settings import Settings
from tests.fakes.catalogs import make_service, make_target
from tests.fakes.serving import Faulty, serving
from tests.support import FakeClock

COMMIT, DIGEST = "c0ffee" + "0" * 34, "sha256:" + "a" * 64
clock = FakeClock()


class FakeChecks:
    """GitHub's and GitLab's lists of what was said about a commit; a hundred on a page."""

    def __init__(self) -> None:
        self.runs: list[dict[str, Any]] = []
        self.statuses: list[dict[str, Any]] = []
        self.jobs: list[dict[str, Any]] = []
        gitlab = "/api/v4/projects/{repo:path}/repository/commits/{sha}/statuses"
        routes = [
            Route("/repos/shop/pay/commits/{sha}/check-runs", self._runs),
            Route("/repos/shop/pay/commits/{sha}/status", self._statuses),
            Route(gitlab, self._jobs),
        ]
        self.app = Faulty(Starlette(routes=routes))

    def run(self, name: str, conclusion: str | None, status: str = "completed") -> None:
        """GitHub numbers check runs as they come."""
        url = f"https://github.example/{name}"
        number = len(self.runs) + 1
        self.runs.append({"id": number, "name": name, "status": status, "conclusion": conclusion, "html_url": url})

    def _page(self, request: Request, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        size, page = int(request.query_params["per_page"]), int(request.query_params["page"])
        return items[(page - 1) * size : page * size]

    async def _runs(self, request: Request) -> Response:
        return JSONResponse({"total_count": len(self.runs), "check_runs": self._page(request, self.runs)})

    async def _statuses(self, request: Request) -> Response:
        return JSONResponse({"state": "pending", "statuses": self._page(request, self.statuses)})

    async def _jobs(self, request: Request) -> Response:
        if "/projects/shop%2Fpay/" not in request.scope["raw_path"].decode():
            return JSONResponse({"message": "404 Project Not Found"}, 404)
        return JSONResponse(self._page(request, self.jobs))


World = tuple[FakeChecks, OutsideGates]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    fake = FakeChecks()
    async with serving(fake.app) as url:
        token = SecretStr("t")
        settings = Settings(
            config=Path("/nowhere"), github_url=url, github_token=token, gitlab_url=url, gitlab_token=token
        )
        made = outside_gates(settings, clock, {})
        yield fake, made
        for close in made.closing:
            await close()


async def ask(made: OutsideGates, address: str = "git@git.example:shop/pay.git", **options: object) -> GateNote:
    """What the gate says of the service whose repository has that address."""
    target = replace(make_target(service="pay"), gates={"checks": options}, check=PipelineSpec(name="pay-check"))
    service = replace(make_service(target), repo=address)
    (note,) = await ask_gates(made.gates, GateRequest(service, target, COMMIT, DIGEST, clock()), ())
    return note


async def test_every_required_check_must_be_green(world: World) -> None:
    """Runs and statuses count alike; what is not required does not matter; {check} is the convention's name."""
    fake, made = world
    options: dict[str, Any] = {"system": "github", "required": ["{check}", "lint"]}
    note = await ask(made, **options)
    assert (note.verdict, note.waiting) == ("unknown", True)
    assert note.message == ("Required checks of c0ffee000000 are open: pay-check is not there, lint is not there.")
    fake.run("pay-check", None, "in_progress")
    fake.run("optional", "failure")
    fake.statuses = [{"context": "lint", "state": "success", "target_url": ""}]
    assert (await ask(made, **options)).message.endswith("pay-check is not done.")
    fake.run("pay-check", "success")
    note = await ask(made, **options)
    assert (note.verdict, note.message) == ("pass", "2 required checks passed.")
    fake.run("pay-check", "failure")
    note = await ask(made, **options)
    assert (note.verdict, note.message) == ("fail", "1 of 2 required checks failed: pay-check.")
    assert (note.lines, note.link) == (("pay-check: failure",), "https://github.example/pay-check")


@pytest.mark.parametrize(
    ("conclusion", "verdict", "waiting"),
    [
        ("success", "pass", False),
        ("neutral", "warn", False),
        ("skipped", "warn", False),
        ("cancelled", "fail", False),
        ("timed_out", "fail", False),
        ("action_required", "unknown", True),
        ("stale", "unknown", True),
        ("a_new_word", "fail", False),
    ],
)
async def test_each_conclusion_counts_as_what_it_is(world: World, conclusion: str, verdict: str, waiting: bool) -> None:
    """Only success is a pass without remarks; a word nobody knows is none."""
    fake, made = world
    fake.run("ci", conclusion)
    note = await ask(made, "https://git.example/shop/pay", system="github", required=["ci"])
    assert (note.verdict, note.waiting) == (verdict, waiting)


async def test_a_check_on_a_later_page_is_found(world: World) -> None:
    """Big repositories have more than a hundred checks."""
    fake, made = world
    for number in range(150):
        fake.run(f"check-{number}", "success")
    assert (await ask(made, system="github", required=["check-149"])).verdict == "pass"


async def test_gitlab_counts_the_newest_of_a_name(world: World) -> None:
    """A job that was run again; one that may fail is a remark; a project that is not there is said."""
    fake, made = world
    fake.jobs = [
        {"id": 2, "name": "unit", "status": "success"},
        {"id": 1, "name": "unit", "status": "failed"},
        {"id": 3, "name": "lint", "status": "failed", "allow_failure": True},
    ]
    assert (await ask(made, system="gitlab", required=["unit"])).verdict == "pass"
    assert (await ask(made, system="gitlab", required=["unit", "lint"])).verdict == "warn"
    fake.jobs.append({"id": 4, "name": "unit", "status": "running"})
    assert (await ask(made, system="gitlab", required=["unit"])).waiting
    note = await ask(made, system="gitlab", required=["unit"], repo="shop/other")
    assert note.message == "GitLab does not know this repository or commit. Correct `gates.checks.repo`."
    note = await ask(made, "repos/pay", system="gitlab", required=["unit"])
    assert note.message.startswith("The service's repository is not on a server.")
