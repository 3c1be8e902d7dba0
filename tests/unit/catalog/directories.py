"""Small catalog directories for tests."""

from __future__ import annotations

from pathlib import Path

ROOT = """\
environments:
  dev: {branch: develop, order: 1}
  prod: {branch: main, order: 2, protected: true}
people:
  olive: {name: Olive Owner, email: olive@slipway.example, chats: {slack: U1}}
  leo: {name: Leo Lead, chats: {slack: [U2, U3]}}
  rita: {}
teams:
  shop: {name: Shop, leads: [leo], members: [olive]}
release_managers: [rita]
defaults:
  repo: "repos/{service}.git"
  gitops: {repo: repos/config.git}
"""
SERVICES = "pay: {team: shop, owners: [olive]}\n"


def write(directory: Path, files: dict[str, str]) -> Path:
    """Write files, with the folders they need, over what is there."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return directory


def good(directory: Path, **files: str) -> Path:
    """A right catalog, and further root files by name without ending."""
    more = {f"{name}.yaml": text for name, text in files.items()}
    return write(directory, {"slipway.yaml": ROOT, "services/pay.yaml": SERVICES, **more})
