"""How we sign in to Git servers, and that what we write carries our name and signature; real servers, real keys."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest

from bot.delivery.gitops import GitWriter, Signing
from bot.errors import ProviderError, ProviderUnavailable
from bot.git import Credentials, Git
from bot.git_settings import GitSettings, author_of, git_of, signing_of, ssh_command
from bot.settings import SettingsInvalid, read_settings
from tests.fakes.git_http import running_git_server
from tests.fakes.git_ssh import SSHD, make_key, running_ssh_server
from tests.fakes.repositories import BareRepository
from tests.support.certificates import make_authority
from tests.unit.delivery.test_gitops_http import change

SECRET = "s3cret/of-the:server"


class ListeningGit(Git):
    """The real git; keeps what stands in the process list."""

    seen: list[str]

    async def run(self, *arguments, **options):  # type: ignore[no-untyped-def]
        self.__dict__.setdefault("seen", []).extend(arguments)
        return await super().run(*arguments, **options)


async def test_https_credentials_come_from_a_file_and_may_be_rotated(tmp_path: Path) -> None:
    """The catalog holds no secret, no argument does, and a new token needs no restart."""
    BareRepository(tmp_path / "config.git")
    file = tmp_path / "credentials"
    file.write_text("# ours\n\nhttps://bot:other@elsewhere.example\n")
    async with running_git_server(tmp_path, user="bot", password=SECRET) as server:
        repo = f"{server.url}/config.git"
        git = ListeningGit(credentials=Credentials(file))
        writer = GitWriter(tmp_path / "cache", git)
        with pytest.raises(ProviderError, match="refused Slipway's credentials"):
            await writer.write(change(1, repo))
        quoted = SECRET.replace("/", "%2F").replace(":", "%3A")
        file.write_text(file.read_text() + server.url.replace("://", f"://bot:{quoted}@") + "/\n")
        assert (await writer.write(change(1, repo))).changed
    assert not any("s3cret" in word for word in git.seen)


@pytest.mark.parametrize(
    ("url", "user"),
    [
        ("https://git.example/ops/config.git", "ops"),
        ("https://git.example/opsy/config.git", "all"),
        ("https://git.example:8443/ops/config.git", ""),
        ("http://git.example/ops/config.git", ""),
        ("git@git.example:ops/config.git", ""),
    ],
)
def test_of_several_credentials_the_nearest_is_sent(tmp_path: Path, url: str, user: str) -> None:
    """A token must not travel to another host, port, protocol or neighbour."""
    file = tmp_path / "credentials"
    file.write_text("https://all:a@git.example\nhttps://ops:b@git.example/ops\n")
    found = Credentials(file).settings(url)
    expected = {"ops": "b3BzOmI=", "all": "YWxsOmE=", "": ""}[user]
    assert [value for _, value in found] == ([f"Authorization: Basic {expected}"] if expected else [])


async def test_a_missing_credential_file_is_told_and_waited_for(tmp_path: Path) -> None:
    """Mounted secrets appear late; nothing of them is ever in the message."""
    with pytest.raises(ProviderUnavailable, match="SLIPWAY_GIT_CREDENTIALS_FILE cannot be read"):
        Credentials(tmp_path / "none").settings("https://git.example/x.git")


async def test_a_private_authority_is_trusted_by_its_file(tmp_path: Path) -> None:
    """Most companies' Git servers have one; without it the sentence says which setting is missing."""
    BareRepository(tmp_path / "config.git")
    trusted, tls = make_authority(tmp_path)
    async with running_git_server(tmp_path, tls=tls) as server:
        repo = f"{server.url}/config.git"
        with pytest.raises(ProviderUnavailable, match="is not of an authority that Slipway knows") as caught:
            await GitWriter(tmp_path / "a", Git()).write(change(1, repo))
        settings = GitSettings.model_validate({"SLIPWAY_GIT_CA_FILE": trusted})
        assert (await GitWriter(tmp_path / "b", git_of(settings)).write(change(1, repo))).changed
    assert "SLIPWAY_GIT_CA_FILE" in caught.value.sentence()


def ssh_settings(key: Path, known_hosts: Path) -> GitSettings:
    return GitSettings.model_validate({"SLIPWAY_GIT_SSH_KEY_FILE": key, "SLIPWAY_GIT_KNOWN_HOSTS_FILE": known_hosts})


@pytest.mark.skipif(SSHD is None, reason="no sshd here (Debian: apt-get install openssh-server)")
async def test_ssh_with_a_key_of_our_own_and_a_known_host(tmp_path: Path) -> None:
    """A real OpenSSH: written with our key; another key and an unknown host are told apart."""
    bare = BareRepository(tmp_path / "config.git")
    async with running_ssh_server(tmp_path / "ssh") as server:
        repo = server.address(bare.directory)
        good = ssh_settings(server.key, server.known_hosts)
        written = await GitWriter(tmp_path / "cache", git_of(good)).write(change(1, repo))
        assert bare.commits() == [written.revision]
        other = ssh_settings(make_key(tmp_path / "other"), server.known_hosts)
        with pytest.raises(ProviderError, match="refused Slipway's credentials"):
            await GitWriter(tmp_path / "cache-2", git_of(other)).write(change(2, repo))
        (tmp_path / "nobody").touch()
        unknown = ssh_settings(server.key, tmp_path / "nobody")
        with pytest.raises(ProviderError, match="The host key of") as caught:
            await GitWriter(tmp_path / "cache-3", git_of(unknown)).write(change(2, repo))
    assert "SLIPWAY_GIT_KNOWN_HOSTS_FILE" in caught.value.sentence()
    assert len(bare.commits()) == 1


def test_the_ssh_command_never_asks_and_survives_odd_paths(tmp_path: Path) -> None:
    """A prompt would hang a deployment; git gives the command to a shell."""
    key = tmp_path / "my key; rm -rf $HOME"
    key.touch()
    command = ssh_command(GitSettings.model_validate({"SLIPWAY_GIT_SSH_KEY_FILE": key}))
    assert f"'{key}'" in command
    assert "-oBatchMode=yes" in command
    assert "-oStrictHostKeyChecking=yes" in command


async def test_ssh_signed_commits_in_one_push(tmp_path: Path) -> None:
    """Every commit is signed, each on top of the one before, and says who and why as always."""
    bare = BareRepository(tmp_path / "config.git")
    key = make_key(tmp_path / "key")
    writer = GitWriter(tmp_path / "cache", Git(), signing=Signing("ssh", str(key)))
    written = await asyncio.gather(*(writer.write(change(n, bare.address)) for n in range(5)))
    assert sorted(bare.commits()) == sorted(one.revision for one in written)
    allowed = tmp_path / "allowed"
    allowed.write_text(f"slipway@localhost {(tmp_path / 'key.pub').read_text()}")
    config = ("-c", "gpg.format=ssh", "-c", f"gpg.ssh.allowedSignersFile={allowed}")
    shown = bare.git(*config, "log", "--format=%G? %an %(trailers:key=Slipway-Intent,valueonly,separator=)", "main")
    assert sorted(shown.splitlines()) == [f"G Slipway d-{n}" for n in range(5)]


@pytest.mark.skipif(shutil.which("gpg") is None, reason="no gpg here")
async def test_gpg_signed_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Argo CD verifies: a signature by GnuPG; and a key that is not there is told, with nothing pushed."""
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("GNUPGHOME", str(home))
    argv = ["gpg", "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", "Slipway <bot@slipway.example>"]
    subprocess.run([*argv, "ed25519", "sign"], check=True, capture_output=True)
    try:
        bare = BareRepository(tmp_path / "config.git")
        good = GitWriter(tmp_path / "cache", Git(), signing=Signing("openpgp", "bot@slipway.example"))
        await good.write(change(1, bare.address))
        assert bare.git("log", "-1", "--format=%G?", "main") in ("G", "U")
        bad = GitWriter(tmp_path / "cache", Git(), signing=Signing("openpgp", "nobody@slipway.example"))
        with pytest.raises(ProviderUnavailable, match="could not be signed"):
            await bad.write(change(2, bare.address))
        assert len(bare.commits()) == 1
    finally:
        subprocess.run(["gpgconf", "--kill", "gpg-agent"], check=False, capture_output=True)


def test_the_settings_name_what_is_wrong(tmp_path: Path) -> None:
    """At the start, by the variable; and by default nothing is signed."""
    base = {"SLIPWAY_CONFIG": str(tmp_path)}
    plain = read_settings(base)
    assert (signing_of(plain), author_of(plain).name) == (None, "Slipway")
    signed = read_settings(
        base | {"SLIPWAY_GIT_SIGNING_KEY": "ABCD", "SLIPWAY_GIT_AUTHOR_EMAIL": "bot@slipway.example"}
    )
    assert signing_of(signed) == Signing("openpgp", "ABCD")
    assert author_of(signed).email == "bot@slipway.example"
    wrong = {
        "SLIPWAY_GIT_SSH_KEY_FILE": str(tmp_path / "none"),
        "SLIPWAY_GIT_SIGNING_FORMAT": "x509",
        "SLIPWAY_GIT_AUTHOR_NAME": "A <b>\n",
    }
    for name, value in wrong.items():
        with pytest.raises(SettingsInvalid, match=name):
            read_settings(base | {name: value})
