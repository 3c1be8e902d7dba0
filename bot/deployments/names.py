"""The names that a promotion gives: tags of the image, and a tag of the commit; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from bot.deployments import plan
from bot.deployments.model import Deployment


@dataclass(frozen=True, slots=True)
class Names:
    """tags: name -> whether it may be moved away from another image. All empty: nothing is to be named."""

    image: str = ""
    source: str = ""
    tags: dict[str, bool] = field(default_factory=dict)
    git_tag: str = ""

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.image or self.git_tag)

    @property
    def said(self) -> tuple[str, ...]:
        """As they are shown."""
        made = tuple(f"{self.image}:{tag}" for tag in self.tags) if self.image else ()
        return (*made, *((f"Git tag {self.git_tag}",) if self.git_tag else ()))


def of(seen: Deployment) -> Names:
    """What the catalog wants this release to be called, as it was when it was asked for."""
    service, target = plan.thaw(seen.data.plan)
    words = {
        "service": service.name,
        "environment": target.environment,
        "team": service.team,
        "version": seen.release_version,
        "commit": seen.commit[:12],
    }
    rule = target.promote
    tags = {_tag(_fill(one, words)): "{version}" not in one and "{commit}" not in one for one in rule.tags}
    return Names(
        _fill(rule.image, words), _fill(rule.source, words), tags if rule.image else {}, _fill(rule.git_tag, words)
    )


def _tag(text: str) -> str:
    """What a tag of an image may not hold becomes `-`."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", text).lstrip(".-")[:128] or "none"


def _fill(text: str, words: dict[str, str]) -> str:
    for name, value in words.items():
        text = text.replace("{" + name + "}", value)
    return text
