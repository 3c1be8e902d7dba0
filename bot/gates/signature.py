"""The gate on an image's signature: cosign's, beside the image in its registry.

Found as cosign 3 leaves it (a Sigstore bundle that refers to the image, OCI 1.1) and as older ones do (the tag
`sha256-<hex>.sig`). Finding one is not verifying it: with `keys` in the catalog each signature is checked against them.

Source: opencontainers/distribution-spec `spec.md`; sigstore/cosign `specs/SIGNATURE_SPEC.md` and `BUNDLE_SPEC.md`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field, field_validator

from bot.errors import ProviderRejected
from bot.gates.asking import AskingGate, GateOptions, NotYet
from bot.gates.base import GateRequest, GateResult
from bot.gates.images import Image, parse_image
from bot.pipelines.http import Http

MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
"""Always sent: without the right one some registries say that an image does not exist."""
SIMPLE = "application/vnd.dev.cosign.simplesigning.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle"
SIGNS = "https://sigstore.dev/cosign/sign/v1"
_ANNOTATION = "dev.cosignproject.cosign/signature"
_MOST = 20
"""Referrers that are looked at."""
_LARGEST = 1_000_000
"""Bytes of one signature."""


class SignatureOptions(GateOptions):
    """keys: public keys (PEM), one of which must have signed; none: a signature must be there, whoever made it."""

    keys: list[str] = Field(default_factory=list)

    @field_validator("keys")
    @classmethod
    def _readable(cls, keys: list[str]) -> list[str]:
        for key in keys:
            load_key(key)
        return keys


@dataclass(frozen=True, slots=True)
class Signed:
    """One signature: what was signed, its signature, and the digest that the signed text names."""

    content: bytes
    signature: bytes
    digest: str


class SignatureGate(AskingGate[SignatureOptions]):
    """Looks in the registry of SLIPWAY_REGISTRY_URL and in no other: a build's log must not choose whom we ask."""

    name = "signature"
    options = SignatureOptions

    async def _look(self, options: SignatureOptions, request: GateRequest) -> GateResult:
        http = self._system("registry")
        image = parse_image(request.image, request.digest)
        if image.registry.casefold() != http.client.base_url.netloc.decode().casefold():
            raise ProviderRejected(
                f"The image is in {image.registry}, which is not the registry that is set up here.",
                hint="Correct SLIPWAY_REGISTRY_URL, or the pipeline.",
            )
        found = [one async for one in _signatures(http, image) if one.digest == image.digest]
        if not found:
            raise NotYet(f"No signature of {image.repository}@{image.digest[:19]} is there yet.")
        if not options.keys:
            return self._pass("A signature is there; who signed is not checked, because `keys` names nobody.")
        if any(verifies(key, one) for key in options.keys for one in found):
            return self._pass("The signature is by one of the keys.")
        return self._fail(f"None of {len(found)} signatures is by one of the keys.")


async def _signatures(http: Http, image: Image) -> AsyncIterator[Signed]:
    """Every signature of an image, old form and new."""
    hexed = image.digest.replace(":", "-")
    classic = await _manifest(http, image, f"{hexed}.sig")
    for layer in (classic or {}).get("layers") or ():
        if layer.get("mediaType") == SIMPLE and (signature := (layer.get("annotations") or {}).get(_ANNOTATION)):
            content = await _blob(http, image, str(layer["digest"]))
            yield Signed(content, _decoded(signature), _named_in_payload(content))
    referrers = await http.get_json(f"v2/{image.repository}/referrers/{image.digest}", headers={"Accept": MANIFESTS})
    if referrers is None:  # A registry before OCI 1.1 keeps them under a tag.
        referrers = await _manifest(http, image, hexed) or {}
    for one in (referrers.get("manifests") or ())[:_MOST]:
        if str(one.get("artifactType") or BUNDLE).startswith(BUNDLE):
            async for signed in _bundled(http, image, str(one["digest"])):
                yield signed


async def _bundled(http: Http, image: Image, digest: str) -> AsyncIterator[Signed]:
    """The signatures in a Sigstore bundle; an attestation about something else is none."""
    manifest = await _manifest(http, image, digest) or {}
    for layer in manifest.get("layers") or ():
        if not str(layer.get("mediaType", "")).startswith(BUNDLE):
            continue
        envelope = (_parsed(await _blob(http, image, str(layer["digest"])))).get("dsseEnvelope") or {}
        payload, kind = _decoded(envelope.get("payload", "")), str(envelope.get("payloadType", ""))
        statement = _parsed(payload)
        if statement.get("predicateType") != SIGNS:
            continue
        named = [str((one.get("digest") or {}).get("sha256", "")) for one in statement.get("subject") or ()]
        content = b"DSSEv1 %d %b %d %b" % (len(kind.encode()), kind.encode(), len(payload), payload)
        about = image.digest if image.digest.removeprefix("sha256:") in named else ""
        for one in envelope.get("signatures") or ():
            yield Signed(content, _decoded(one.get("sig", "")), about)


async def _manifest(http: Http, image: Image, reference: str) -> Mapping[str, Any] | None:
    found = await http.get_json(f"v2/{image.repository}/manifests/{reference}", headers={"Accept": MANIFESTS})
    return found if isinstance(found, dict) else None


async def _blob(http: Http, image: Image, digest: str) -> bytes:
    """A small blob, whose content is what its digest says. Raises ProviderRejected."""
    response = await http.get(f"v2/{image.repository}/blobs/{digest}")
    data = response.content if response is not None else b""
    if len(data) > _LARGEST or f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
        raise ProviderRejected(f"The registry's blob {digest[:19]} is not what it should be.")
    return data


def _named_in_payload(content: bytes) -> str:
    critical = _parsed(content).get("critical") or {}
    if critical.get("type") not in ("cosign container image signature", SIGNS):
        return ""
    return str((critical.get("image") or {}).get("docker-manifest-digest", ""))


def _parsed(data: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _decoded(text: object) -> bytes:
    try:
        return base64.b64decode(str(text), validate=True)
    except ValueError:
        return b""


def load_key(pem: str) -> Any:
    """A public key. Raises ValueError with what is allowed."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem.strip().encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("must be a public key in PEM form, such as cosign.pub") from None
    if not isinstance(key, (ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey, rsa.RSAPublicKey)):
        raise ValueError("must be an ECDSA, Ed25519 or RSA key")
    return key


def verifies(pem: str, signed: Signed) -> bool:
    """Whether the key made the signature."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

    key = load_key(pem)
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signed.signature, signed.content, ec.ECDSA(hashes.SHA256()))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signed.signature, signed.content, padding.PKCS1v15(), hashes.SHA256())
        else:
            key.verify(signed.signature, signed.content)
    except InvalidSignature:
        return False
    return True
