"""How we sign in to Git servers, and who our commits are by. A part of `bot.settings.Settings`.

Nothing here is in an address of the catalog, so that the catalog may be read by everybody.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from bot.wholeness import say

if TYPE_CHECKING:
    from bot.delivery.gitops import Author, Signing
    from bot.git import Git


class GitSettings(BaseModel):
    """Names of the environment variables are the aliases."""

    model_config = ConfigDict(defer_build=True, regex_engine="python-re")

    git_credentials_file: Path | None = Field(default=None, alias="SLIPWAY_GIT_CREDENTIALS_FILE")
    git_ssh_key_file: Path | None = Field(default=None, alias="SLIPWAY_GIT_SSH_KEY_FILE")
    git_known_hosts_file: Path | None = Field(default=None, alias="SLIPWAY_GIT_KNOWN_HOSTS_FILE")
    git_ca_file: Path | None = Field(default=None, alias="SLIPWAY_GIT_CA_FILE")
    git_author_name: str = Field(default="Slipway", alias="SLIPWAY_GIT_AUTHOR_NAME", pattern=r"^[^<>\r\n]{1,100}\Z")
    git_author_email: str = Field(
        default="slipway@localhost", alias="SLIPWAY_GIT_AUTHOR_EMAIL", pattern=r"^[^<>\s]{1,200}\Z"
    )
    git_signing_key: str = Field(default="", alias="SLIPWAY_GIT_SIGNING_KEY", pattern=r"^[^\r\n]{0,500}\Z")
    git_signing_format: Literal["openpgp", "ssh"] = Field(default="openpgp", alias="SLIPWAY_GIT_SIGNING_FORMAT")

    @model_validator(mode="after")
    def _ssh_files_are_there(self, info: ValidationInfo) -> GitSettings:
        named = {
            "SLIPWAY_GIT_SSH_KEY_FILE": self.git_ssh_key_file,
            "SLIPWAY_GIT_KNOWN_HOSTS_FILE": self.git_known_hosts_file,
            "SLIPWAY_GIT_CA_FILE": self.git_ca_file,
        }
        missing = [name for name, path in named.items() if path is not None and not path.is_file()]
        say([f"{' and '.join(missing)}: there is no such file"] if missing else [], info)
        return self


def git_of(settings: GitSettings) -> Git:
    """The `git` program with our credentials."""
    from bot.git import Credentials, Git

    path = settings.git_credentials_file
    credentials = Credentials(path) if path is not None else None
    trusted = settings.git_ca_file
    more = {"http.sslCAInfo": str(trusted.absolute())} if trusted is not None else {}
    return Git(credentials=credentials, settings=more, ssh_command=ssh_command(settings))


def ssh_command(settings: GitSettings) -> str:
    """What git calls for ssh addresses; it never asks, and talks to no host whose key it does not know."""
    words = ["ssh", "-oBatchMode=yes", "-oConnectTimeout=15", "-oStrictHostKeyChecking=yes"]
    if settings.git_ssh_key_file is not None:  # No other key is tried: servers count attempts.
        words += ["-oIdentitiesOnly=yes", "-i", str(settings.git_ssh_key_file.absolute())]
    if settings.git_known_hosts_file is not None:
        words.append(f"-oUserKnownHostsFile={settings.git_known_hosts_file.absolute()}")
    return shlex.join(words)


def author_of(settings: GitSettings) -> Author:
    """Who our commits are by."""
    from bot.delivery.gitops import Author

    return Author(settings.git_author_name, settings.git_author_email)


def signing_of(settings: GitSettings) -> Signing | None:
    """How our commits are signed, None if they are not."""
    from bot.delivery.gitops import Signing

    key = settings.git_signing_key
    return Signing(settings.git_signing_format, key) if key else None
