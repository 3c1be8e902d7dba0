"""What keeps `slipway serve` from starting, all of it at once: looked for only when something does."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bot.catalog.model import Catalog
from bot.catalog.problems import CatalogProblems
from bot.errors import SlipwayError
from bot.settings import Settings, read_console_tokens

SETTING = {
    "argocd": "SLIPWAY_ARGOCD_URL with SLIPWAY_ARGOCD_TOKEN, or SLIPWAY_ARGOCD_FILE",
    "kubernetes": "SLIPWAY_KUBECONFIG or SLIPWAY_KUBERNETES_IN_CLUSTER",
    "jenkins": "SLIPWAY_JENKINS_URL with SLIPWAY_JENKINS_USER and SLIPWAY_JENKINS_TOKEN",
}
"""Provider -> what sets it up; the others have an address and a token of their name."""


class NotSetUp(SlipwayError):
    """It cannot start; the message has a line for everything that is missing or wrong."""


def refuse_if_half(settings: Settings, catalog: Catalog, pipelines: set[str], deliveries: set[str]) -> None:
    """Refuse a catalog that needs what is not set up here. pipelines, deliveries: what is. Raises NotSetUp."""
    missing = list(_unset(catalog, pipelines, deliveries)) + list(_console(settings))
    if missing:
        raise not_set_up(missing)


def everything(settings: Settings, error: SlipwayError) -> NotSetUp:
    """The error that ended the start, and whatever else would have ended it next."""
    found = [line for check in (_catalog, _pipelines, _argocd, _console) for line in check(settings)]
    known = error.sentence()
    is_told = isinstance(error, CatalogProblems) or known in found
    return not_set_up(found if is_told else [known, *found])


def not_set_up(lines: list[str]) -> NotSetUp:
    """As one error; a single line stays a sentence."""
    lines = list(dict.fromkeys(lines))
    if len(lines) == 1:
        return NotSetUp(lines[0])
    return NotSetUp(
        "Slipway cannot start; all of this has to be put right:\n" + "\n".join(f"  - {one}" for one in lines)
    )


def _catalog(settings: Settings) -> Iterator[str]:
    from bot.catalog.load import load_catalog
    from bot.providers import known_here

    try:
        load_catalog(settings.config, known_here())
    except CatalogProblems as error:
        yield from (str(problem) for problem in error.problems)
    except SlipwayError as error:
        yield error.sentence()


def _pipelines(settings: Settings) -> Iterator[str]:
    from bot.pipelines.outside import incomplete

    return incomplete(settings)


def _argocd(settings: Settings) -> Iterator[str]:
    from bot.delivery.argocd_settings import argo_servers

    yield from _told(lambda: argo_servers(settings))


def _console(settings: Settings) -> Iterator[str]:
    path = settings.console_tokens_file
    if not settings.console or settings.console_open:
        return
    if path is None:
        yield "SLIPWAY_CONSOLE is on and SLIPWAY_CONSOLE_TOKENS_FILE is missing: nobody could log in"
    else:
        yield from _told(lambda: read_console_tokens(path))


def _told(check: Callable[[], object]) -> Iterator[str]:
    try:
        check()
    except SlipwayError as error:
        yield error.sentence()


def _unset(catalog: Catalog, pipelines: set[str], deliveries: set[str]) -> Iterator[str]:
    """Each provider once, with a service that needs it."""
    targets = [target for service in catalog.services.values() for target in service.targets.values()]
    for what, known, used in (
        ("pipeline", pipelines, {one.pipeline.provider: one for one in reversed(targets)}),
        ("delivery", deliveries, {one.delivery.provider: one for one in reversed(targets)}),
    ):
        for name in sorted(used.keys() - known):
            setting = SETTING.get(name, f"SLIPWAY_{name.upper()}_URL and SLIPWAY_{name.upper()}_TOKEN")
            example = f"{used[name].service} in {used[name].environment}"
            yield f"{example} needs the {what} provider '{name}', which is not set up: set {setting}"
