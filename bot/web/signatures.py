"""Whether a call from outside is genuine: pure functions of secret, headers, body and the present instant.

Sources: github/docs, Validating webhook deliveries; Standard Webhooks 1.0.0, which GitLab 19 uses too.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

AGE = timedelta(minutes=5)
"""A signed instant further off than this, either way, is refused."""


def same(given: str, wanted: str) -> bool:
    """Whether two secrets are equal, in a time that says nothing. An empty secret equals nothing."""
    return bool(wanted) and hmac.compare_digest(given.encode(), wanted.encode())


def github_signed(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """`X-Hub-Signature-256` is the HMAC of the body."""
    wanted = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return bool(secret) and same(headers.get("x-hub-signature-256", ""), wanted)


def sonar_signed(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """`X-Sonar-Webhook-HMAC-SHA256` is the HMAC of the body, without a prefix."""
    wanted = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return bool(secret) and same(headers.get("x-sonar-webhook-hmac-sha256", ""), wanted)


def standard_signed(secret: str, headers: Mapping[str, str], body: bytes, now: datetime) -> bool:
    """`webhook-signature` holds the HMAC of `id.timestamp.body`, and the timestamp is near."""
    key = _key(secret)
    moment = _instant(headers.get("webhook-timestamp", ""))
    if key is None or moment is None or abs(now - moment) > AGE or not headers.get("webhook-id"):
        return False
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    wanted = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    # All are compared, so that the time does not tell which one fits.
    found = [same(one, wanted) for one in headers.get("webhook-signature", "").split(" ")[:10]]
    return any(found)


def gitlab_genuine(secret: str, headers: Mapping[str, str], body: bytes, now: datetime) -> bool:
    """Signed where the secret is a signing token (`whsec_`), and then nothing less; else the shared token."""
    if secret.startswith("whsec_"):
        return standard_signed(secret, headers, body, now)
    return same(headers.get("x-gitlab-token", ""), secret)


def bearer(secret: str, headers: Mapping[str, str], query: Mapping[str, str]) -> bool:
    """For senders that sign nothing: the secret as `Authorization: Bearer`, or as `token` in the address."""
    given = headers.get("authorization", "")
    return same(given.removeprefix("Bearer ") if given else query.get("token", ""), secret)


def _key(secret: str) -> bytes | None:
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) >= 16 else None


def _instant(text: str) -> datetime | None:
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        return None
    return datetime.fromtimestamp(int(text), UTC)
