"""What changed from one catalog to the next, in a sentence for the audit log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bot.catalog.model import Catalog

NAMED = ("environments", "teams", "people", "services", "groups", "calendars", "periodics")
LISTED = ("windows", "freezes", "emergency", "approvals", "delegations")
SINGLE = ("admins", "release_managers", "channels", "locale", "zone")
MOST = 8


def changes(old: Catalog | None, new: Catalog) -> str:
    """`services: +gate ~pay -old; windows: ~release-days`, or what it is when there was none before."""
    if old is None:
        return f"{len(new.services)} services, {len(new.people)} people, {len(new.environments)} environments"
    return "; ".join(_sections(old, new)) or "nothing that counts"


def _sections(old: Catalog, new: Catalog) -> Iterator[str]:
    for section in NAMED:
        yield from _told(section, getattr(old, section), getattr(new, section))
    for section in LISTED:
        before, after = ({_name(one): one for one in getattr(each, section, ())} for each in (old, new))
        yield from _told(section, before, after)
    yield from (f"{name} changed" for name in SINGLE if getattr(old, name) != getattr(new, name))


def _name(rule: object) -> str:
    return str(getattr(rule, "name", "") or getattr(rule, "person", ""))


def _told(section: str, old: Mapping[str, object], new: Mapping[str, object]) -> Iterator[str]:
    marks = [f"+{name}" for name in new if name not in old]
    marks += [f"-{name}" for name in old if name not in new]
    marks += [f"~{name}" for name in new if name in old and old[name] != new[name]]
    if marks:
        more = f" and {len(marks) - MOST} more" if len(marks) > MOST else ""
        yield f"{section}: {' '.join(marks[:MOST])}{more}"
