"""How long a verdict takes among many rules: `python -m tests.benchmarks rules`."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from time import thread_time

from bot.catalog.model import Catalog, Freeze, Kind, Role, Scope, Team, Window
from bot.policy.decide import decide
from bot.policy.model import Facts
from tests.support.rules import a_catalog, a_freeze, a_lane, a_request, a_service, a_window, utc

SERVICES, WINDOWS, FREEZES = 5000, 200, 50
START = utc(2026, 1, 5)
HOUR = timedelta(hours=1)


def main() -> None:
    """Print every figure, one a line."""
    catalog = many_rules()
    measure("first decision", catalog, 1)
    measure("decide, any hour of a quarter", catalog, 2000, HOUR)
    measure("frozen for ever", replace(catalog, freezes=(*catalog.freezes, a_freeze(START, None))))
    days = tuple(range(7))
    always = tuple(replace(one, days=days, end=one.start) for one in catalog.windows)
    measure("no change within a year", replace(catalog, windows=always))
    christmas = a_window(days=(), hours="00:00-00:00", cron="0 3 24 12 *", duration=HOUR)
    measure("next opening eleven months away", replace(catalog, windows=(christmas,)))


def measure(what: str, catalog: Catalog, count: int = 200, step: timedelta = timedelta(0)) -> None:
    """Ask about many services and show what it took."""
    names = list(catalog.services)
    requests = [a_request("lead", service=names[n * 37 % SERVICES], subject="x") for n in range(count)]
    took = []
    for number, request in enumerate(requests):
        started = thread_time()
        decide(catalog, request, Facts(), START + step * number)
        took.append(thread_time() - started)
    show(what, took)


def many_rules() -> Catalog:
    """5,000 services, 200 windows and 50 freezes; about a tenth of the rules is about each service."""
    services = {
        f"svc-{n:04}": a_service(f"svc-{n:04}", team=f"team{n % 100}", labels={"tier": f"t{n % 5}"})
        for n in range(SERVICES)
    }
    teams = {f"team{n}": Team(f"team{n}", f"Team {n}", leads=("lead",)) for n in range(100)}
    windows = tuple(_window(n) for n in range(WINDOWS))
    return a_catalog(
        services,
        teams=teams,
        windows=windows,
        freezes=tuple(_freeze(n) for n in range(FREEZES)),
        emergency=(a_lane(1, (Role.TEAM_LEAD, Role.RELEASE_MANAGER)),),
    )


def _window(n: int) -> Window:
    zone = ("Asia/Shanghai", "Europe/Berlin", "America/New_York", "UTC")[n % 4]
    return a_window(f"w{n}", (n % 7, (n + 2) % 7), f"{n % 12 + 6:02}:00-{n % 12 + 9:02}:00", zone=zone, scope=_scope(n))


def _freeze(n: int) -> Freeze:
    start = START + timedelta(days=n * 7)
    return a_freeze(start, start + timedelta(days=1), f"f{n}", scope=_scope(n), exempt_kinds=(Kind.HOTFIX.value,))


def _scope(n: int) -> Scope:
    return (
        Scope(environments=("prod",), labels=(f"tier=t{n % 5}",)),
        Scope(services=(f"svc-{n % 10}*",)),
        Scope(teams=(f"team{n % 100}",)),
        Scope(environments=("pr*",), teams=(f"*{n % 10}",)),
    )[n // 4 % 4]


def show(what: str, seconds: list[float]) -> None:
    """Median and 99th percentile, of processor time: others may be busy on this machine too."""
    ordered = sorted(seconds)
    middle, high = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
    print(f"{what}: p50 {middle * 1000:.2f} ms, p99 {high * 1000:.2f} ms")


if __name__ == "__main__":
    main()
