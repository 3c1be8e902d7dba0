"""An image registry (OCI distribution 1.1, with token sign-in) and a Harbor."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tests.fakes.serving import Faulty

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SIMPLE = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNS = "https://sigstore.dev/cosign/sign/v1"


def digest_of(data: bytes) -> str:
    """`sha256:...`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class FakeRegistry:
    """manifests: (repository, tag or digest) -> content. has_referrers: whether it speaks OCI 1.1."""

    def __init__(self, user: str = "", password: str = "") -> None:
        self.manifests: dict[tuple[str, str], bytes] = {}
        self.blobs: dict[str, bytes] = {}
        self.referrers: dict[str, list[dict[str, Any]]] = {}
        self.has_referrers = True
        self.secret = base64.b64encode(f"{user}:{password}".encode()).decode() if user else ""
        self.signed_in: list[str] = []
        routes = [
            Route("/token", self._token),
            Route("/v2/{repository:path}/manifests/{reference}", self._manifest),
            Route("/v2/{repository:path}/blobs/{digest}", self._blob),
            Route("/v2/{repository:path}/referrers/{digest}", self._referrers),
        ]
        self.app = Faulty(Starlette(routes=routes))

    def add_blob(self, data: bytes) -> dict[str, Any]:
        """Keep a blob; returns its descriptor without a type."""
        self.blobs[digest_of(data)] = data
        return {"digest": digest_of(data), "size": len(data)}

    def add_classic(self, repository: str, image: str, payload: bytes, signature: bytes) -> None:
        """A signature as cosign left it before version 3."""
        annotations = {"dev.cosignproject.cosign/signature": base64.b64encode(signature).decode()}
        layer = {"mediaType": SIMPLE, "annotations": annotations, **self.add_blob(payload)}
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "layers": [layer]}
        self.manifests[repository, f"{image.replace(':', '-')}.sig"] = json.dumps(manifest).encode()

    def add_bundle(self, repository: str, image: str, bundle: dict[str, Any]) -> None:
        """A Sigstore bundle that refers to the image, as cosign 3 leaves it."""
        layer = {"mediaType": BUNDLE, **self.add_blob(json.dumps(bundle).encode())}
        data = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": BUNDLE, "layers": [layer]})
        digest = digest_of(data.encode())
        self.manifests[repository, digest] = data.encode()
        entry = {"mediaType": MANIFEST, "digest": digest, "artifactType": BUNDLE}
        self.referrers.setdefault(image, []).append(entry)
        # The tag by which registries without referrers keep them; cosign writes no annotations there.
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": self.referrers[image]}
        self.manifests[repository, image.replace(":", "-")] = json.dumps(index).encode()

    def _refused(self, request: Request) -> Response | None:
        if not self.secret or request.headers.get("Authorization") == "Bearer good":
            return None
        realm = f"{request.base_url}token"
        scope = f"repository:{request.path_params['repository']}:pull"
        asked = f'Bearer realm="{realm}",service="registry",scope="{scope}"'
        return JSONResponse({"errors": [{"code": "UNAUTHORIZED"}]}, 401, {"WWW-Authenticate": asked})

    async def _token(self, request: Request) -> Response:
        self.signed_in.append(request.query_params["scope"])
        if request.headers.get("Authorization") != f"Basic {self.secret}":
            return JSONResponse({"errors": [{"code": "UNAUTHORIZED"}]}, 401)
        return JSONResponse({"token": "good", "expires_in": 60})

    async def _manifest(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        data = self.manifests.get((request.path_params["repository"], request.path_params["reference"]))
        if data is None or MANIFEST not in request.headers.get("Accept", ""):
            return JSONResponse({"errors": [{"code": "MANIFEST_UNKNOWN"}]}, 404)
        return Response(data, media_type=json.loads(data)["mediaType"])

    async def _blob(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        data = self.blobs.get(request.path_params["digest"])
        return Response(data) if data is not None else JSONResponse({"errors": [{"code": "BLOB_UNKNOWN"}]}, 404)

    async def _referrers(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        if not self.has_referrers:
            return PlainTextResponse("404 page not found", 404)
        entries = self.referrers.get(request.path_params["digest"], [])
        return JSONResponse({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}, media_type=INDEX)


class FakeHarbor:
    """artifacts: (raw path of the repository, digest) -> the artifact's JSON."""

    def __init__(self) -> None:
        self.artifacts: dict[str, dict[str, Any]] = {}
        self.app = Faulty(Starlette(routes=[Route("/{path:path}", self._artifact)]))

    async def _artifact(self, request: Request) -> Response:
        raw = request.scope["raw_path"].decode()
        found = self.artifacts.get(raw)
        if found is None:
            return JSONResponse({"errors": [{"code": "NOT_FOUND"}]}, 404)
        if "version=1.1" not in request.headers.get("X-Accept-Vulnerabilities", ""):
            found = {key: value for key, value in found.items() if key != "scan_overview"}
        return JSONResponse(found)
