"""A real Git server over HTTP: `git http-backend` behind a few lines of CGI, with a password and a count of pushes."""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web


@dataclass
class GitServer:
    """Serves every bare repository below `root`. password: asked of everybody if set. pushes: accepted or not."""

    root: Path
    user: str = ""
    password: str = ""
    url: str = ""
    pushes: int = 0
    fetches: int = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request, by one process of git's own server program."""
        if self.password and request.headers.get("Authorization") != self._expected():
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="git"'})
        if request.path.endswith("/git-receive-pack"):
            self.pushes += 1
        elif request.path.endswith("/git-upload-pack"):
            self.fetches += 1
        body = await request.read()
        process = await asyncio.create_subprocess_exec(
            "git", "http-backend", stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self._env(request, len(body))
        )
        out, _ = await process.communicate(body)
        head, _, content = out.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        status = int(headers.pop("Status", "200").split()[0])
        return web.Response(status=status, body=content, headers=headers)

    def _expected(self) -> str:
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    def _env(self, request: web.Request, length: int) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": "2",
            "GIT_CONFIG_KEY_0": "http.receivepack",
            "GIT_CONFIG_VALUE_0": "true",
            "GIT_CONFIG_KEY_1": "safe.directory",
            "GIT_CONFIG_VALUE_1": "*",
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
            "PATH_INFO": request.path,
            "QUERY_STRING": request.query_string,
            "REQUEST_METHOD": request.method,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(length),
            "REMOTE_ADDR": "127.0.0.1",
            "REMOTE_USER": self.user or "anyone",
        }


@asynccontextmanager
async def running_git_server(
    root: Path, *, user: str = "", password: str = "", tls: ssl.SSLContext | None = None
) -> AsyncIterator[GitServer]:
    """Serve it on 127.0.0.1; `server.url` is its address."""
    server = GitServer(root, user, password)
    app = web.Application(client_max_size=256 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    server.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()
