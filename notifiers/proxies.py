"""The proxy of the environment, asked once: a session that trusts the environment asks anew for every call."""

from __future__ import annotations

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


def proxy_for(address: str) -> str | None:
    """The proxy that the environment (HTTPS_PROXY, NO_PROXY) names for an address."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    return None if proxy_bypass(host) else getproxies().get(parts.scheme)
