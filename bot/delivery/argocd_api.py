"""Argo CD's REST interface as far as we use it: requests, errors, and the stream of applications.

Source: argoproj/argo-cd v3.5.1 server/server.go, server/application/application.proto, and grpc-gateway v1
runtime/errors.go for the error envelope, in which HTTP 400 and 403 are told apart only by `code` and `message`.
"""

from __future__ import annotations

import asyncio
import json
import random
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import structlog
from pydantic import SecretStr
from pydantic_core import from_json
from yarl import URL

from bot import fence, logs
from bot.delivery.argocd_model import Application, Json, parse_application
from bot.errors import OutcomeUnknown, ProviderError, ProviderRejected, ProviderUnavailable

log = structlog.get_logger(__name__)

TIMEOUT = 10.0
"""Seconds for an answer."""
REFRESH_TIMEOUT = 90.0
"""Seconds for `refresh=normal`, which holds the request until the application was compared."""
SILENCE = 45.0
"""Seconds without a byte after which a stream is dead; Argo CD sends a sign of life every 15 s."""

IDLE_SECONDS = 600.0
"""After which an application that nobody asks about is forgotten; looked for every so often:"""
TIDY_SECONDS = 60.0

FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.resourceVersion",
    "spec.syncPolicy",
    "spec.sources",
    "operation",
    "status.operationState",
    "status.sync.status",
    "status.sync.revision",
    "status.sync.revisions",
    "status.health",
    "status.reconciledAt",
    "status.conditions",
    "status.resources",
    "status.summary",
)
"""What the stream is thinned to; identical events in a row are then not sent at all."""


@dataclass(frozen=True, slots=True)
class ArgoServer:
    """One Argo CD. url: with its root path, if it has one. token, or username and password; ca_file: PEM."""

    url: str
    token: SecretStr | None = None
    token_file: Path | None = None
    username: str = ""
    password: SecretStr | None = None
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True)
class AppRef:
    """One application of one Argo CD. namespace: empty for Argo CD's own."""

    server: str
    project: str
    name: str
    namespace: str = ""

    @property
    def query(self) -> dict[str, str]:
        """With the project where it is known: without it a missing application looks like a missing right."""
        scope = {"project": self.project, "appNamespace": self.namespace}
        return {name: value for name, value in scope.items() if value}


class Busy(ProviderUnavailable):
    """Another operation is in place, or a sync window is closed: not now, but later by itself."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came back, whole."""

    status: int
    body: bytes

    def json(self) -> Any:
        """Raises ValueError: it is none."""
        return from_json(self.body)

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")


class ArgoApi:
    """One Argo CD over HTTP. `close()` ends its connections."""

    def __init__(self, name: str, server: ArgoServer) -> None:
        """Remember the address; nothing is asked yet."""
        self.name = name
        self._server = server
        self._session = ""
        self._login = asyncio.Lock()
        self._verify = ssl.create_default_context(cafile=str(server.ca_file)) if server.ca_file else True
        self._open: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """End all connections."""
        if self._open is not None:
            await self._open.close()

    @property
    def _http(self) -> aiohttp.ClientSession:
        """Its connections, from the first request on: they belong to the loop that is running then."""
        if self._open is None:
            connector = aiohttp.TCPConnector(limit=32, ssl=self._verify)
            self._open = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._open

    def _url(self, path: str) -> URL:
        return URL(self._server.url.rstrip("/") + path, encoded=True)

    # --- who we are

    async def who(self) -> str:
        """The account or project role of the token, empty if Argo CD does not know it."""
        body = await self._ask("GET", "/api/v1/session/userinfo")
        return str(body.get("username") or "") if body.get("loggedIn") else ""

    async def version(self) -> str:
        """Such as `v3.5.1+109ca7c`."""
        return str((await self._ask("GET", "/api/version")).get("Version") or "")

    async def may(self, app: AppRef, action: str) -> bool:
        """Whether the token may do that to the application."""
        where = "/".join(quote(part, safe="") for part in ("applications", action, app.project, app.name))
        return (await self._ask("GET", f"/api/v1/account/can-i/{where}")).get("value") == "yes"

    # --- applications

    async def get(self, app: AppRef, *, refresh: bool = False) -> Application | None:
        """The application as it is, None if it does not exist. Raises ProviderRejected, ProviderUnavailable."""
        query = app.query | ({"refresh": "normal"} if refresh else {})
        timeout = REFRESH_TIMEOUT if refresh else None
        try:
            body = await self._ask("GET", _path(app), params=query, timeout=timeout)
        except _NotFound:
            return None
        return _application(body)

    async def sync(self, app: AppRef, body: Mapping[str, object]) -> Application:
        """Start a sync. Raises Busy, ProviderRejected, ProviderUnavailable, OutcomeUnknown."""
        return _application(await self._ask("POST", f"{_path(app)}/sync", body=_scoped(app, body)))

    async def terminate(self, app: AppRef) -> None:
        """Ask the operation in place to end; none in place is fine. What is applied stays."""
        try:
            await self._ask("DELETE", f"{_path(app)}/operation", params=app.query)
        except ProviderRejected as error:
            if "No operation is in progress" not in error.message:
                raise

    async def sync_windows(self, app: AppRef) -> Json:
        """`canSync`, as for a manual sync, and the windows that are active or assigned."""
        return await self._ask("GET", f"{_path(app)}/syncwindows", params=app.query)

    async def windows(self, project: str) -> list[Json]:
        """The sync windows of a project, as they are written there, those of its global projects too."""
        body = await self._ask("GET", f"/api/v1/projects/{quote(project, safe='')}/detailed")
        projects = [body.get("project") or {}, *(body.get("globalProjects") or [])]
        return [window for one in projects for window in (one.get("spec") or {}).get("syncWindows") or []]

    async def destination(self, app: AppRef) -> Json:
        """Where an application goes: `name` or `server` of the cluster, and `namespace`."""
        body = await self._ask("GET", _path(app), params=app.query)
        found = (body.get("spec") or {}).get("destination")
        return found if isinstance(found, dict) else {}

    async def tree(self, app: AppRef) -> Json:
        """All live resources below the application, pods too."""
        return await self._ask("GET", f"{_path(app)}/resource-tree", params=app.query)

    async def resource(self, app: AppRef, node: Json) -> Json:
        """One live manifest."""
        body = await self._ask("GET", f"{_path(app)}/resource", params=app.query | _node(node))
        try:
            manifest = json.loads(body.get("manifest") or "{}")
        except ValueError:
            manifest = {}
        return manifest if isinstance(manifest, dict) else {}

    async def events(self, app: AppRef, node: Json) -> Json:
        """Kubernetes events of one resource."""
        which = {
            "resourceNamespace": str(node.get("namespace") or ""),
            "resourceName": str(node.get("name") or ""),
            "resourceUID": str(node.get("uid") or ""),
        }
        return await self._ask("GET", f"{_path(app)}/events", params=app.query | which)

    async def pod_log(self, app: AppRef, node: Json, container: str, *, previous: bool) -> list[str]:
        """The last 50 lines of one container; empty if there are none."""
        which = {
            "namespace": str(node.get("namespace") or ""),
            "podName": str(node.get("name") or ""),
            "container": container,
            "tailLines": "50",
            "follow": "false",
        } | ({"previous": "true"} if previous else {})
        response = await self._send("GET", f"{_path(app)}/logs", params=app.query | which)
        return [line for line in map(_log_line, response.text.splitlines()) if line]

    async def act(self, app: AppRef, key: Json, action: str) -> None:
        """Run a resource action, such as a Rollout's `resume`.

        The v1 call with a bare JSON string is understood by every version; v2 is there since 3.1 only.
        """
        await self._ask(
            "POST", f"{_path(app)}/resource/actions", params=app.query | _node(key), content=json.dumps(action)
        )

    async def stream(
        self, version: int, wanted: Callable[[str, str], bool] = lambda namespace, name: True
    ) -> AsyncIterator[Application | None]:
        """Changes of wanted applications after that resource version, until the link breaks; first None: it is open.

        Raises ProviderError when it does: reconnect, and look at everything once, for there is no resume.
        """
        params = {"resourceVersion": str(version), "fields": ",".join(["result.type", *_stream_fields()])}
        headers = {**await self._headers(), "Accept": "text/event-stream"}
        url = self._url("/api/v1/stream/applications")
        try:
            async with self._http.get(
                url, params=params, headers=headers, timeout=_within(SILENCE), allow_redirects=False
            ) as response:
                if response.status != 200:
                    raise self._error(_Answer(response.status, await response.read()), writing=False)
                yield None
                async for line in _lines(response.content):
                    found = _stream_event(line, wanted)
                    if found is not None:
                        yield found
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._lost(error, writing=False) from error

    # --- one request

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
        content: str | None = None,
        timeout: float | None = None,
    ) -> Json:
        text = json.dumps(body) if body is not None else content
        response = await self._send(method, path, params=params, content=text, timeout=timeout)
        try:
            answer = response.json()
        except ValueError:
            raise self._odd(method) from None
        if not isinstance(answer, dict):
            raise self._odd(method)
        return answer

    async def _send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        content: str | None = None,
        timeout: float | None = None,
    ) -> _Answer:
        response = await self._once(method, path, params, content, timeout)
        if response.status == 401 and self._server.password is not None:
            self._session = ""  # A session lives for a day, and its renewal comes in a cookie we do not keep.
            response = await self._once(method, path, params, content, timeout)
        if response.status >= 300:
            raise self._error(response, writing=method != "GET")
        return response

    async def _once(
        self, method: str, path: str, params: Mapping[str, str] | None, content: str | None, timeout: float | None
    ) -> _Answer:
        headers = await self._headers()
        if method != "GET":
            headers["Content-Type"] = "application/json"  # Exactly so, on a DELETE without a body too.
        return await self._exchange(method, path, params, content, headers, timeout or TIMEOUT, writing=method != "GET")

    async def _exchange(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        content: str | None,
        headers: Mapping[str, str],
        timeout: float,
        *,
        writing: bool,
    ) -> _Answer:
        """writing: whether it may have changed something if no answer comes."""
        data = content.encode() if content is not None else None
        if writing:
            fence.check()
        try:
            async with self._http.request(
                method,
                self._url(path),
                params=params,
                data=data,
                headers=headers,
                timeout=_within(timeout),
                allow_redirects=False,
            ) as response:
                return _Answer(response.status, await response.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._lost(error, writing=writing) from error

    async def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {await self._token()}"}

    async def _token(self) -> str:
        server = self._server
        if server.token_file is not None:  # Read each time: it is rotated under us.
            try:
                return server.token_file.read_text(encoding="utf-8").strip()
            except OSError as error:
                message = f"The token file of Argo CD {self.name!r} cannot be read: {error.strerror}."
                raise ProviderUnavailable(message, hint="Correct its path or its rights.") from None
        if server.token is not None:
            return server.token.get_secret_value()
        async with self._login:
            if not self._session:
                self._session = await self._new_session()
            return self._session

    async def _new_session(self) -> str:
        password = self._server.password.get_secret_value() if self._server.password is not None else ""
        body = json.dumps({"username": self._server.username, "password": password})
        kind = {"Content-Type": "application/json"}
        response = await self._exchange("POST", "/api/v1/session", None, body, kind, TIMEOUT, writing=False)
        if response.status != 200:
            raise self._error(response, writing=False)
        return str(response.json().get("token") or "")

    # --- errors

    def _lost(self, error: Exception, *, writing: bool) -> ProviderError:
        reason = type(error).__name__
        never_sent = isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError))
        if writing and not never_sent:
            message = f"Argo CD {self.name!r} did not answer ({reason}); what it did is looked up."
            return OutcomeUnknown(message, hint="Nothing to do.")
        message = f"Argo CD {self.name!r} is not reached ({reason})."
        return ProviderUnavailable(message, hint="It is asked again by itself; check its address if this lasts.")

    def _odd(self, method: str) -> ProviderError:
        message = f"Argo CD {self.name!r} answers with something that is not JSON."
        hint = "Check that its address is Argo CD's and not a login page's."
        return ProviderUnavailable(message, hint=hint) if method == "GET" else OutcomeUnknown(message, hint=hint)

    def _error(self, response: _Answer, *, writing: bool) -> ProviderError:
        """Our error for a failed answer. The envelope's `code` is gRPC's; plain text comes from the gateway itself."""
        code, text = _envelope(response)
        text = logs.redact(logs.clean(text))[:300]
        status = response.status
        said = f"Argo CD {self.name!r} says: {text or f'HTTP {status}'}".rstrip(".") + "."
        if "operation is already in progress" in text or "blocked by sync window" in text:
            return Busy(said, hint="It is tried again by itself.")
        if status == 401:
            return ProviderUnavailable(said, hint="Give Slipway a token that Argo CD accepts.")
        if status == 404:
            return _NotFound(said, hint="Check `delivery.options` of the service: application and project.")
        if status == 429 or (status in (409, 502, 503, 504) and not (writing and status != 409)):
            return ProviderUnavailable(said, hint="It is asked again by itself.")
        if status >= 500:
            kind = OutcomeUnknown if writing else ProviderUnavailable
            return kind(said, hint="It is looked up before anything else is done.")
        if code == 7:
            return ProviderRejected(said, hint="Give Slipway's Argo CD account or project role that right.")
        return ProviderRejected(said, hint="Correct it in Argo CD or in `delivery.options`, then deploy again.")


class _NotFound(ProviderRejected):
    """There is no such application."""


@dataclass(slots=True)
class _Seen:
    """An application and when (monotonic seconds) it was seen."""

    app: Application
    at: float


@dataclass(slots=True)
class Follower:
    """What is known of one Argo CD's applications: its stream, with a slow poll behind it that finds what was missed.

    With a live link an application is asked for once, then at most every `slow` seconds; without one every `fast`.
    """

    api: ArgoApi
    fast: float = 1.0
    slow: float = 60.0
    changed: Callable[[tuple[str, str]], None] = lambda key: None
    now: Callable[[], float] = field(default_factory=lambda: asyncio.get_running_loop().time)
    _seen: dict[tuple[str, str], _Seen] = field(default_factory=dict)
    _task: asyncio.Task[None] | None = None
    _live_since: float | None = None
    _wanted: dict[tuple[str, str], float] = field(default_factory=dict)
    _tidied_at: float = 0.0

    async def look(self, ref: AppRef) -> Application | None:
        """The application, from the stream if that is alive. Raises as `ArgoApi.get`."""
        key = (ref.namespace, ref.name)
        self._wanted[key] = self.now()
        if self.now() - self._tidied_at > TIDY_SECONDS:
            self._forget_old()
        seen = self._seen.get(key)
        if seen is not None and self._is_good(seen):
            return seen.app
        return await self.fetch(ref)

    @property
    def is_live(self) -> bool:
        """Whether the stream tells of changes now."""
        return self._live_since is not None

    async def fetch(self, ref: AppRef, *, refresh: bool = False) -> Application | None:
        """Ask now. refresh: have it compared with Git first."""
        app = await self.api.get(ref, refresh=refresh)
        if app is None:
            self._seen.pop((ref.namespace, ref.name), None)
            return None
        self.keep(ref, app)
        self._begin(app.version)
        return app

    def keep(self, ref: AppRef, app: Application) -> None:
        """Remember it, unless something newer is known."""
        key = (ref.namespace, ref.name)
        known = self._seen.get(key)
        if known is None or app.version >= known.app.version:
            self._seen[key] = _Seen(app, self.now())
        else:
            known.at = self.now()

    def _is_good(self, seen: _Seen) -> bool:
        age = self.now() - seen.at
        if self._live_since is None:
            return age < self.fast
        return seen.at >= self._live_since and age < self.slow

    def _begin(self, version: int) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._follow(version), name=f"argocd-{self.api.name}")

    async def close(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.api.close()

    async def _follow(self, version: int) -> None:
        """Read the stream for ever; a broken link is made again after a short, growing pause."""
        failures = 0
        while True:
            began = self.now()
            try:
                async for app in self.api.stream(version, self._is_wanted):
                    self._live_since = self._live_since or self.now()
                    if app is not None:
                        version = max(version, app.version)
                        self._heard(app)
            except ProviderError as error:
                log.info("argocd_stream_lost", server=self.api.name, error=error.message)
            except (ValueError, TypeError, AttributeError, KeyError):
                log.warning("argocd_stream_odd", server=self.api.name)
            self._live_since = None
            self._forget_old()
            failures = 0 if self.now() - began > 10 else failures + 1
            await asyncio.sleep(min(30.0, 0.5 * 2**failures) * random.uniform(0.5, 1.0))  # noqa: S311

    def _heard(self, app: Application) -> None:
        """Keep what somebody asked for; the others are none of our business."""
        for key in ((app.namespace, app.name), ("", app.name)):
            known = self._seen.get(key)
            if known is not None and known.app.namespace == app.namespace and app.version >= known.app.version:
                self._seen[key] = _Seen(app, self.now())
                self.changed(key)

    def _is_wanted(self, namespace: str, name: str) -> bool:
        return (namespace, name) in self._seen or ("", name) in self._seen

    def _forget_old(self) -> None:
        """A link may live for weeks: what nobody asks about any more must not fill the memory."""
        self._tidied_at = self.now()
        self._wanted = {key: at for key, at in self._wanted.items() if self.now() - at <= IDLE_SECONDS}
        self._seen = {
            key: seen
            for key, seen in self._seen.items()
            if key in self._wanted or seen.at >= self._tidied_at - TIDY_SECONDS
        }


def _path(app: AppRef) -> str:
    return f"/api/v1/applications/{quote(app.name, safe='')}"


def _scoped(app: AppRef, body: Mapping[str, object]) -> dict[str, object]:
    scope = {"name": app.name, "project": app.project}
    return scope | ({"appNamespace": app.namespace} if app.namespace else {}) | dict(body)


def _node(node: Json) -> dict[str, str]:
    names = {"namespace": "namespace", "name": "resourceName", "version": "version", "group": "group", "kind": "kind"}
    return {query: str(node.get(name) or "") for name, query in names.items()}


def _application(body: Json) -> Application:
    try:
        return parse_application(body)
    except (KeyError, ValueError, TypeError, AttributeError):
        message = "Argo CD answers with an application that cannot be read."
        raise ProviderUnavailable(message, hint="Check that its version is 2.14 or newer.") from None


def _envelope(response: _Answer) -> tuple[int, str]:
    try:
        body = response.json()
        return int(body.get("code") or 0), str(body.get("message") or body.get("error") or "")
    except (ValueError, AttributeError, TypeError):
        return 0, response.text[:200]


def _stream_fields() -> list[str]:
    return [f"result.application.{name}" for name in FIELDS]


def _within(silence: float) -> aiohttp.ClientTimeout:
    """Seconds without a byte; five to get a connection."""
    return aiohttp.ClientTimeout(total=None, connect=5.0, sock_connect=10.0, sock_read=silence)


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length: one event may be a megabyte, which `readline` refuses."""
    rest = b""
    async for chunk in content.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line


def _stream_event(line: bytes, wanted: Callable[[str, str], bool]) -> Application | None:
    """One line of server-sent events; None for a sign of life, an empty line, or an application nobody asks about."""
    if not line.startswith(b"data:"):
        return None
    message = from_json(line[5:])
    if "error" in message:
        raise ProviderUnavailable("Argo CD has ended its stream.", hint="It is opened again by itself.")
    result: Any = message.get("result") or {}
    if result.get("type") == "DELETED" or "application" not in result:
        return None
    metadata = result["application"]["metadata"]
    if not wanted(str(metadata.get("namespace") or ""), str(metadata["name"])):
        return None  # Most of a large Argo CD's are: they are not even read.
    return parse_application(result["application"])


def _log_line(line: str) -> str:
    try:
        result = json.loads(line).get("result") or {}
    except (ValueError, AttributeError):
        return ""
    # What the kubelet could not do comes as a line without a pod, and is no line of the service.
    return "" if result.get("last") or not result.get("podName") else str(result.get("content") or "")
