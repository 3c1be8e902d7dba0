"""How a service is built by convention: what Slipway knows of its language, then what company and service say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from bot.catalog.model import BuildRule, BuildStep
from bot.catalog.schema import BuildIn

DATA = Path(__file__).with_name("languages.yaml")
FIELDS = tuple(field.name for field in fields(BuildRule))


@cache
def known() -> Mapping[str, BuildIn]:
    """Language -> its convention, as shipped."""
    return {name: BuildIn.model_validate(value) for name, value in yaml.safe_load(DATA.read_text("utf-8")).items()}


def rule(language: str, company: Mapping[str, BuildIn], narrower: Iterable[BuildIn | None]) -> BuildRule:
    """The convention of a language with the company's changes, and those of ever narrower places, field by field."""
    values: dict[str, Any] = {}
    for written in (known().get(language), company.get(language), *narrower):
        if written is not None:
            values |= {name: value for name in FIELDS if (value := getattr(written, name)) is not None}
    if "steps" in values:
        values["steps"] = tuple(BuildStep(one.name, tuple(one.run)) for one in values["steps"])
    lists: dict[str, Any] = {name: tuple(values[name]) for name in ("tests", "coverage") if name in values}
    return BuildRule(**(values | lists))
