"""Versions in files people wrote: one value changes, and nothing else does."""

from __future__ import annotations

import json

import pytest
import yaml

from bot.catalog.model import GitopsSpec
from bot.delivery.formats import format_of
from bot.errors import ProviderRejected

D1, D2 = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
NEW = {"version": "1.10", "digest": D2, "commit": "c" * 40}


def edit(kind: str, text: str | None, options: dict[str, object]) -> str:
    form = format_of(GitopsSpec(format=kind, options=options), "web", "prod")
    edited = form.write(text, {key: NEW[key] for key in form.keys}, "`f.yaml`")
    assert form.read(edited, "`f.yaml`") == {key: NEW[key] for key in form.keys}
    return edited


WEB: dict[str, object] = {"image": "app/{service}"}
CHART: dict[str, object] = {"tag": "image.tag", "digest": "image.digest"}
CASES: dict[str, tuple[str, dict[str, object], str | None, str]] = {
    "helm: in place, with comments, quotes and order": (
        "helm",
        {},
        "# ours\nimage:\n  repository: app/web # not this\n  tag: 1.9 # the version\n"
        f"  digest: '{D1}'\n\nreplicas: 3\n",
        f'# ours\nimage:\n  repository: app/web # not this\n  tag: "1.10" # the version\n'
        f'  digest: "{D2}"\n\nreplicas: 3\n',
    ),
    "helm: a missing digest is put beside the tag": (
        "helm",
        {},
        "image:\n  tag: 1.9 # v\n  pull: Always\nrest: 1\n",
        f'image:\n  tag: "1.10" # v\n  digest: "{D2}"\n  pull: Always\nrest: 1\n',
    ),
    "helm: a new file": (
        "helm",
        {},
        None,
        f'image:\n  tag: "1.10"\n  digest: "{D2}"\n',
    ),
    "helm: a place in a list, and the tag alone": (
        "helm",
        {"tag": "apps[1].image.tag", "digest": ""},
        "apps:\n  - image: {tag: a}\n  - image: {tag: b, x: 1}\n",
        'apps:\n  - image: {tag: a}\n  - image: {tag: "1.10", x: 1}\n',
    ),
    "helm: a literal key with dots wins": (
        "helm",
        {"tag": "image.tag", "digest": ""},
        "image.tag: old\nimage:\n  tag: other\n",
        'image.tag: "1.10"\nimage:\n  tag: other\n',
    ),
    "kustomize: the right image of several": (
        "kustomize",
        WEB,
        "resources: [a.yaml]\nimages:\n  - name: app/webhook\n    newTag: x\n"
        "  - name: app/web # ours\n    newTag: '1.9'\n",
        "resources: [a.yaml]\nimages:\n  - name: app/webhook\n    newTag: x\n  - name: app/web # ours\n"
        f'    digest: "{D2}"\n    newTag: "1.10"\n',
    ),
    "kustomize: no images yet": (
        "kustomize",
        WEB,
        "resources:\n  - a.yaml",
        f'resources:\n  - a.yaml\nimages:\n  - name: "app/web"\n    newTag: "1.10"\n    digest: "{D2}"\n',
    ),
    "kustomize: another image only": (
        "kustomize",
        WEB,
        "images:\n- name: app/x\n  newTag: y\n",
        f'images:\n- name: "app/web"\n  newTag: "1.10"\n  digest: "{D2}"\n- name: app/x\n  newTag: y\n',
    ),
    "kustomize: a suffix that would be dead is taken out": (
        "kustomize",
        WEB,
        f"images:\n- name: app/web\n  newTag: y\n  tagSuffix: -eu\n  digest: {D1}\n",
        f'images:\n- name: app/web\n  newTag: "1.10"\n  digest: "{D2}"\n',
    ),
    "manifest: every container of the image, in every document": (
        "manifest",
        {"image": "reg.example:5000/web"},
        "kind: Service\nspec: {}\n---\nkind: Deployment\nspec:\n  template:\n    spec:\n      initContainers:\n"
        "      - image: reg.example:5000/web:1.9\n      containers:\n      - name: web\n"
        f"        image: reg.example:5000/web:1.9 # v\n      - image: mesh/proxy@{D1}\n",
        "kind: Service\nspec: {}\n---\nkind: Deployment\nspec:\n  template:\n    spec:\n      initContainers:\n"
        f'      - image: "reg.example:5000/web:1.10@{D2}"\n      containers:\n      - name: web\n'
        f'        image: "reg.example:5000/web:1.10@{D2}" # v\n      - image: mesh/proxy@{D1}\n',
    ),
    "argocd-source: a new override": (
        "argocd-source",
        WEB,
        None,
        f'slipwayVersion: "1.10"\nkustomize:\n  images:\n    - "app/web=app/web@{D2}"\n',
    ),
    "argocd-source: in place beside another": (
        "argocd-source",
        WEB,
        f"kustomize:\n  images:\n  - app/x:1\n  - app/web@{D1}\nslipwayVersion: '1.9'\n",
        f'kustomize:\n  images:\n  - app/x:1\n  - "app/web=app/web@{D2}"\nslipwayVersion: "1.10"\n',
    ),
    "argocd-source: parameters of a chart": (
        "argocd-source",
        CHART,
        None,
        f'helm:\n  parameters:\n    - name: "image.digest"\n      value: "{D2}"\n      forceString: true\n'
        '    - name: "image.tag"\n      value: "1.10"\n      forceString: true\n',
    ),
    "argocd-source: parameters in place, forced to be texts": (
        "argocd-source",
        {"tag": "image.tag"},
        "helm:\n  parameters:\n  - name: replicas # theirs\n    value: '3'\n  - name: image.tag\n    value: 1.9\n",
        "helm:\n  parameters:\n  - name: replicas # theirs\n    value: '3'\n  - name: image.tag\n"
        '    forceString: true\n    value: "1.10"\n',
    ),
}


@pytest.mark.parametrize(("kind", "options", "before", "after"), CASES.values(), ids=CASES.keys())
def test_only_the_version_changes(kind: str, options: dict[str, object], before: str | None, after: str) -> None:
    """People's comments and order are theirs; a diff of a release shows the release."""
    assert edit(kind, before, options) == after


REFUSED: dict[str, tuple[str, dict[str, object], str | None, str]] = {
    "no such format": ("jsonnet", {}, "", "known are: values, helm"),
    "an image is needed": ("kustomize", {}, "", "`image` is missing"),
    "neither an image nor a parameter": ("argocd-source", {}, "", "needs `image` (for a kustomize application)"),
    "no kustomization": ("kustomize", WEB, None, "does not exist"),
    "no container of that image": ("manifest", WEB, "kind: X\n", "has no container with the image app/web"),
    "templated": ("manifest", WEB, "image: {{ .x }}\n a: b", "is not valid YAML"),
    "a value in the way": ("helm", {}, "image: web\n", "`f.yaml`"),
    "an alias would change another place": (
        "helm",
        {"tag": "b.tag", "digest": ""},
        "a: &x\n  tag: '1'\nb: *x\n",
        "cannot be edited safely",
    ),
    "aliases that multiply": (
        "helm",
        {},
        "\n".join(
            [
                "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1]",
                *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)),
            ]
        ),
        "is too large",
    ),
    "a block of text": ("helm", {"digest": ""}, "image:\n  tag: |\n    1\n", "more than a plain value"),
}


@pytest.mark.parametrize(("kind", "options", "text", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_edited_without_harm_is_refused(
    kind: str, options: dict[str, object], text: str | None, said: str
) -> None:
    """A clear sentence beats a broken file in everybody's repository."""
    with pytest.raises(ProviderRejected) as caught:
        edit(kind, text, options)
    assert said in caught.value.sentence()


def test_containers_that_differ_have_no_version() -> None:
    """Which one would a rollback go to?"""
    form = format_of(GitopsSpec(format="manifest", options=WEB), "web", "prod")
    text = "spec:\n  containers:\n  - image: app/web:1\n  - image: app/web:2\n"
    with pytest.raises(ProviderRejected, match="in several versions"):
        form.read(text, "`f.yaml`")


ROLLOUT = """# the service
kind: Rollout
spec:
  strategy:
    canary:
      steps:  # from the catalog
      - setWeight: 5
      - pause: {duration: 10m}
      # and then all
      maxSurge: 1
  template:
    spec:
      containers:
      - {name: web, image: "registry.example/web:1"}
"""


def test_the_steps_of_a_rollout_are_the_catalogs_weights() -> None:
    """One commit holds version and steps; the rest stays; steps that say the same already stay as they are written."""
    options = {"image": "registry.example/web", "steps": True}
    form = format_of(GitopsSpec(format="manifest", options=options), "web", "prod", (10, 50))
    wanted = {"version": "2", "digest": f"sha256:{'a' * 64}"}
    made = form.write(ROLLOUT, wanted, "`rollout.yaml`")
    (body,) = yaml.safe_load_all(made)
    steps = [{"setWeight": 10}, {"pause": {}}, {"setWeight": 50}, {"pause": {}}]
    assert body["spec"]["strategy"]["canary"] == {"steps": steps, "maxSurge": 1}
    assert "# the service" in made
    assert "# and then all" in made
    again = made.replace(json.dumps(steps), "\n" + "\n".join(f"      - {json.dumps(step)}" for step in steps))
    assert form.write(again, wanted, "`rollout.yaml`") == again
    with pytest.raises(ProviderRejected, match="has no Rollout with a canary"):
        form.write(ROLLOUT.replace("canary", "blueGreen"), wanted, "`rollout.yaml`")
    plain = format_of(GitopsSpec(format="manifest", options={"image": "registry.example/web"}), "web", "prod", (10,))
    assert "setWeight: 5" in plain.write(ROLLOUT, wanted, "`rollout.yaml`")


def test_the_steps_of_a_chart_are_a_list_in_its_values() -> None:
    """At the path that the catalog names, made there if the mapping above it is."""
    form = format_of(GitopsSpec(format="helm", options={"steps": "rollout.steps"}), "web", "prod", (20,))
    made = form.write("image:\n  tag: a\n  digest: b\nrollout:\n  on: true\n", {"version": "2", "digest": "d"}, "`v`")
    assert yaml.safe_load(made)["rollout"]["steps"] == [{"setWeight": 20}, {"pause": {}}]
