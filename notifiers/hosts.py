"""Speaking to code hosts that take records from us: a limit is waited for, and a no is told."""

from __future__ import annotations

from typing import Any

import httpx

from notifiers.base import ChatRejected, ChatUnavailable

PATIENCE = 60.0
"""Seconds to wait after a limit that says no time."""


async def ask(
    http: httpx.AsyncClient, host: str, method: str, path: str, refusal: ChatRejected, **more: Any
) -> httpx.Response:
    """The answer. host: its name for people; refusal: what a no means.

    Raises:
        ChatUnavailable: not reached, broken or limited; ask again.
        ChatRejected: `refusal`, with the number of the answer.
    """
    try:
        response = await http.request(method, path, **more)
    except httpx.HTTPError as error:
        raise ChatUnavailable(f"{host} did not answer ({type(error).__name__}).") from None
    limited = response.status_code == 429 or (
        response.status_code == 403
        and (response.headers.get("x-ratelimit-remaining") == "0" or "rate limit" in response.text.casefold())
    )
    if limited or response.status_code >= 500:
        raise ChatUnavailable(f"{host} answered {response.status_code}.", retry_after=_pause(response))
    if not response.is_success:
        raise ChatRejected(f"{refusal.message.removesuffix('.')} ({response.status_code}).", hint=refusal.hint)
    return response


def _pause(response: httpx.Response) -> float | None:
    seconds = response.headers.get("retry-after", "")
    if seconds.isdigit():
        return float(seconds)
    return None if response.status_code >= 500 else PATIENCE
