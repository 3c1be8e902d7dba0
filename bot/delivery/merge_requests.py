"""Changes of the configuration repository proposed by a merge request (pull request) instead of being pushed.

The branch carries our intent in its name and its commit, so that after a crash or a lost answer the proposal is found
again. What was let in is read back: a release is what was approved here, not what somebody made of the proposal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol
from urllib.parse import urlsplit

from bot.catalog.model import GitopsSpec, MergeBy, MergeRequestRule
from bot.delivery.base import Change, Check, Written
from bot.delivery.gitops import GitWriter
from bot.errors import ProviderRejected
from bot.git import display_address

_SCP = re.compile(r"(?:[^/@:]+@)?(?P<host>[^/:]+):(?P<path>[^:].*)")


class ProposalState(StrEnum):
    """States of a merge request."""

    OPEN = "open"
    MERGED = "merged"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Proposal:
    """A merge request as last seen. head: the newest commit of its branch; revision: what it became, once merged.

    blocked: why it cannot be merged now, in the host's words; empty if that is not known. title: as it is there.
    """

    number: int
    url: str
    state: ProposalState
    head: str = ""
    revision: str = ""
    blocked: str = ""
    title: str = ""


@dataclass(frozen=True, slots=True)
class NewProposal:
    """What is asked for. text: markdown, with nothing of it live."""

    source: str
    target: str
    title: str
    text: str
    labels: tuple[str, ...] = ()


class CodeHost(Protocol):
    """A server of repositories with merge requests. project: `group/name`."""

    async def find(self, project: str, source: str, target: str) -> Proposal | None:
        """The newest proposal of that branch, in any state. Raises ProviderError."""
        ...

    async def open(self, project: str, new: NewProposal) -> Proposal:
        """Make one. Raises ProviderRejected, ProviderUnavailable; OutcomeUnknown: `find` tells."""
        ...

    async def merge(self, project: str, proposal: Proposal) -> str:
        """Merge it if its branch is still at that head; empty once merged, else why not yet. Raises ProviderError."""
        ...

    async def hold(self, project: str, proposal: Proposal, why: str) -> None:
        """Have people kept from merging it, and told why; empty: let them again. The same again changes nothing.

        Raises ProviderError.
        """
        ...

    async def close(self, project: str, proposal: Proposal, source: str) -> None:
        """Close it and delete its branch. Raises ProviderError."""
        ...


class ProposingWriter:
    """The Git writer, with a detour by a merge request where the catalog wants one."""

    def __init__(self, writer: GitWriter, hosts: Mapping[str, CodeHost]) -> None:
        """hosts: by the names used in the catalog, those that are set up."""
        self._writer = writer
        self._hosts = hosts

    async def read(self, gitops: GitopsSpec, repo: str, service: str, environment: str) -> Written:
        """See ConfigWriter."""
        return await self._writer.read(gitops, repo, service, environment)

    async def find(self, change: Change) -> Written | None:
        """See ConfigWriter. What is only proposed is not found."""
        rule = change.gitops.merge_request
        if rule is None:
            return await self._writer.find(change)
        host, project = self._host(rule), project_of(rule, change.repo)
        proposal = await host.find(project, source_of(change), change.gitops.branch)
        if proposal is None or proposal.state is not ProposalState.MERGED:
            return None
        found = await self._merged(change, proposal)
        return found if not found.waiting else None

    async def write(self, change: Change, check: Check | None = None) -> Written:
        """See ConfigWriter."""
        rule = change.gitops.merge_request
        if rule is None:
            return await self._writer.write(change, check)
        host, project, source = self._host(rule), project_of(rule, change.repo), source_of(change)
        proposal = await host.find(project, source, change.gitops.branch)
        if proposal is None:
            written = await self._writer.propose(change, source, check)
            if not written.changed:
                return written
            new = NewProposal(source, change.gitops.branch, _title(change), _text(change), rule.labels)
            proposal = await host.open(project, new)
        if proposal.state is ProposalState.OPEN:
            await host.hold(project, proposal, "")
        if proposal.state is ProposalState.OPEN and rule.merge is MergeBy.SLIPWAY:
            proposal = await self._merge(change, host, project, proposal, check)
        if proposal.state is ProposalState.MERGED:
            return await self._merged(change, proposal)
        if proposal.state is ProposalState.CLOSED:
            message = f"The merge request {proposal.url} was closed without being merged."
            raise ProviderRejected(message, hint="Ask who closed it, then deploy again.")
        blocked = f" ({proposal.blocked})" if proposal.blocked else ""
        return _waiting(change, f"the merge request {proposal.url} is not merged yet{blocked}.")

    async def _merge(
        self, change: Change, host: CodeHost, project: str, proposal: Proposal, check: Check | None
    ) -> Proposal:
        if check is not None:
            await check()
        blocked = await host.merge(project, proposal)
        if blocked:
            return Proposal(proposal.number, proposal.url, proposal.state, proposal.head, blocked=blocked)
        return await host.find(project, source_of(change), change.gitops.branch) or proposal

    async def _merged(self, change: Change, proposal: Proposal) -> Written:
        """What the branch says since then. Raises ProviderRejected: something else than was proposed."""
        found = await self._writer.at(change, proposal.revision)
        if found is None:
            return _waiting(change, f"the merge of {proposal.url} is not seen in Git yet.")
        if (found.version, found.digest or change.digest) != (change.version, change.digest):
            what = f"version {found.version}" if found.version else "no version"
            raise ProviderRejected(
                f"The merge request {proposal.url} was changed before it was merged: Git now has {what}.",
                hint="Look at it, then deploy again what should run.",
            )
        return Written(proposal.revision, change.version, change.digest)

    async def hold(self, change: Change, why: str) -> None:
        """Have nobody let the proposal in, if it is open."""
        rule = change.gitops.merge_request
        if rule is not None and (proposal := await self._open(change, rule)) is not None:
            await self._host(rule).hold(project_of(rule, change.repo), proposal, why)

    async def withdraw(self, change: Change) -> None:
        """Close the proposal, if it is open."""
        rule = change.gitops.merge_request
        if rule is not None and (proposal := await self._open(change, rule)) is not None:
            await self._host(rule).close(project_of(rule, change.repo), proposal, source_of(change))

    async def _open(self, change: Change, rule: MergeRequestRule) -> Proposal | None:
        project = project_of(rule, change.repo)
        proposal = await self._host(rule).find(project, source_of(change), change.gitops.branch)
        return proposal if proposal is not None and proposal.state is ProposalState.OPEN else None

    async def remove(self, change: Change) -> Written:
        """See ConfigWriter. Raises ProviderRejected where changes are proposed: there is nothing to review."""
        if change.gitops.merge_request is not None:
            raise ProviderRejected("A version is not taken away by a merge request.", hint="Remove it by hand.")
        return await self._writer.remove(change)

    def _host(self, rule: MergeRequestRule) -> CodeHost:
        host = self._hosts.get(rule.host)
        if host is None:
            names = f"SLIPWAY_{rule.host.upper()}_URL and SLIPWAY_{rule.host.upper()}_TOKEN"
            message = f"`gitops.merge_request` names {rule.host}, which is not set up here."
            raise ProviderRejected(message, hint=f"Set {names}.")
        return host


def source_of(change: Change) -> str:
    """The branch of a proposal: one per intent, so that it is found again."""
    return "slipway/" + re.sub(r"[^A-Za-z0-9-]+", "-", change.intent).strip("-")


def project_of(rule: MergeRequestRule, repo: str) -> str:
    """`group/name` of the repository. Raises ProviderRejected: its address does not tell."""
    if rule.project:
        return rule.project.strip("/")
    scp = None if "://" in repo else _SCP.fullmatch(repo)
    path = scp["path"] if scp is not None else urlsplit(repo).path if "://" in repo else ""
    project = path.strip("/").removesuffix(".git")
    if "/" not in project:
        message = f"{display_address(repo)} does not tell its project on {rule.host}."
        raise ProviderRejected(message, hint="Give it in `gitops.merge_request.project`.")
    return project


def _title(change: Change) -> str:
    return " ".join(change.subject.split())[:200]


def _text(change: Change) -> str:
    """Who and why, as a block of code: nobody is mentioned by it and nothing in it is rendered."""
    rows = [*change.trailers, ("Digest", change.digest), ("Slipway-Intent", change.intent)]
    lines = [f"{name}: {' '.join(value.split())}" for name, value in rows if value]
    return "Proposed by Slipway.\n\n```\n" + "\n".join(lines).replace("`", "'") + "\n```\n"


def _waiting(change: Change, what: str) -> Written:
    return Written("", change.version, change.digest, waiting=what)
