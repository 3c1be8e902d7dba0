"""Three pipelines a service, and how each language is built: derived, so that a typical service is five lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.catalog import languages
from bot.catalog.load import load_catalog
from bot.catalog.model import PipelineSpec, Service
from bot.pipelines.base import RunRequest
from bot.pipelines.definition import by_convention
from bot.pipelines.remote import fill
from tests.fakes.catalogs import make_service, make_target
from tests.unit.catalog.directories import ROOT, write


def service(directory: Path, written: str, more: str = "", defaults: str = "") -> Service:
    """The service `pay` as the catalog has it. defaults: more lines of that section."""
    files = {"slipway.yaml": ROOT + defaults + more, "services/pay.yaml": f"pay: {{team: shop{written}}}\n"}
    return load_catalog(write(directory, files)).services["pay"]


def test_check_and_cd_stand_beside_what_builds(tmp_path: Path) -> None:
    """Same system, same options, a name of their own."""
    defaults = "  pipeline: {provider: jenkins, name: '{team}/{service}-ci', options: {unstable: pass}}\n"
    target = service(tmp_path, "", defaults=defaults).targets["dev"]
    assert target.pipeline.name == "shop/pay-ci"
    assert target.check == PipelineSpec("jenkins", "pay-check", target.pipeline.timeout, {"unstable": "pass"})
    assert target.cd.name == "pay-cd"


def test_names_follow_patterns_and_a_service_may_differ(tmp_path: Path) -> None:
    """Another system does not inherit the options of the first."""
    defaults = (
        "  pipeline: {provider: jenkins, name: '{service}', options: {unstable: pass}}\n"
        "  check: {name: '{team}/{language}-{service}-check'}\n"
        "  cd: {name: '{service}-to-{environment}'}\n"
    )
    pay = service(tmp_path, ", language: go, check: {provider: github, name: shop/pay/check.yml}", defaults=defaults)
    assert pay.targets["prod"].check == PipelineSpec("github", "shop/pay/check.yml")
    assert pay.targets["prod"].cd.name == "pay-to-prod"
    pay = service(tmp_path, ", language: go", defaults=defaults)
    assert pay.targets["prod"].check.name == "shop/go-pay-check"


def test_every_language_we_know_is_whole() -> None:
    """The file is data; each convention is a pipeline that could run."""
    assert set(languages.known()) == {"java", "go", "nodejs", "php", "python"}
    for language in languages.known():
        rule = languages.rule(language, {}, ())
        one = Service(name="pay", team="shop", repo="", language=language, build=rule)
        definition = by_convention(one)
        assert definition.steps
        assert definition.reports == [*rule.tests, *rule.coverage]
        assert (rule.image_file, bool(rule.tests), bool(rule.artifact)) == ("Dockerfile", True, True)


@pytest.mark.parametrize(
    ("written", "more", "defaults", "artifact", "image_file", "first"),
    [
        ("", "", "", "", "", ""),
        (", language: java", "", "", "target", "Dockerfile", "mvn"),
        (", language: java", "languages: {java: {image_file: ci/Dockerfile}}\n", "", "target", "ci/Dockerfile", "mvn"),
        (", language: java, build: {artifact: app/build/libs}", "", "", "app/build/libs", "Dockerfile", "mvn"),
        (
            ", language: java, build: {steps: [{name: all, run: [./gradlew, build]}]}",
            "languages: {java: {artifact: build}}\n",
            "  build: {image_file: Containerfile}\n",
            "build",
            "Containerfile",
            "./gradlew",
        ),
        (
            ", language: rust",
            "languages: {rust: {steps: [{name: all, run: [cargo, build]}], artifact: target}}\n",
            "",
            "target",
            "",
            "cargo",
        ),
    ],
)
def test_the_narrower_place_changes_single_fields(
    tmp_path: Path, written: str, more: str, defaults: str, artifact: str, image_file: str, first: str
) -> None:
    """Slipway's convention, the company's, the default, the service's."""
    rule = service(tmp_path, written, more, defaults).build
    assert (rule.artifact, rule.image_file) == (artifact, image_file)
    assert (rule.steps[0].run[0] if rule.steps else "") == first


def test_pipelines_elsewhere_are_told_the_convention() -> None:
    """One shared pipeline for a language needs no file in each repository; words are quoted for the shell."""
    target = make_target(service="pay")
    build = languages.rule("nodejs", {}, [])
    one = Service(name="pay", team="shop", repo="", language="nodejs", build=build, targets={"prod": target})
    request = RunRequest("i", one, target, "", "c" * 40, "main", "1.4", {"digest": "sha256:1"})
    assert fill("{build_command}", request) == "npm ci && npm test && npm run build"
    assert fill("{language} {image_file} {artifact} {digest}", request) == "nodejs Dockerfile dist sha256:1"
    assert fill("{test_reports}", request) == "junit.xml,reports/**/*.xml"
    assert fill("{build_command}", RunRequest("i", make_service(target), target, "", "", "", "")) == ""
