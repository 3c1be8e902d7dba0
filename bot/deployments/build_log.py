"""The end of the log of a deployment's pipeline run, wherever that run was."""

from __future__ import annotations

from pathlib import Path

from bot.catalog.repository import resolve_repo
from bot.deployments import plan
from bot.deployments.model import Deployment, parse_ref
from bot.deployments.providers import Providers
from bot.errors import ProviderRejected
from bot.pipelines.base import Pipeline, RunRequest
from bot.store import deployments as rows
from bot.store.database import Database


async def build_log(
    providers: Providers, directory: Path, seen: Deployment, stage: str = "", lines: int = 200
) -> tuple[str, ...]:
    """Its last lines, redacted; none if it ran no pipeline. Raises BadInput: no such stage. ProviderError."""
    if not seen.data.run_id:
        return ()
    pipeline, request = run_of(providers, directory, seen)
    return await pipeline.log_tail(request, stage, lines)


def run_of(providers: Providers, directory: Path, seen: Deployment) -> tuple[Pipeline, RunRequest]:
    """The pipeline of a deployment's run, and what it was asked. Raises ProviderRejected: it is not set up any more."""
    service, target = plan.thaw(seen.data.plan)
    pipeline = providers.pipelines.get(target.pipeline.provider)
    if pipeline is None:
        raise ProviderRejected(
            f"The pipeline provider '{target.pipeline.provider}' is not set up here.",
            hint="Set it up or name another in the catalog.",
        )
    return pipeline, RunRequest(
        intent=f"{seen.intent}-r{seen.data.run_attempt}",
        service=service,
        target=target,
        repo=resolve_repo(directory, service.repo),
        commit=seen.commit,
        branch=seen.branch,
        version=seen.release_version,
    )


class BuildLogs:
    """Logs by the reference that cards carry, for those who send them."""

    def __init__(self, db: Database, providers: Providers, directory: Path) -> None:
        """Take where deployments and runs are found."""
        self._db = db
        self._providers = providers
        self._directory = directory

    async def text(self, ref: str, lines: int) -> str:
        """The end of the log of `d-12`, redacted; empty if there is none. Raises ProviderError."""
        number = parse_ref(ref)
        seen = await self._db.read(lambda tx: rows.get(tx, number)) if number is not None else None
        return "\n".join(await build_log(self._providers, self._directory, seen, lines=lines)) if seen else ""
