"""Who may tell us anything: the vectors of the senders' own documents, and every near miss."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest

from bot.web.signatures import bearer, github_signed, gitlab_genuine, standard_signed

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SENT = datetime.fromtimestamp(1674087231, UTC)
GOOD = {
    "webhook-id": "m1",
    "webhook-timestamp": "1674087231",
    "webhook-signature": "v1,jbkLSzyWe7x7OmS7MJ+33+Q1X7+8S5U1FbP48AHIP6M=",
}


def test_githubs_own_vector() -> None:
    """From github/docs: it is the HMAC of the raw body, with a prefix."""
    secret = "It's a Secret to Everybody"
    header = {"x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"}
    assert github_signed(secret, header, b"Hello, World!")
    assert not github_signed(secret, header, b"Hello, World")
    assert not github_signed(secret, {}, b"Hello, World!")
    empty = "sha256=" + hmac.new(b"", b"x", hashlib.sha256).hexdigest()
    assert not github_signed("", {"x-hub-signature-256": empty}, b"x")


@pytest.mark.parametrize(
    ("change", "late", "genuine"),
    [
        ({}, 0, True),
        ({}, 300, True),
        ({}, 301, False),
        ({}, -301, False),
        ({"webhook-signature": "v1,wrong " + GOOD["webhook-signature"]}, 0, True),
        ({"webhook-signature": "garbage"}, 0, False),
        ({"webhook-signature": "v1,a,b"}, 0, False),
        ({"webhook-signature": ""}, 0, False),
        ({"webhook-id": "m2"}, 0, False),
        ({"webhook-id": ""}, 0, False),
        ({"webhook-timestamp": "1674087232"}, 0, False),
        ({"webhook-timestamp": "soon"}, 0, False),
        ({"webhook-timestamp": "99999999999999999999"}, 0, False),
    ],
)
def test_standard_webhooks(change: dict[str, str], late: int, genuine: bool) -> None:
    """Signed, near in time, one of several keys; a malformed header is a no and not a crash."""
    now = SENT + timedelta(seconds=late)
    assert standard_signed(SECRET, GOOD | change, b'{"a":1}', now) is genuine


def test_a_key_that_is_none_proves_nothing() -> None:
    """A typing error in the secret must not become an empty key that everybody knows."""
    signed = base64.b64encode(hmac.new(b"", b'm1.1674087231.{"a":1}', hashlib.sha256).digest()).decode()
    for secret in ("", "whsec_", "whsec_***", "whsec_YWJj"):
        assert not standard_signed(secret, GOOD | {"webhook-signature": f"v1,{signed}"}, b'{"a":1}', SENT)


def test_gitlab_takes_its_token_only_where_nothing_is_signed() -> None:
    """With a signing token the plain header proves nothing: it could be replayed with another body."""
    assert gitlab_genuine("shared-token", {"x-gitlab-token": "shared-token"}, b"{}", SENT)
    assert not gitlab_genuine("shared-token", {"x-gitlab-token": "shared"}, b"{}", SENT)
    assert not gitlab_genuine("shared-token", {}, b"{}", SENT)
    assert gitlab_genuine(SECRET, GOOD, b'{"a":1}', SENT)
    assert not gitlab_genuine(SECRET, {"x-gitlab-token": SECRET}, b'{"a":1}', SENT)


def test_a_fixed_token_comes_in_a_header_or_the_address() -> None:
    """For Jenkins, which signs nothing."""
    assert bearer("t0ken", {"authorization": "Bearer t0ken"}, {})
    assert bearer("t0ken", {}, {"token": "t0ken"})
    assert not bearer("t0ken", {"authorization": "Bearer no"}, {"token": "t0ken"})
    assert not bearer("", {}, {})
    assert not bearer("t0ken", {}, {"token": "t0kén"})
