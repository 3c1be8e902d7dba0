"""Puts one commit of a mirror into a directory. A step of its own, run by path, with the standard library alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def main(mirror: str, commit: str, directory: str) -> int:
    """Clone without hooks, templates or submodules, and check the commit out."""
    environment = os.environ | {
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(Path(__file__).parent.with_name("gitconfig")),
        "GIT_TERMINAL_PROMPT": "0",
    }
    git = ["git", "-c", f"core.hooksPath={os.devnull}"]
    # The objects stay in the mirror: no copy, whatever the size of the history.
    clone = [*git, "clone", "--quiet", "--shared", "--no-checkout", "--template=", "--", mirror, directory]
    check_out = [*git, "-C", directory, "checkout", "--quiet", "--detach", commit, "--"]
    for argv in (clone, check_out):
        code = subprocess.run(argv, env=environment, check=False).returncode
        if code != 0:
            return code
    print(f"checked out {commit}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
