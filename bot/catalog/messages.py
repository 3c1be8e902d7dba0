"""The catalog's sentences, each made in one place, and the choice of names nearest to a wrong one."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

MOST_NAMED = 8
"""How many allowed names a sentence lists; more would hide the point."""
CLOSE_ENOUGH = 0.6
CANDIDATES = 50
"""How many names get the exact, slow comparison: over 5,000 names the exact one for all takes a quarter of a second."""


def nearest(name: str, choices: Iterable[str], most: int = 3) -> tuple[str, ...]:
    """The choices most like a name, best first; none if nothing is near."""
    wanted = name.casefold()
    rough = sorted(((_rough(wanted, one.casefold()), one) for one in choices), reverse=True)[:CANDIDATES]
    exact = sorted(((_exact(wanted, one.casefold()), one) for _, one in rough), key=lambda pair: (-pair[0], pair[1]))
    return tuple(one for score, one in exact if score >= CLOSE_ENOUGH)[:most]


def _rough(wanted: str, name: str) -> float:
    """Shared pairs of letters, in relation to all: cheap, and keeps whatever the exact comparison could like."""
    pairs, others = _pairs(wanted), _pairs(name)
    return 2 * len(pairs & others) / (len(pairs) + len(others))


def _pairs(word: str) -> set[str]:
    padded = f" {word} "
    return {padded[at : at + 2] for at in range(len(padded) - 1)}


def _exact(wanted: str, name: str) -> float:
    if _is_like(wanted, name):
        return 1.0
    return difflib.SequenceMatcher(None, wanted, name).ratio()


def _is_like(typed: str, known: str) -> bool:
    """`prod` for `production`, `production` for `prod`, `gateway` for `pay-gateway`."""
    starts = len(typed) > 1 and (known.startswith(typed) or typed in known.split("-"))
    return starts or (len(known) > 2 and typed.startswith(known))


def listed(names: Iterable[str], joint: str = "or") -> str:
    """`a`, `a or b`, `a, b or c`; more than a few are counted."""
    known = list(names)
    if len(known) > MOST_NAMED:
        known = [*known[: MOST_NAMED - 1], f"{len(known) - MOST_NAMED + 1} more"]
        joint = "and"
    return known[0] if len(known) == 1 else f"{', '.join(known[:-1])} {joint} {known[-1]}" if known else "none"


def choose(name: str, choices: Collection[str]) -> str:
    """What to write instead: the nearest names, or all that are allowed."""
    near = nearest(name, choices)
    if near:
        return f"Did you mean {listed(near)}?"
    return f"Known: {listed(choices, 'and')}." if choices else "None is defined."


def unknown(what: str, name: str, choices: Collection[str]) -> str:
    """`There is no team 'shpo'. Did you mean shop?`."""
    return f"There is no {what} '{name}'. {choose(name, choices)}"


def not_allowed(name: str, choices: Collection[str]) -> str:
    """A value that is none of a closed list."""
    return f"'{name}' is not allowed here. {choose(name, choices)}"


def no_such_field(name: str, choices: Collection[str]) -> str:
    """A key that means nothing there."""
    return f"There is no field '{name}' here. {choose(name, choices)}"


def missing(field: str) -> str:
    """A field that must be written."""
    return f"'{field}' is missing; add it."


def key_twice(key: str, first_line: int) -> str:
    """The same key twice in one mapping; YAML would silently take the last."""
    return f"'{key}' is written twice, first in line {first_line}; remove one."


def defined_twice(what: str, name: str, other: str) -> str:
    """The same thing in two places; other: `file:line` of the first."""
    return f"The {what} '{name}' is already defined in {other}; remove one."


def section_twice(section: str, other: str) -> str:
    """One section in two files; other: `file:line` of the first."""
    return f"The section '{section}' is already in {other}; keep it in one file."


def differs_in_case(what: str, name: str, other: str, where: str) -> str:
    """Two names that people could not tell apart."""
    return f"The {what} '{name}' differs from '{other}' ({where}) only in upper and lower case; rename one."


def taken(what: str, value: str, other: str) -> str:
    """An account or address that belongs to somebody else."""
    return f"{what} '{value}' belongs to '{other}' already; an account is one person's."


def not_yaml(reason: str) -> str:
    """A syntax error."""
    return f"This is not valid YAML: {reason}; correct it."


def tab() -> str:
    """A tab used for indentation."""
    return "A tab is used for indentation, which YAML does not allow; use spaces."


def tagged(tag: str) -> str:
    """A YAML tag."""
    return f"The YAML tag '{tag}' is not used here; write the plain value."


def too_deep(most: int) -> str:
    """Nested out of all proportion."""
    return f"This is nested more than {most} levels deep; flatten it."


def too_large(what: str, most: int) -> str:
    """A file out of all proportion."""
    return f"This has more than {most:,} {what}; split it."


def not_a_key() -> str:
    """A list or mapping as a key."""
    return "A key must be a plain word."


def not_a_mapping(what: str) -> str:
    """Something else where names and their values belong."""
    return f"{what} must be a mapping such as `name: value`."


def not_a_list(what: str) -> str:
    """Something else where a list belongs."""
    return f"{what} must be a list, each entry on a line that starts with `-`."


def unreadable(reason: str) -> str:
    """A file the system does not let us read."""
    return f"This cannot be read ({reason}); correct its permissions or remove it."


def not_utf8() -> str:
    """Another encoding."""
    return "This is not UTF-8 text; save it as UTF-8."


def wrong_ending(name: str) -> str:
    """A `.yml` file, which would silently be left out."""
    return f"Files of the catalog end in .yaml; rename {name}, or move it out of this directory."


def no_directory() -> str:
    """The directory is not there."""
    return "There is no such directory; name the catalog's directory."


def nothing_here() -> str:
    """No catalog in the directory."""
    return "There is no catalog here: no *.yaml file and no services folder."


def no_environments() -> str:
    """Nothing to deploy to."""
    return "No environment is defined; add a section such as `environments: {prod: {branch: main, protected: true}}`."


def no_owner(team: str) -> str:
    """A service that nobody answers for."""
    return f"Nobody owns this service: name owners, or leads of the team '{team}'."


def no_repository() -> str:
    """A service without source."""
    return "'repo' is missing: give it here, or a pattern such as `repo: group/{service}` in defaults."


def no_configuration_repository() -> str:
    """A service whose version can be written nowhere."""
    return "'gitops.repo' is missing, so versions can be written nowhere: give it here or in defaults."


def repository_per_environment() -> str:
    """`{environment}` in `repo`."""
    return "'repo' is one for all environments and cannot contain {environment}; remove it."


def same_place(one: str, other: str, place: str) -> str:
    """Two targets would overwrite each other's version."""
    return f"{one} and {other} both write to {place}; put {{service}} and {{environment}} into gitops.path."


def needs_in_circle(names: Collection[str]) -> str:
    """Services need each other."""
    return f"they need each other in a circle: {' -> '.join(names)}"


def and_more(text: str, count: int) -> str:
    """The same problem in many services, told once."""
    return f"{text} ({count:,} more services have the same problem.)"


def matches_nothing(what: str, pattern: str, choices: Collection[str]) -> str:
    """A rule about something that is not there would silently never apply."""
    return f"No {what} is '{pattern}', so this rule would not apply. {choose(pattern, choices)}"


def label_without_value(pattern: str) -> str:
    """A label pattern that is no `key=value`."""
    return f"'{pattern}' is not a label; write key=value, for instance tier=gold."


def few_approvers(name: str, count: int, found: int, service: str) -> str:
    """An emergency rule that could never be fulfilled."""
    who = "nobody is" if found == 0 else f"only {found} {'person is' if found == 1 else 'people are'}"
    return f"The rule '{name}' needs {count} to approve, but {who} eligible for {service}; name more roles or people."


def ends_before_start() -> str:
    """A freeze that never holds."""
    return "'until' must be after 'from'; correct one of them."


def bad_name() -> str:
    """A name that could not be used in paths and commands."""
    return (
        "A name has letters, digits, '.', '_' and '-', starts with a letter or digit, and has at most 100 characters."
    )


def bad_duration() -> str:
    """Not a length of time."""
    return "must be a time such as 500ms, 30s, 10m, 1h30m or 2d"


def bad_instant() -> str:
    """Not a date."""
    return "must be a date such as 2026-11-09 or 2026-11-09T18:00"


def bad_days(word: str, choices: Collection[str]) -> str:
    """Not days of the week."""
    return f"has no day '{word}'; {choose(word, choices)} Write days such as [tue, thu], mon-fri, daily or weekend"


def bad_hours() -> str:
    """Not hours of a day."""
    return 'must be hours such as "10:00-18:00", "22:00-02:00" (overnight) or "00:00-24:00" (the whole day)'


def empty_hours(text: str) -> str:
    """A window that never opens."""
    return f"'{text}' is empty; write \"00:00-24:00\" for the whole day"


def bad_path() -> str:
    """A path that could leave the repository."""
    return "must be a path inside the repository, without a leading / and without .."


def password_in_address() -> str:
    """A secret in the catalog; it is never repeated."""
    return "contains a password or token; remove it and give Slipway the credentials by its environment"


def bad_email() -> str:
    """Not an e-mail address."""
    return "must be an e-mail address such as owner@example.com"


def bad_locale() -> str:
    """Not a language."""
    return "must be a language such as en or zh-CN"


def nothing_to_approve() -> str:
    """Approvers without anybody."""
    return "must name roles or people"


def must_be(kind: str) -> str:
    """A value of another type."""
    return f"This must be {kind}."


def sentence(field: str, predicate: str) -> str:
    """A predicate such as `must be …` made into a sentence about the field."""
    subject = f"'{field}'" if field else "This"
    return f"{subject} {predicate}{'' if predicate.endswith(('.', '?')) else '.'}"


def summary(lines: Collection[str], most: int = 3) -> str:
    """Several problems in a few lines of chat: the first ones, and how many more."""
    shown = list(lines)[:most]
    more = len(lines) - len(shown)
    rest = f" And {more} more." if more else ""
    return f"{' '.join(shown)}{rest}"


def bad_cron(why: str) -> str:
    """Not a cron expression."""
    return f"is no cron expression ({why}); write for instance 0 10 * * mon-fri"


def bad_date() -> str:
    """Not a day."""
    return "must be a day such as 2026-11-09"


def cron_and_duration() -> str:
    """One without the other."""
    return "needs both `cron` and `duration`; add the other one"


def cron_or_days() -> str:
    """Two ways of saying when."""
    return "has both `cron` and `days`; write the days into the cron expression"


def calendar_and_on() -> str:
    """One without the other."""
    return "needs both `calendar` and `on` (workdays or holidays); add the other one"


def too_long() -> str:
    """A duration out of all proportion."""
    return "has a `duration` of more than 31 days; write `from` and `until` instead"


def no_time() -> str:
    """A window without a time."""
    return "has no time; write `days`, `cron` with `duration`, `calendar` with `on`, or `from` and `until`"


def no_beginning() -> str:
    """A freeze without a time."""
    return "has no time; write `from`, `days`, `cron` with `duration`, or `calendar` with `on`"


def empty_group() -> str:
    """A group of nobody."""
    return "must name people, chats or shifts"


def person_and_group(name: str) -> str:
    """A name that could mean either."""
    return f"'{name}' is a person too; give the group another name."


def never_opens(name: str) -> str:
    """A window in which nothing could ever be deployed."""
    return f"The window '{name}' does not open within a year; correct its days, dates or calendar."


def circle(people: Collection[str]) -> str:
    """A delegation that comes back to where it began."""
    return f"This delegation goes in a circle ({' -> '.join(people)}), so nobody could approve; name somebody else."


def to_oneself() -> str:
    """A delegation that delegates nothing."""
    return "Nobody can stand in for themselves; name somebody else."


def no_region(region: str, choices: Collection[str]) -> str:
    """A calendar of nowhere."""
    return f"There are no public holidays for '{region}'. {choose(region, choices)}"


def unpublished(year: int, region: str) -> str:
    """A warning: rules will fail closed."""
    return f"The days of {year} are not published for {region}; rules that ask about them keep everything closed then."


def total_too_small(total: int, seats: int) -> str:
    """Fewer people in all than in the seats."""
    return f"'total' is {total}, but the seats alone are {seats}; leave it out or raise it."


def no_approval_possible(name: str, service: str) -> str:
    """An approval rule that could never be fulfilled."""
    return f"Too few different people could approve {service} under '{name}'; name more roles, people or groups."


def handed_up_too_late() -> str:
    """A question that is over before it is handed up."""
    return "is handed up after it has expired; make `after` shorter, or `expires_after` longer"


def bad_team() -> str:
    """Not a team of GitHub."""
    return "must be a team such as organization/team"


def bad_place(level: str, choices: Collection[str]) -> str:
    """Not a group or project of GitLab."""
    if level and level not in choices:
        return f"has no level '{level}'; {choose(level, choices)} Write group/project:developer"
    return "must be a group or project such as group/project, with a level behind it such as :developer"
