"""Git is called without surprises, and its failures become sentences."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from bot.command_line import Finished
from bot.errors import ProviderError, ProviderRejected, ProviderUnavailable
from bot.git import Git, GitUnavailable, Problem, display_address, git_error, mirror_name, split_credentials
from tests.fakes.repositories import BareRepository

CASES = [
    ("fatal: '/x' does not appear to be a git repository", Problem.MISSING_REPOSITORY),
    ("remote: Repository not found.\nfatal: repository 'https://h/x/' not found", Problem.MISSING_REPOSITORY),
    ("ERROR: Repository not found.\nfatal: Could not read from remote repository.", Problem.MISSING_REPOSITORY),
    ("fatal: couldn't find remote ref refs/heads/x", Problem.UNKNOWN_REF),
    ("git@h: Permission denied (publickey).\nfatal: Could not read from remote repository.", Problem.DENIED),
    ("fatal: could not read Username for 'https://h': terminal prompts disabled", Problem.DENIED),
    ("Host key verification failed.\nfatal: Could not read from remote repository.", Problem.DENIED),
    ("remote: error: insufficient permission for adding an object to repository database", Problem.READ_ONLY),
    ("ERROR: Permission to a/b.git denied to deploy key", Problem.READ_ONLY),
    ("! [remote rejected] main -> main (protected branch hook declined)", Problem.DECLINED),
    ("!\tx:refs/heads/main\t[remote rejected] (pre-receive hook declined)", Problem.DECLINED),
    ("!\tx:refs/heads/main\t[rejected] (fetch first)", Problem.NON_FAST_FORWARD),
    ("!\tx:refs/heads/main\t[rejected] (non-fast-forward)", Problem.NON_FAST_FORWARD),
    ("!\tx\t[remote rejected] (cannot lock ref 'refs/heads/main': is at a but expected b)", Problem.NON_FAST_FORWARD),
    ("!\tx\t[remote rejected] (branch is currently checked out)", Problem.CHECKED_OUT),
    ("fatal: unable to access 'https://h/': Could not resolve host: h", Problem.NETWORK),
    ("ssh: connect to host h port 22: Connection refused\nfatal: Could not read from remote", Problem.NETWORK),
    ("ssh: connect to host h port 22: No route to host", Problem.NETWORK),
    ("error: RPC failed; HTTP 502\nfatal: the remote end hung up unexpectedly", Problem.NETWORK),
    ("fatal: write error: No space left on device", Problem.DISK_FULL),
    ("fatal: Unable to create '/c/x.git/index.lock': File exists.", Problem.LOCKED),
    ("error: object file ./objects/12/34 is empty", Problem.BROKEN),
    ("something nobody has seen", Problem.OTHER),
]


@pytest.mark.parametrize(("text", "problem"), CASES)
def test_failures_are_told_apart(text: str, problem: Problem) -> None:
    """What may be retried, and what a person must correct, follows from it."""
    error = git_error("the repository x", Finished(128, b"", text.encode()))
    assert error.problem is problem
    assert error.message.startswith(
        ("The repository x", "Somebody", "The disk", "Another", "The local", "The host key")
    )
    assert "\n" not in error.sentence()


def test_no_secret_reaches_an_error() -> None:
    """Git quotes addresses; tokens in them must not be quoted on."""
    text = (
        b"remote: HTTP Basic: Access denied for token=glpat-abcdefghijklmnopqrst\nfatal: something at https://u:pw@h/x"
    )
    error = git_error("x", Finished(1, b"", text))
    assert isinstance(error, ProviderError)
    assert "glpat" not in error.sentence() + getattr(error, "detail", "")
    assert "pw@" not in getattr(error, "detail", "")


def test_credentials_are_taken_out_of_addresses() -> None:
    """Arguments are readable by every user of the machine."""
    address = split_credentials("https://bot:p%40ss@git.example:8443/a/b.git")
    assert address.url == "https://git.example:8443/a/b.git"
    assert address.settings == (("http.https://git.example:8443/.extraHeader", "Authorization: Basic Ym90OnBAc3M="),)
    assert split_credentials("git@git.example:a/b.git").url == "git@git.example:a/b.git"
    assert display_address("https://bot:pass@git.example/a?token=x") == "https://git.example/a"
    assert "pass" not in mirror_name("https://bot:pass@git.example/a")


async def test_a_hanging_git_is_ended_within_its_time(tmp_path: Path) -> None:
    """A server that accepts and never answers delays one deployment, not the bot."""
    hanging = tmp_path / "hang"
    hanging.write_text("#!/bin/sh\nexec sleep 600\n")
    hanging.chmod(0o755)
    git = Git(timeout=timedelta(seconds=0.3), ssh_command=str(hanging))
    with pytest.raises(GitUnavailable) as caught:
        await git.run("ls-remote", "ssh://nowhere/x", about="the repository x")
    assert caught.value.problem is Problem.TIMED_OUT


async def test_odd_transports_are_refused(tmp_path: Path) -> None:
    """`ext::` in an address would run a command."""
    with pytest.raises((ProviderRejected, ProviderUnavailable)):
        await Git().run("ls-remote", f"ext::sh -c 'touch {tmp_path}/pwned'", about="x")
    assert not (tmp_path / "pwned").exists()


async def test_nobodys_configuration_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person's aliases, hooks and helpers on the machine must not change what the bot does."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text("[core]\n\thooksPath = /evil\n[user]\n\tname = Eve\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("GIT_CONFIG_GLOBAL", raising=False)
    monkeypatch.setenv("GIT_DIR", "/evil")
    finished = await Git().run("config", "--list", about="x")
    assert b"eve" not in finished.out.lower()
    assert f"core.hookspath={os.devnull}".encode() in finished.out


async def test_a_repository_of_another_user_can_be_read(tmp_path: Path) -> None:
    """Mounted repositories often belong to somebody else; the catalog has named them, so they are trusted."""
    if os.getuid() != 0:
        pytest.skip("needs the right to give files away")
    bare = BareRepository(tmp_path / "other.git")
    for directory, _, files in os.walk(bare.directory):
        for path in (directory, *(os.path.join(directory, name) for name in files)):
            os.chown(path, 12345, 12345)
    finished = await Git().run("ls-remote", bare.address, about="x")
    assert finished.code == 0
