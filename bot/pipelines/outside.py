"""Makes the pipelines elsewhere that are set up; nothing of the others is imported."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from bot.clock import Clock, utc_now
from bot.errors import SlipwayError
from bot.pipelines.memory import RunMemory
from bot.pipelines.settings import CiSettings

if TYPE_CHECKING:
    import httpx

    from bot.pipelines.github_auth import AppAuth
    from bot.pipelines.remote import RemotePipeline


@dataclass(frozen=True, slots=True)
class OutsidePipelines:
    """What was made. close: ends their connections."""

    pipelines: dict[str, RemotePipeline]
    closing: tuple[Callable[[], Awaitable[None]], ...]


def outside_pipelines(settings: CiSettings, memory: RunMemory, clock: Clock) -> OutsidePipelines:
    """One pipeline per system with an address.

    Raises:
        SlipwayError: an address without credentials, or credentials that cannot be read.
    """
    makers = _makers()
    made = {name: maker(settings, memory, clock) for name, maker in makers.items() if getattr(settings, f"{name}_url")}
    return OutsidePipelines(
        {name: pipeline for name, (pipeline, _) in made.items()}, tuple(close for _, close in made.values())
    )


def incomplete(settings: CiSettings) -> Iterator[str]:
    """What is missing or unreadable, of every system with an address."""
    memory = cast("RunMemory", None)  # nothing is run
    for name, maker in _makers().items():
        if getattr(settings, f"{name}_url"):
            try:
                maker(settings, memory, utc_now)
            except SlipwayError as error:
                yield error.sentence()


def _makers() -> dict[str, Maker]:
    return {
        "jenkins": _jenkins,
        "gitlab": _gitlab,
        "github": _github,
        "tekton": _tekton,
        "prow": _prow,
        "yunxiao": _yunxiao,
    }


Made = tuple["RemotePipeline", Callable[[], Awaitable[None]]]
Maker = Callable[[CiSettings, RunMemory, Clock], Made]


def _jenkins(settings: CiSettings, memory: RunMemory, clock: Clock) -> Made:
    from bot.pipelines.http import make_client
    from bot.pipelines.jenkins import Jenkins
    from bot.pipelines.remote import RemotePipeline

    token, password = settings.ci_secret("jenkins_token"), settings.ci_secret("jenkins_password")
    if not settings.jenkins_user or not (token or password):
        raise _missing("SLIPWAY_JENKINS_URL", "SLIPWAY_JENKINS_USER and SLIPWAY_JENKINS_TOKEN")
    client = make_client(f"{settings.jenkins_url.rstrip('/')}/", auth=(settings.jenkins_user, token or password))
    return RemotePipeline(Jenkins(client, clock, password=not token), memory, clock), client.aclose


def _gitlab(settings: CiSettings, memory: RunMemory, clock: Clock) -> Made:
    from bot.pipelines.gitlab import GitLab
    from bot.pipelines.remote import RemotePipeline

    client = gitlab_client(settings)
    return RemotePipeline(GitLab(client, clock), memory, clock), client.aclose


def gitlab_client(settings: CiSettings) -> httpx.AsyncClient:
    """A client of the GitLab that is set up. Raises SlipwayError: without a token."""
    from bot.pipelines.http import make_client

    token = settings.ci_secret("gitlab_token")
    if not token:
        raise _missing("SLIPWAY_GITLAB_URL", "SLIPWAY_GITLAB_TOKEN")
    return make_client(f"{settings.gitlab_url.rstrip('/')}/api/v4/", {"PRIVATE-TOKEN": token})


def _github(settings: CiSettings, memory: RunMemory, clock: Clock) -> Made:
    from bot.pipelines.github import GitHub
    from bot.pipelines.remote import RemotePipeline

    client = github_client(settings, clock)
    return RemotePipeline(GitHub(client, clock), memory, clock), client.aclose


def github_client(settings: CiSettings, clock: Clock = utc_now) -> httpx.AsyncClient:
    """A client of the GitHub that is set up, by token or as an App. Raises SlipwayError: without either."""
    from bot.pipelines.http import make_client

    address = settings.github_url.rstrip("/")
    if not address:
        raise _missing("SLIPWAY_GITHUB_DEPLOYMENTS", "SLIPWAY_GITHUB_URL")
    if token := settings.ci_secret("github_token"):
        return make_client(f"{address}/", {"Authorization": f"Bearer {token}"})
    return make_client(f"{address}/", auth=_github_app(settings, address, clock))


def _github_app(settings: CiSettings, address: str, clock: Clock) -> AppAuth:
    from bot.pipelines.github_auth import AppAuth, read_key

    path = settings.github_app_key_file
    if not settings.github_app_id or not settings.github_installation or path is None:
        app = "SLIPWAY_GITHUB_APP_ID, SLIPWAY_GITHUB_INSTALLATION and SLIPWAY_GITHUB_APP_KEY_FILE"
        raise _missing("SLIPWAY_GITHUB_URL", f"SLIPWAY_GITHUB_TOKEN (or, for an App, {app})")
    key = read_key(path, "SLIPWAY_GITHUB_APP_KEY_FILE")
    return AppAuth(address, settings.github_app_id, settings.github_installation, key, clock)


def _tekton(settings: CiSettings, memory: RunMemory, clock: Clock) -> Made:
    from bot.pipelines.remote import RemotePipeline
    from bot.pipelines.tekton import Tekton

    client = cluster_client(settings, "tekton", settings.tekton_url)
    return RemotePipeline(Tekton(client, clock), memory, clock), client.aclose


def _prow(settings: CiSettings, memory: RunMemory, clock: Clock) -> Made:
    from bot.pipelines.http import make_client
    from bot.pipelines.prow import Prow
    from bot.pipelines.remote import RemotePipeline

    token, key = settings.ci_secret("prow_token"), settings.ci_secret("prow_api_key")
    if not (token or key):
        raise _missing("SLIPWAY_PROW_URL", "SLIPWAY_PROW_TOKEN or SLIPWAY_PROW_API_KEY")
    headers = {"Authorization": f"Bearer {token}"} if token else {"x-api-key": key}
    gangway = make_client(f"{settings.prow_url.rstrip('/')}/", headers)
    cluster = cluster_client(settings, "prow_cluster", settings.prow_cluster_url) if settings.prow_cluster_url else None
    deck = make_client(f"{settings.prow_deck_url.rstrip('/')}/") if settings.prow_deck_url else None

    async def close() -> None:
        for client in (gangway, cluster, deck):
            if client is not None:
                await client.aclose()

    return RemotePipeline(Prow(gangway, clock, cluster, deck, settings.prow_namespace), memory, clock), close


def cluster_client(settings: CiSettings, name: str, url: str) -> httpx.AsyncClient:
    """A client of a Kubernetes API, by the settings `{name}_token`, `{name}_token_file` and `{name}_ca_file`."""
    import ssl

    from bot.pipelines.http import FileToken, make_client

    said, path = f"SLIPWAY_{name.upper()}", getattr(settings, f"{name}_ca_file")
    token = settings.ci_secret(f"{name}_token")
    if not token:
        raise _missing(f"{said}_URL", f"{said}_TOKEN or {said}_TOKEN_FILE")
    try:
        trust = ssl.create_default_context(cafile=str(path)) if path is not None else True
    except (OSError, ssl.SSLError):
        raise SlipwayError(f"{said}_CA_FILE holds no certificate.", hint="Name the cluster's CA file.") from None
    address, file = f"{url.rstrip('/')}/", getattr(settings, f"{name}_token_file")
    if getattr(settings, f"{name}_token") is None and file is not None:
        return make_client(address, auth=FileToken(file), verify=trust)
    return make_client(address, {"Authorization": f"Bearer {token}"}, verify=trust)


def _yunxiao(settings: CiSettings, memory: RunMemory, clock: Clock) -> Made:
    from bot.pipelines.remote import RemotePipeline
    from bot.pipelines.yunxiao import Yunxiao

    client = yunxiao_client(settings)
    return RemotePipeline(Yunxiao(client, clock), memory, clock), client.aclose


def yunxiao_client(settings: CiSettings) -> httpx.AsyncClient:
    """A client of the Yunxiao that is set up. Raises SlipwayError: without a token."""
    from bot.pipelines.http import make_client

    token = settings.ci_secret("yunxiao_token")
    if not token:
        raise _missing("SLIPWAY_YUNXIAO_URL", "SLIPWAY_YUNXIAO_TOKEN")
    # A dedicated edition has no organizations in its paths.
    place = f"/organizations/{settings.yunxiao_organization}" if settings.yunxiao_organization else ""
    return make_client(f"{settings.yunxiao_url.rstrip('/')}/oapi/v1/flow{place}/", {"x-yunxiao-token": token})


def _missing(given: str, wanted: str) -> SlipwayError:
    return SlipwayError(f"{given} is set but {wanted} is missing.", hint="Set it, or remove the first.")
