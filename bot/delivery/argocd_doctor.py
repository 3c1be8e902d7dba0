"""What `slipway doctor` looks at in Argo CD: token, every application of the catalog, and the right to sync it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from bot.catalog.model import Catalog
from bot.delivery.argocd import node_of, references
from bot.delivery.argocd_api import AppRef, ArgoApi
from bot.delivery.argocd_settings import argo_servers
from bot.delivery.rollouts import pauses_at
from bot.doctor import Finding
from bot.errors import ProviderError
from bot.settings import Settings

MOST = 20
"""Missing applications that are named; the rest is a number."""
MOST_STEPS = 100
"""Applications whose Rollouts are looked at: each takes two questions."""


async def check(settings: Settings, catalog: Catalog) -> AsyncIterator[Finding]:
    """Every finding about every Argo CD; asks only, changes nothing."""
    wanted = list(dict.fromkeys(_references(catalog)))
    servers = argo_servers(settings)
    unknown = sorted({ref.server for ref in wanted} - set(servers))
    for name in unknown:
        fix = f"Set it up, or name one of these in `delivery.options`: {', '.join(sorted(servers))}."
        yield Finding("argocd", f"The catalog names an Argo CD {name!r} that is not set up.", fix)
    for name, server in servers.items():
        api = ArgoApi(name, server)
        try:
            async for finding in _of_server(api, [ref for ref in wanted if ref.server == name]):
                yield finding
            async for finding in _of_steps(api, [one for one in _weighted(catalog) if one[0].server == name]):
                yield finding
        except ProviderError as error:
            yield Finding("argocd", error.message, error.hint or "Check its address and its token.")
        finally:
            await api.close()


def _references(catalog: Catalog) -> Iterator[AppRef]:
    for service in catalog.services.values():
        for target in service.targets.values():
            if target.delivery.provider == "argocd":
                yield from references(service, target)


def _weighted(catalog: Catalog) -> Iterator[tuple[AppRef, tuple[int, ...]]]:
    """Applications whose gray weights the catalog names, where the steps are not written to Git with the version."""
    for service in catalog.services.values():
        for target in service.targets.values():
            if target.delivery.provider == "argocd" and target.gray.weights and not target.gitops.options.get("steps"):
                for ref in references(service, target):
                    yield ref, target.gray.weights


async def _of_steps(api: ArgoApi, wanted: list[tuple[AppRef, tuple[int, ...]]]) -> AsyncIterator[Finding]:
    """Where a Rollout's own steps say something else than the catalog."""
    for ref, weights in wanted[:MOST_STEPS]:
        app = await api.get(ref)
        for resource in app.resources if app is not None else ():
            if resource.key[1] != "Rollout":
                continue
            own = pauses_at(await api.resource(ref, node_of(resource)))
            if own != weights:
                there, here = (", ".join(map(str, some)) or "nothing" for some in (own, weights))
                said = f"The Rollout of {ref.name} pauses at {there} percent, `gray.weights` says {here}."
                yield Finding("argocd", said, "Correct one of them, or set `steps` in `gitops.options`.")


async def _of_server(api: ArgoApi, refs: list[AppRef]) -> AsyncIterator[Finding]:
    who = await api.who()
    if not who:
        fix = "Make a token of an account with `apiKey`, or of a project role, and set SLIPWAY_ARGOCD_TOKEN."
        yield Finding("argocd", f"Argo CD {api.name!r} does not know the token.", fix)
        return
    yield Finding("argocd", f"Argo CD {api.name!r} {await api.version()} knows Slipway as {who}.")
    missing = refused = 0
    for ref in refs:
        app = await api.get(ref)
        allowed = app is None or await api.may(ref, "sync")
        missing += app is None
        refused += not allowed
        if app is None and missing <= MOST:
            yield Finding("argocd", f"There is no application {ref.name} in project {ref.project}.", "Create it.")
        if not allowed and refused <= MOST:
            fix = f"Add `p, {who}, applications, sync, {ref.project}/*, allow` to its policy."
            yield Finding("argocd", f"Slipway may not sync {ref.project}/{ref.name}.", fix)
    if missing > MOST or refused > MOST:
        yield Finding("argocd", f"{missing} applications are missing, {refused} may not be synced.", "See above.")
    elif not missing and not refused:
        yield Finding("argocd", f"All {len(refs)} applications of the catalog are there and may be synced.")
