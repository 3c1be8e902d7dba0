"""`delivery.options` of the provider `kubernetes`; loads without its client, so that `slipway check` can read them."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field, Strict

from bot.delivery.kubernetes_status import WorkloadKind
from bot.options import Duration, Options


class KubernetesOptions(Options):
    """`delivery.options` of the catalog; {service}, {environment} and {team} are filled in.

    image: with its registry, without tag. kind: of the workload, whose name is `deployment`. container: the one whose
    image it is. context: of the kubeconfig, empty: the current one. timeout: for the whole rollout, beside a
    Deployment's own progress deadline; the other kinds have none.
    """

    image: str = Field(min_length=1)
    namespace: str = "{environment}"
    kind: Annotated[WorkloadKind, Strict(False)] = WorkloadKind.DEPLOYMENT
    deployment: str = "{service}"
    container: str = "{service}"
    context: str = ""
    timeout: Duration = timedelta(minutes=10)


class CanaryOptions(KubernetesOptions):
    """Of the provider `canary`: a pair of Deployments behind one Service. canary: the other one's name.

    Both have the same container; their selectors differ, for instance by `track: stable` and `track: canary`.
    """

    canary: str = "{service}-canary"


class RolloutOptions(KubernetesOptions):
    """Of the provider `rollouts`: an Argo Rollout, without Argo CD. rollout: its name."""

    rollout: str = "{service}"
