"""Names of images: `registry/repository[:tag]@sha256:digest`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bot.errors import ProviderRejected

_IMAGE = re.compile(
    r"(?P<registry>[A-Za-z0-9.-]+(?::\d+)?)/(?P<repository>[a-z0-9._/-]+)(?::[\w.-]+)?@(?P<digest>sha256:[0-9a-f]{64})"
)


@dataclass(frozen=True, slots=True)
class Image:
    """registry: host and port; repository: `group/name`; digest: `sha256:...`."""

    registry: str
    repository: str
    digest: str


def parse_image(location: str, digest: str) -> Image:
    """The image a build left. Raises ProviderRejected: it left none, or one with another digest."""
    found = _IMAGE.fullmatch(location)
    if found is None:
        raise ProviderRejected("This build left no image of a registry.", hint="Its pipeline must push one.")
    image = Image(found["registry"], found["repository"], found["digest"])
    if image.digest != digest:
        raise ProviderRejected(f"{location} is not the image of {digest[:19]}.", hint="Deploy again.")
    return image
