"""Small pieces of a catalog for tests of providers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from bot.catalog.model import DeliverySpec, GitopsSpec, PipelineSpec, Service, Target, VerifyRule


def make_target(
    *,
    service: str = "hello",
    environment: str = "prod",
    pipeline: Mapping[str, object] | None = None,
    delivery: Mapping[str, object] | None = None,
    pipeline_timeout: timedelta = timedelta(minutes=1),
) -> Target:
    """One service in one environment, built and delivered by `shell`."""
    return Target(
        service=service,
        environment=environment,
        branch="main",
        pipeline=PipelineSpec(timeout=pipeline_timeout, options=pipeline or {}),
        gitops=GitopsSpec(),
        delivery=DeliverySpec(options=delivery or {}),
        verify=VerifyRule(),
    )


def make_service(target: Target) -> Service:
    """The service of that target."""
    return Service(name=target.service, team="payments", repo="", targets={target.environment: target})
