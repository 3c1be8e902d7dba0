"""Bodies as the senders publish them, and what we make of each: woken, started, or politely ignored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bot.deployments.hooked import GateHint, Push, RunHint
from bot.deployments.merge_checks import MergeRequest
from bot.web import hook_bodies as bodies
from bot.web.hook_bodies import Event

SAMPLES = Path(__file__).parents[2] / "samples" / "hooks"
COMMIT = "6113728f27ae82c7b1a177c8d03f9e96e0adf246"


def sample(name: str) -> Any:
    return json.loads((SAMPLES / f"{name}.json").read_text())


def github(name: str) -> Event:
    event = name.removeprefix("github-").partition("-")[0]
    return bodies.read_github({"x-github-event": event, "x-github-delivery": "d1"}, sample(name))


def gitlab(name: str) -> Event:
    return bodies.read_gitlab({"idempotency-key": "k1"}, sample(name))


RUNS = [
    (github, "github-workflow_run", RunHint("github", run_id="1589141559")),
    (github, "github-workflow_job", RunHint("github", run_id="2202229078")),
    (gitlab, "gitlab-pipeline", RunHint("gitlab", run_id="31")),
    (gitlab, "gitlab-build", RunHint("gitlab", run_id="2366")),
]


@pytest.mark.parametrize(("read", "name", "hint"), RUNS)
def test_runs_are_named_by_their_number(read: Any, name: str, hint: RunHint) -> None:
    """A job's event names its run; the Job Hook of GitLab calls itself a build."""
    assert read(name) == hint


def test_what_is_of_no_use_is_none() -> None:
    """A deleted ref deploys nothing."""
    assert github("github-push-tag-deleted") is None


def test_a_merge_request_is_read() -> None:
    """Its head, where it goes, and who did it; both come from the repository they go to, and one is closed."""
    pull, merge = github("github-pull_request"), gitlab("gitlab-merge_request")
    assert isinstance(pull, MergeRequest)
    assert isinstance(merge, MergeRequest)
    assert (pull.repo, pull.number, pull.branch, pull.into) == ("Codertocat/Hello-World", 2, "changes", "master")
    assert (pull.commit, pull.user, pull.event_id) == ("ec26c3e57ca3a959ca5aad62de7213c562f8c821", "Codertocat", "d1")
    assert (pull.is_open, pull.is_draft, pull.is_fork, pull.what) == (False, False, False, "pull request #2")
    assert (merge.repo, merge.number, merge.branch, merge.into) == ("gitlabhq/gitlab-test", 1, "ms-viewport", "master")
    assert (merge.commit, merge.user, merge.email) == (
        "da1560886d4f094c3e6c9ef40349f7d38b5d27d7",
        "user1",
        "user1@example.com",
    )
    assert (merge.is_open, merge.is_draft, merge.is_fork, merge.what) == (True, False, False, "merge request !1")


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"action": "labeled"}, None),
        ({"action": "edited", "changes": {"title": {}}}, None),
        ({"action": "edited", "changes": {"base": {}}}, (True, False)),
        ({"action": "synchronize"}, (True, False)),
        ({"action": "ready_for_review"}, (True, False)),
        ({"action": "synchronize", "repo": None}, (True, True)),
        ({"action": "opened", "repo": {"id": 7}}, (True, True)),
        ({"action": "closed", "state": "closed"}, (False, False)),
    ],
)
def test_a_pull_request_counts_when_its_head_is_new(change: dict[str, Any], wanted: tuple[bool, bool] | None) -> None:
    """Labels and titles change nothing; a head whose repository is another, or gone, is a fork's."""
    body = sample("github-pull_request")
    if "repo" in change:
        body["pull_request"]["head"]["repo"] = change.pop("repo")
    body["pull_request"]["state"] = change.pop("state", "open")
    read = bodies.read_github({"x-github-event": "pull_request"}, body | change)
    assert (read and (read.is_open, read.is_fork)) == wanted  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("attributes", "changes", "wanted"),
    [
        ({"action": "approved"}, {}, None),
        ({"action": "update"}, {"title": {}}, None),
        ({"action": "update", "oldrev": "a" * 40}, {}, (True, False)),
        ({"action": "update"}, {"draft": {"previous": True, "current": False}}, (True, False)),
        ({"action": "update"}, {"target_branch": {}}, (True, False)),
        ({"action": "open", "source_project_id": 8}, {}, (True, True)),
        ({"action": "open", "source_project_id": None}, {}, (True, True)),
        ({"action": "merge", "state": "merged"}, {}, (False, False)),
    ],
)
def test_a_merge_request_counts_when_its_head_is_new(
    attributes: dict[str, Any], changes: dict[str, Any], wanted: tuple[bool, bool] | None
) -> None:
    """As a pull request; an update without `oldrev` brought no commits."""
    body = sample("gitlab-merge_request")
    body["object_attributes"] |= attributes
    read = bodies.read_gitlab({}, body | {"changes": changes})
    assert (read and (read.is_open, read.is_fork)) == wanted  # type: ignore[union-attr]


def test_a_push_is_read() -> None:
    """Who pushed what where, with its files, or none where the sender left commits out."""
    pushed, told = github("github-push"), gitlab("gitlab-push")
    assert isinstance(pushed, Push)
    assert isinstance(told, Push)
    assert (pushed.repo, pushed.branch, pushed.tag, pushed.commit) == ("Codertocat/Hello-World", "master", "", COMMIT)
    assert (pushed.user, pushed.event_id) == ("Codertocat", "d1")
    assert pushed.files
    assert (told.repo, told.branch) == ("mike/diaspora", "master")
    assert told.commit == "da1560886d4f094c3e6c9ef40349f7d38b5d27d7"
    assert (told.user, told.email, told.message) == ("jsmith", "john@example.com", "fixed readme\n")
    assert told.files == ()  # It holds two commits of four.


def test_a_tag_is_read_as_its_commit() -> None:
    """`after` of an annotated tag is the tag itself; the commit stands elsewhere."""
    pushed, told = github("github-push-tag"), gitlab("gitlab-tag_push")
    assert isinstance(pushed, Push)
    assert isinstance(told, Push)
    assert (pushed.branch, pushed.tag, pushed.commit) == ("", "simple-tag", COMMIT)
    assert (told.branch, told.tag, told.commit) == ("", "v1.0.0", "82b3d5ae55f7080f1e6022629cdb57bfae7cccc7")
    assert told.what == "tag v1.0.0"
    annotated = sample("github-push-tag") | {"after": "f" * 40}
    again = bodies.read_github({"x-github-event": "push"}, annotated)
    assert isinstance(again, Push)
    assert again.commit == COMMIT


PIPELINE_RUN = {"pipelineRun": {"metadata": {"name": "slipway-1", "annotations": {"slipway.dev/intent": "d-1-r1"}}}}
KIND = "dev.tekton.event.pipelinerun.successful.v1"


@pytest.mark.parametrize(
    ("headers", "body", "hint"),
    [
        ({"ce-type": KIND}, PIPELINE_RUN, RunHint("tekton", "d-1-r1", "slipway-1")),
        ({}, {"type": KIND, "data": PIPELINE_RUN}, RunHint("tekton", "d-1-r1", "slipway-1")),
        ({"ce-type": KIND}, {"pipelineRun": {"metadata": {"name": "other"}}}, RunHint("tekton", "", "other")),
        ({"ce-type": "dev.tekton.event.taskrun.failed.v1"}, {"taskRun": {}}, None),
        ({"ce-type": "com.example.else"}, {}, None),
    ],
)
def test_tekton(headers: dict[str, str], body: Any, hint: Event) -> None:
    """Binary as Tekton sends them, structured as brokers hand them on; the annotation is our own."""
    assert bodies.read_tekton(headers, body) == hint


@pytest.mark.parametrize("number", [19, "19"])
@pytest.mark.parametrize("params", [[{"key": "SLIPWAY_INTENT", "value": "d-1-r1"}], {"SLIPWAY_INTENT": "d-1-r1"}])
def test_yunxiao(number: object, params: object) -> None:
    """Numbers and parameters in either form, as its versions write them."""
    task = {"pipelineId": number, "buildNumber": number, "statusCode": "SUCCESS"}
    body = {"event": "task", "action": "status", "task": task, "globalParams": params}
    assert bodies.read_yunxiao({}, body) == RunHint("yunxiao", "d-1-r1", "19", "19")
    assert bodies.read_yunxiao({}, {"event": "else"}) is None


def test_gates() -> None:
    """An analysis is about a commit, a test job about a service in an environment."""
    assert bodies.read_sonar({}, {"taskId": "AY", "revision": "c0ffee"}) == GateHint(commit="c0ffee")
    assert bodies.read_sonar({}, {"taskId": "AY"}) is None
    job = {"id": "j", "target": {"service": "pay", "environment": "test"}}
    finished = bodies.read_standard({}, {"type": "test_job.finished", "data": job})
    assert finished == GateHint(service="pay", environment="test")


def test_jenkins_names_the_job_with_its_folder() -> None:
    """`name` alone would leave it out."""
    build = {"number": 17, "parameters": {"SLIPWAY_INTENT": "d-1-r1"}}
    body = {"name": "app", "url": "job/team/job/app/", "build": build}
    assert bodies.read_jenkins({}, body) == RunHint("jenkins", "d-1-r1", "17", "team/app")
