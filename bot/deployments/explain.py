"""`slipway policy explain d-12`: what the rules said of a deployment, and the same question to the catalog again."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from bot.catalog.commit import restore
from bot.catalog.load import load_catalog
from bot.catalog.model import Catalog
from bot.catalog.problems import CatalogProblems
from bot.deployments.derivations import again
from bot.deployments.model import Deployment, Derivation


def explain(seen: Deployment, directory: Path, other: Path | None) -> Iterator[tuple[str, bool]]:
    """Lines, each with whether it agrees with what was said then. other: a catalog to judge by instead."""
    who = (
        f"{seen.requested_by} wanted {seen.kind.value} of {seen.release_version} ({seen.commit[:12]}) to {seen.target}"
    )
    yield f"{seen.ref}: {who}", True
    if not seen.data.derivations:
        yield "Nothing was kept of how it was judged.", False
    for one in seen.data.derivations:
        yield from _one(one, directory, other)


def _one(one: Derivation, directory: Path, other: Path | None) -> Iterator[tuple[str, bool]]:
    stands = f"commit {one.commit[:12]}, " if one.commit else ""
    yield f"{one.step} {one.at:%Y-%m-%d %H:%M:%S} UTC by {stands}files {one.catalog[:12]}: {one.outcome}", True
    for note in one.reasons:
        where = f" [{note.rule} {note.where}]".replace(" ]", "]") if note.rule else ""
        yield f"  {'x' if note.blocking else '-'} {note.code}: {note.text}{where}", True
    catalog, said = _catalog(one, directory, other)
    if catalog is None:
        yield f"  not judged again: {said}", True
        return
    verdict = again(catalog, one)
    same = verdict.outcome.value == one.outcome
    yield f"  judged again by {said}: {verdict.outcome.value}{'' if same else ', another answer'}", same
    if not same:
        for reason in verdict.blocking or verdict.reasons:
            yield f"  {'x' if reason.blocking else '-'} {reason.code.value}: {reason.text}", False


def _catalog(one: Derivation, directory: Path, other: Path | None) -> tuple[Catalog | None, str]:
    """The catalog to judge by, and what it is: another one, the one of then, or none."""
    try:
        if other is not None:
            return load_catalog(other), f"the catalog in {other}"
        now = load_catalog(directory)
        if now.digest == one.catalog:
            return now, "the same catalog"
        with tempfile.TemporaryDirectory() as place:
            if one.commit and restore(directory, one.commit, Path(place)):
                then = load_catalog(Path(place))
                same = "the same catalog" if then.digest == one.catalog else "the catalog of that commit"
                return then, f"{same}, from Git"
        return None, "the catalog has changed since and is not in Git; name one with --with DIR"
    except CatalogProblems as error:
        return None, error.sentence()
