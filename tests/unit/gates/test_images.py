"""The image that goes live is the image that was looked at: scanned, and signed by whom the catalog names."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import SecretStr

from bot.deployments.gating import ask_gates
from bot.deployments.model import GateNote
from bot.gates.base import GateRequest
from bot.gates.outside import outside_gates
from bot.gates.scans import Finding, ScanUnreadable, read_scan
from bot.settings import Settings
from tests.fakes.catalogs import make_service, make_target
from tests.fakes.images import SIGNS, FakeHarbor, FakeRegistry
from tests.fakes.quality import FakeQuality
from tests.fakes.serving import serving
from tests.support import FakeClock

DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
HEXED = DIGEST.removeprefix("sha256:")
clock = FakeClock()

TRIVY = {
    "SchemaVersion": 2,
    "ArtifactName": f"reg.example/shop/pay@{DIGEST}",
    "ArtifactType": "container_image",
    "Metadata": {"RepoDigests": [f"reg.example/shop/pay@{DIGEST}"]},
    "Results": [
        {"Target": "app", "Class": "lang-pkgs"},
        {
            "Target": "alpine 3.10",
            "Class": "os-pkgs",
            "Vulnerabilities": [
                {"VulnerabilityID": "CVE-1", "PkgName": "musl", "Severity": "HIGH", "FixedVersion": "1.2"},
                {"VulnerabilityID": "CVE-2", "PkgName": "zlib", "Severity": "CRITICAL"},
                {"VulnerabilityID": "CVE-3", "PkgName": "curl", "Severity": "odd", "PrimaryURL": "https://v.example/3"},
            ],
        },
    ],
}
GRYPE = {
    "matches": [
        {
            "vulnerability": {"id": "GHSA-1", "severity": "Low", "fix": {"state": "fixed", "versions": ["2.0"]}},
            "artifact": {"name": "left-pad"},
        },
        {"vulnerability": {"id": "GHSA-2", "severity": "Negligible", "fix": {"state": "wont-fix", "versions": []}}},
    ],
    "source": {"type": "image", "target": {"userInput": "pay:1", "manifestDigest": DIGEST, "repoDigests": []}},
}


def test_trivy_is_counted_by_severity_worst_first() -> None:
    """A clean target has no list; a severity of another word is not nothing."""
    scan = read_scan(json.dumps(TRIVY).encode())
    assert (scan.scanner, scan.digests) == ("Trivy", frozenset({DIGEST}))
    assert scan.counts == {"critical": 1, "high": 1, "unknown": 1}
    assert scan.fixable == {"high": 1}
    assert scan.findings[0] == Finding("CVE-2", "critical", "zlib")
    assert str(scan.findings[1]) == "high CVE-1 in musl, fixed in 1.2"


def test_grype_is_counted_by_severity() -> None:
    """Its digest is the manifest's."""
    scan = read_scan(json.dumps(GRYPE).encode())
    assert (scan.scanner, scan.digests) == ("Grype", frozenset({DIGEST}))
    assert scan.counts == {"low": 1, "negligible": 1}


BAD = [b"", b"[]", b"{}", b"<html>", b'{"SchemaVersion": 2}', b'{"matches": [{}], "source": {}}', b"[" * 100_000]


@pytest.mark.parametrize("data", BAD)
def test_what_is_no_report_of_a_scanner_proves_nothing(data: bytes) -> None:
    """An empty file is not an image without vulnerabilities."""
    with pytest.raises(ScanUnreadable):
        read_scan(data)


@asynccontextmanager
async def asked(app: Any, **settings: Any) -> AsyncIterator[Any]:
    """Ask one gate about the image; settings name the system with `URL` for the fake's address."""
    async with serving(app) as url:
        filled = {name: url if value == "URL" else value for name, value in settings.items()}
        made = outside_gates(Settings.model_validate({"config": Path("/nowhere"), **filled}), clock, {})
        registry = url.removeprefix("http://")

        async def ask(name: str, image: str = "", **options: object) -> GateNote:
            target = replace(make_target(service="pay"), gates={name: options})
            image = image or f"{registry}/shop/pay@{DIGEST}"
            request = GateRequest(make_service(target), target, "c" * 40, DIGEST, clock(), image=image)
            (note,) = await ask_gates(made.gates, request, ())
            return note

        yield ask
        for close in made.closing:
            await close()


async def test_a_scan_decides_by_severity_and_names_the_worst() -> None:
    """The limits are the catalog's; evidence has the package and its fix."""
    fake = FakeQuality()
    fake.files["scan.json"] = json.dumps(TRIVY).encode()
    async with asked(fake.app, reports_url="URL") as ask:
        note = await ask("scan", report="scan.json")
        assert (note.verdict, note.lines) == ("fail", ("critical CVE-2 in zlib", "high CVE-1 in musl, fixed in 1.2"))
        assert note.message == ("Trivy found 1 critical, 1 high, 1 unknown. At most 0 critical, 0 high may be there.")
        assert (await ask("scan", report="scan.json", maximum={"critical": 1})).verdict == "pass"
        assert (await ask("scan", report="scan.json", maximum={"critical": 0}, fixable=True)).verdict == "pass"
        note = await ask("scan", report="scan.json", maximum={"critical": 1}, warn={"high": 0})
        assert note.verdict == "warn"


async def test_a_scan_of_another_image_proves_nothing() -> None:
    """Tags move; the digest is what is deployed."""
    fake = FakeQuality()
    other = json.dumps({**GRYPE, "source": {"target": {"userInput": "pay:1", "manifestDigest": OTHER}}})
    fake.files |= {"other.json": other.encode(), "broken.json": b"{}", "good.json": json.dumps(GRYPE).encode()}
    async with asked(fake.app, reports_url="URL") as ask:
        note = await ask("scan", report="other.json")
        assert (note.verdict, note.waiting) == ("unknown", False)
        assert note.message == "The Grype report is about another image than sha256:aaaaaaaaaaaa."
        assert (await ask("scan", report="broken.json")).verdict == "unknown"
        assert (await ask("scan", report="good.json")).verdict == "pass"
        assert (await ask("scan", report="none.json")).waiting
        assert (await ask("scan")).message.startswith("The gate scan needs one of `harbor: true` and `report`.")


def harbored(status: str, total: int = 0, **counts: int) -> dict[str, Any]:
    """An artifact as Harbor tells it."""
    overview = {"scan_status": status, "summary": {"total": total, "fixable": 0, "summary": counts}}
    return {"digest": DIGEST, "scan_overview": {"application/vnd.security.vulnerability.report; version=1.1": overview}}


async def test_harbor_is_asked_about_the_very_image() -> None:
    """A repository with a slash in its name is encoded twice; a scan that is not finished is waited for."""
    fake = FakeHarbor()
    place = f"/api/v2.0/projects/shop/repositories/back%252Fpay/artifacts/{DIGEST}"
    image = f"harbor.example/shop/back/pay@{DIGEST}"
    async with asked(fake.app, harbor_url="URL") as ask:
        assert (await ask("scan", image, harbor=True)).waiting
        for status in ("Pending", "Running", "Not Scanned"):
            fake.artifacts[place] = harbored(status)
            assert (await ask("scan", image, harbor=True)).waiting
        fake.artifacts[place] = {"digest": DIGEST}
        assert (await ask("scan", image, harbor=True)).waiting
        fake.artifacts[place] = harbored("Error")
        note = await ask("scan", image, harbor=True)
        assert (note.verdict, note.waiting) == ("unknown", False)
        fake.artifacts[place] = harbored("Success", 12, High=2, Medium=10)
        note = await ask("scan", image, harbor=True)
        assert (note.verdict, note.message) == (
            "fail",
            "Harbor found 2 high, 10 medium. At most 0 high may be there.",
        )
        fake.artifacts[place] = harbored("Success", 3, Low=1)
        note = await ask("scan", image, harbor=True, maximum={"unknown": 0})
        assert note.message.startswith("Harbor found 1 low, 2 unknown.")
        fake.artifacts[place] = harbored("Success")
        assert (await ask("scan", image, harbor=True)).message == "Harbor found nothing."
        note = await ask("scan", "/var/artifacts/x", harbor=True)
        assert note.message.startswith("This build left no image of a registry.")


KEY, STRANGER = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())


def pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def sign(key: ec.EllipticCurvePrivateKey, content: bytes) -> bytes:
    return key.sign(content, ec.ECDSA(hashes.SHA256()))


def payload(digest: str, kind: str = "cosign container image signature") -> bytes:
    """What cosign signed before version 3."""
    return json.dumps({"critical": {"type": kind, "image": {"docker-manifest-digest": digest}}}).encode()


def bundle(key: ec.EllipticCurvePrivateKey, hexed: str = HEXED, predicate: str = SIGNS) -> dict[str, Any]:
    """What cosign 3 signs, as the Sigstore bundle it leaves."""
    kind = "application/vnd.in-toto+json"
    statement: Mapping[str, object] = {"subject": [{"digest": {"sha256": hexed}}], "predicateType": predicate}
    text = json.dumps(statement).encode()
    signature = sign(key, b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(text), text))
    envelope = {
        "payload": base64.b64encode(text).decode(),
        "payloadType": kind,
        "signatures": [{"sig": base64.b64encode(signature).decode()}],
    }
    return {"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "dsseEnvelope": envelope}


@pytest.mark.parametrize("form", ["classic", "bundle", "bundle by tag"])
async def test_a_signature_is_found_and_its_key_is_checked(form: str) -> None:
    """Old and new cosign, registries with and without referrers; another's signature is a no, none is waited for."""
    fake = FakeRegistry("robot", "pw")
    fake.has_referrers = form != "bundle by tag"
    sign_in: dict[str, Any] = {"registry_url": "URL", "registry_user": "robot", "registry_password": SecretStr("pw")}
    async with asked(fake.app, **sign_in) as ask:
        note = await ask("signature")
        assert (note.verdict, note.waiting) == ("unknown", True)
        if form == "classic":
            fake.add_classic("shop/pay", DIGEST, payload(DIGEST), sign(KEY, payload(DIGEST)))
        else:
            fake.add_bundle("shop/pay", DIGEST, bundle(KEY))
        assert (await ask("signature")).verdict == "pass"
        assert (await ask("signature", keys=[pem(STRANGER), pem(KEY)])).message == (
            "The signature is by one of the keys."
        )
        note = await ask("signature", keys=[pem(STRANGER)])
        assert (note.verdict, note.message) == ("fail", "None of 1 signatures is by one of the keys.")
    assert fake.signed_in[0] == "repository:shop/pay:pull"


async def test_what_is_no_signature_of_this_image_is_none() -> None:
    """A signature of another image, an attestation, a payload that was changed: nothing is proven."""
    fake = FakeRegistry()
    async with asked(fake.app, registry_url="URL") as ask:
        fake.add_classic("shop/pay", DIGEST, payload(OTHER), sign(KEY, payload(OTHER)))
        fake.add_bundle("shop/pay", DIGEST, bundle(KEY, predicate="https://slsa.dev/provenance/v1"))
        fake.add_bundle("shop/pay", DIGEST, bundle(KEY, hexed="b" * 64))
        assert (await ask("signature", keys=[pem(KEY)])).waiting
        fake.add_classic("shop/pay", DIGEST, payload(DIGEST), sign(KEY, payload(OTHER)))
        assert (await ask("signature", keys=[pem(KEY)])).verdict == "fail"


async def test_only_our_own_registry_is_asked() -> None:
    """The image's name comes from a build's log: it must not choose who is given our password."""
    fake = FakeRegistry("robot", "pw")
    sign_in: dict[str, Any] = {"registry_url": "URL", "registry_user": "robot", "registry_password": SecretStr("pw")}
    async with asked(fake.app, **sign_in) as ask:
        note = await ask("signature", f"evil.example/shop/pay@{DIGEST}")
        assert (note.verdict, note.waiting) == ("unknown", False)
        note = await ask("signature", f"evil.example/shop/pay@{OTHER}")
        assert "is not the image of" in note.message
        note = await ask("signature", keys=["no key"])
        assert "must be a public key in PEM form" in note.message
    assert fake.app.requests == []
