"""What the catalog may name: providers, and the models of their options."""

from __future__ import annotations

from dataclasses import replace

from pydantic import BaseModel

from bot.catalog.references import Known


def known_here() -> Known:
    """With the options of what every process has; the SDKs of other systems are not loaded for it."""
    from bot.delivery.formats import FORMAT_OPTIONS
    from bot.delivery.pipeline import PipelineDeliveryOptions
    from bot.delivery.shell import ShellDeliveryOptions
    from bot.gates.outside import gate_options
    from bot.pipelines.shell import ShellPipelineOptions

    options: dict[tuple[str, str], type[BaseModel]] = {
        ("pipeline", "shell"): ShellPipelineOptions,
        ("delivery", "shell"): ShellDeliveryOptions,
        ("delivery", "pipeline"): PipelineDeliveryOptions,
        **{("gate", name): model for name, model in gate_options().items()},
        **{("gitops", name): model for name, model in FORMAT_OPTIONS.items()},
    }
    return Known(options=options)


def known_everywhere() -> Known:
    """With the options of every system whose model loads without its SDK, for `slipway check`."""
    from bot.delivery.argocd import ArgoOptions
    from bot.delivery.kubernetes_options import CanaryOptions, KubernetesOptions, RolloutOptions
    from bot.pipelines.github import GitHubOptions
    from bot.pipelines.gitlab import GitLabOptions
    from bot.pipelines.jenkins import JenkinsOptions
    from bot.pipelines.prow import ProwOptions
    from bot.pipelines.tekton import TektonOptions
    from bot.pipelines.yunxiao import YunxiaoOptions

    known = known_here()
    more: dict[tuple[str, str], type[BaseModel]] = {
        ("delivery", "argocd"): ArgoOptions,
        ("delivery", "canary"): CanaryOptions,
        ("delivery", "kubernetes"): KubernetesOptions,
        ("delivery", "rollouts"): RolloutOptions,
        ("pipeline", "github"): GitHubOptions,
        ("pipeline", "gitlab"): GitLabOptions,
        ("pipeline", "jenkins"): JenkinsOptions,
        ("pipeline", "prow"): ProwOptions,
        ("pipeline", "tekton"): TektonOptions,
        ("pipeline", "yunxiao"): YunxiaoOptions,
    }
    return replace(known, options={**known.options, **more})
