"""A small company in a directory: a catalog, a service's repository, a configuration repository and a machine.

Everything is real (Git, sub-processes) and keeps count of what was done to it, so that a test can say: once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.fakes.repositories import BareRepository, Repository, git

BUILD = """#!/bin/sh
echo built >> "$1/builds.log"
mkdir -p dist && cp message.txt dist/message.txt
"""

MACHINE = """#!/bin/sh
# machine.sh deploy ROOT SERVICE ENVIRONMENT VERSION DIGEST   |   machine.sh running ROOT SERVICE ENVIRONMENT
state="$2/running-$3-$4.json"
case "$1" in
  deploy)
    echo "$3 $4 $5" >> "$2/deploys.log"
    healthy=true; message=
    grep -q broken "$7/message.txt" 2>/dev/null && { healthy=false; message="it answers 503"; }
    printf '{"version":"%s","digest":"%s","healthy":%s,"message":"%s","url":"http://127.0.0.1:1"}' \\
      "$5" "$6" "$healthy" "$message" > "$state.new" && mv "$state.new" "$state" ;;
  running) if [ -f "$state" ]; then cat "$state"; else echo null; fi ;;
esac
"""

PIPELINE = """steps:
  - name: test
    run: [sh, test.sh]
  - name: build
    run: [sh, build.sh, "{effects}"]
artifact: dist
"""

VERIFY = {"timeout": "3s", "settle": "1ms", "interval": "20ms"}

PEOPLE = ("owner", "lead", "releaser", "developer", "outsider")

ROOT = {
    "environments": {
        "dev": {"branch": "develop", "order": 1},
        "prod": {"branch": "main", "order": 2, "protected": True},
    },
    "people": {name: {"name": name.title(), "email": f"{name}@slipway.example"} for name in PEOPLE},
    "teams": {"shop": {"name": "Shop", "leads": ["lead"], "members": ["owner", "developer"]}},
    "release_managers": ["releaser"],
    "channels": {"console": "#releases"},
}


@dataclass(frozen=True, slots=True)
class World:
    """Where everything is."""

    directory: Path
    verify: Mapping[str, str] = field(default_factory=lambda: VERIFY)

    @property
    def effects(self) -> Path:
        """What was done to the world."""
        return self.directory / "effects"

    @property
    def source(self) -> Path:
        """The working copy of the service's repository."""
        return self.directory / "repos" / "app"

    @property
    def config(self) -> Path:
        """The configuration repository."""
        return self.directory / "repos" / "config.git"

    def count(self, name: str) -> int:
        """How often a thing was done: builds, deploys."""
        path = self.effects / f"{name}.log"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def config_log(self) -> list[str]:
        """Commits of the configuration repository, newest first, whole."""
        bare = BareRepository.__new__(BareRepository)
        bare.directory = self.config
        text = bare.git("log", "--format=%B%x00", "main") if (self.config / "refs/heads/main").exists() else ""
        return [part.strip() for part in text.split("\0") if part.strip()]

    def push(self, message: str = "hello", test: str = "exit 0", branch: str = "main") -> str:
        """A new commit of the service; returns it."""
        repository = Repository.__new__(Repository)
        repository.directory = self.source
        repository.git("checkout", "--quiet", "-B", branch)
        return repository.commit({"message.txt": message, "test.sh": f"{test}\n"}, f"say {message}")

    def write(self, files: Mapping[str, str], message: str, branch: str = "main") -> str:
        """A new commit of the service with these files; returns it."""
        repository = Repository.__new__(Repository)
        repository.directory = self.source
        repository.git("checkout", "--quiet", "-B", branch)
        return repository.commit(files, message)

    @property
    def held(self) -> str:
        """A test of a service that goes on until `let_go`, so that something can be done meanwhile."""
        return f"until [ -e {self.effects}/go ]; do sleep 0.05; done"

    def let_go(self) -> None:
        """End the tests that are held."""
        (self.effects / "go").touch()

    def tag(self, name: str) -> None:
        """Tag the newest commit."""
        git(self.source, "tag", name)

    def write_root(self, **sections: object) -> None:
        """Write slipway.yaml: the usual sections with these over them. JSON is YAML."""
        (self.directory / "slipway.yaml").write_text(json.dumps(_root(self) | sections, indent=1))

    def change_environment(self, name: str, **defaults: object) -> None:
        """Lay settings over those of one environment."""
        root = json.loads((self.directory / "slipway.yaml").read_text())
        environment = root["environments"][name]
        environment["defaults"] = environment.get("defaults", {}) | defaults
        (self.directory / "slipway.yaml").write_text(json.dumps(root, indent=1))


def _root(world: World) -> dict[str, object]:
    machine, effects = str(world.directory / "machine.sh"), str(world.effects)
    defaults = {
        "repo": "repos/app",
        "gitops": {"repo": "repos/config.git"},
        "pipeline": {"timeout": "1m"},
        "delivery": {
            "options": {
                "deploy": [
                    "sh",
                    machine,
                    "deploy",
                    effects,
                    "{service}",
                    "{environment}",
                    "{version}",
                    "{digest}",
                    "{artifact}",
                ],
                "running": ["sh", machine, "running", effects, "{service}", "{environment}"],
            }
        },
        "verify": world.verify,
    }
    return {**ROOT, "defaults": defaults}


def make_world(
    directory: Path, services: tuple[str, ...] = ("app",), verify: Mapping[str, str] = VERIFY, **sections: object
) -> World:
    """A world with one good commit. sections: of slipway.yaml, over the usual ones."""
    world = World(directory, verify)
    world.effects.mkdir(parents=True)
    (directory / "machine.sh").write_text(MACHINE)
    repository = Repository(world.source)
    pipeline = PIPELINE.replace("{effects}", str(world.effects))
    files: Mapping[str, str] = {
        "build.sh": BUILD,
        "test.sh": "exit 0\n",
        "message.txt": "hello",
        ".slipway/pipeline.yaml": pipeline,
    }
    repository.commit(files, "first")
    repository.git("branch", "-f", "develop")
    BareRepository(world.config)
    (directory / "services").mkdir()
    (directory / "services" / "all.yaml").write_text(
        "\n".join(f"{name}: {{team: shop, owners: [owner]}}" for name in services)
    )
    world.write_root(**sections)
    return world
