"""Image registries by the OCI distribution API: a digest gets further names, in its repository or in another one.

The manifest is put again byte by byte, so the digest stays; nothing is built and, within one repository, nothing is
copied. A name that says a version is never moved to another image.

Source: opencontainers/distribution-spec v1.1.1 spec.md; distribution/distribution docs/content/spec/auth/token.md. What
docker-registry does besides: an existing OCI manifest is 404 unless `Accept` names its type.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from bot import logs
from bot.errors import ProviderRejected, ProviderUnavailable

INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
ACCEPT = ", ".join(
    (
        INDEXES[0],
        "application/vnd.oci.image.manifest.v1+json",
        INDEXES[1],
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
MANIFEST_LIMIT = 8_000_000
TIMEOUT = httpx.Timeout(60.0, connect=5.0)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_REPOSITORY = re.compile(r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*")
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Repository:
    """`registry.example/shop/pay` without a tag."""

    host: str
    path: str

    def __str__(self) -> str:
        """As people write it."""
        return f"{self.host}/{self.path}"


@dataclass(frozen=True, slots=True)
class _Manifest:
    data: bytes
    kind: str
    digest: str


def parse_repository(image: str) -> Repository:
    """The host and the path. Raises ProviderRejected: the registry's host is missing, or a tag is in it."""
    host, _, path = image.partition("/")
    if not ("." in host or ":" in host or host == "localhost") or not _REPOSITORY.fullmatch(path):
        raise ProviderRejected(
            f"`{image[:100]}` is no image with its registry, such as registry.example.com/shop/pay.",
            hint="Correct `promote` in the catalog; leave tag and digest out.",
        )
    return Repository(host, path)


class Registries:
    """Every registry that the catalog names."""

    name = "registry"

    def __init__(self, auth_file: Path | None = None, insecure: Sequence[str] = (), verify: Any = True) -> None:
        """auth_file: in the form of Docker's config.json, read anew each time. insecure: hosts spoken to in plain."""
        self._auth_file = auth_file
        self._insecure = frozenset(insecure)
        self._http = httpx.AsyncClient(
            timeout=TIMEOUT, follow_redirects=False, trust_env=False, verify=verify, headers={"User-Agent": "slipway"}
        )
        self._tokens: dict[tuple[str, tuple[str, ...]], str] = {}

    async def close(self) -> None:
        """End the connections."""
        await self._http.aclose()

    async def tag(self, image: str, digest: str, tags: Mapping[str, bool], source: str = "") -> None:
        """Give a digest these names. tags: name -> whether it may be moved away from another image.

        source: the repository that has it, if it is another one; then it is copied first. Doing it again changes
        nothing.

        Raises:
            ProviderRejected: the image is not there, a name is another image's, or there is no right.
            ProviderUnavailable: not reached; safe to retry.
        """
        place = parse_repository(image)
        origin = parse_repository(source) if source else place
        if not _DIGEST.fullmatch(digest):
            raise ProviderRejected("The release has no image digest.", hint="Have the pipeline push an image.")
        for name, may_move in tags.items():
            there = await self._digest(place, name)
            if there not in ("", digest) and not may_move:
                raise ProviderRejected(
                    f"{place}:{name} is another image already ({there[:19]}).",
                    hint="Choose another version, or take the old tag away.",
                )
        manifest = await self._manifest(origin, digest)
        if origin != place:
            await self._copy(origin, place, manifest)
        for name in tags:
            await self._put(place, name, manifest)
            # There is no compare-and-set on names: whoever put last has it, so it is read back.
            if await self._digest(place, name) != digest:
                raise ProviderUnavailable(f"{place}:{name} was moved by somebody else at the same moment.")

    async def try_write(self, image: str) -> None:
        """Whether images may be put there: an upload is begun and given up. Raises ProviderError: it may not."""
        place = parse_repository(image)
        begun = await self._call("POST", place, "blobs/uploads/")
        if begun.status_code == 404:
            raise ProviderRejected(f"{place} does not exist.", hint="Create it, or correct `promote.image`.")
        await self._call("DELETE", place, str(begun.request.url.join(begun.headers["Location"])))

    # --- manifests

    async def _digest(self, place: Repository, name: str) -> str:
        """What a name means now, empty if nothing."""
        response = await self._call("HEAD", place, f"manifests/{name}", headers={"Accept": ACCEPT})
        return "" if response.status_code == 404 else response.headers.get("Docker-Content-Digest", "unknown")

    async def _manifest(self, place: Repository, digest: str) -> _Manifest:
        response = await self._call("GET", place, f"manifests/{digest}", headers={"Accept": ACCEPT})
        if response.status_code == 404:
            raise ProviderRejected(
                f"{place} has no image {digest[:19]}.", hint="Have the pipeline push it there, or correct `promote`."
            )
        data = response.content
        if len(data) > MANIFEST_LIMIT or f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
            raise ProviderRejected(f"{place.host} answers {digest[:19]} with something else.", hint="Look at it there.")
        return _Manifest(data, response.headers.get("Content-Type", ""), digest)

    async def _put(self, place: Repository, name: str, manifest: _Manifest) -> None:
        headers = {"Content-Type": manifest.kind}
        response = await self._call("PUT", place, f"manifests/{name}", content=manifest.data, headers=headers)
        if response.status_code == 404:
            raise ProviderRejected(f"{place} does not exist.", hint="Create it, or correct `promote.image`.")

    # --- from one repository to another

    async def _copy(self, origin: Repository, place: Repository, manifest: _Manifest) -> None:
        """What a manifest is made of, then the manifest by its digest; an index with everything below it."""
        body = json.loads(manifest.data)
        for child in body.get("manifests") or ():
            await self._copy(origin, place, await self._manifest(origin, str(child["digest"])))
        blobs = [body["config"]] if "config" in body else []
        for blob in [*blobs, *(body.get("layers") or ())]:
            if not blob.get("urls"):  # A foreign layer lies elsewhere for good.
                await self._copy_blob(origin, place, str(blob["digest"]))
        await self._put(place, manifest.digest, manifest)

    async def _copy_blob(self, origin: Repository, place: Repository, digest: str) -> None:
        if (await self._call("HEAD", place, f"blobs/{digest}")).status_code == 200:
            return
        mount = origin.host == place.host
        query = f"?mount={quote(digest, safe='')}&from={quote(origin.path, safe='')}" if mount else ""
        sources = (origin,) if mount else ()
        begun = await self._call("POST", place, f"blobs/uploads/{query}", also=sources)
        if begun.status_code == 201:
            return
        location = str(begun.request.url.join(begun.headers["Location"]))
        location += f"{'&' if '?' in location else '?'}digest={quote(digest, safe='')}"
        async with self._blob(origin, digest) as (size, pieces):
            headers = {"Content-Type": "application/octet-stream", "Content-Length": size}
            await self._call("PUT", place, location, content=pieces, headers=headers)

    @asynccontextmanager
    async def _blob(self, origin: Repository, digest: str) -> AsyncIterator[tuple[str, AsyncIterator[bytes]]]:
        """The bytes of a blob; a redirect to a storage is followed without our credentials."""
        headers = await self._authorization(origin, (origin,), "pull")
        url = f"{self._base(origin)}blobs/{digest}"
        for _ in range(4):
            with _reached(origin.host):
                async with self._http.stream("GET", url, headers=headers) as response:
                    if response.is_redirect:
                        target = response.request.url.join(response.headers["Location"])
                        headers = headers if target.host == urlsplit(url).hostname else {}
                        url = str(target)
                        continue
                    if response.status_code != 200:
                        raise _refused(origin, response.status_code, "")
                    yield response.headers.get("Content-Length", "0"), response.aiter_raw()
                    return
        raise ProviderRejected(f"{origin.host} sends us in circles.", hint="Look at its storage's settings.")

    # --- HTTP

    async def _call(
        self,
        method: str,
        place: Repository,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | AsyncIterator[bytes] | None = None,
        also: Sequence[Repository] = (),
    ) -> httpx.Response:
        """One answer, 404 included. also: repositories that are read besides. Raises ProviderError."""
        places, action = (place, *also), "pull" if method in ("GET", "HEAD") else "pull,push"
        url = path if "://" in path else f"{self._base(place)}{path}"
        own = place.host == urlsplit(url).netloc
        signed = await self._authorization(place, places, action) if own else {}
        with _reached(place.host):
            response = await self._http.request(method, url, headers={**(headers or {}), **signed}, content=content)
        if response.status_code == 401 and own and not isinstance(content, AsyncIterator):
            signed = await self._sign_in(place, places, action, response.headers.get("WWW-Authenticate", ""))
            with _reached(place.host):
                response = await self._http.request(method, url, headers={**(headers or {}), **signed}, content=content)
        if response.status_code >= 400 and response.status_code != 404:
            raise _refused(place, response.status_code, response.text if method != "HEAD" else "")
        return response

    def _base(self, place: Repository) -> str:
        return f"{'http' if self._is_plain(place.host) else 'https'}://{place.host}/v2/{place.path}/"

    def _is_plain(self, host: str) -> bool:
        """As Docker does: this machine needs no certificate."""
        name = urlsplit(f"//{host}").hostname or ""
        try:
            loopback = ipaddress.ip_address(name).is_loopback
        except ValueError:
            loopback = name == "localhost"
        return loopback or host in self._insecure

    async def _authorization(self, place: Repository, places: Sequence[Repository], action: str) -> dict[str, str]:
        known = self._tokens.get((place.host, _scopes(places, action)))
        return {"Authorization": known} if known else {}

    async def _sign_in(
        self, place: Repository, places: Sequence[Repository], action: str, challenge: str
    ) -> dict[str, str]:
        """Answer a challenge and keep the answer; it is asked for anew when it is refused."""
        scopes = _scopes(places, action)
        basic = self._basic(place.host)
        kind, _, rest = challenge.partition(" ")
        if kind.casefold() == "basic" and basic:
            answer = f"Basic {basic}"
        elif kind.casefold() == "bearer":
            answer = f"Bearer {await self._token(place, dict(_CHALLENGE.findall(rest)), scopes, basic)}"
        else:
            raise _refused(place, 401, "")
        self._tokens[place.host, scopes] = answer
        return {"Authorization": answer}

    async def _token(self, place: Repository, told: Mapping[str, str], scopes: Sequence[str], basic: str) -> str:
        realm = told.get("realm", "")
        if not realm.startswith("https://") and not (realm.startswith("http://") and self._is_plain(place.host)):
            raise ProviderRejected(
                f"{place.host} wants our password in the clear.", hint="Set its token service up with https."
            )
        params = {"service": told.get("service", ""), "scope": list(scopes)}
        headers = {"Authorization": f"Basic {basic}"} if basic else {}
        with _reached(place.host):
            response = await self._http.get(realm, params=params, headers=headers)
        if response.status_code >= 400:
            raise _refused(place, response.status_code, "")
        body = response.json()
        return str(body.get("token") or body.get("access_token") or "")

    def _basic(self, host: str) -> str:
        """User and password of a host, base64, empty if there are none."""
        if self._auth_file is None:
            return ""
        try:
            auths = json.loads(self._auth_file.read_text(encoding="utf-8")).get("auths") or {}
        except (OSError, ValueError, AttributeError) as error:
            raise ProviderRejected(
                f"SLIPWAY_REGISTRY_AUTH_FILE cannot be read ({type(error).__name__}).",
                hint='It is Docker\'s config.json: {"auths": {"HOST": {"username": ..., "password": ...}}}.',
            ) from None
        for name, entry in auths.items():
            if name.split("://")[-1].split("/")[0] == host:
                plain = f"{entry.get('username', '')}:{entry.get('password', '')}"
                return str(entry.get("auth") or base64.b64encode(plain.encode()).decode())
        return ""


def _scopes(places: Sequence[Repository], action: str) -> tuple[str, ...]:
    first, *others = places
    return (f"repository:{first.path}:{action}", *(f"repository:{one.path}:pull" for one in others))


class _reached:
    """Turns what keeps a request from being answered into our error. Putting again is harmless, so all is safe."""

    def __init__(self, host: str) -> None:
        self._host = host

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, httpx.HTTPError):
            message = f"The registry {self._host} is not reached ({type(error).__name__})."
            raise ProviderUnavailable(message, hint="It is asked again by itself.") from error


def _refused(place: Repository, status: int, body: str) -> ProviderRejected | ProviderUnavailable:
    if status == 429 or status >= 500:
        return ProviderUnavailable(f"The registry {place.host} answers {status}.", hint="It is asked again by itself.")
    if status in (401, 403):
        return ProviderRejected(
            f"The registry {place.host} lets Slipway not write to {place.path} ({status}).",
            hint="Give its account the right to pull and push there; see SLIPWAY_REGISTRY_AUTH_FILE.",
        )
    try:
        first = json.loads(body)["errors"][0]
        said = f"{first.get('code')}: {first.get('message')}"
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        said = str(status)
    return ProviderRejected(f"The registry {place.host} says {logs.redact(logs.clean(said))[:200]}.", hint="See there.")
