"""A typed name to what it means. Case does not matter; anything else is never guessed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn, TypeVar

from bot.catalog import messages
from bot.catalog.model import Catalog, Environment, Person, Service, Team
from bot.errors import BadInput

T = TypeVar("T")


def find_service(catalog: Catalog, name: str) -> Service:
    """The service of that name. Raises BadInput with the nearest names."""
    return _find("service", name, catalog.services)


def find_environment(catalog: Catalog, name: str) -> Environment:
    """The environment of that name. Raises BadInput with the nearest names."""
    return _find("environment", name, catalog.environments)


def find_team(catalog: Catalog, name: str) -> Team:
    """The team of that id. Raises BadInput with the nearest names."""
    return _find("team", name, catalog.teams)


def find_person(catalog: Catalog, name: str) -> Person:
    """The person with that id or e-mail address, active or not. Raises BadInput with the nearest names."""
    by_email = catalog.by_email.get(name.strip().casefold())
    return by_email if by_email is not None else _find("person", name, catalog.people)


def _find(what: str, name: str, known: Mapping[str, T]) -> T:
    wanted = name.strip()
    found = known.get(wanted)
    if found is not None:
        return found
    same = [one for one in known if one.casefold() == wanted.casefold()]
    if len(same) == 1:
        return known[same[0]]
    _refuse(what, wanted, known)


def _refuse(what: str, name: str, known: Mapping[str, T]) -> NoReturn:
    shown = name if len(name) <= 100 else f"{name[:99]}…"
    near = messages.nearest(shown, known)
    message = f"There is no {what} '{shown}'."
    if near:
        raise BadInput(f"{message} Did you mean {messages.listed(near)}?", hint="Type the name as it is written.")
    raise BadInput(message, hint=f"Known: {messages.listed(known, 'and')}." if known else "None is defined.")
