"""Makes `dist/`: the service's modules and its page, checked and ready to run.

The same source gives the same bytes, so that the same release always has the same digest: no times, no machine names.
"""

import hashlib
import json
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
DIST = HERE / "dist"
NOT_SHIPPED = {"build.py"}


def sources():
    """What is shipped, in a fixed order."""
    modules = [path for path in HERE.glob("*.py") if path.name not in NOT_SHIPPED]
    return sorted([*modules, *HERE.glob("*.html")])


def build():
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    contents = {}
    for path in sources():
        data = path.read_bytes()
        if path.suffix == ".py":
            compile(data, path.name, "exec")  # a module that cannot be read is not shipped
        place = DIST / path.name
        place.write_bytes(data)
        place.chmod(0o644)
        contents[path.name] = hashlib.sha256(data).hexdigest()
        print(f"packed {path.name} ({len(data)} bytes)")
    (DIST / "contents.json").write_text(json.dumps(contents, indent=2, sort_keys=True) + "\n")
    return len(contents)


if __name__ == "__main__":
    try:
        print(f"built dist with {build()} files")
    except SyntaxError as error:
        sys.exit(f"{error.filename}:{error.lineno}: error: {error.msg}")
