"""How we sign in to GitHub: a token, or as an App whose installation token lives for an hour.

Source: github/docs, Generating a JSON Web Token for a GitHub App; the token's length is never looked at.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from pathlib import Path

import httpx
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from bot.clock import Clock
from bot.errors import SlipwayError

EARLY = timedelta(minutes=5)
"""A token is renewed this long before it ends."""


class AppAuth(httpx.Auth):
    """Asks for an installation token when there is none, and again when it ends or is refused."""

    def __init__(self, api: str, app: str, installation: str, key: rsa.RSAPrivateKey, clock: Clock) -> None:
        """api: the address without a slash at its end."""
        self._api, self._app, self._installation, self._key, self._clock = api, app, installation, key, clock
        self._token = ""
        self._ends_at: datetime | None = None

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Put the token into the request; one refusal makes a new token, a second one stands."""
        if self._ends_at is None or self._clock() >= self._ends_at - EARLY:
            await self._keep((yield self._ask()))
        request.headers["Authorization"] = f"Bearer {self._token}"
        response = yield request
        if response.status_code == 401 and self._token:
            await self._keep((yield self._ask()))
            request.headers["Authorization"] = f"Bearer {self._token}"
            yield request

    def _ask(self) -> httpx.Request:
        path = f"{self._api}/app/installations/{self._installation}/access_tokens"
        headers = {"Authorization": f"Bearer {self.jwt()}", "Accept": "application/vnd.github+json"}
        return httpx.Request("POST", path, headers=headers)

    async def _keep(self, response: httpx.Response) -> None:
        if response.status_code != 201:
            self._token, self._ends_at = "", None
            return
        answer = json.loads(await response.aread())
        self._token = str(answer["token"])
        self._ends_at = datetime.fromisoformat(answer["expires_at"])

    def jwt(self) -> str:
        """Who the App is, for nine minutes; a minute early, for clocks that are behind."""
        now = int(self._clock().timestamp())
        claims = {"iat": now - 60, "exp": now + 540, "iss": self._app}
        signed = f"{_part({'alg': 'RS256', 'typ': 'JWT'})}.{_part(claims)}"
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_base64(signature)}"


def read_key(path: Path, variable: str) -> rsa.RSAPrivateKey:
    """The App's private key. Raises SlipwayError; the key is never in the message."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise SlipwayError(
            f"{variable}: no private key can be read there ({type(error).__name__}).",
            hint="Name the .pem file that GitHub made for the App.",
        ) from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise SlipwayError(f"{variable}: a GitHub App signs with an RSA key.", hint="Make a new key on the App's page.")
    return key


def _part(value: object) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
