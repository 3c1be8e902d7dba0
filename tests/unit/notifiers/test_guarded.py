"""A webhook's name never leads into the private network, unless the operator says so."""

from __future__ import annotations

import socket
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from bot.settings import SettingsInvalid, read_settings
from notifiers.guarded import guarded_client, is_allowed, networks_of
from tests.fakes.serving import serving


@pytest.mark.parametrize(
    ("address", "host", "networks", "allowed"),
    [
        ("93.184.216.34", "example.com", "", True),
        ("2606:2800:220:1:248:1893:25c8:1946", "example.com", "", True),
        ("127.0.0.1", "localhost", "", True),
        ("127.0.0.1", "127.0.0.1", "", True),
        ("127.0.0.1", "rebound.example.com", "", False),
        ("::1", "rebound.example.com", "", False),
        ("::ffff:127.0.0.1", "rebound.example.com", "", False),
        ("::ffff:10.0.0.1", "example.com", "", False),
        ("10.1.2.3", "internal.example.com", "", False),
        ("10.1.2.3", "internal.example.com", "10.0.0.0/8", True),
        ("10.1.2.3", "internal.example.com", "10.2.0.0/16, fd00::/8", False),
        ("fd00::5", "internal.example.com", "fd00::/8", True),
        ("172.16.0.1", "x", "", False),
        ("192.168.1.1", "192.168.1.1", "", False),
        ("169.254.169.254", "metadata", "", False),
        ("100.64.0.1", "carrier", "", False),
        ("0.0.0.0", "x", "", False),
        ("224.0.0.1", "x", "", False),
        ("fe80::1%eth0", "x", "", False),
    ],
)
def test_what_may_be_called(address: str, host: str, networks: str, allowed: bool) -> None:
    """Public addresses; loopback only where it is written as such; private ones only where they are named."""
    assert is_allowed(address, host, networks_of(networks)) is allowed


async def hello(_request: Request) -> Response:
    return PlainTextResponse("hello")


async def test_a_name_that_is_rebound_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is public today and stands for our own machine tomorrow."""
    real = socket.getaddrinfo

    def rebound(host: Any, *rest: Any, **named: Any) -> Any:
        return real("127.0.0.1" if host == "hooks.example.com" else host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    async with serving(Starlette(routes=[Route("/", hello)])) as url, guarded_client() as client:
        assert (await client.get(url)).text == "hello"
        port = url.rpartition(":")[2]
        with pytest.raises(httpx.ConnectError, match="may not be called"):
            await client.get(f"http://hooks.example.com:{port}/")
        async with guarded_client(networks_of("127.0.0.0/8")) as open_one:
            assert (await open_one.get(f"http://hooks.example.com:{port}/")).text == "hello"


def test_a_network_that_is_none_is_refused_at_the_start() -> None:
    """By name."""
    with pytest.raises(SettingsInvalid, match="SLIPWAY_WEBHOOK_NETWORKS"):
        read_settings({"SLIPWAY_CONFIG": ".", "SLIPWAY_WEBHOOK_NETWORKS": "10.0.0.0/8 everywhere"})
