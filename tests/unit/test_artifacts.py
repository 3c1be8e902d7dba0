"""The artifact store: the name is the content, and nothing leads out of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bot.artifacts import BadArtifact, digest, locate, main, store


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "dist"
    (tree / "sub").mkdir(parents=True)
    (tree / "app").write_text("#!/bin/sh\n")
    (tree / "app").chmod(0o755)
    (tree / "sub" / "data").write_text("x")
    (tree / "latest").symlink_to("sub/data")
    return tree


def test_the_same_content_has_the_same_name(tree: Path, tmp_path: Path) -> None:
    """A rebuild on another day, by another user, is the same release."""
    name, place = store(tree, tmp_path / "store")
    os.utime(tree / "app", (1, 1))
    (tree / "sub" / "data").chmod(0o600)
    assert store(tree, tmp_path / "store") == (name, place)
    assert place == tmp_path / "store" / "sha256" / name.removeprefix("sha256:")
    assert digest(place) == name
    assert locate(name, tmp_path / "store") == place
    assert os.access(place / "app", os.X_OK)
    assert (place / "latest").read_text() == "x"
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["sha256"]


def relink(tree: Path, target: str) -> None:
    (tree / "latest").unlink()
    (tree / "latest").symlink_to(target)


def link_to_file(tree: Path) -> None:
    (tree / "latest").unlink()
    (tree / "latest").write_text("x")


def move_bytes(tree: Path) -> None:
    (tree / "app").write_text("#!/bin/sh\nx")
    (tree / "sub" / "data").write_text("")


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda tree: (tree / "sub" / "data").write_text("y"),
    "executable bit": lambda tree: (tree / "app").chmod(0o644),
    "name": lambda tree: (tree / "app").rename(tree / "App"),
    "an empty directory": lambda tree: (tree / "empty").mkdir(),
    "a link's target": lambda tree: relink(tree, "app"),
    "a link made a file": link_to_file,
    "moved bytes": move_bytes,
}


@pytest.mark.parametrize("what", CHANGES)
def test_every_difference_is_another_name(tree: Path, what: str) -> None:
    """What was approved is what runs, to the last bit."""
    before = digest(tree)
    CHANGES[what](tree)
    assert digest(tree) != before


def test_a_single_file_is_an_artifact_too(tmp_path: Path) -> None:
    """Many builds leave one binary."""
    (tmp_path / "app").write_text("x")
    _, place = store(tmp_path / "app", tmp_path / "store")
    assert (place / "app").read_text() == "x"


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "sub/../../outside", "loop"])
def test_links_out_of_the_tree_are_refused(tree: Path, tmp_path: Path, target: str) -> None:
    """An artifact must not carry the machine's files, nor those of another build."""
    (tmp_path / "outside").write_text("secret")
    (tree / "loop").symlink_to("../outside")
    (tree / "evil").symlink_to(target)
    with pytest.raises(BadArtifact, match="leads out of it"):
        store(tree, tmp_path / "store")
    assert list((tmp_path / "store").iterdir()) == []


def test_special_files_are_refused(tree: Path, tmp_path: Path) -> None:
    """Copying a pipe would wait for ever."""
    os.mkfifo(tree / "pipe")
    with pytest.raises(BadArtifact, match="neither a file, a directory nor a link"):
        store(tree, tmp_path / "store")


def test_as_a_step_it_says_what_is_wrong(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The card shows this line."""
    result = tmp_path / "result.json"
    assert main(str(tmp_path), "nothing", str(tmp_path / "store"), str(result)) == 1
    assert capsys.readouterr().out == "slipway: the artifact `nothing` was not built; a step must make it.\n"
    (tmp_path / "link").symlink_to("/")
    assert main(str(tree), "../link/etc", str(tmp_path / "store"), str(result)) == 1
    assert not result.exists()
    assert main(str(tmp_path), "dist", str(tmp_path / "store"), str(result)) == 0
    assert result.exists()


def test_many_builds_of_one_content_at_once(tree: Path, tmp_path: Path) -> None:
    """Two deployments of one commit store the same place without a fight."""
    with ThreadPoolExecutor(8) as pool:
        results = set(pool.map(lambda _: store(tree, tmp_path / "store"), range(16)))
    assert len(results) == 1


@pytest.mark.parametrize("name", ["sha256:../..", "sha256:", "md5:abc", "abc", "sha256:/etc", ""])
def test_only_digests_are_looked_up(tmp_path: Path, name: str) -> None:
    """A name from outside is never a path."""
    (tmp_path / "store" / "sha256").mkdir(parents=True)
    assert locate(name, tmp_path / "store") is None
