"""A real OCI registry (Debian's docker-registry), started on this machine for a test."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

PROGRAM = shutil.which("docker-registry") or ""
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {directory}/storage}}}}
http: {{addr: "127.0.0.1:{port}", secret: test}}
{auth}"""
AUTH = "auth: {{htpasswd: {{realm: test, path: {directory}/htpasswd}}}}\n"
USER, PASSWORD = "slipway", "registry-password"
HASHED = "$2y$04$wDKHXLITjugG1DQOniWUcuYemgyJ9P6KkDtVQ.89G2GG.k2zk/7cW"  # bcrypt, the only kind it takes


@dataclass
class RealRegistry:
    """host: `127.0.0.1:PORT`. password: empty where anybody may write."""

    host: str
    password: str = ""

    def client(self) -> httpx.AsyncClient:
        """Speaks to it as whoever pushes images does."""
        auth = (USER, self.password) if self.password else None
        return httpx.AsyncClient(base_url=f"http://{self.host}/v2/", auth=auth, trust_env=False)

    async def push(self, repository: str, content: str, tag: str = "") -> str:
        """An image with one layer of that content; returns its digest."""
        async with self.client() as client:
            config = await self._blob(client, repository, b"{}")
            layer = await self._blob(client, repository, content.encode())
            body = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]}
            return await self._manifest(client, repository, body, MANIFEST, tag)

    async def push_index(self, repository: str, digests: list[str]) -> str:
        """An image for several platforms, made of images that are there."""
        async with self.client() as client:
            manifests = [{"mediaType": MANIFEST, "digest": one, "size": 1} for one in digests]
            body = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
            return await self._manifest(client, repository, body, INDEX, "")

    async def digest_of(self, repository: str, tag: str) -> str:
        """What a tag means, empty if nothing."""
        async with self.client() as client:
            headers = {"Accept": f"{MANIFEST}, {INDEX}"}
            response = await client.head(f"{repository}/manifests/{tag}", headers=headers)
        return response.headers.get("Docker-Content-Digest", "") if response.status_code == 200 else ""

    async def layer_of(self, repository: str, digest: str) -> str:
        """The content of the first layer of an image."""
        async with self.client() as client:
            manifest = await client.get(f"{repository}/manifests/{digest}", headers={"Accept": MANIFEST})
            blob = manifest.json()["layers"][0]["digest"]
            return (await client.get(f"{repository}/blobs/{blob}")).text

    async def _blob(self, client: httpx.AsyncClient, repository: str, data: bytes) -> dict[str, object]:
        digest = _sha256(data)
        begun = await client.post(f"{repository}/blobs/uploads/")
        place = httpx.URL(begun.headers["Location"]).copy_merge_params({"digest": digest})
        done = await client.put(place, content=data, headers={"Content-Type": "application/octet-stream"})
        assert done.status_code == 201, done.text
        return {"mediaType": "application/octet-stream", "digest": digest, "size": len(data)}

    async def _manifest(
        self, client: httpx.AsyncClient, repository: str, body: dict[str, object], kind: str, tag: str
    ) -> str:
        data = json.dumps(body).encode()
        digest = _sha256(data)
        where = f"{repository}/manifests/{tag or digest}"
        done = await client.put(where, content=data, headers={"Content-Type": kind})
        assert done.status_code == 201, done.text
        return digest


def _sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@asynccontextmanager
async def running_registry(directory: Path, *, locked: bool = False) -> AsyncIterator[RealRegistry]:
    """Start one, and end it afterwards. locked: only USER may read and write."""
    directory.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if locked:
        (directory / "htpasswd").write_text(f"{USER}:{HASHED}\n")
    auth = AUTH.format(directory=directory) if locked else ""
    config = directory / "config.yml"
    config.write_text(CONFIG.format(directory=directory, port=port, auth=auth))
    process = await asyncio.create_subprocess_exec(
        PROGRAM, "serve", str(config), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await _answers(f"http://127.0.0.1:{port}/v2/")
        yield RealRegistry(f"127.0.0.1:{port}", PASSWORD if locked else "")
    finally:
        process.kill()
        await process.wait()


async def _answers(url: str) -> None:
    async with asyncio.timeout(30), httpx.AsyncClient(trust_env=False) as client:
        while True:
            try:
                if (await client.get(url)).status_code in (200, 401):
                    return
            except httpx.HTTPError:
                await asyncio.sleep(0.02)


def docker_config(path: Path, host: str, password: str) -> Path:
    """What `docker login` writes."""
    token = base64.b64encode(f"{USER}:{password}".encode()).decode()
    path.write_text(json.dumps({"auths": {f"https://{host}/v1/": {"auth": token}}}))
    return path
