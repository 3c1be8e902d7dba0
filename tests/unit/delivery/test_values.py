"""Editing a person's YAML file without touching what is theirs."""

from __future__ import annotations

import pytest

from bot.delivery.values import read_values, remove_values, set_values
from bot.errors import ProviderRejected

NEW = {"version": "1.10", "digest": "sha256:aa", "commit": "c0ffee"}

KEPT = [
    ("", 'version: "1.10"\ndigest: "sha256:aa"\ncommit: "c0ffee"\n'),
    (
        "# ours\nreplicas: 3 # three\nversion: 1.9   # the version\n\nenv:\n  version: 7\ndigest: 'x'\n",
        '# ours\nreplicas: 3 # three\nversion: "1.10"   # the version\n\nenv:\n  version: 7\n'
        'digest: "sha256:aa"\ncommit: "c0ffee"\n',
    ),
    ("version:\ndigest:\ncommit:", 'version: "1.10"\ndigest: "sha256:aa"\ncommit: "c0ffee"'),
    ("a: 1", 'a: 1\nversion: "1.10"\ndigest: "sha256:aa"\ncommit: "c0ffee"\n'),
    ("名前: 值\nversion: é\n", '名前: 值\nversion: "1.10"\ndigest: "sha256:aa"\ncommit: "c0ffee"\n'),
    ("{version: 1, digest: 2, commit: 3}\n", '{version: "1.10", digest: "sha256:aa", commit: "c0ffee"}\n'),
    (
        'version: "1.8"\r\nx: 1\r\ndigest: d\r\ncommit: c\r\n',
        'version: "1.10"\r\nx: 1\r\ndigest: "sha256:aa"\r\ncommit: "c0ffee"\r\n',
    ),
]


@pytest.mark.parametrize(("before", "after"), KEPT)
def test_comments_order_and_other_keys_stay(before: str, after: str) -> None:
    """A configuration repository belongs to people; the bot's diff is three lines."""
    assert set_values(before, NEW, "`f`") == after
    assert read_values(after, "`f`") == NEW
    assert set_values(after, NEW, "`f`") == after


HARMFUL = [
    "- a\n- b\n",
    "just text",
    "version: |\n  1.2\n",
    "version: {a: 1}\n",
    "version: &v 1.2\nother: *v\n",
    "a: 1\n...\n",
    "a: 1\n---\nb: 2\n",
    "{a: 1}\n",
    "a: [\n",
    "\x00",
    "a: !!python/object/apply:os.system [id]\n",
]


@pytest.mark.parametrize("text", HARMFUL)
def test_what_cannot_be_edited_safely_is_left_alone(text: str) -> None:
    """Better a refused deployment with a sentence than a broken file in Git."""
    with pytest.raises(ProviderRejected) as caught:
        set_values(text, NEW, "`prod/pay.yaml`")
    assert caught.value.sentence().startswith("`prod/pay.yaml` ")


def test_taking_the_version_away() -> None:
    """Undoing a first deployment leaves the file as it was, or no file if all of it was ours."""
    assert remove_values('version: "1"\ndigest: "d"\n', "`f`") is None
    assert remove_values('# c\nversion: "1"\na: 1\ndigest: "d"\ncommit: "c"\n', "`f`") == "# c\na: 1\n"
    assert remove_values("", "`f`") is None
