"""`.slipway/pipeline.yaml`: the pipeline that a service keeps in its own repository.

steps:
  - name: test
    run: [python3, -m, unittest, discover, -v]
    timeout: 2m
artifact: dist
reports: [reports/*.xml]      # test and coverage reports that the gates read; may be left out
"""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import PurePosixPath

import yaml
from pydantic import Field, field_validator

from bot.catalog.model import Service
from bot.errors import ProviderRejected
from bot.options import Argv, Duration, Options, read_options

CHECKOUT = "checkout"
ARTIFACT = "artifact"
REPORTS = "reports"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,39}")


class StepDefinition(Options):
    """One command. `run` is a list of words, never a shell string."""

    name: str
    run: Argv = Field(min_length=1)
    timeout: Duration = timedelta(minutes=10)

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError("must be 1 to 40 letters, digits, spaces, dots or hyphens")
        if name in (CHECKOUT, ARTIFACT, REPORTS):
            raise ValueError(f"must not be `{name}`, which is a stage of its own")
        return name

    @field_validator("run")
    @classmethod
    def _no_nul(cls, run: list[str]) -> list[str]:
        if not run[0] or any("\0" in word for word in run):
            raise ValueError("must name a program and hold no NUL characters")
        return run


class PipelineDefinition(Options):
    """The whole file. `artifact` is the file or directory that the steps leave, relative to the repository.

    A pipeline that builds nothing says `artifact: null`. reports: patterns of files that are kept for the gates.
    """

    steps: list[StepDefinition] = Field(min_length=1, max_length=50)
    artifact: str | None
    reports: list[str] = Field(default_factory=list, max_length=20)

    @field_validator("steps")
    @classmethod
    def _distinct(cls, steps: list[StepDefinition]) -> list[StepDefinition]:
        names = [step.name for step in steps]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"has two steps named `{twice}`; give each its own name")
        return steps

    @field_validator("reports")
    @classmethod
    def _below(cls, reports: list[str]) -> list[str]:
        for pattern in reports:
            path = PurePosixPath(pattern)
            if path.is_absolute() or not path.parts or ".." in path.parts or "\0" in pattern:
                raise ValueError("must be patterns inside the repository, such as reports/*.xml")
        return reports

    @field_validator("artifact")
    @classmethod
    def _inside(cls, artifact: str | None) -> str | None:
        if artifact is None:
            return None
        path = PurePosixPath(artifact)
        if path.is_absolute() or not path.parts or {"..", ".git"} & set(path.parts) or "\0" in artifact:
            raise ValueError("must be a file or directory inside the repository, such as dist")
        return str(path)


def by_convention(service: Service) -> PipelineDefinition:
    """What a repository without the file means: the steps of its language, or what the catalog says instead.

    Raises ProviderRejected: the convention is not whole.
    """
    rule = service.build
    values = {
        "steps": [{"name": step.name, "run": list(step.run)} for step in rule.steps],
        "artifact": rule.artifact or None,
        "reports": [*rule.tests, *rule.coverage],
    }
    return read_options(PipelineDefinition, values, f"`build` of {service.name}")


def read_definition(text: bytes, where: str) -> PipelineDefinition:
    """Check the file. where: its name and commit, at the start of a sentence.

    Raises ProviderRejected with the field, or the line if it is no YAML, and what is allowed.
    """
    try:
        values = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ProviderRejected(f"{where} is not valid YAML{line}: {error.problem}.", hint="Correct it.") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError):
        raise ProviderRejected(f"{where} is not valid YAML.", hint="Correct it.") from None
    if not isinstance(values, dict):
        raise ProviderRejected(f"{where} must hold `steps` and `artifact`.", hint="Add them.")
    return read_options(PipelineDefinition, values, where)
