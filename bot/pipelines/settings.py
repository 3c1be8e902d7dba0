"""Where the CI systems are and how we sign in, from the environment. A system without an address is not set up.

Each secret is given itself or as `..._FILE`, the path of a file that holds it.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from bot.errors import SlipwayError

ADDRESS = r"^(https?://[^\s/?#@]+(/[^\s?#]*)?)?\Z"
"""An address without credentials or query; empty: not set up."""


class CiSettings(BaseModel):
    """A part of `bot.settings.Settings`; names of the environment variables are the aliases."""

    model_config = ConfigDict(defer_build=True)

    jenkins_url: str = Field(default="", alias="SLIPWAY_JENKINS_URL", pattern=ADDRESS)
    jenkins_user: str = Field(default="", alias="SLIPWAY_JENKINS_USER")
    jenkins_token: SecretStr | None = Field(default=None, alias="SLIPWAY_JENKINS_TOKEN")
    jenkins_token_file: Path | None = Field(default=None, alias="SLIPWAY_JENKINS_TOKEN_FILE")
    jenkins_password: SecretStr | None = Field(default=None, alias="SLIPWAY_JENKINS_PASSWORD")
    jenkins_hook_secret: SecretStr | None = Field(default=None, alias="SLIPWAY_JENKINS_HOOK_SECRET")
    jenkins_hook_secret_file: Path | None = Field(default=None, alias="SLIPWAY_JENKINS_HOOK_SECRET_FILE")

    gitlab_url: str = Field(default="", alias="SLIPWAY_GITLAB_URL", pattern=ADDRESS)
    gitlab_token: SecretStr | None = Field(default=None, alias="SLIPWAY_GITLAB_TOKEN")
    gitlab_token_file: Path | None = Field(default=None, alias="SLIPWAY_GITLAB_TOKEN_FILE")
    gitlab_hook_secret: SecretStr | None = Field(default=None, alias="SLIPWAY_GITLAB_HOOK_SECRET")
    gitlab_hook_secret_file: Path | None = Field(default=None, alias="SLIPWAY_GITLAB_HOOK_SECRET_FILE")

    github_url: str = Field(default="", alias="SLIPWAY_GITHUB_URL", pattern=ADDRESS)
    github_token: SecretStr | None = Field(default=None, alias="SLIPWAY_GITHUB_TOKEN")
    github_token_file: Path | None = Field(default=None, alias="SLIPWAY_GITHUB_TOKEN_FILE")
    github_app_id: str = Field(default="", alias="SLIPWAY_GITHUB_APP_ID", pattern=r"^[\w.]*\Z")
    github_installation: str = Field(default="", alias="SLIPWAY_GITHUB_INSTALLATION", pattern=r"^\d*\Z")
    github_app_key_file: Path | None = Field(default=None, alias="SLIPWAY_GITHUB_APP_KEY_FILE")
    github_deployments: bool = Field(default=False, alias="SLIPWAY_GITHUB_DEPLOYMENTS")
    github_hook_secret: SecretStr | None = Field(default=None, alias="SLIPWAY_GITHUB_HOOK_SECRET")
    github_hook_secret_file: Path | None = Field(default=None, alias="SLIPWAY_GITHUB_HOOK_SECRET_FILE")

    tekton_url: str = Field(default="", alias="SLIPWAY_TEKTON_URL", pattern=ADDRESS)
    tekton_token: SecretStr | None = Field(default=None, alias="SLIPWAY_TEKTON_TOKEN")
    tekton_token_file: Path | None = Field(default=None, alias="SLIPWAY_TEKTON_TOKEN_FILE")
    tekton_ca_file: Path | None = Field(default=None, alias="SLIPWAY_TEKTON_CA_FILE")

    yunxiao_url: str = Field(default="", alias="SLIPWAY_YUNXIAO_URL", pattern=ADDRESS)
    yunxiao_organization: str = Field(default="", alias="SLIPWAY_YUNXIAO_ORGANIZATION", pattern=r"^[\w-]*\Z")
    yunxiao_token: SecretStr | None = Field(default=None, alias="SLIPWAY_YUNXIAO_TOKEN")
    yunxiao_token_file: Path | None = Field(default=None, alias="SLIPWAY_YUNXIAO_TOKEN_FILE")

    prow_url: str = Field(default="", alias="SLIPWAY_PROW_URL", pattern=ADDRESS)
    prow_token: SecretStr | None = Field(default=None, alias="SLIPWAY_PROW_TOKEN")
    prow_token_file: Path | None = Field(default=None, alias="SLIPWAY_PROW_TOKEN_FILE")
    prow_api_key: SecretStr | None = Field(default=None, alias="SLIPWAY_PROW_API_KEY")
    prow_api_key_file: Path | None = Field(default=None, alias="SLIPWAY_PROW_API_KEY_FILE")
    prow_deck_url: str = Field(default="", alias="SLIPWAY_PROW_DECK_URL", pattern=ADDRESS)
    prow_namespace: str = Field(default="default", alias="SLIPWAY_PROW_NAMESPACE", pattern=r"^[a-z0-9-]{1,63}\Z")
    prow_cluster_url: str = Field(default="", alias="SLIPWAY_PROW_CLUSTER_URL", pattern=ADDRESS)
    prow_cluster_token: SecretStr | None = Field(default=None, alias="SLIPWAY_PROW_CLUSTER_TOKEN")
    prow_cluster_token_file: Path | None = Field(default=None, alias="SLIPWAY_PROW_CLUSTER_TOKEN_FILE")
    prow_cluster_ca_file: Path | None = Field(default=None, alias="SLIPWAY_PROW_CLUSTER_CA_FILE")

    tekton_hook_secret: SecretStr | None = Field(default=None, alias="SLIPWAY_TEKTON_HOOK_SECRET")
    tekton_hook_secret_file: Path | None = Field(default=None, alias="SLIPWAY_TEKTON_HOOK_SECRET_FILE")
    yunxiao_hook_secret: SecretStr | None = Field(default=None, alias="SLIPWAY_YUNXIAO_HOOK_SECRET")
    yunxiao_hook_secret_file: Path | None = Field(default=None, alias="SLIPWAY_YUNXIAO_HOOK_SECRET_FILE")
    sonar_hook_secret: SecretStr | None = Field(default=None, alias="SLIPWAY_SONAR_HOOK_SECRET")
    sonar_hook_secret_file: Path | None = Field(default=None, alias="SLIPWAY_SONAR_HOOK_SECRET_FILE")

    oncall_url: str = Field(default="", alias="SLIPWAY_ONCALL_URL", pattern=ADDRESS)
    oncall_token: SecretStr | None = Field(default=None, alias="SLIPWAY_ONCALL_TOKEN")
    oncall_token_file: Path | None = Field(default=None, alias="SLIPWAY_ONCALL_TOKEN_FILE")

    standard_hook_secret: SecretStr | None = Field(default=None, alias="SLIPWAY_HOOK_SECRET")
    standard_hook_secret_file: Path | None = Field(default=None, alias="SLIPWAY_HOOK_SECRET_FILE")

    alertmanager_hook_secret: SecretStr | None = Field(default=None, alias="SLIPWAY_ALERTMANAGER_HOOK_SECRET")
    alertmanager_hook_secret_file: Path | None = Field(default=None, alias="SLIPWAY_ALERTMANAGER_HOOK_SECRET_FILE")
    alert_labels: str = Field(default="service,environment", alias="SLIPWAY_ALERT_LABELS", pattern=r"^\w+,\w+\Z")
    alert_hours: float = Field(default=5, alias="SLIPWAY_ALERT_HOURS", gt=0)

    reports_url: str = Field(default="", alias="SLIPWAY_REPORTS_URL", pattern=ADDRESS)
    reports_token: SecretStr | None = Field(default=None, alias="SLIPWAY_REPORTS_TOKEN")
    reports_token_file: Path | None = Field(default=None, alias="SLIPWAY_REPORTS_TOKEN_FILE")
    sonar_url: str = Field(default="", alias="SLIPWAY_SONAR_URL", pattern=ADDRESS)
    sonar_token: SecretStr | None = Field(default=None, alias="SLIPWAY_SONAR_TOKEN")
    sonar_token_file: Path | None = Field(default=None, alias="SLIPWAY_SONAR_TOKEN_FILE")
    testing_url: str = Field(default="", alias="SLIPWAY_TESTING_URL", pattern=ADDRESS)
    testing_token: SecretStr | None = Field(default=None, alias="SLIPWAY_TESTING_TOKEN")
    testing_token_file: Path | None = Field(default=None, alias="SLIPWAY_TESTING_TOKEN_FILE")

    harbor_url: str = Field(default="", alias="SLIPWAY_HARBOR_URL", pattern=ADDRESS)
    harbor_user: str = Field(default="", alias="SLIPWAY_HARBOR_USER")
    harbor_password: SecretStr | None = Field(default=None, alias="SLIPWAY_HARBOR_PASSWORD")
    harbor_password_file: Path | None = Field(default=None, alias="SLIPWAY_HARBOR_PASSWORD_FILE")
    registry_url: str = Field(default="", alias="SLIPWAY_REGISTRY_URL", pattern=ADDRESS)
    registry_user: str = Field(default="", alias="SLIPWAY_REGISTRY_USER")
    registry_password: SecretStr | None = Field(default=None, alias="SLIPWAY_REGISTRY_PASSWORD")
    registry_password_file: Path | None = Field(default=None, alias="SLIPWAY_REGISTRY_PASSWORD_FILE")

    def ci_secret(self, name: str) -> str:
        """A secret by the name of its field, from the environment or its file; empty if neither is given.

        Raises:
            SlipwayError: the file cannot be read or is empty; its variable is named, its content never.
        """
        given: SecretStr | None = getattr(self, name)
        if given is not None:
            return given.get_secret_value()
        path: Path | None = getattr(self, f"{name}_file", None)
        return read_secret(path, f"SLIPWAY_{name.upper()}_FILE") if path is not None else ""


def read_secret(path: Path, variable: str) -> str:
    """The content of a secret's file, without the newline at its end."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SlipwayError(
            f"{variable}: the file cannot be read ({getattr(error, 'strerror', 'not text')}).",
            hint="Name a file that holds only the secret and that Slipway may read.",
        ) from None
    if not text:
        raise SlipwayError(f"{variable}: the file is empty.", hint="Put the secret into it.")
    return text
