"""Who may use the console, and as whom.

Open: anybody on this machine may act as any person. That is for the demo on loopback, so requests must name a loopback
host: a page elsewhere whose name is made to point here (DNS rebinding) carries its own name and is turned away.
Otherwise one token per person, as `Authorization: Bearer` or once to the login, which answers with a session cookie.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import timedelta

from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response

from bot.clock import Clock, utc_now
from bot.web.answers import ApiError

COOKIE = "slipway_console"
SESSION = timedelta(days=30)
FAILURES = 10
"""Failed logins from one address after which the next must wait."""

FAILURE_WINDOW = 300.0
"""Seconds in which they are counted."""

ADDRESSES = 10_000
"""Addresses remembered at once."""


class Access:
    """Decides who a request is from. Only hashes of the tokens are kept."""

    def __init__(
        self,
        *,
        open: bool,
        tokens: Mapping[str, SecretStr] | None = None,
        clock: Clock = utc_now,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """open: anybody on loopback is anybody. tokens: person -> token. seconds: a clock that never goes back."""
        self.open = open
        self._hashes = {person: _hash(token.get_secret_value()) for person, token in (tokens or {}).items()}
        self._clock = clock
        self._failures = _Failures(seconds)

    def check_request(self, request: Request) -> None:
        """Turn away what another site sent. Raises ApiError 403."""
        host = request.headers.get("host", "")
        if self.open and not is_loopback(host):
            raise ApiError(
                403, "This console is open to this machine only; use the address http://127.0.0.1 with its port."
            )
        origin = request.headers.get("origin")
        changes = request.method not in ("GET", "HEAD", "OPTIONS")
        if changes and origin is not None and origin.partition("://")[2].lower() != host.lower():
            raise ApiError(403, "This request came from another site; open the console itself and try there.")

    def person(self, request: Request) -> str | None:
        """Who the request is from; None when open: whoever it says.

        Raises:
            ApiError: 401 nobody known, 429 too many failed tries from this address.
        """
        if self.open:
            return None
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if token:
            if scheme.lower() != "bearer":
                raise ApiError(401, "Log in with your console token, as Authorization: Bearer.", _CHALLENGE)
            return self._by_token(request, token.strip())
        person = self._by_cookie(request.cookies.get(COOKIE, ""))
        if person is None:
            raise ApiError(401, "Log in with your console token.", _CHALLENGE)
        return person

    def log_in(self, request: Request, token: str) -> str:
        """The token's person. Raises as `person`, and ApiError 404 when open."""
        if self.open:
            raise ApiError(404, "Nobody needs to log in here; choose a person instead.")
        return self._by_token(request, token)

    def set_cookie(self, request: Request, response: Response, person: str) -> None:
        """Give this browser a session of that person. It ends with its time, or when the person's token changes."""
        until = int((self._clock() + SESSION).timestamp())
        value = f"{person.encode().hex()}.{until}.{self._seal(person, until)}"
        response.set_cookie(
            COOKIE,
            value,
            max_age=int(SESSION.total_seconds()),
            path="/console",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )

    def clear_cookie(self, response: Response) -> None:
        """End this browser's session."""
        response.delete_cookie(COOKIE, path="/console", httponly=True, samesite="strict")

    def _by_token(self, request: Request, token: str) -> str:
        address = request.client.host if request.client else ""
        if wait := self._failures.wait(address):
            headers = {"Retry-After": str(int(wait) + 1)}
            raise ApiError(429, f"Too many failed logins; try again in {int(wait) + 1} seconds.", headers)
        given = _hash(token)
        # All are compared, so that the time does not tell which one was near.
        matches = [person for person, known in self._hashes.items() if hmac.compare_digest(known, given)]
        if not matches:
            self._failures.add(address)
            raise ApiError(401, "That is no console token we know; ask whoever runs Slipway for yours.", _CHALLENGE)
        return matches[0]

    def _by_cookie(self, value: str) -> str | None:
        try:
            encoded, until, seal = value.split(".")
            person = bytes.fromhex(encoded).decode()
            end = int(until) if until.isascii() and until.isdigit() and len(until) < 12 else 0
        except ValueError:
            return None
        if person not in self._hashes or end <= self._clock().timestamp():
            return None
        return person if hmac.compare_digest(self._seal(person, end).encode(), seal.encode()) else None

    def _seal(self, person: str, until: int) -> str:
        # Keyed by the hash of the person's token: no further secret to keep, the same on every replica.
        return hmac.new(self._hashes[person], f"{person}\n{until}".encode(), hashlib.sha256).hexdigest()


class _Failures:
    """Failed logins by address."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._at: dict[str, deque[float]] = {}

    def wait(self, address: str) -> float:
        """Seconds until this address may try again, 0 for now."""
        times = self._at.get(address)
        if not times or len(times) < FAILURES:
            return 0.0
        return max(0.0, times[0] + FAILURE_WINDOW - self._seconds())

    def add(self, address: str) -> None:
        """Remember one; the oldest addresses make room."""
        times = self._at.pop(address, deque(maxlen=FAILURES))
        times.append(self._seconds())
        self._at[address] = times
        while len(self._at) > ADDRESSES:
            del self._at[next(iter(self._at))]


def is_loopback(host: str) -> bool:
    """Whether a Host header names this machine, by a loopback name or address."""
    name = host.lower()
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    elif name.count(":") == 1:
        name = name.partition(":")[0]
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="slipway console"'}
