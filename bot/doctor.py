"""`slipway doctor`: every check of every configured system, and what to do about what is wrong.

A check is an async function that yields findings; each system has its own in its own room and is listed in `CHECKS`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bot.errors import SlipwayError

if TYPE_CHECKING:
    from bot.catalog.model import Catalog
    from bot.settings import Settings


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. fix: what to do, empty if all is well."""

    system: str
    text: str
    fix: str = ""

    @property
    def good(self) -> bool:
        """Whether nothing has to be done."""
        return not self.fix


Check = Callable[["Settings", "Catalog"], AsyncIterator[Finding]]


async def examine(settings: Settings, catalog: Catalog, report: Callable[[Finding], Awaitable[None] | None]) -> int:
    """Run every check that is configured, tell each finding as it comes, and return how many need a person."""
    wrong = 0
    for name, check in checks(settings):
        try:
            async for finding in check(settings, catalog):
                wrong += not finding.good
                report(finding)
        except SlipwayError as error:
            wrong += 1
            report(Finding(name, error.message, error.hint or "Correct it and run slipway doctor again."))
    return wrong


def checks(settings: Settings) -> list[tuple[str, Check]]:
    """The checks of what is configured; a system's code is imported only if it is."""
    found: list[tuple[str, Check]] = []
    if settings.database_url is not None or (settings.data_directory / "slipway.db").exists():
        from bot.store.doctor import check as check_database

        found.append(("database", check_database))
    ci = (settings.jenkins_url, settings.gitlab_url, settings.github_url, settings.tekton_url)
    if any((*ci, settings.prow_cluster_url, settings.yunxiao_url)):
        from bot.pipelines.doctor import check as check_pipelines

        found.append(("pipelines", check_pipelines))
    if any(
        (settings.sonar_url, settings.testing_url, settings.reports_url, settings.harbor_url, settings.registry_url)
    ):
        from bot.gates.doctor import check as check_gates

        found.append(("gates", check_gates))
    if settings.slack:
        from bot.chat.slack_doctor import check as check_slack

        found.append(("slack", check_slack))
    if settings.feishu:
        from bot.chat.feishu_doctor import check as check_feishu

        found.append(("feishu", check_feishu))
    if settings.argocd:
        from bot.delivery.argocd_doctor import check as check_argocd

        found.append(("argocd", check_argocd))
    if settings.prometheus_url:
        from bot.gates.prometheus_doctor import check as check_prometheus

        found.append(("prometheus", check_prometheus))
    from bot.delivery.git_doctor import check as check_git
    from bot.delivery.registry_doctor import check as check_registries

    found.append(("git", check_git))
    found.append(("registry", check_registries))
    return found


def said(finding: Finding) -> str:
    """A finding as a line of text."""
    mark = "ok  " if finding.good else "FIX "
    return f"{mark}{finding.system}: {finding.text}" + (f" {finding.fix}" if finding.fix else "")
