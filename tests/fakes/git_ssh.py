"""A real Git server over ssh: OpenSSH's own daemon on a free port of 127.0.0.1, for one key, without a password."""

from __future__ import annotations

import asyncio
import getpass
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support import free_port

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")


@dataclass(frozen=True)
class SshServer:
    """Serves the repositories of this machine to whoever has `key`. known_hosts: its own host key."""

    port: int
    key: Path
    known_hosts: Path

    def address(self, repository: Path) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{repository}"


def make_key(path: Path) -> Path:
    """A private key without a passphrase; its public half is beside it."""
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "slipway", "-f", str(path)]
    subprocess.run(argv, check=True, capture_output=True)
    return path


@asynccontextmanager
async def running_ssh_server(directory: Path) -> AsyncIterator[SshServer]:
    """Serve until the block ends; `directory` keeps its keys."""
    assert SSHD is not None
    directory.mkdir(mode=0o700)
    host, key = make_key(directory / "host"), make_key(directory / "key")
    allowed = directory / "authorized_keys"
    allowed.write_text((directory / "key.pub").read_text())
    allowed.chmod(0o600)
    port = free_port()
    known = directory / "known_hosts"
    known.write_text(f"[127.0.0.1]:{port} {(directory / 'host.pub').read_text()}")
    settings = {
        "ListenAddress": f"127.0.0.1:{port}",
        "HostKey": host,
        "AuthorizedKeysFile": allowed,
        "PidFile": directory / "pid",
        "UsePAM": "no",
        "StrictModes": "no",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
    }
    file = directory / "sshd_config"
    file.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # Where it gives up its rights; the service would make it.
    process = await asyncio.create_subprocess_exec(
        SSHD, "-D", "-e", "-f", str(file), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        await _answers(port)
        yield SshServer(port, key, known)
    finally:
        process.terminate()
        await process.wait()


async def _answers(port: int) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            return
