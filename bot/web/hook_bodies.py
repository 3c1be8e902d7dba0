"""What senders' webhook bodies say, in our words. They are outside text: odd ones raise, and are refused.

Sources: `@octokit/webhooks-examples` 7.6.1, GitLab's `doc/user/project/integrations/webhooks.md`, the Notification
plugin's `BuildState.java`, tektoncd/pipeline `docs/events.md`, SonarQube's `WebhookPayloadFactoryImpl.java`,
help.aliyun.com 160761, Standard Webhooks 1.0.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bot.deployments.hooked import GateHint, Push, RunHint
from bot.deployments.merge_checks import MergeRequest
from bot.pipelines.base import INTENT_MARK

Event = RunHint | GateHint | Push | MergeRequest | None
"""None: genuine, and of no use to us."""

BRANCH, TAG = "refs/heads/", "refs/tags/"


def read_github(headers: Mapping[str, str], body: Any) -> Event:
    """Runs and jobs of workflows, pushes of branches and tags (a merge is a push too), and pull requests."""
    match headers.get("x-github-event"):
        case "workflow_run":
            return RunHint("github", run_id=str(body["workflow_run"]["id"]))
        case "workflow_job":
            return RunHint("github", run_id=str(body["workflow_job"]["run_id"]))
        case "push":
            return _github_push(headers, body)
        case "pull_request":
            return _pull_request(headers, body)
        case "check_run":
            return _again(headers, body)
    return None


OURS = "slipway/"
"""Begins the names of our own checks; the service's name follows."""
NEW_HEAD = frozenset({"opened", "reopened", "synchronize", "ready_for_review"})
"""Actions of a pull request after which its head is to be looked at; so is a change of the branch it goes to."""


def _pull_request(headers: Mapping[str, str], body: Any) -> MergeRequest | None:
    action, request = body["action"], body["pull_request"]
    retargeted = action == "edited" and "base" in (body.get("changes") or {})
    if action not in NEW_HEAD and action != "closed" and not retargeted:
        return None
    head, base, sender = request["head"], request["base"], body.get("sender") or {}
    own, theirs = (base.get("repo") or {}).get("id"), (head.get("repo") or {}).get("id")
    return MergeRequest(
        provider="github",
        event_id=headers.get("x-github-delivery", ""),
        repo=str(body["repository"]["full_name"]),
        number=int(request["number"]),
        branch=str(head["ref"]),
        into=str(base["ref"]),
        commit=str(head["sha"]),
        is_open=request["state"] == "open",
        is_draft=bool(request.get("draft")),
        # The repository of a fork may be gone.
        is_fork=own is None or own != theirs,
        user=str(sender.get("login") or ""),
        url=str(request.get("html_url") or ""),
    )


def _github_push(headers: Mapping[str, str], body: Any) -> Push | None:
    ref, head = str(body["ref"]), body.get("head_commit") or {}
    if not ref.startswith((BRANCH, TAG)) or body.get("deleted"):
        return None
    pusher, commits = body.get("pusher") or {}, body.get("commits") or ()
    return Push(
        provider="github",
        event_id=headers.get("x-github-delivery", ""),
        repo=str(body["repository"]["full_name"]),
        branch=ref.removeprefix(BRANCH) if ref.startswith(BRANCH) else "",
        tag=ref.removeprefix(TAG) if ref.startswith(TAG) else "",
        # Of an annotated tag `after` is the tag itself.
        commit=str(head.get("id") or body["after"]),
        email=str(pusher.get("email") or ""),
        user=str(pusher.get("name") or ""),
        message=str(head.get("message") or ""),
        files=_files(commits, complete=0 < len(commits) < 20),
    )


def _again(headers: Mapping[str, str], body: Any) -> MergeRequest | None:
    """Somebody pressed "Re-run" at a check of ours. GitHub lists pull requests of the same repository alone."""
    run, sender = body["check_run"], body.get("sender") or {}
    requests = run.get("pull_requests") or []
    if body["action"] != "rerequested" or not str(run["name"]).startswith(OURS) or not requests:
        return None
    head, base = requests[0]["head"], requests[0]["base"]
    return MergeRequest(
        provider="github",
        event_id=headers.get("x-github-delivery", ""),
        repo=str(body["repository"]["full_name"]),
        number=int(requests[0]["number"]),
        branch=str(head["ref"]),
        into=str(base["ref"]),
        commit=str(run["head_sha"]),
        is_open=True,
        is_fork=head["repo"]["id"] != base["repo"]["id"],
        user=str(sender.get("login") or ""),
        again=headers.get("x-github-delivery", "") or str(run["id"]),
        only=str(run["name"]).removeprefix(OURS),
    )


def read_gitlab(headers: Mapping[str, str], body: Any) -> Event:
    """Pipelines, jobs (whose kind is `build`), pushes of branches and tags, and merge requests."""
    match body.get("object_kind"):
        case "pipeline":
            attributes = body["object_attributes"]
            return RunHint("gitlab", _value(attributes.get("variables"), "SLIPWAY_INTENT"), str(attributes["id"]))
        case "build":
            return RunHint("gitlab", run_id=str(body["pipeline_id"]))
        case "push" | "tag_push":
            return _gitlab_push(headers, body)
        case "merge_request":
            return _merge_request(headers, body)
    return None


def _merge_request(headers: Mapping[str, str], body: Any) -> MergeRequest | None:
    request, changes, user = body["object_attributes"], body.get("changes") or {}, body.get("user") or {}
    action = request.get("action")
    # An update without `oldrev` brought no commits; it may have ended the draft, or changed where it goes.
    updated = request.get("oldrev") or {"draft", "work_in_progress", "target_branch"} & set(changes)
    if action not in ("open", "reopen", "close", "merge") and not (action == "update" and updated):
        return None
    source, target = request.get("source_project_id"), request.get("target_project_id")
    email = str(user.get("email") or "")
    return MergeRequest(
        provider="gitlab",
        event_id=headers.get("idempotency-key") or headers.get("x-gitlab-event-uuid", ""),
        repo=str(body["project"]["path_with_namespace"]),
        number=int(request["iid"]),
        branch=str(request["source_branch"]),
        into=str(request["target_branch"]),
        commit=str(request["last_commit"]["id"]),
        is_open=request["state"] == "opened",
        is_draft=bool(request.get("draft") or request.get("work_in_progress")),
        is_fork=source is None or source != target,
        user=str(user.get("username") or ""),
        email=email if "@" in email else "",  # `[REDACTED]` of who hides it
        url=str(request.get("url") or ""),
    )


def _gitlab_push(headers: Mapping[str, str], body: Any) -> Push | None:
    ref, commit = str(body["ref"]), str(body.get("checkout_sha") or body["after"])
    if not ref.startswith((BRANCH, TAG)) or not commit.strip("0"):
        return None
    commits = body.get("commits") or []
    head: Mapping[str, Any] = next((one for one in commits if one.get("id") == commit), {})
    complete = bool(commits) and len(commits) == body.get("total_commits_count", len(commits))
    return Push(
        provider="gitlab",
        event_id=headers.get("idempotency-key") or headers.get("x-gitlab-event-uuid", ""),
        repo=str(body["project"]["path_with_namespace"]),
        branch=ref.removeprefix(BRANCH) if ref.startswith(BRANCH) else "",
        tag=ref.removeprefix(TAG) if ref.startswith(TAG) else "",
        commit=commit,
        email=str(body.get("user_email") or (head.get("author") or {}).get("email") or ""),
        user=str(body.get("user_username") or ""),
        message=str(head.get("message") or ""),
        files=_files(commits, complete=complete),
    )


def _files(commits: Any, *, complete: bool) -> tuple[str, ...]:
    """Every file the commits touched; nothing if the sender left commits out, so that no filter is fooled."""
    if not complete:
        return ()
    names = {
        str(name) for one in commits or () for kind in ("added", "modified", "removed") for name in one.get(kind) or ()
    }
    return tuple(sorted(names))


def read_jenkins(_headers: Mapping[str, str], body: Any) -> Event:
    """The Notification plugin's body; the parameter that carries the intent comes back by itself."""
    build = body["build"]
    intent = str((build.get("parameters") or {}).get("SLIPWAY_INTENT", ""))
    # `job/team/job/app/` is the job team/app; `name` alone would leave the folder out.
    job = "/".join(str(body.get("url", "")).strip("/").split("/")[1::2])
    return RunHint("jenkins", intent, str(build["number"]), job)


def read_tekton(headers: Mapping[str, str], body: Any) -> Event:
    """A CloudEvent about a PipelineRun, binary or structured. Those of TaskRuns say no more: their run's come too."""
    kind = headers.get("ce-type") or str(body.get("type", ""))
    if not kind.startswith("dev.tekton.event.pipelinerun."):
        return None
    data = body.get("data", body) if "ce-type" not in headers else body
    metadata = data["pipelineRun"]["metadata"]
    intent = str((metadata.get("annotations") or {}).get(INTENT_MARK, ""))
    return RunHint("tekton", intent, str(metadata["name"]))


def read_yunxiao(_headers: Mapping[str, str], body: Any) -> Event:
    """Flow's webhook plugin. Numbers come as numbers or text, parameters as a list or a map, by the version."""
    if body.get("event") != "task":
        return None
    task = body["task"]
    intent = _value(body.get("globalParams"), "SLIPWAY_INTENT")
    return RunHint("yunxiao", intent, str(task["buildNumber"]), str(task["pipelineId"]))


def read_sonar(_headers: Mapping[str, str], body: Any) -> Event:
    """An analysis ended, well or badly: whoever waits for the quality gate of its commit looks again."""
    return GateHint(commit=str(body["revision"])) if body.get("revision") else None


def read_standard(_headers: Mapping[str, str], body: Any) -> Event:
    """`run.*` from scripts: `{"provider", "intent" or "run_id"}`; `test_job.*` from a test platform: the job."""
    kind, data = str(body.get("type", "")), body.get("data") or {}
    if kind.startswith("run."):
        return RunHint(str(data.get("provider", "")), str(data.get("intent", "")), str(data.get("run_id", "")))
    if kind.startswith("test_job."):
        target = data["target"]
        return GateHint(service=str(target["service"]), environment=str(target.get("environment", "")))
    return None


def _value(params: Any, name: str) -> str:
    """A parameter's value, from a list of pairs or a map; empty if it is not there."""
    if isinstance(params, Mapping):
        return str(params.get(name) or "")
    return next((str(one.get("value") or "") for one in params or () if one.get("key") == name), "")
