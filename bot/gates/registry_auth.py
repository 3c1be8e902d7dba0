"""Signing in to an image registry: `401` names a token server, which gives a token for the one repository.

Source: distribution/distribution `docs/content/spec/auth/token.md`.
"""

from __future__ import annotations

import re
from collections.abc import Generator

import httpx

_PAIR = re.compile(r'(\w+)="([^"]*)"')


class RegistryAuth(httpx.Auth):
    """Basic where the registry asks for it, else a bearer token fetched with the same credentials."""

    requires_response_body = True

    def __init__(self, user: str, password: str) -> None:
        """Both empty: as nobody."""
        self._basic = httpx.BasicAuth(user, password) if user else None
        self._tokens: dict[str, str] = {}

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Try with what is known, then as the answer says."""
        scope = _repository(request.url.path)
        if token := self._tokens.get(scope):
            request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code != 401:
            return
        kind, _, rest = response.headers.get("WWW-Authenticate", "").partition(" ")
        asked = dict(_PAIR.findall(rest))
        if kind.casefold() == "basic" and self._basic is not None:
            yield next(self._basic.auth_flow(request))
            return
        realm = asked.get("realm", "")
        if kind.casefold() != "bearer" or not self._may_sign_in_at(realm, request.url):
            return
        params = {name: asked[name] for name in ("service", "scope") if name in asked}
        wish = httpx.Request("GET", realm, params=params, headers={"User-Agent": "slipway"})
        answer = yield next(self._basic.auth_flow(wish)) if self._basic is not None else wish
        self._tokens[scope] = _token(answer)
        request.headers["Authorization"] = f"Bearer {self._tokens[scope]}"
        yield request

    def _may_sign_in_at(self, realm: str, registry: httpx.URL) -> bool:
        """The password goes over TLS, or to the registry's own host, and nowhere else."""
        try:
            url = httpx.URL(realm)
        except httpx.InvalidURL:
            return False
        return url.scheme == "https" or (url.scheme == "http" == registry.scheme and url.host == registry.host)


def _repository(path: str) -> str:
    found = re.match(r".*/v2/(.+)/(?:manifests|blobs|referrers|tags)/", path)
    return found[1] if found else ""


def _token(answer: httpx.Response) -> str:
    try:
        body = answer.json()
    except ValueError:
        return ""
    return str(body.get("token") or body.get("access_token") or "") if isinstance(body, dict) else ""
