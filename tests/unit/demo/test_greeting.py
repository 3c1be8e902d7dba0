"""The first thing a newcomer reads."""

from __future__ import annotations

import yaml

from bot.demo.greeting import greeting
from bot.demo.workspace import FILES


def test_five_things_to_try_by_people_and_services_that_exist() -> None:
    """A first step that fails by a typing mistake would be the last one."""
    people = yaml.safe_load((FILES / "catalog" / "people.yaml").read_text())["people"]
    things = greeting()["things"]
    assert len(things) == 5
    for thing in things:
        command, service, environment = thing["command"].split()
        assert command in ("/deploy", "/why")
        assert (FILES / "catalog" / "services" / f"{service}.yaml").exists()
        assert environment in ("dev", "test", "prod")
        assert thing["as"] in people
        assert thing["text"].endswith(".")
