"""Programs that `make tools` puts beside the packages of the virtual environment; see tests/tools."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(sys.prefix) / "tools"
DRIVER = Path(__file__).parents[1] / "tools" / "helm.py"


def program(name: str) -> str | None:
    """A program's path, or None."""
    return shutil.which(name, path=f"{HERE}{os.pathsep}{os.environ.get('PATH', '')}")


def helm(action: str, chart: Path, values: dict[str, Any]) -> dict[str, Any]:
    """What Helm says of a chart with these values. action: lint or render."""
    if not (HERE / "helm").is_dir():
        pytest.skip("Helm is not installed (make tools)")
    done = subprocess.run(
        [sys.executable, str(DRIVER), action, str(chart)],
        input=json.dumps(values),
        env=os.environ | {"PYTHONPATH": str(HERE / "helm")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
