"""From the written form of a metric to a query and its limits: success rate and latency need no PromQL; pure."""

from __future__ import annotations

from bot.catalog.model import MetricRule
from bot.catalog.schema import MetricIn

REQUESTS, DURATIONS = "http_requests_total", "http_request_duration_seconds_bucket"


def metric_rule(written: MetricIn) -> MetricRule:
    """The rule, with names not yet filled in."""
    if written.query:
        names = ("name", "query", "min", "max", "baseline", "min_factor", "max_factor")
        return MetricRule(**{name: getattr(written, name) for name in names})
    make, is_rate = (_success_rate, True) if written.success_rate is not None else (_latency, False)
    ours, stable = ("version", "stable") if written.compare else ("", "")
    return MetricRule(
        name=written.name or ("success rate" if is_rate else f"latency (p{written.quantile * 100:g})"),
        query=make(written, _labels(written, ours)),
        min=written.success_rate,
        max=written.latency,
        baseline=make(written, _labels(written, stable)) if written.compare else "",
        min_factor=written.factor if is_rate else None,
        max_factor=None if is_rate else written.factor,
    )


def _labels(written: MetricIn, version: str) -> str:
    """Of the series; version: the name of the placeholder that tells the versions apart, empty: they are not."""
    return f'{written.selector},{written.compare}="{{{version}}}"' if version else written.selector


def _success_rate(written: MetricIn, labels: str) -> str:
    """No failed request yet means no such series; no request at all is no data."""
    metric, window = written.metric or REQUESTS, written.window
    failed = f"sum(rate({metric}{{{labels},{written.failed}}}[{window}])) or vector(0)"
    return f"1 - ({failed}) / sum(rate({metric}{{{labels}}}[{window}]))"


def _latency(written: MetricIn, labels: str) -> str:
    metric, window = written.metric or DURATIONS, written.window
    return f"histogram_quantile({written.quantile}, sum by (le) (rate({metric}{{{labels}}}[{window}])))"
