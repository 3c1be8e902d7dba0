"""What the catalog may name: providers, and the models of their options."""

from __future__ import annotations

from pydantic import BaseModel

from bot.catalog.references import Known
from bot.gates.outside import GATE_OPTIONS
from bot.later import Named

HERE = {
    ("pipeline", "shell"): "bot.pipelines.shell:ShellPipelineOptions",
    ("delivery", "shell"): "bot.delivery.shell:ShellDeliveryOptions",
    ("delivery", "pipeline"): "bot.delivery.pipeline:PipelineDeliveryOptions",
    ("gitops", "values"): "bot.delivery.formats:ValuesOptions",
    ("gitops", "helm"): "bot.delivery.formats:HelmOptions",
    ("gitops", "kustomize"): "bot.delivery.formats:ImageOptions",
    ("gitops", "manifest"): "bot.delivery.formats:ManifestOptions",
    ("gitops", "argocd-source"): "bot.delivery.formats:ArgoSourceOptions",
    **{("gate", name): place for name, place in GATE_OPTIONS.items()},
}
"""What every process has."""

EVERYWHERE = HERE | {
    ("delivery", "argocd"): "bot.delivery.argocd:ArgoOptions",
    ("delivery", "canary"): "bot.delivery.kubernetes_options:CanaryOptions",
    ("delivery", "kubernetes"): "bot.delivery.kubernetes_options:KubernetesOptions",
    ("delivery", "rollouts"): "bot.delivery.kubernetes_options:RolloutOptions",
    ("pipeline", "github"): "bot.pipelines.github:GitHubOptions",
    ("pipeline", "gitlab"): "bot.pipelines.gitlab:GitLabOptions",
    ("pipeline", "jenkins"): "bot.pipelines.jenkins:JenkinsOptions",
    ("pipeline", "prow"): "bot.pipelines.prow:ProwOptions",
    ("pipeline", "tekton"): "bot.pipelines.tekton:TektonOptions",
    ("pipeline", "yunxiao"): "bot.pipelines.yunxiao:YunxiaoOptions",
}
"""Every system whose model loads without its SDK."""


def known_here() -> Known:
    """With the options of what every process has; each is loaded when a catalog uses it."""
    return Known(options=Named[tuple[str, str], type[BaseModel]](HERE))


def known_everywhere() -> Known:
    """With the options of all systems, for `slipway check`."""
    return Known(options=Named[tuple[str, str], type[BaseModel]](EVERYWHERE))
