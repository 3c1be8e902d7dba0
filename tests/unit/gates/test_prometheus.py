"""Numbers decide about traffic: what is good, what is bad, and what cannot be told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from bot.catalog.load import load_catalog
from bot.catalog.metrics import metric_rule
from bot.catalog.model import MetricRule
from bot.catalog.schema import MetricIn
from bot.doctor import said
from bot.gates import prometheus_doctor as doctor
from bot.gates.base import Health, MetricsResult
from bot.gates.prometheus import Prometheus, judge
from tests.fakes.catalogs import make_service, make_target
from tests.fakes.prometheus import FakePrometheus, running_prometheus
from tests.support.running import settings_for
from tests.support.world import make_world

SUCCESS = MetricRule("success", 'ok{app="{service}",env="{environment}"}', min=0.99)
FILLED = 'ok{app="hello",env="prod"}'
RELEASE = {"version": "2.0", "digest": "sha256:2", "stable": "1.0", "stable_digest": "sha256:1"}
LATENCY = MetricRule("latency", "p99", max_factor=1.2, baseline="p99_stable")


@pytest.fixture
async def fake() -> AsyncIterator[FakePrometheus]:
    async with running_prometheus() as fake:
        yield fake


async def check(
    fake: FakePrometheus, *rules: MetricRule, token: str = "", release: dict[str, str] | None = None
) -> MetricsResult:
    target = make_target()
    async with httpx.AsyncClient() as http:
        prometheus = Prometheus(http, fake.url, SecretStr(token) if token else None)
        return await prometheus.check(make_service(target), target, release or RELEASE, rules)


LIMITS = [
    (MetricRule("m", "q", min=0.99), 0.99, None, Health.GOOD),
    (MetricRule("m", "q", min=0.99), 0.9899, None, Health.BAD),
    (MetricRule("m", "q", max=5), 5, None, Health.GOOD),
    (MetricRule("m", "q", max=5), float("inf"), None, Health.BAD),
    (MetricRule("m", "q", min=0, max=0), 0, None, Health.GOOD),
    (LATENCY, 12, 10.0, Health.GOOD),
    (LATENCY, 12.1, 10.0, Health.BAD),
    (MetricRule("m", "q", min_factor=0.9, baseline="b"), 0.8, 1.0, Health.BAD),
    (MetricRule("m", "q", max_factor=2, baseline="b"), 0.1, 0.0, Health.BAD),
]


@pytest.mark.parametrize(("rule", "number", "baseline", "health"), LIMITS)
def test_limits_are_good_and_beyond_is_bad(
    rule: MetricRule, number: float, baseline: float | None, health: Health
) -> None:
    """Both edges, and the stable version as a measure."""
    assert judge(rule, number, baseline)[0] is health


ANSWERS: list[tuple[str | list[str] | None, Health, str]] = [
    ("0.999", Health.GOOD, "success is 0.999"),
    ("0.5", Health.BAD, "success is 0.5, at least 0.99 is good"),
    (None, Health.UNKNOWN, "success: no data"),
    ("NaN", Health.UNKNOWN, "success: no data"),
    (["1", "1"], Health.UNKNOWN, "success: the query gives 2 series; it must give one"),
]


@pytest.mark.parametrize(("answer", "health", "said"), ANSWERS)
async def test_no_data_is_not_good(
    fake: FakePrometheus, answer: str | list[str] | None, health: Health, said: str
) -> None:
    """A service without traffic, or a renamed metric, must not be waved through."""
    fake.answers[FILLED] = answer
    assert await check(fake, SUCCESS) == MetricsResult(health, said)
    assert fake.asked == [FILLED]


async def test_the_worst_decides_and_is_told(fake: FakePrometheus) -> None:
    """Of several numbers a person reads those that matter."""
    fake.answers |= {FILLED: "1", "p99": "30", "p99_stable": "10"}
    result = await check(fake, SUCCESS, LATENCY)
    assert result == MetricsResult(Health.BAD, "latency is 30, at most 12 is good (stable: 10)")
    fake.answers["p99_stable"] = None
    result = await check(fake, SUCCESS, LATENCY)
    assert result == MetricsResult(Health.UNKNOWN, "latency of the stable version: no data")


async def test_an_unreachable_or_refusing_prometheus_is_unknown(fake: FakePrometheus) -> None:
    """It is said why, without the token, and nothing goes on meanwhile."""
    result = await check(fake, SUCCESS)
    assert (result.health, "parse error" in result.message) == (Health.UNKNOWN, True)
    fake.token = "right"
    result = await check(fake, SUCCESS, token="wrong-token")
    assert result.health is Health.UNKNOWN
    assert "wrong-token" not in result.message
    fake.url = "http://127.0.0.1:9"
    assert (await check(fake, SUCCESS)).message == "success: Prometheus gave no answer (ConnectError)"


async def test_the_new_version_is_measured_by_the_one_that_ran_before(fake: FakePrometheus) -> None:
    """Each version's own series; the very first release of all has only its own limits."""
    rule = MetricRule("success", 'ok{v="{version}"}', min=0.5, baseline='ok{v="{stable}"}', min_factor=0.95)
    fake.answers = {'ok{v="2.0"}': "0.9", 'ok{v="1.0"}': "0.99"}
    result = await check(fake, rule)
    assert (result.health, result.message) == (Health.BAD, "success is 0.9, at least 0.9405 is good (stable: 0.99)")
    first = await check(fake, rule, release=RELEASE | {"stable": "", "stable_digest": ""})
    assert first.health is Health.GOOD


async def test_success_rate_and_latency_need_no_promql(fake: FakePrometheus) -> None:
    """Two lines of the catalog become the queries that everybody writes, compared by a label with the stable one."""
    rate = metric_rule(MetricIn(success_rate=0.99))
    slow = metric_rule(MetricIn(latency=0.3, quantile=0.95, compare="version", factor=1.2))
    labels = 'app="hello"'
    total = f"sum(rate(http_requests_total{{{labels}}}[2m]))"
    failed = f'sum(rate(http_requests_total{{{labels},code=~"5.."}}[2m]))'
    bucket = f'http_request_duration_seconds_bucket{{{labels},version="%s"}}[2m]'
    asked = [f"histogram_quantile(0.95, sum by (le) (rate({bucket % one})))" for one in ("2.0", "1.0")]
    fake.answers = {f"1 - ({failed} or vector(0)) / {total}": "0.995", asked[0]: "0.25", asked[1]: "0.2"}
    result = await check(fake, rate, slow)
    assert result.health is Health.BAD
    assert result.message == "latency (p95) is 0.25, at most 0.24 is good (stable: 0.2)"
    assert set(fake.asked) == set(fake.answers)


async def test_the_doctor_says_which_metrics_find_nothing(tmp_path: Path, fake: FakePrometheus) -> None:
    """Before gray waits for numbers that never come; queries about a release in work are not asked for."""
    world = make_world(tmp_path / "world")
    metrics = [{"name": "queue", "query": "q_{service}", "max": 1}, {"name": "new", "query": "n_{version}", "max": 1}]
    world.change_environment("prod", gray={"metrics": metrics})
    fake.answers = {"vector(1)": "1", "q_app": None}

    async def findings(url: str) -> list[str]:
        settings = settings_for(world).model_copy(update={"prometheus_url": url})
        return [said(one) async for one in doctor.check(settings, load_catalog(world.directory))]

    first, second = await findings(fake.url)
    assert first == "ok  prometheus: It answers; 1 targets are measured."
    assert second.startswith("FIX prometheus: app in prod: queue: no data. Correct `gray.metrics`")
    fake.answers["q_app"] = "0"
    assert len(await findings(fake.url)) == 1
    (away,) = await findings("http://127.0.0.1:1")
    assert away.startswith("FIX prometheus: Prometheus gave no answer (ConnectError). Check SLIPWAY_PROMETHEUS_URL")
