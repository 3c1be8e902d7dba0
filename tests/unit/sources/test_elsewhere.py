"""Reading Argo CD's sync windows and GitLab's freeze periods over their real interfaces."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pydantic import SecretStr

from bot.catalog.model import Catalog, DeliverySpec, PipelineSpec
from bot.compare import compare
from bot.settings import Settings
from tests.fakes.argocd import TOKEN, FakeArgoCD, running_argocd
from tests.fakes.gitlab import TOKEN as GITLAB_TOKEN
from tests.fakes.gitlab import FakeGitLab
from tests.fakes.serving import serving
from tests.support.rules import a_catalog, a_service, a_window, utc

NOW = utc(2026, 1, 5)


def company() -> Catalog:
    """pay in prod: built by GitLab, delivered by Argo CD, open on Tuesdays and Thursdays."""
    service = a_service(environments=("prod",))
    target = replace(
        service.targets["prod"],
        pipeline=PipelineSpec("gitlab", "acme/pay"),
        delivery=DeliverySpec("argocd", {"project": "shop"}),
    )
    return a_catalog({"pay": replace(service, targets={"prod": target})}, windows=(a_window(),))


async def test_what_both_say_is_compared_with_ours(tmp_path: Path) -> None:
    """The project's own windows and those of its global projects, for the application they are about; and GitLab's."""
    argo, gitlab = FakeArgoCD(), FakeGitLab("acme/pay")
    argo.add("pay-prod", project="shop")
    argo.sync_windows = {
        "shop": [{"kind": "deny", "schedule": "0 12 * * *", "duration": "1h", "namespaces": ["shop"]}],
        "*": [{"kind": "deny", "schedule": "0 17 * * 4", "duration": "30m", "applications": ["web-*"]}],
    }
    gitlab.freeze_periods = [{"freeze_start": "0 17 * * 4", "freeze_end": "0 1 * * 5", "cron_timezone": "UTC"}]
    async with running_argocd(argo), serving(gitlab.app) as address:
        settings = Settings(
            config=tmp_path,
            argocd_url=argo.url,
            argocd_token=SecretStr(TOKEN),
            gitlab_url=address,
            gitlab_token=SecretStr(GITLAB_TOKEN),
        )
        said: list[str] = []
        warned = await compare(settings, company(), (), "pay", "prod", NOW, said.append)
        broken: list[str] = []
        wrong = settings.model_copy(update={"argocd_token": SecretStr("wrong"), "gitlab_token": SecretStr("wrong")})
        await compare(wrong, company(), (), "", "", NOW, broken.append)
    assert warned == len(said) == 6
    deny = "Argo CD pay-prod (project shop) would block from"
    day = "Tue 06 Jan 2026"
    assert f"pay/prod: {deny} {day} 12:00 (UTC) to {day} 13:00 (UTC): deny 0 12 * * * for 60m (UTC)" in said
    frozen = "GitLab acme/pay would block from Thu 08 Jan 2026 17:00 (UTC) to Thu 08 Jan 2026 18:00 (UTC)"
    assert any(frozen in line for line in said)
    assert [line.partition(" cannot")[0] for line in broken] == ["pay/prod: argocd", "pay/prod: gitlab"]
