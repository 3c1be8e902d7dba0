"""Who is told, where: places of a deployment's card, and the people who get a personal message."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from bot.catalog.model import Catalog, Kind
from bot.deployments.model import Deployment, State
from bot.deployments.questions import question_of
from bot.errors import Refused
from bot.store.outbox import NewNotice, Notice

TELLS_REQUESTER = frozenset({State.FAILED, State.ROLLED_BACK, State.REJECTED, State.EXPIRED})
"""Ends of which the requester hears personally."""

RESULTS_ONLY = frozenset({"dingtalk", "wecom", "webhook"})
"""Platforms whose messages cannot be edited: each state worth knowing is a message of its own."""


CHECKS = {"github": "github_checks", "gitlab": "gitlab_checks"}
"""Where merge requests are -> the platform that says beside them how their checks go."""
SILENT = frozenset({"github", *CHECKS.values()})
"""Platforms that keep a record and tell no person."""


def channel_of(catalog: Catalog, service: str, environment: str, platform: str) -> str:
    """The channel of a target: the service's own, else its environment's, its team's, the company's; may be empty."""
    known = catalog.services.get(service)
    place = known.channels.get(platform, "") if known is not None else ""
    if not place and environment in catalog.environments:
        place = catalog.environments[environment].channels.get(platform, "")
    if not place and known is not None and known.team in catalog.teams:
        place = catalog.teams[known.team].channels.get(platform, "")
    return place or catalog.channels.get(platform, "")


def personal_places(catalog: Catalog, person: str, platforms: Sequence[str]) -> list[tuple[str, str]]:
    """(platform, `@account`) of every chat in which a person can be told."""
    known = catalog.people.get(person)
    if known is None or not known.active:
        return []
    places = []
    for platform in (one for one in platforms if one not in SILENT):
        accounts = (known.id,) if platform == "console" else known.chats.get(platform, ())
        places += [(platform, f"@{account}") for account in accounts[:1]]
    return places


def cards(catalog: Catalog, deployment: Deployment, platforms: Sequence[str]) -> list[NewNotice]:
    """Where the deployment's card lives: where it was asked for, and the target's channel on every platform.

    That of a merge request's check is beside the merge request, and in no channel: there are too many.
    """
    origin, proposal = deployment.origin, deployment.data.proposal
    places: dict[tuple[str, str], str] = {}
    if origin.platform in platforms and origin.place:
        places[origin.platform, origin.place] = origin.message_id or origin.thread
    if proposal is not None and CHECKS.get(proposal.provider) in platforms:
        places[CHECKS[proposal.provider], proposal.repo] = ""
    for platform in platforms if proposal is None else ():
        channel = channel_of(catalog, deployment.service, deployment.environment, platform)
        if platform == "github":
            channel = channel or _repository(catalog, deployment)
        if channel and not (platform == "github" and deployment.kind is Kind.BUILD):
            places.setdefault((platform, channel), "")
    worth_knowing = deployment.state.is_final or deployment.state is State.AWAITING_APPROVAL
    return [
        NewNotice(_card_key(deployment, platform, place), platform, place, Notice.DEPLOYMENT, deployment.id, thread)
        for (platform, place), thread in places.items()
        if worth_knowing or platform not in RESULTS_ONLY
    ]


def _repository(catalog: Catalog, deployment: Deployment) -> str:
    """`owner/repository` of a target that GitHub Actions build; empty for others."""
    service = catalog.services.get(deployment.service)
    target = service.targets.get(deployment.environment) if service is not None else None
    if target is None or target.pipeline.provider != "github":
        return ""
    owner, _, rest = target.pipeline.name.strip("/").partition("/")
    name = rest.partition("/")[0]
    return f"{owner}/{name}" if owner and name else ""


def _card_key(deployment: Deployment, platform: str, place: str) -> str:
    key = f"card:{deployment.id}:{platform}:{place}"
    return f"{key}:{deployment.state.value}" if platform in RESULTS_ONLY else key


def personal(catalog: Catalog, deployment: Deployment, platforms: Sequence[str]) -> list[NewNotice]:
    """Personal messages that the deployment's present state asks for."""
    if deployment.state is State.AWAITING_APPROVAL:
        return asked(catalog, deployment, platforms, deployment.changed_at)
    told = deployment.state in TELLS_REQUESTER or (
        deployment.state is State.CANCELLED and deployment.data.cancelled_by != deployment.requested_by
    )
    if not told:
        return []
    places = personal_places(catalog, deployment.requested_by, platforms)
    here = [place for place in places if place[0] == deployment.origin.platform] or places
    return [_notice("failure", Notice.FAILURE, deployment, place) for place in here[:1]]


def asked(catalog: Catalog, deployment: Deployment, platforms: Sequence[str], at: datetime) -> list[NewNotice]:
    """The personal question to everybody who may answer it at an instant; each person is asked once."""
    service = catalog.services.get(deployment.service)
    if deployment.data.emergency is None or service is None:
        return []
    try:
        people = question_of(catalog, deployment, service, at).people()
    except Refused:
        return []
    return [
        _notice("ask", Notice.APPROVAL, deployment, place)
        for person in people
        for place in personal_places(catalog, person, platforms)
    ]


def _notice(prefix: str, kind: Notice, deployment: Deployment, place: tuple[str, str]) -> NewNotice:
    platform, account = place
    key = f"{prefix}:{deployment.id}:{platform}:{account}"
    return NewNotice(key, platform, account, kind, deployment.id, priority=1)
