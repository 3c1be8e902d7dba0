"""Process settings, read once at start from the environment; the catalog is not here. Frozen, secrets hidden."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from bot.errors import SlipwayError
from bot.git_settings import GitSettings
from bot.listeners import ListenerSettings
from bot.pipelines.settings import ADDRESS, CiSettings
from bot.wholeness import HEARD, say

TRUE = ("1", "true", "yes", "on")
FALSE = ("", "0", "false", "no", "off")


class SettingsInvalid(SlipwayError):
    """Settings are missing or wrong; the message names every one."""


def _flag(value: object) -> object:
    if isinstance(value, str) and value.strip().casefold() in TRUE + FALSE:
        return value.strip().casefold() in TRUE
    return value


def _with_a_port(value: str) -> str:
    """An address whose port, if it has one, is a number that a port can have."""
    parts = urlsplit(value)
    if not parts.hostname or (parts.port is None and parts.netloc.endswith(":")):
        raise ValueError("no host or no port")
    return value


Flag = Annotated[bool, BeforeValidator(_flag)]
Address = Annotated[str, AfterValidator(_with_a_port)]


class Settings(CiSettings, ListenerSettings, GitSettings):
    """Names of the environment variables are the aliases."""

    # The other engine makes each pattern anew: 6 MB for all. With this one an end is `\Z`: `$` lets a newline pass.
    model_config = ConfigDict(
        frozen=True, populate_by_name=True, hide_input_in_errors=True, defer_build=True, regex_engine="python-re"
    )

    config: Path = Field(alias="SLIPWAY_CONFIG")
    data: Path | None = Field(default=None, alias="SLIPWAY_DATA")
    database_url: SecretStr | None = Field(default=None, alias="SLIPWAY_DATABASE_URL")
    host: str = Field(default="127.0.0.1", alias="HOST")
    url: str = Field(default="", alias="SLIPWAY_URL", pattern=ADDRESS)
    port: int = Field(default=8377, alias="PORT", ge=0, le=65535)
    console: Flag = Field(default=False, alias="SLIPWAY_CONSOLE")
    console_tokens_file: Path | None = Field(default=None, alias="SLIPWAY_CONSOLE_TOKENS_FILE")
    console_open: bool = False
    log_level: str = Field(default="info", alias="SLIPWAY_LOG_LEVEL", pattern=r"^(debug|info|warning|error)\Z")
    retention_days: int = Field(default=90, alias="SLIPWAY_RETENTION_DAYS", ge=0)
    archive_days: int = Field(default=400, alias="SLIPWAY_ARCHIVE_DAYS", ge=0)
    catalog_refresh_minutes: float = Field(default=0, alias="SLIPWAY_CATALOG_REFRESH_MINUTES", ge=0)
    metrics_token: SecretStr | None = Field(default=None, alias="SLIPWAY_METRICS_TOKEN")
    otlp_url: str = Field(default="", alias="SLIPWAY_OTLP_URL", pattern=ADDRESS)
    otlp_token: SecretStr | None = Field(default=None, alias="SLIPWAY_OTLP_TOKEN")
    patience_seconds: float = Field(default=600, alias="SLIPWAY_PROVIDER_PATIENCE", gt=0)
    watchdog_minutes: float = Field(default=10, alias="SLIPWAY_WATCHDOG_MINUTES", gt=0)

    slack_bot_token: SecretStr | None = Field(default=None, alias="SLACK_BOT_TOKEN")
    slack_more_tokens: SecretStr | None = Field(default=None, alias="SLACK_MORE_BOT_TOKENS")
    slack_app_token: SecretStr | None = Field(default=None, alias="SLACK_APP_TOKEN")
    slack_signing_secret: SecretStr | None = Field(default=None, alias="SLACK_SIGNING_SECRET")
    slack_api_base_url: Address = Field(
        default="https://slack.com/api/", alias="SLACK_API_BASE_URL", pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?\Z"
    )

    feishu_app_id: str = Field(default="", alias="FEISHU_APP_ID", pattern=r"^[A-Za-z0-9_]*\Z")
    feishu_app_secret: SecretStr | None = Field(default=None, alias="FEISHU_APP_SECRET")
    feishu_encrypt_key: SecretStr | None = Field(default=None, alias="FEISHU_ENCRYPT_KEY")
    feishu_verification_token: SecretStr | None = Field(default=None, alias="FEISHU_VERIFICATION_TOKEN")
    feishu_long_connection: Flag = Field(default=False, alias="FEISHU_LONG_CONNECTION")
    feishu_domain: Address = Field(
        default="https://open.feishu.cn", alias="FEISHU_DOMAIN", pattern=r"^https?://[^\s/?#@]+/?\Z"
    )

    feishu_locale: str = Field(default="", alias="FEISHU_LOCALE", pattern=r"^([a-z]{2,3}([-_][A-Za-z0-9]{2,8})*)?\Z")

    argocd_url: str = Field(default="", alias="SLIPWAY_ARGOCD_URL", pattern=ADDRESS)
    argocd_token: SecretStr | None = Field(default=None, alias="SLIPWAY_ARGOCD_TOKEN")
    argocd_token_file: Path | None = Field(default=None, alias="SLIPWAY_ARGOCD_TOKEN_FILE")
    argocd_ca_file: Path | None = Field(default=None, alias="SLIPWAY_ARGOCD_CA_FILE")
    argocd_file: Path | None = Field(default=None, alias="SLIPWAY_ARGOCD_FILE")

    kubeconfig: Path | None = Field(default=None, alias="SLIPWAY_KUBECONFIG")
    kubernetes_in_cluster: Flag = Field(default=False, alias="SLIPWAY_KUBERNETES_IN_CLUSTER")

    registry_auth_file: Path | None = Field(default=None, alias="SLIPWAY_REGISTRY_AUTH_FILE")
    registry_insecure: str = Field(default="", alias="SLIPWAY_REGISTRY_INSECURE")

    prometheus_url: str = Field(default="", alias="SLIPWAY_PROMETHEUS_URL", pattern=ADDRESS)
    prometheus_token: SecretStr | None = Field(default=None, alias="SLIPWAY_PROMETHEUS_TOKEN")

    @property
    def address(self) -> str:
        """Where people reach it, without a slash at the end: what is set, else where it listens."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.url.rstrip("/") or f"http://{host}:{self.port}"

    @property
    def argocd(self) -> bool:
        """Whether any Argo CD is named; `argo_servers` says what is missing."""
        given = (self.argocd_url, self.argocd_token, self.argocd_token_file, self.argocd_file)
        return any(given)

    @property
    def slack(self) -> bool:
        """Whether Slack is switched on."""
        return self.slack_bot_token is not None

    @property
    def slack_tokens(self) -> tuple[SecretStr, ...]:
        """Bot tokens, the primary workspace's first."""
        more = self.slack_more_tokens.get_secret_value() if self.slack_more_tokens is not None else ""
        first = (self.slack_bot_token,) if self.slack_bot_token is not None else ()
        return (*first, *(SecretStr(token) for token in more.replace(",", " ").split()))

    @property
    def feishu(self) -> bool:
        """Whether Feishu (or Lark) is switched on."""
        return bool(self.feishu_app_id)

    @model_validator(mode="after")
    def _chats_are_whole(self, info: ValidationInfo) -> Settings:
        say([*feishu_problems(self), *slack_problems(self)], info)
        return self

    @property
    def data_directory(self) -> Path:
        """Where the database, logs, artifacts and Git mirrors live: `.slipway` in the catalog unless set."""
        return (self.data or self.config / ".slipway").absolute()

    @property
    def database(self) -> str:
        """The SQLAlchemy URL; an SQLite file in the data directory unless set."""
        if self.database_url is not None:
            return _with_driver(self.database_url.get_secret_value())
        return f"sqlite:///{self.data_directory / 'slipway.db'}"


def slack_problems(settings: Settings) -> list[str]:
    """What is missing or wrong among the Slack settings, by name; never a value."""
    given = {
        "SLACK_BOT_TOKEN": settings.slack_bot_token,
        "SLACK_APP_TOKEN": settings.slack_app_token,
        "SLACK_SIGNING_SECRET": settings.slack_signing_secret,
        "SLACK_MORE_BOT_TOKENS": settings.slack_more_tokens,
    }
    if not any(given.values()):
        return []
    problems = []
    if settings.slack_bot_token is None:
        problems.append("SLACK_BOT_TOKEN is missing (the xoxb- token of the app's page 'OAuth & Permissions')")
    if settings.slack_app_token is None and settings.slack_signing_secret is None:
        problems.append(
            "SLACK_APP_TOKEN (Socket Mode) and SLACK_SIGNING_SECRET (a public address) are both missing: set one"
        )
    if any(not token.get_secret_value().startswith("xoxb-") for token in settings.slack_tokens):
        problems.append("SLACK_BOT_TOKEN and SLACK_MORE_BOT_TOKENS: a bot token starts with xoxb-")
    app_token = settings.slack_app_token
    if app_token is not None and not app_token.get_secret_value().startswith("xapp-"):
        problems.append("SLACK_APP_TOKEN: an app-level token starts with xapp-")
    return problems


def feishu_problems(settings: Settings) -> list[str]:
    """What is missing among the Feishu settings, by name; never a value."""
    webhook: dict[str, object] = {
        "FEISHU_ENCRYPT_KEY": settings.feishu_encrypt_key,
        "FEISHU_VERIFICATION_TOKEN": settings.feishu_verification_token,
    }
    app: dict[str, object] = {
        "FEISHU_APP_ID": settings.feishu_app_id,
        "FEISHU_APP_SECRET": settings.feishu_app_secret,
    }
    if not any([*app.values(), *webhook.values()]):
        return []
    page = {"FEISHU_APP_ID": "Credentials & Basic Info", "FEISHU_APP_SECRET": "Credentials & Basic Info"}
    # Without them anybody could send us events; the long connection proves itself by the app's secret instead.
    needed = app if settings.feishu_long_connection and not any(webhook.values()) else app | webhook
    return [
        f"{name} is missing (developer console, page '{page.get(name, 'Events & Callbacks: Encryption strategy')}')"
        for name, value in needed.items()
        if not value
    ]


def _with_driver(url: str) -> str:
    """PostgreSQL addresses as everybody writes them, with the driver we use."""
    for scheme in ("postgresql://", "postgres://"):
        if url.startswith(scheme):
            return "postgresql+psycopg://" + url.removeprefix(scheme)
    return url


def read_settings(environment: Mapping[str, str], **overrides: object) -> Settings:
    """Settings from the environment, with command line options over them.

    Raises:
        SettingsInvalid: one or more are missing or wrong; all are named.
    """
    aliases = {info.alias: name for name, info in Settings.model_fields.items() if info.alias}
    values: dict[str, object] = {alias: environment[alias] for alias in aliases if environment.get(alias)}
    for name, value in overrides.items():
        if value is not None:
            alias = Settings.model_fields[name].alias
            values.pop(alias or name, None)
            values[name] = value
    said: list[str] = []
    incomplete: list[str] = []
    settings = _checked(values, aliases, said, incomplete)
    if said or incomplete or settings is None:
        raise SettingsInvalid("; ".join(dict.fromkeys([*said, *incomplete])) + ".")
    return settings


def _checked(
    values: dict[str, object], aliases: Mapping[str, str], said: list[str], incomplete: list[str]
) -> Settings | None:
    """The settings, or None with everything that is wrong in `said`, and what does not go together in `incomplete`."""
    try:
        return Settings.model_validate(values, context={HEARD: incomplete})
    except ValidationError as error:
        wrong = {str(item["loc"][0]) for item in error.errors() if item["loc"]}
        said += [_said(item, aliases) for item in error.errors()]
    # What belongs together is looked at only when every field is right: so once more, without the wrong ones.
    others = {name: value for name, value in values.items() if name not in wrong and aliases.get(name) not in wrong}
    if "config" not in others:
        others.setdefault("SLIPWAY_CONFIG", ".")
    if wrong:
        _checked(others, aliases, [], incomplete)
    return None


def _said(item: Any, aliases: Mapping[str, str]) -> str:
    name = str(item["loc"][0]) if item["loc"] else "settings"
    alias = next((alias for alias, field in aliases.items() if field == name), name)
    if item["type"] == "missing":
        return f"{alias} is missing"
    if item["type"] == "incomplete":
        return str(item["msg"])
    return f"{alias}: {item['msg']}"


def read_console_tokens(path: Path) -> dict[str, SecretStr]:
    """One `person: token` a line; empty lines and `#` comments are passed over.

    Raises:
        SettingsInvalid: unreadable, malformed, or a token shorter than 16 characters. Tokens are never in the message.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SettingsInvalid(f"SLIPWAY_CONSOLE_TOKENS_FILE cannot be read: {error.strerror}.") from None
    tokens: dict[str, SecretStr] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        person, colon, token = (part.strip() for part in text.partition(":"))
        if not colon or not person or len(token) < 16:
            raise SettingsInvalid(
                f"{path.name}:{number}: write `person: token` with a token of at least 16 characters.",
                hint="Make one with: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'",
            )
        tokens[person] = SecretStr(token)
    return tokens
