"""The outside systems that deployments are done with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bot.delivery.base import ConfigWriter, Delivery, Images, Tagger
    from bot.gates.base import Gate, Metrics
    from bot.pipelines.base import Pipeline


@dataclass(frozen=True, slots=True)
class Providers:
    """The outside systems, by the names used in the catalog."""

    pipelines: Mapping[str, Pipeline]
    deliveries: Mapping[str, Delivery]
    writer: ConfigWriter
    gates: Sequence[Gate] = ()
    metrics: Metrics | None = None
    images: Images | None = None
    tagger: Tagger | None = None
