"""Which rules are about a request, and what is kept of that with a catalog."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bot.catalog.model import Kind, Scope
from bot.policy import case
from bot.policy.case import rules_about
from bot.policy.scopes import matches
from tests.support.rules import a_catalog, a_freeze, a_service, a_window, utc

PAY = a_service(labels={"tier": "one", "region": "eu"})


@pytest.mark.parametrize(
    ("scope", "is_about"),
    [
        (Scope(), True),
        (Scope(environments=("prod",)), True),
        (Scope(environments=("pr*",)), True),
        (Scope(environments=("dev",)), False),
        (Scope(kinds=("normal",)), True),
        (Scope(kinds=("norm*",)), True),
        (Scope(kinds=("hotfix",)), False),
        (Scope(services=("pay", "web")), True),
        (Scope(services=("p?y",)), True),
        (Scope(services=("pa",)), False),
        (Scope(teams=("sho[pq]",)), True),
        (Scope(teams=("ops",)), False),
        (Scope(labels=("tier=two", "region=eu")), True),
        (Scope(labels=("tier=o*",)), True),
        (Scope(labels=("tier",)), False),
        (Scope(labels=("tier=two",)), False),
        (Scope(clusters=("prod-*",)), True),
        (Scope(clusters=("dev-1",)), False),
        (Scope(environments=("prod",), services=("web",)), False),
        (Scope(environments=("prod",), teams=("shop",), labels=("tier=one",), kinds=("normal",)), True),
    ],
)
def test_every_part_that_is_named_must_match(scope: Scope, is_about: bool) -> None:
    """Of one part, one of its patterns is enough."""
    assert matches(scope, PAY, "prod", Kind.NORMAL) is is_about


def test_another_catalog_is_asked_anew() -> None:
    """A window that was added or taken away counts from the next catalog on, and for its own target alone."""
    window, freeze = a_window(), a_freeze(utc(2026, 1, 1), None, scope=Scope(environments=("dev",)))
    before = a_catalog({"pay": PAY}, freezes=(freeze,))
    assert rules_about(before, PAY, "prod", Kind.NORMAL).windows == ()
    after = replace(before, windows=(window,))
    assert rules_about(after, PAY, "prod", Kind.NORMAL).windows == (window,)
    assert rules_about(before, PAY, "prod", Kind.NORMAL).windows == ()
    assert rules_about(after, PAY, "prod", Kind.NORMAL).freezes == ()
    assert rules_about(after, PAY, "dev", Kind.NORMAL).freezes == (freeze,)
    assert before == replace(before), "what is kept is no part of a catalog"


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many targets a company has."""
    monkeypatch.setattr(case, "MOST_KEPT", 3)
    services = {f"s{number}": a_service(f"s{number}") for number in range(10)}
    catalog = a_catalog(services, windows=(a_window(scope=Scope(services=("s7",))),))
    for one in services.values():
        found = rules_about(catalog, one, "prod", Kind.NORMAL)
        assert bool(found.windows) is (one.name == "s7")
        assert len(catalog.found) <= 3
