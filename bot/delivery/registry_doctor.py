"""What `slipway doctor` looks at in image registries: whether promotions may write where they name images."""

from __future__ import annotations

from collections.abc import AsyncIterator

from bot.catalog.model import Catalog
from bot.delivery.registry import Registries
from bot.doctor import Finding
from bot.errors import ProviderError
from bot.settings import Settings


def images_of(catalog: Catalog) -> list[str]:
    """One image of each registry that promotions write to; the others need the same account."""
    images: dict[str, str] = {}
    for service in catalog.services.values():
        for target in service.targets.values():
            image = target.promote.image
            for name, value in (("service", service.name), ("environment", target.environment), ("team", service.team)):
                image = image.replace(f"{{{name}}}", value)
            if image:
                images.setdefault(image.partition("/")[0], image)
    return list(images.values())


async def check(settings: Settings, catalog: Catalog) -> AsyncIterator[Finding]:
    """Begin an upload and give it up: nothing is left behind."""
    registries = Registries(settings.registry_auth_file, settings.registry_insecure.split(","))
    try:
        for image in images_of(catalog):
            try:
                await registries.try_write(image)
                yield Finding("registry", f"{image} may be written.")
            except ProviderError as error:
                yield Finding("registry", error.message, error.hint or "Correct `promote` in the catalog.")
    finally:
        await registries.close()
