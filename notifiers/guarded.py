"""Connections to addresses of others: a name is resolved once, and what it stands for must be allowed to be called.

A name that points into the private network would make us ask, with our rights of being inside, for whoever set the
name (server-side request forgery). Checking a name and connecting to it later could be two answers of its DNS, so the
address that was checked is the one that is connected to; TLS still proves the name.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Iterable, Sequence
from typing import Any

import httpcore
import httpx

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def networks_of(text: str) -> tuple[Network, ...]:
    """`10.0.0.0/8 fd00::/8` as networks. Raises ValueError: one is none."""
    return tuple(ipaddress.ip_network(word) for word in text.replace(",", " ").split())


def is_allowed(address: str, host: str, networks: Sequence[Network] = ()) -> bool:
    """Whether `host`, which stands for `address`, may be called: it is public, named, or loopback written as such."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if any(ip in network for network in networks if network.version == ip.version):
        return True
    if ip.is_loopback:
        return host in LOOPBACK_NAMES
    return ip.is_global and not ip.is_multicast


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects to allowed addresses alone."""

    def __init__(self, networks: Sequence[Network] = ()) -> None:
        """networks: private ones that may be called."""
        self._networks = tuple(networks)
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """To the first allowed address of the host. Raises ConnectError: it has none."""
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=1)
        allowed = [str(one[4][0]) for one in found if is_allowed(str(one[4][0]), host, self._networks)]
        if not allowed:
            raise httpcore.ConnectError(f"{host} stands for an address that may not be called")
        return await self._inner.connect_tcp(allowed[0], port, timeout, local_address, socket_options)

    async def connect_unix_socket(self, path: str, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        """Never."""
        raise httpcore.ConnectError("no local socket may be called")

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


class GuardedTransport(httpx.AsyncHTTPTransport):
    """httpx over such connections."""

    def __init__(self, networks: Sequence[Network] = ()) -> None:
        """networks: private ones that may be called."""
        super().__init__()
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(), network_backend=GuardedBackend(networks)
        )


def guarded_client(networks: Sequence[Network] = ()) -> httpx.AsyncClient:
    """A client that follows no redirect, knows no proxy, and calls no private address but of these networks."""
    return httpx.AsyncClient(timeout=5.0, follow_redirects=False, trust_env=False, transport=GuardedTransport(networks))
