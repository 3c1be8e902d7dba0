"""What a verdict was made of, kept with its deployment: enough to make it again, and to see what another rule says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from bot.catalog.model import Catalog
from bot.deployments.model import Data, Derivation, ReasonNote
from bot.policy.case import relevant
from bot.policy.decide import decide
from bot.policy.model import Facts, PolicyRequest, Reason, Verdict

ASKED, STARTED, WRITTEN = "asked", "started", "written"
"""When the rules were asked: at the request, at the start, and before Git was written."""


# Made with the first verdict that is kept, not with the module, which every start loads.
@cache
def _request() -> TypeAdapter[PolicyRequest]:
    return TypeAdapter(PolicyRequest)


@cache
def _facts() -> TypeAdapter[Facts]:
    return TypeAdapter(Facts)


def derive(
    catalog: Catalog, request: PolicyRequest, facts: Facts, at: datetime, verdict: Verdict, step: str
) -> Derivation:
    """A verdict with all that it depends on."""
    return Derivation(
        step=step,
        at=at,
        catalog=catalog.digest,
        commit=catalog.commit,
        request=_request().dump_python(request, mode="json"),
        facts=_facts().dump_python(relevant(catalog, request, facts), mode="json"),
        people=_people(catalog, request.service),
        outcome=verdict.outcome.value,
        reasons=notes_of(verdict.reasons),
        next_change_at=verdict.next_change_at,
    )


def noted(data: Data, derivation: Derivation) -> Data:
    """The data with this derivation in the place of an earlier one of the same step."""
    others = tuple(one for one in data.derivations if one.step != derivation.step)
    return data.model_copy(update={"derivations": (*others, derivation)})


def again(catalog: Catalog, derivation: Derivation) -> Verdict:
    """The verdict of a catalog on the same request, facts, people and instant."""
    request = _request().validate_python(derivation.request)
    facts = _facts().validate_python(derivation.facts)
    return decide(_with_people(catalog, request.service, derivation.people), request, facts, derivation.at)


def request_in(derivation: Derivation) -> PolicyRequest:
    """What was asked."""
    return _request().validate_python(derivation.request)


def facts_in(derivation: Derivation) -> Facts:
    """What stood beside the rules."""
    return _facts().validate_python(derivation.facts)


def notes_of(reasons: tuple[Reason, ...]) -> tuple[ReasonNote, ...]:
    """Reasons as they are kept with the row."""
    return tuple(
        ReasonNote(
            code=reason.code.value, text=reason.text, rule=reason.rule, where=reason.where, blocking=reason.blocking
        )
        for reason in reasons
    )


def _people(catalog: Catalog, name: str) -> dict[str, Any]:
    """Those that chats, repositories and other systems told beside the files: without them no right could be seen."""
    service = catalog.services.get(name)
    if service is None:
        return {}
    team = catalog.teams.get(service.team)
    outside = {name: list(one.people) for name, one in catalog.groups.items() if one.sources or one.chats}
    return {
        "owners": list(service.owners),
        "sources": dict(service.owner_sources),
        "leads": list(team.leads) if team is not None else [],
        "members": list(team.members) if team is not None else [],
        "groups": outside,
    }


def _with_people(catalog: Catalog, name: str, people: Mapping[str, Any]) -> Catalog:
    """The catalog with those who were known then, for what files do not tell: OWNERS and groups of other systems."""
    service = catalog.services.get(name)
    if service is None or not people:
        return catalog
    groups = {
        group.name: replace(group, people=tuple(people["groups"].get(group.name, group.people)))
        for group in catalog.groups.values()
    }
    services, teams = dict(catalog.services), dict(catalog.teams)
    if service.owners_file or service.owner_groups:
        services[name] = replace(service, owners=tuple(people["owners"]), owner_sources=dict(people["sources"]))
    team = teams.get(service.team)
    if team is not None and (team.lead_groups or team.member_groups):
        teams[team.id] = replace(team, leads=tuple(people["leads"]), members=tuple(people["members"]))
    return replace(catalog, services=services, teams=teams, groups=groups)
