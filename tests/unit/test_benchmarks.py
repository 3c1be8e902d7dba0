"""How benchmarks are called: by name, several of them, or one with options of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.benchmarks.__main__ import chosen_of, names


def test_names_come_first_and_options_belong_to_one() -> None:
    """`make bench ARGS="follow_runs --age 60"`; none named means all."""
    assert chosen_of(["gitops", "rules"]) == (["gitops", "rules"], [])
    assert chosen_of(["follow_runs", "--age", "60"]) == (["follow_runs"], ["--age", "60"])
    assert chosen_of(["history", "1000"]) == (["history"], ["1000"])
    assert chosen_of([]) == (names(), [])
    for words in (["nothing"], ["--age", "60"], ["rules", "gitops", "--age", "60"]):
        with pytest.raises(SystemExit):
            chosen_of(words)


def test_a_benchmark_with_options_runs_by_its_name() -> None:
    """Its own parser must not see the name."""
    argv = [sys.executable, "-m", "tests.benchmarks", "follow_runs", "--help"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120)
    assert "--age AGE" in done.stdout
