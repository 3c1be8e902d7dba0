"""Kinds of files a version is written to: our own values, Helm values, kustomizations, manifests, Argo CD overrides.

Source: argoproj/argo-cd v3.5.1 reposerver/repository/repository.go (`.argocd-source`), kubernetes-sigs/kustomize
api/types/image.go (digest beats newTag), argoproj-labs/argocd-image-updater v1.3.0 pkg/argocd/update.go (value paths).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from pydantic import Field, model_validator

from bot.catalog.model import GitopsSpec
from bot.delivery import values
from bot.delivery.rollouts import has_canary, steps_of
from bot.delivery.yaml_edit import Document, Path, get_text, quoted
from bot.errors import ProviderRejected
from bot.options import Options, read_options

_INDEX = re.compile(r"(.*?)\[(\d{1,4})\]")
_IMAGE = re.compile(r"^(?P<name>[^@]+?)(?::(?P<tag>[\w][\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?$")


class Format(Protocol):
    """How a version stands in a file."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Which of version, digest and commit it can hold."""
        ...

    def read(self, text: str | None, where: str) -> dict[str, str]:
        """The keys that are there. text None: there is no file. Raises ProviderRejected."""
        ...

    def write(self, text: str | None, wanted: Mapping[str, str], where: str) -> str:
        """The text with these values. Raises ProviderRejected if it cannot be edited without harm."""
        ...

    def remove(self, text: str, where: str) -> str | None:
        """The text without them, None if nothing is left. Raises ProviderRejected where that makes no sense."""
        ...


class ValuesOptions(Options):
    """`gitops.options` of the format `values`: it has none."""


class Values:
    """A YAML mapping with our keys at its top level."""

    keys = values.KEYS

    def read(self, text: str | None, where: str) -> dict[str, str]:
        """See Format."""
        return values.read_values(text or "", where)

    def write(self, text: str | None, wanted: Mapping[str, str], where: str) -> str:
        """See Format."""
        return values.set_values(text or "", wanted, where)

    def remove(self, text: str, where: str) -> str | None:
        """See Format."""
        return values.remove_values(text, where)


def _values(options: Mapping[str, object], where: str) -> Format:
    read_options(ValuesOptions, options, where)
    return Values()


class HelmOptions(Options):
    """`gitops.options` of the format `helm`: paths in the values file, such as `image.tag` or `images[0].digest`.

    steps: where the chart takes the steps of its Rollout from; empty: they are not ours.
    """

    tag: str = "image.tag"
    digest: str = "image.digest"
    steps: str = ""


@dataclass(frozen=True, slots=True)
class Helm:
    """Tag and digest at two paths of a values file. An empty digest path writes the tag alone."""

    options: HelmOptions
    weights: tuple[int, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """The digest only where there is a path for it."""
        return ("version", "digest") if self.options.digest else ("version",)

    def _paths(self, data: Any) -> dict[str, Path]:
        named = {"version": self.options.tag, "digest": self.options.digest}
        return {key: _value_path(data, named[key]) for key in self.keys}

    def read(self, text: str | None, where: str) -> dict[str, str]:
        """See Format."""
        data = Document(text or "", where).data
        return _present({key: get_text(data, path) for key, path in self._paths(data).items()})

    def write(self, text: str | None, wanted: Mapping[str, str], where: str) -> str:
        """See Format. Missing parents are made at the end of the file."""
        document = Document(text or "", where)
        for key, path in self._paths(document.data).items():
            _set_deep(document, path, wanted[key])
        if self.options.steps and self.weights:
            document.set_list(_value_path(document.data, self.options.steps), steps_of(self.weights))
        return document.finish()

    def remove(self, text: str, where: str) -> str | None:
        """A chart needs a version."""
        raise _no_removal(where)


class ImageOptions(Options):
    """`gitops.options` of `kustomize` and `manifest`. image: as in the manifests, without a tag."""

    image: str = Field(min_length=1)
    new_name: str = ""


@dataclass(frozen=True, slots=True)
class Kustomize:
    """`images` of a kustomization. The digest decides there; the tag beside it is for people, and for reading back."""

    options: ImageOptions
    keys = ("version", "digest")

    def read(self, text: str | None, where: str) -> dict[str, str]:
        """See Format."""
        data = Document(text or "", where).data
        place = _named(data, self.options.image)
        if place is None:
            return {}
        path: Path = ("images", place)
        return _present({"version": get_text(data, (*path, "newTag")), "digest": get_text(data, (*path, "digest"))})

    def write(self, text: str | None, wanted: Mapping[str, str], where: str) -> str:
        """See Format. `tagSuffix` would be dead text beside a digest, so it is taken out."""
        if not (text or "").strip():
            raise ProviderRejected(f"{where} does not exist.", hint="Correct `gitops.path`, or push a kustomization.")
        document = Document(text or "", where)
        place = _named(document.data, self.options.image)
        if place is None:
            self._add(document, wanted)
            return document.finish()
        path: Path = ("images", place)
        document.set((*path, "newTag"), wanted["version"])
        document.set((*path, "digest"), wanted["digest"])
        if self.options.new_name:
            document.set((*path, "newName"), self.options.new_name)
        if get_text(document.data, (*path, "tagSuffix")):
            document.drop((*path, "tagSuffix"))
        return document.finish()

    def _add(self, document: Document, wanted: Mapping[str, str]) -> None:
        item = {"name": self.options.image, "newTag": wanted["version"], "digest": wanted["digest"]}
        if self.options.new_name:
            item["newName"] = self.options.new_name
        lines = [f"{key}: {quoted(value)}" for key, value in item.items()]
        if isinstance(document.data, dict) and document.data.get("images"):
            document.insert_item(("images",), lines, item)
        else:
            block = "".join(f"  {'- ' if n == 0 else '  '}{line}\n" for n, line in enumerate(lines))
            document.append_block(("images",), f"images:\n{block}", [item])

    def remove(self, text: str, where: str) -> str | None:
        """A kustomization without the image would run whatever the manifests say."""
        raise _no_removal(where)


class ManifestOptions(ImageOptions):
    """`gitops.options` of `manifest`. steps: the catalog's `gray.weights` become those of the Rollout in the file."""

    steps: bool = False


@dataclass(frozen=True, slots=True)
class Manifest:
    """`image:` of every container of plain manifests that runs this image; several documents are fine."""

    options: ManifestOptions
    weights: tuple[int, ...] = ()
    keys = ("version", "digest")

    def read(self, text: str | None, where: str) -> dict[str, str]:
        """See Format. Several containers of that image must agree."""
        found = {reference for _, reference in self._places(Document(text or "", where, several=True).data)}
        if len(found) > 1:
            raise ProviderRejected(f"{where} runs {self.options.image} in several versions.", hint="Make them one.")
        match = _IMAGE.match(found.pop()) if found else None
        return _present({"version": match["tag"] or "", "digest": match["digest"] or ""}) if match else {}

    def write(self, text: str | None, wanted: Mapping[str, str], where: str) -> str:
        """See Format."""
        document = Document(text or "", where, several=True)
        places = list(self._places(document.data))
        if not places:
            raise ProviderRejected(
                f"{where} has no container with the image {self.options.image}.", hint="Correct `gitops.options.image`."
            )
        name = self.options.new_name or self.options.image
        for path, _ in places:
            document.set(path, f"{name}:{wanted['version']}@{wanted['digest']}")
        if self.options.steps and self.weights:
            self._set_steps(document, where)
        return document.finish()

    def _set_steps(self, document: Document, where: str) -> None:
        canaries = [
            number
            for number, one in enumerate(document.data)
            if isinstance(one, dict) and one.get("kind") == "Rollout" and has_canary(one)
        ]
        if not canaries:
            raise ProviderRejected(f"{where} has no Rollout with a canary.", hint="Take `steps` out of its options.")
        for number in canaries:
            document.set_list((number, "spec", "strategy", "canary", "steps"), steps_of(self.weights))

    def _places(self, documents: Any) -> Iterator[tuple[Path, str]]:
        names = {self.options.image, self.options.new_name} - {""}
        for path, reference in _images(documents, ()):
            match = _IMAGE.match(reference)
            if match is not None and match["name"] in names:
                yield path, reference

    def remove(self, text: str, where: str) -> str | None:
        """A workload needs an image."""
        raise _no_removal(where)


class ArgoSourceOptions(Options):
    """`gitops.options` of `argocd-source`: `image` for a kustomize application, `tag` for a helm one.

    tag and digest: names of the chart's parameters, such as `image.tag`; an empty digest: the tag alone.
    """

    image: str = ""
    new_name: str = ""
    tag: str = ""
    digest: str = ""

    @model_validator(mode="after")
    def _one_of_both(self) -> ArgoSourceOptions:
        if bool(self.image) == bool(self.tag):
            raise ValueError("needs `image` (for a kustomize application) or `tag` (for a helm one)")
        return self


def _argo_source(options: Mapping[str, object], where: str) -> Format:
    read = read_options(ArgoSourceOptions, options, where)
    if read.tag:
        return ArgoParameters(read)
    return ArgoSource(ImageOptions(image=read.image, new_name=read.new_name))


@dataclass(frozen=True, slots=True)
class ArgoParameters:
    """`.argocd-source-<application>.yaml` of a helm application: an override of its parameters.

    They are forced to be texts, because `1.20` would else become the number 1.2.
    """

    options: ArgoSourceOptions

    @property
    def keys(self) -> tuple[str, ...]:
        """The digest only where there is a parameter for it."""
        return ("version", "digest") if self.options.digest else ("version",)

    def _names(self) -> dict[str, str]:
        names = {"version": self.options.tag, "digest": self.options.digest}
        return {key: names[key] for key in self.keys}

    def read(self, text: str | None, where: str) -> dict[str, str]:
        """See Format."""
        data = Document(text or "", where).data
        places = {key: self._place(data, name) for key, name in self._names().items()}
        values = {
            key: get_text(data, ("helm", "parameters", place, "value"))
            for key, place in places.items()
            if place is not None
        }
        return _present(values)

    def write(self, text: str | None, wanted: Mapping[str, str], where: str) -> str:
        """See Format."""
        document = Document(text or "", where)
        for key, name in self._names().items():
            place = self._place(document.data, name)
            if place is None:
                self._add(document, name, wanted[key])
            else:
                document.set(("helm", "parameters", place, "value"), wanted[key])
                document.set(("helm", "parameters", place, "forceString"), True)
        return document.finish()

    def _add(self, document: Document, name: str, value: str) -> None:
        item: dict[str, str | bool] = {"name": name, "value": value, "forceString": True}
        lines = [f"{key}: {quoted(part)}" for key, part in item.items()]
        if isinstance(document.data, dict) and "helm" in document.data:
            document.insert_item(("helm", "parameters"), lines, item)
            return
        block = "".join(f"    {'- ' if n == 0 else '  '}{line}\n" for n, line in enumerate(lines))
        document.append_block(("helm",), f"helm:\n  parameters:\n{block}", {"parameters": [item]})

    def _place(self, data: Any, name: str) -> int | None:
        parameters = data.get("helm", {}).get("parameters") if isinstance(data, dict) else None
        for number, item in enumerate(parameters or []):
            if isinstance(item, dict) and item.get("name") == name:
                return number
        return None

    def remove(self, text: str, where: str) -> str | None:
        """Without the override the application runs what its chart says."""
        raise _no_removal(where)


@dataclass(frozen=True, slots=True)
class ArgoSource:
    """`.argocd-source-<application>.yaml` beside the manifests: an override of the application's kustomize images.

    An entry holds the digest; the version stands in a key of its own, which Argo CD passes over.
    """

    options: ImageOptions
    keys = ("version", "digest")

    def read(self, text: str | None, where: str) -> dict[str, str]:
        """See Format."""
        data = Document(text or "", where).data
        place = self._place(data)
        match = _IMAGE.match(get_text(data, ("kustomize", "images", place))) if place is not None else None
        version = get_text(data, ("slipwayVersion",))
        return _present({"version": version, "digest": (match["digest"] or "") if match else ""})

    def write(self, text: str | None, wanted: Mapping[str, str], where: str) -> str:
        """See Format."""
        document = Document(text or "", where)
        name = self.options.new_name or self.options.image
        entry = f"{self.options.image}={name}@{wanted['digest']}"
        place = self._place(document.data)
        if place is not None:
            document.set(("kustomize", "images", place), entry)
        elif isinstance(document.data, dict) and "kustomize" in document.data:
            document.insert_item(("kustomize", "images"), [quoted(entry)], entry)
        else:
            document.append_block(
                ("kustomize",), f"kustomize:\n  images:\n    - {quoted(entry)}\n", {"images": [entry]}
            )
        _set_deep(document, ("slipwayVersion",), wanted["version"])
        return document.finish()

    def _place(self, data: Any) -> int | None:
        images = data.get("kustomize", {}).get("images") if isinstance(data, dict) else None
        for number, entry in enumerate(images or []):
            if re.split(r"[=:@]", str(entry), maxsplit=1)[0] == self.options.image:
                return number
        return None

    def remove(self, text: str, where: str) -> str | None:
        """Without the override the application runs what its manifests say."""
        raise _no_removal(where)


_FORMATS: Mapping[str, Callable[[Mapping[str, object], str], Format]] = {
    "values": _values,
    "helm": lambda options, where: Helm(read_options(HelmOptions, options, where)),
    "kustomize": lambda options, where: Kustomize(read_options(ImageOptions, options, where)),
    "manifest": lambda options, where: Manifest(read_options(ManifestOptions, options, where)),
    "argocd-source": _argo_source,
}
FORMATS = tuple(_FORMATS)


def format_of(gitops: GitopsSpec, service: str, environment: str, weights: Sequence[int] = ()) -> Format:
    """The format of a target, with {service} and {environment} filled in. Raises ProviderRejected: no such format."""
    made = _FORMATS.get(gitops.format)
    if made is None:
        known = ", ".join(FORMATS)
        raise ProviderRejected(f"`gitops.format` is {gitops.format!r}, known are: {known}.", hint="Correct it.")
    options = {key: _filled(value, service, environment) for key, value in gitops.options.items()}
    form = made(options, f"gitops.options of {service} in {environment}")
    return replace(form, weights=tuple(weights)) if isinstance(form, (Helm, Manifest)) else form


def _filled(value: object, service: str, environment: str) -> object:
    if not isinstance(value, str):
        return value
    return value.replace("{service}", service).replace("{environment}", environment)


def _present(found: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in found.items() if value}


def _no_removal(where: str) -> ProviderRejected:
    return ProviderRejected(f"{where} cannot be left without a version.", hint="Deploy an earlier release instead.")


def _value_path(data: Any, text: str) -> Path:
    """`image.tag` or `images[0].tag`; a literal key that contains the dots wins, as the image updater has it."""
    if isinstance(data, dict) and text in data:
        return (text,)
    path: list[str | int] = []
    for part in text.split("."):
        while match := _INDEX.fullmatch(part):
            path += [match[1]] if match[1] else []
            path.append(int(match[2]))
            part = ""
        path += [part] if part else []
    return tuple(path)


def _set_deep(document: Document, path: Path, value: str) -> None:
    """Set it, making what is missing above it at the end of the file, if all of it is missing."""
    data = document.data
    if isinstance(data, dict) and (len(path) == 1 or path[0] in data):
        document.set(path, value)
        return
    lines, made, indent = "", value, ""
    for part in reversed(path[1:]):
        made = {part: made}  # type: ignore[assignment]
    for part in path[:-1]:
        lines += f"{indent}{part}:\n"
        indent += "  "
    document.append_block((path[0],), f"{lines}{indent}{path[-1]}: {quoted(value)}\n", made)


def _named(data: Any, image: str) -> int | None:
    images = data.get("images") if isinstance(data, dict) else None
    for number, item in enumerate(images if isinstance(images, list) else []):
        if isinstance(item, dict) and item.get("name") == image:
            return number
    return None


def _images(data: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """Every `image` of an item below `containers` or `initContainers`, at any depth."""
    if isinstance(data, dict):
        for key, value in data.items():
            if key in ("containers", "initContainers") and isinstance(value, list):
                for number, item in enumerate(value):
                    if isinstance(item, dict) and isinstance(item.get("image"), str):
                        yield (*path, key, number, "image"), item["image"]
            elif isinstance(value, (dict, list)):
                yield from _images(value, (*path, key))
    elif isinstance(data, list):
        for number, item in enumerate(data):
            yield from _images(item, (*path, number))
