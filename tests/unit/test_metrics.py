"""Figures for Prometheus: closed lists of labels, whatever comes from outside, and right when it matters."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bot.errors import OutcomeUnknown, ProviderRejected, ProviderUnavailable
from bot.metrics import Metrics, Snapshot


@pytest.fixture
def metrics() -> Metrics:
    return Metrics({"deploy": "deploy", "部署": "deploy", "status": "status"}, ["approve", "reject"])


def value(metrics: Metrics, series: str, /, **labels: str) -> float | None:
    """One sample, or None."""
    return metrics.registry.get_sample_value(f"slipway_{series}", labels)


def text(metrics: Metrics, snapshot: Snapshot | None = None) -> str:
    return metrics.render(snapshot, busy=3, services=5, missing={"slack": "no"}).decode()


def test_words_of_people_make_no_series(metrics: Metrics) -> None:
    """Ten thousand different typos are one series; the same for buttons, outcomes and codes."""
    for number in range(1000):
        metrics.intent("command", f"/typo{number} x", f"odd{number}", f"code{number}", 0.01)
        metrics.intent("click", f"button{number}", "refused", f"code{number}", 0.01)
    metrics.intent("command", "/部署 app prod", "accepted", "", 0.01)
    assert value(metrics, "intents_total", kind="command", name="other", outcome="other") == 1000
    assert value(metrics, "intents_total", kind="click", name="other", outcome="refused") == 1000
    assert value(metrics, "intents_total", kind="command", name="deploy", outcome="accepted") == 1
    assert value(metrics, "refusals_total", code="other") == 1000
    assert len(text(metrics).splitlines()) < 300


def test_gauges_name_every_state_and_sum_up_unheard_ones(metrics: Metrics) -> None:
    """A panel must show 0, not a gap; a state of a newer replica is counted without its name."""
    shown = text(metrics, Snapshot(open_by_state={"building": 2, "baking": 1}, outbox_behind=4, outbox_age=7.5))
    assert 'slipway_deployments_open{state="building"} 2.0' in shown
    assert 'slipway_deployments_open{state="queued"} 0.0' in shown
    assert 'slipway_deployments_open{state="other"} 1.0' in shown
    assert "slipway_outbox_lag_seconds 7.5" in shown
    assert 'slipway_not_ready{part="slack"} 1.0' in shown


def test_what_is_said_can_be_read(metrics: Metrics) -> None:
    """By Prometheus' own parser."""
    families = {family.name for family in text_string_to_metric_families(text(metrics, Snapshot()))}
    assert {"slipway_intents", "slipway_deployments_open", "slipway_outbox_behind", "slipway_build_info"} <= families


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (None, "ok"),
        (ProviderRejected("no"), "rejected"),
        (ProviderUnavailable("away"), "unavailable"),
        (OutcomeUnknown("lost"), "unknown"),
        (RuntimeError("a defect"), "error"),
    ],
)
async def test_calls_to_outside_systems_are_counted_by_what_came_of_them(
    metrics: Metrics, error: Exception | None, answer: str
) -> None:
    """The error goes on to whoever called; the counting changes nothing."""

    class Pipeline:
        async def look(self, run: str) -> str:
            if error is not None:
                raise error
            return f"{run} is running"

    pipeline = metrics.watch(Pipeline(), "jenkins", "pipeline")
    assert isinstance(pipeline, Pipeline)
    if error is None:
        assert await pipeline.look("r1") == "r1 is running"
    else:
        with pytest.raises(type(error)):
            await pipeline.look("r1")
    assert value(metrics, "provider_calls_total", provider="jenkins", operation="look", answer=answer) == 1


async def test_jobs_are_those_of_the_catalog(metrics: Metrics) -> None:
    """A job that was removed disappears instead of alerting for ever."""
    assert 'job="nightly"' in text(metrics, Snapshot(jobs={"nightly": (1.0, False)}))
    assert 'job="nightly"' not in text(metrics, Snapshot())
