"""Asks PyPI whether advisories name anything that is installed, and fails if one does.

    python -m tests.tools.audit PROGRAM REQUIREMENTS...      PROGRAM: pip-audit's path

A service that cannot be reached is said and passes: it must not stop a release on an island. An advisory that does not
touch us is named in `IGNORED` with the reason.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

IGNORED: Mapping[str, str] = {}
"""Advisory -> why it does not touch us."""
LONGEST = 90
"""Seconds for one file."""


def asked(program: str, requirements: str) -> dict[str, Any] | None:
    """pip-audit's report about a lock file, or None: nobody answered."""
    argv = [program, "-r", requirements, "--require-hashes", "--disable-pip", "--no-deps", "-f", "json"]
    argv += ["--progress-spinner", "off", "--timeout", "5"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=LONGEST)
        report: dict[str, Any] = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return report


def verdict(name: str, report: Mapping[str, Any] | None, ignored: Mapping[str, str] = IGNORED) -> tuple[bool, str]:
    """Whether it may pass, and what to say."""
    packages = (report or {}).get("dependencies") or []
    known = [one for one in packages if "vulns" in one]
    if not known:
        return True, f"{name}: the advisories could not be asked for; nothing is known about them"
    found = [
        f"{one['name']} {one['version']}: {vuln['id']}"
        + (f" (fixed in {', '.join(vuln['fix_versions'])})" if vuln.get("fix_versions") else "")
        for one in known
        for vuln in one["vulns"]
        if not {vuln["id"], *vuln.get("aliases", ())} & set(ignored)
    ]
    if found:
        return False, f"{name}: {len(found)} advisories; upgrade with make lock UPGRADE=1\n  " + "\n  ".join(found)
    silent = f"; {len(packages) - len(known)} could not be asked about" if len(known) < len(packages) else ""
    return True, f"{name}: no advisory for {len(known)} packages{silent}"


def main() -> None:
    """See the module."""
    program, *files = sys.argv[1:]
    passed = True
    for one in files:
        good, said = verdict(one, asked(program, one))
        print(said, flush=True)
        passed &= good
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
