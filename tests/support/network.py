"""Ports of this machine, and a closed door to all others."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest


class OutsideConnection(RuntimeError):
    """A test tried to leave this machine.

    Not an OSError, so that no code under test can take it for an outage and carry on.
    """


def free_port() -> int:
    """Return a TCP port that is free on 127.0.0.1 now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def close_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse connections, and name look-ups, to anything but loopback and Unix sockets."""
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def guarded_connect(self: socket.socket, address: Any, /) -> None:
        _check(self.family, address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any, /) -> int:
        _check(self.family, address)
        return connect_ex(self, address)

    def guarded_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host and not is_local(host):
            raise OutsideConnection(f"a test looked up {host!r}")
        return getaddrinfo(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_getaddrinfo)


def is_local(host: str | bytes) -> bool:
    """Whether this host is the machine itself, by name or address."""
    name = (host.decode() if isinstance(host, bytes) else host).rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _check(family: int, address: Any) -> None:
    if family in (socket.AF_INET, socket.AF_INET6) and not is_local(address[0]):
        raise OutsideConnection(f"a test connected to {address[0]}:{address[1]}")
