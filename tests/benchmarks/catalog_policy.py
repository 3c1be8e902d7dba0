"""What reading a large catalog and deciding cost: `python -m tests.benchmarks.catalog_policy`."""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bot.catalog.find import find_service
from bot.catalog.load import load_catalog
from bot.catalog.model import Catalog, Kind
from bot.catalog.watch import CatalogHolder
from bot.errors import BadInput
from bot.policy.decide import decide
from bot.policy.model import Facts, Permission, PolicyRequest

START = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ZONES = ("UTC", "Asia/Shanghai", "Europe/Berlin", "America/New_York")


@dataclass(frozen=True, slots=True)
class Result:
    """One measured figure. unit: ms, us or percent of a core."""

    name: str
    value: float
    unit: str


def write_catalog(directory: Path, services: int, *, files: int) -> None:
    """A catalog of many teams, people and rules; `files`: over how many files the services are spread."""
    teams, people = max(1, services // 50), max(10, services // 10)
    (directory / "services").mkdir(parents=True)
    (directory / "slipway.yaml").write_text(_root(), encoding="utf-8")
    (directory / "people.yaml").write_text(_people(people, teams), encoding="utf-8")
    per_file = -(-services // files)
    for at in range(files):
        text = "".join(_service(n, teams, people) for n in range(at * per_file, min(services, (at + 1) * per_file)))
        (directory / "services" / f"part-{at:05}.yaml").write_text(text, encoding="utf-8")


def _root() -> str:
    return """\
environments:
  dev: {branch: develop, order: 1}
  test: {branch: test, order: 2}
  staging: {branch: main, order: 3}
  canary: {branch: main, order: 4, protected: true}
  prod: {branch: main, order: 5, protected: true}
release_managers: [p0, p1]
defaults:
  repo: "group/{service}.git"
  pipeline: {provider: shell, name: "{team}-{service}", timeout: 10m}
  gitops: {repo: "config/{team}.git", path: "{environment}/{service}.yaml"}
  delivery: {options: {deploy: ["true"], running: ["true"]}}
  url: "https://{service}.{environment}.example.com"
emergency:
  - {name: prod, environments: [prod, canary], approvers: {count: 2, roles: [team_lead, release_manager]}}
freezes:
  - {name: year-end, from: 2026-12-20, until: 2027-01-04, environments: [prod], exempt: [hotfix, rollback]}
windows:
""" + "".join(
        f"  - {{name: w{n}, environments: [prod], labels: [tier={n}], days: [tue, thu], "
        f'hours: "{10 + n % 8}:00-18:00", zone: {ZONES[n % 4]}}}\n'
        for n in range(20)
    )


def _people(people: int, teams: int) -> str:
    lines = [
        f"  p{n}: {{name: Person {n}, email: p{n}@example.com, chats: {{slack: U{n:06}}}}}\n" for n in range(people)
    ]
    groups = [
        f"  team-{n}: {{leads: [p{n % people}], members: [p{(n + 1) % people}, p{(n + 2) % people}]}}\n"
        for n in range(teams)
    ]
    return "people:\n" + "".join(lines) + "teams:\n" + "".join(groups)


def _service(n: int, teams: int, people: int) -> str:
    return (
        f"service-{n}:\n  team: team-{n % teams}\n  language: java\n  owners: [p{n % people}]\n"
        f"  labels: {{tier: {n % 20}}}\n"
    )


def _timed(work: Callable[[], object], rounds: int = 3) -> float:
    """The median of some rounds, in seconds."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def measure_load(directory: Path, services: int, files: int) -> tuple[Catalog, list[Result]]:
    """From files to a catalog in force, in one process that has everything imported."""
    write_catalog(directory, services, files=files)
    seconds = _timed(lambda: load_catalog(directory))
    return load_catalog(directory), [Result(f"load {services} services in {files} file(s)", seconds * 1000, "ms")]


def measure_reload(directory: Path) -> list[Result]:
    """One file changed, and what idle looking costs."""
    for file in directory.rglob("*.yaml"):  # as if written long ago
        os.utime(file, ns=(1, 1))
    for folder in (directory, directory / "services"):
        os.utime(folder, ns=(1, 1))
    holder = CatalogHolder(directory)
    file = next(iter(sorted((directory / "services").glob("*.yaml"))))
    text = file.read_text(encoding="utf-8")

    def change() -> None:
        file.write_text(f"{text}# {random.random()}\n", encoding="utf-8")
        assert holder.reload()

    changed = _timed(change)
    file.write_text(text, encoding="utf-8")
    os.utime(file, ns=(1, 1))
    holder.reload()
    look = _timed(holder.may_have_changed, rounds=50)
    return [
        Result("reload after a change in one file", changed * 1000, "ms"),
        Result("idle look every 2 s", look / 2 * 100, "% of a core"),
    ]


def measure_names(catalog: Catalog) -> list[Result]:
    """A wrong name among all services."""

    def refuse() -> None:
        try:
            find_service(catalog, "servise-4711")
        except BadInput:
            return
        raise AssertionError("a name that is not there was found")

    return [Result("nearest names for a wrong one", _timed(refuse, rounds=5) * 1000, "ms")]


def measure_decide(catalog: Catalog, questions: int = 2000) -> list[Result]:
    """Random questions at random times of a year."""
    chance = random.Random(1)
    services, environments = list(catalog.services), list(catalog.environments)
    taken = []
    for _ in range(questions):
        service = catalog.services[chance.choice(services)]
        person = chance.choice([service.owners[0], *catalog.release_managers])
        request = PolicyRequest(
            person, Permission.RELEASE_DEPLOY, service.name, chance.choice(environments), chance.choice(list(Kind))
        )
        at = START + timedelta(minutes=chance.randrange(60 * 24 * 365))
        start = time.perf_counter()
        decide(catalog, request, Facts(), at)
        taken.append(time.perf_counter() - start)
    taken.sort()
    return [
        Result("decide p50", taken[questions // 2] * 1e6, "us"),
        Result("decide p99", taken[questions * 99 // 100] * 1e6, "us"),
    ]


def measure(services: int = 5000) -> list[Result]:
    """Every figure."""
    with tempfile.TemporaryDirectory() as name:
        one, many = Path(name, "one"), Path(name, "many")
        catalog, results = measure_load(one, services, 1)
        results += measure_load(many, services, services)[1]
        return [*results, *measure_reload(many), *measure_names(catalog), *measure_decide(catalog)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=5000)
    for result in measure(parser.parse_args(None if __name__ == "__main__" else []).services):
        print(f"{result.name:45} {result.value:10.2f} {result.unit}")


if __name__ == "__main__":
    main()
