"""What the files mean: conventions fill in, defaults cascade, scalars stay what was written."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest

from bot.catalog.document import Document, typed
from bot.catalog.find import find_environment, find_person, find_service
from bot.catalog.load import load_catalog
from bot.catalog.repository import resolve_repo
from bot.catalog.schema import RootFile, ServiceIn, json_schema
from bot.catalog.units import parse_days, parse_duration, parse_hours
from bot.errors import BadInput
from tests.unit.catalog.directories import ROOT, good, write


def test_a_name_gives_everything_else(tmp_path: Path) -> None:
    """A typical service is a few lines because the rest follows from its name."""
    catalog = load_catalog(good(tmp_path))
    pay = catalog.services["pay"]
    prod = pay.targets["prod"]
    assert (pay.repo, pay.owners) == ("repos/pay.git", ("olive",))
    assert (prod.branch, prod.pipeline.name, prod.gitops.path) == ("main", "pay", "prod/pay.yaml")
    assert list(pay.targets) == ["dev", "prod"]
    assert str(pay.source) == "services/pay.yaml:1"


def test_the_narrower_place_wins_field_by_field(tmp_path: Path) -> None:
    """Global, environment, team, service, service in an environment."""
    root = """\
environments:
  dev: {branch: develop}
  prod: {branch: main, defaults: {verify: {timeout: 2m}, url: "http://{environment}/{service}"}}
people: {leo: {}}
teams: {shop: {leads: [leo], defaults: {verify: {settle: 3s}, language: java, pipeline: {options: {b: 2}}}}}
defaults:
  repo: "{team}/{language}/{service}"
  gitops: {repo: c.git}
  verify: {timeout: 1m, settle: 1s, interval: 1s}
  pipeline: {options: {a: 1, b: 1}}
"""
    services = """\
pay:
  team: shop
  verify: {interval: 5s}
  environments: {prod: {branch: release, pipeline: {options: {c: 3}}, verify: {timeout: 3m}}}
other: {team: shop, only: [prod], language: go}
"""
    catalog = load_catalog(write(tmp_path, {"slipway.yaml": root, "services/s.yaml": services}))
    dev, prod = (catalog.services["pay"].targets[name] for name in ("dev", "prod"))
    assert (dev.verify.timeout, dev.verify.settle, dev.verify.interval) == tuple(
        timedelta(seconds=seconds) for seconds in (60, 3, 5)
    )
    assert (prod.verify.timeout, prod.branch, prod.url) == (timedelta(minutes=3), "release", "http://prod/pay")
    assert dev.pipeline.options == {"a": 1, "b": 2}
    assert prod.pipeline.options == {"a": 1, "b": 2, "c": 3}
    assert catalog.services["pay"].repo == "shop/java/pay"
    assert catalog.services["other"].repo == "shop/go/other"
    assert list(catalog.services["other"].targets) == ["prod"]
    assert catalog.services["other"].owners == ("leo",), "no owners named: the team's leads"


def test_another_provider_inherits_no_options(tmp_path: Path) -> None:
    """The commands of one system mean nothing, or the wrong thing, to another."""
    root = ROOT + "  pipeline: {provider: shell, timeout: 5m, options: {steps: [x]}}\n"
    services = "pay: {team: shop, pipeline: {provider: jenkins}}\n"
    catalog = load_catalog(write(tmp_path, {"slipway.yaml": root, "services/s.yaml": services}))
    spec = catalog.services["pay"].targets["prod"].pipeline
    assert (spec.provider, spec.timeout, spec.options) == ("jenkins", timedelta(minutes=5), {})


def test_options_keep_their_placeholders_and_types(tmp_path: Path) -> None:
    """The provider fills its own words in at run time; quoted text is text."""
    options = "{argv: ['{service}', '{port}'], n: 3, quoted: '3', yes: true, half: 0.5, none: null, day: 2026-11-09}"
    services = f"pay: {{team: shop, delivery: {{options: {options}}}, url: 'http://{{service}}:{{port}}'}}\n"
    target = load_catalog(write(good(tmp_path), {"services/pay.yaml": services})).services["pay"].targets["prod"]
    assert target.delivery.options == {
        "argv": ["{service}", "{port}"],
        "n": 3,
        "quoted": "3",
        "yes": True,
        "half": 0.5,
        "none": None,
        "day": "2026-11-09",
    }
    assert target.url == "http://pay:{port}"


def test_plain_scalars_stay_what_was_written(tmp_path: Path) -> None:
    """`branch: 1.10` is not 1.1, and a team called `no` is not false."""
    root = ROOT.replace("branch: develop", "branch: 1.10").replace("rita", "no")
    catalog = load_catalog(write(good(tmp_path), {"slipway.yaml": root}))
    assert catalog.environments["dev"].branch == "1.10"
    assert catalog.release_managers == ("no",)
    values: dict[str, Any] = Document("x", "a: 0x10\nb: 1e3\nc: 012\nd: on\n").values
    assert typed(values) == {"a": "0x10", "b": 1000.0, "c": "012", "d": "on"}


def test_rules_carry_zone_and_source(tmp_path: Path) -> None:
    """A reason of the policy names its rule's file and line."""
    more = """\
zone: Asia/Shanghai
windows:
  - name: night
    days: [fri-mon]
    hours: "22:00-02:00"
  - {name: all, days: weekend, hours: "00:00-24:00", zone: UTC}
freezes:
  - {name: f, from: 2026-11-09, until: 2026-11-12T08:00, exempt: rollback}
  - {name: open, from: 2026-11-09T00:00+00:00}
"""
    catalog = load_catalog(good(tmp_path, more=more))
    night, whole = catalog.windows
    assert (night.days, night.start, night.end, night.zone) == ((0, 4, 5, 6), time(22), time(2), "Asia/Shanghai")
    assert (whole.days, whole.start, whole.end, whole.zone) == ((5, 6), time(0), time(0), "UTC")
    assert str(night.source) == "more.yaml:3"
    dated, no_end = catalog.freezes
    assert dated.start_at == datetime(2026, 11, 8, 16, tzinfo=UTC)
    assert dated.end_at == datetime(2026, 11, 12, 0, tzinfo=UTC)
    assert dated.exempt_kinds == ("rollback",)
    assert (no_end.start_at, no_end.end_at) == (datetime(2026, 11, 9, tzinfo=UTC), None)


def test_people_are_found_by_account_and_address(tmp_path: Path) -> None:
    """Several chats, one human; the console account is the person's id."""
    catalog = load_catalog(good(tmp_path))
    for platform, account in (("console", "leo"), ("slack", "U2"), ("slack", "U3")):
        person = catalog.person_by_chat(platform, account)
        assert person is not None
        assert person.id == "leo"
    by_email = catalog.person_by_email("Olive@Slipway.Example")
    assert by_email is not None
    assert by_email.id == "olive"


def test_somebody_who_left_has_no_account(tmp_path: Path) -> None:
    """The name stays for the history; the right is gone."""
    root = ROOT.replace("rita: {}", "rita: {active: no}")
    catalog = load_catalog(write(good(tmp_path), {"slipway.yaml": root}))
    assert catalog.people["rita"].name == "rita"
    assert catalog.person_by_chat("console", "rita") is None


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("10s", 10), ("30m", 1800), ("1h30m", 5400), ("2d", 172800), ("1d1h", 90000)]
)
def test_durations(text: str, seconds: float) -> None:
    """As people write them."""
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "m", "1m1h", "-1s", "1.5h", "1 h", "400d", "9" * 40 + "s"])
def test_what_is_no_duration(text: str) -> None:
    """A number without a unit would be guessed."""
    with pytest.raises(ValueError, match="1h30m"):
        parse_duration(text)


def test_days_and_hours() -> None:
    """Ranges run over the week's end, whole days end at 24:00."""
    assert parse_days(["sat-tue", "thursday"]) == (0, 1, 3, 5, 6)
    assert parse_days(["Weekdays"]) == (0, 1, 2, 3, 4)
    assert parse_hours("9:30 - 24:00") == (time(9, 30), time(0))


@pytest.mark.parametrize("name", ["pay", "PAY", " pay "])
def test_a_service_is_found_whatever_its_case(tmp_path: Path, name: str) -> None:
    """Phones capitalise."""
    assert find_service(load_catalog(good(tmp_path)), name).name == "pay"


def test_a_wrong_name_is_never_guessed(tmp_path: Path) -> None:
    """`production` might be prod; only a person can say so."""
    catalog = load_catalog(good(tmp_path))
    for name in ("production", "pro"):
        with pytest.raises(BadInput, match=f"There is no environment '{name}'. Did you mean prod\\?"):
            find_environment(catalog, name)
    with pytest.raises(BadInput) as caught:
        find_environment(catalog, "zzz")
    assert caught.value.hint == "Known: dev and prod."
    assert find_person(catalog, "olive@slipway.example").id == "olive"


def test_repositories_are_relative_to_the_catalog(tmp_path: Path) -> None:
    """Never to wherever the bot was started."""
    assert resolve_repo(tmp_path, "repos/a.git") == str(tmp_path / "repos/a.git")
    for address in ("https://git.example/a", "git@git.example:a.git", ""):
        assert resolve_repo(tmp_path, address) == address


def test_the_schema_has_every_field_and_no_dangling_reference() -> None:
    """An editor that underlines a right file is switched off."""
    schema = json_schema()
    definitions = schema["$defs"]
    assert {"RootFile", "ServicesFile"} <= definitions.keys()
    assert definitions["RootFile"]["properties"].keys() == RootFile.model_fields.keys()
    assert definitions["ServiceIn"]["properties"].keys() == ServiceIn.model_fields.keys()
    assert "from" in definitions["FreezeIn"]["properties"]
    assert definitions["PipelineIn"]["properties"]["timeout"]["description"] == "How long one run may take."
    # Of the class itself, and of one it inherits from.
    assert "hotfix" in definitions["ReleaseWeekIn"]["properties"]["exempt"]["description"]
    assert all(one["additionalProperties"] is False for name, one in definitions.items() if "properties" in one)
    references = {word for word in str(schema).split("'") if word.startswith("#/$defs/")}
    assert {one.removeprefix("#/$defs/") for one in references} <= definitions.keys()
