"""Addresses and credentials of the Argo CDs: one by the environment, several by a file.

SLIPWAY_ARGOCD_URL, SLIPWAY_ARGOCD_TOKEN or SLIPWAY_ARGOCD_TOKEN_FILE    the one called `default`
SLIPWAY_ARGOCD_FILE                                                      name -> url, token_file, ca_file, ...
"""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from bot.delivery.argocd_api import ArgoServer
from bot.settings import Settings, SettingsInvalid


class _ServerIn(BaseModel):
    """One Argo CD in the file. Paths are relative to the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: str = Field(pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$")
    token_file: Path | None = None
    username: str = ""
    password_file: Path | None = None
    ca_file: Path | None = None

    @model_validator(mode="after")
    def _one_credential(self) -> _ServerIn:
        if (self.token_file is None) == (self.password_file is None):
            raise ValueError("give exactly one of token_file and password_file (with username)")
        if self.password_file is not None and not self.username:
            raise ValueError("username is missing beside password_file")
        return self


def argo_servers(settings: Settings) -> dict[str, ArgoServer]:
    """Name -> Argo CD; empty if none is set up.

    Raises:
        SettingsInvalid: an address without a credential, or a wrong file; no value is ever in the message.
    """
    servers = _from_file(settings.argocd_file) if settings.argocd_file is not None else {}
    if settings.argocd_url:
        if (settings.argocd_token is None) == (settings.argocd_token_file is None):
            raise SettingsInvalid("SLIPWAY_ARGOCD_URL needs exactly one of SLIPWAY_ARGOCD_TOKEN and .._TOKEN_FILE.")
        servers["default"] = ArgoServer(
            settings.argocd_url, settings.argocd_token, settings.argocd_token_file, ca_file=settings.argocd_ca_file
        )
    elif settings.argocd_token is not None or settings.argocd_token_file is not None:
        raise SettingsInvalid("SLIPWAY_ARGOCD_URL is missing beside its token.")
    return servers


def _from_file(path: Path) -> dict[str, ArgoServer]:
    try:
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsInvalid(f"SLIPWAY_ARGOCD_FILE cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, ValueError):
        raise SettingsInvalid("SLIPWAY_ARGOCD_FILE is not valid YAML.") from None
    if not isinstance(body, dict):
        raise SettingsInvalid("SLIPWAY_ARGOCD_FILE is not a mapping of names to Argo CDs.")
    return {str(name): _server(path, str(name), value) for name, value in body.items()}


def _server(path: Path, name: str, value: object) -> ArgoServer:
    try:
        item = _ServerIn.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in (name, *first["loc"]))
        raise SettingsInvalid(f"{path.name}: {field}: {first['msg'].removeprefix('Value error, ')}.") from None
    base = path.parent
    password = _secret(base / item.password_file) if item.password_file is not None else None
    return ArgoServer(
        url=item.url,
        token_file=base / item.token_file if item.token_file is not None else None,
        username=item.username,
        password=password,
        ca_file=base / item.ca_file if item.ca_file is not None else None,
    )


def _secret(path: Path) -> SecretStr:
    try:
        return SecretStr(path.read_text(encoding="utf-8").strip())
    except OSError as error:
        raise SettingsInvalid(f"{path.name} cannot be read: {error.strerror}.") from None
