"""Results to anybody's own address: a CloudEvent, signed by Standard Webhooks, sent again until it is taken.

Places: the name of an address in SLIPWAY_WEBHOOKS. A receiver checks the signature over `id.timestamp.body` and drops
an id it has seen. An address may ask for CDEvents instead of our own vocabulary. Source: standardwebhooks.com
specification; cloudevents.io "CloudEvents 1.0.2", structured mode.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any

import httpx

from bot.clock import Clock, utc_now
from notifiers.base import ChatRejected, ChatUnavailable
from notifiers.card import Message
from notifiers.cdevents import cd_event

SOURCE = "/slipway"
SLIPWAY, CDEVENTS = "slipway", "cdevents"
UNSAID = "unsaid"
"""Stands for a message that the address's vocabulary has no word for."""
PREFIX = "whsec_"
GONE = 410
MAX_EXCERPT = 8_000


@dataclass(frozen=True, slots=True)
class Address:
    """Where to send, and the key both sides have (`whsec_` and base64). Both may be secrets.

    vocabulary: `slipway`, or `cdevents` for what is deployed and how it ended in words other tools know.
    """

    url: str = field(repr=False)
    secret: str = field(repr=False)
    vocabulary: str = SLIPWAY


class WebhookClient:
    """Sends one event per result; the id is made of our key, so a repeat has the same one."""

    platform = "webhook"

    def __init__(self, http: httpx.AsyncClient, addresses: Mapping[str, Address], clock: Clock = utc_now) -> None:
        """addresses: by the name the catalog uses."""
        self._http = http
        self._addresses = dict(addresses)
        self._clock = clock

    async def post(self, place: str, message: Message, key: str, thread: str = "") -> str:
        """Send and wait for a 2xx. Raises as `ChatClient.post`."""
        address = self._addresses.get(place)
        if address is None:
            raise ChatRejected(f"There is no webhook '{place}': name it in SLIPWAY_WEBHOOKS or correct the catalog.")
        number = f"evt_{hashlib.sha256(key.encode()).hexdigest()[:32]}"
        body = self._body(address, number, message)
        if body is None:
            return UNSAID
        stamp = str(int(self._clock().timestamp()))
        headers = {
            "content-type": "application/cloudevents+json; charset=utf-8",
            "webhook-id": number,
            "webhook-timestamp": stamp,
            "webhook-signature": signature(address.secret, number, stamp, body),
        }
        try:
            response = await self._http.post(address.url, content=body, headers=headers)
        except httpx.HTTPError as error:
            if "may not be called" in str(error):
                raise ChatRejected(
                    f"The webhook '{place}' leads to a private address.",
                    hint="Name its network in SLIPWAY_WEBHOOK_NETWORKS if that is meant.",
                ) from None
            raise ChatUnavailable(f"The webhook '{place}' did not answer ({type(error).__name__}).") from None
        if response.status_code == GONE:
            raise ChatRejected(f"The webhook '{place}' says it is gone: remove it from SLIPWAY_WEBHOOKS.")
        if not response.is_success:
            raise ChatUnavailable(
                f"The webhook '{place}' answered {response.status_code}.", retry_after=_wait(response)
            )
        return number

    async def edit(self, place: str, ref: str, message: Message, key: str = "") -> None:
        """Nothing: an event stays as it was sent; the next result is an event of its own."""

    def _body(self, address: Address, number: str, message: Message) -> bytes | None:
        at = self._clock().astimezone(UTC).isoformat().replace("+00:00", "Z")
        if address.vocabulary == CDEVENTS:
            event = cd_event(message.card, number, SOURCE, at) if message.card is not None else None
        else:
            event = self._event(number, message, at)
        return json.dumps(event, ensure_ascii=False).encode() if event is not None else None

    def _event(self, number: str, message: Message, at: str) -> dict[str, Any]:
        card = message.card
        data: dict[str, object] = {"text": message.text}
        if card is not None:
            data |= {
                "deployment": card.deployment,
                "state": card.state,
                "title": card.title,
                "detail": card.text,
                "fields": dict(card.fields),
                "steps": [{"name": one.name, "state": str(one.state), "detail": one.detail} for one in card.steps],
                "log": card.excerpt[-MAX_EXCERPT:],
                "about": dict(card.about),
            }
        return {
            "specversion": "1.0",
            "id": number,
            "source": SOURCE,
            "type": f"dev.slipway.deployment.{card.state}.v1" if card is not None else "dev.slipway.message.v1",
            "subject": card.deployment if card is not None and card.deployment else "slipway",
            "time": at,
            "datacontenttype": "application/json",
            "data": data,
        }


def signature(secret: str, number: str, timestamp: str, body: bytes) -> str:
    """`v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`."""
    signed = number.encode() + b"." + timestamp.encode() + b"." + body
    return "v1," + base64.b64encode(hmac.new(key_of(secret), signed, hashlib.sha256).digest()).decode()


def key_of(secret: str) -> bytes:
    """The bytes behind `whsec_…`. Raises ValueError: not base64, or too short to be safe."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
    if len(key) < 24:
        raise ValueError("shorter than 24 bytes")
    return key


def _wait(response: httpx.Response) -> float | None:
    given = response.headers.get("retry-after", "")
    return min(3600.0, float(given)) if given.isdigit() else None
