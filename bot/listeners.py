"""Places that only listen: DingTalk, WeCom and webhooks. A part of `bot.settings.Settings`.

Robots and webhooks are named here and by that name in the catalog, because their addresses are secrets.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, model_validator

from bot.wholeness import say

URL = r"^https?://[^\s/?#@]+/?\Z"


class ListenerSettings(BaseModel):
    """Names of the environment variables are the aliases."""

    model_config = ConfigDict(
        frozen=True, populate_by_name=True, hide_input_in_errors=True, defer_build=True, regex_engine="python-re"
    )

    dingtalk_robots: SecretStr | None = Field(default=None, alias="DINGTALK_ROBOTS")
    dingtalk_app_key: str = Field(default="", alias="DINGTALK_APP_KEY")
    dingtalk_app_secret: SecretStr | None = Field(default=None, alias="DINGTALK_APP_SECRET")
    dingtalk_oapi_url: str = Field(default="https://oapi.dingtalk.com", alias="DINGTALK_OAPI_URL", pattern=URL)
    dingtalk_api_url: str = Field(default="https://api.dingtalk.com", alias="DINGTALK_API_URL", pattern=URL)

    wecom_robots: SecretStr | None = Field(default=None, alias="WECOM_ROBOTS")
    wecom_corp_id: str = Field(default="", alias="WECOM_CORP_ID")
    wecom_agent_id: int = Field(default=0, alias="WECOM_AGENT_ID", ge=0)
    wecom_secret: SecretStr | None = Field(default=None, alias="WECOM_SECRET")
    wecom_api_url: str = Field(default="https://qyapi.weixin.qq.com", alias="WECOM_API_URL", pattern=URL)

    webhooks: SecretStr | None = Field(default=None, alias="SLIPWAY_WEBHOOKS")
    webhook_networks: str = Field(default="", alias="SLIPWAY_WEBHOOK_NETWORKS")

    @property
    def dingtalk(self) -> bool:
        """Whether anything of DingTalk is set up."""
        return self.dingtalk_robots is not None or bool(self.dingtalk_app_key)

    @property
    def wecom(self) -> bool:
        """Whether anything of WeCom is set up."""
        return self.wecom_robots is not None or bool(self.wecom_corp_id)

    @property
    def webhook(self) -> bool:
        """Whether any webhook is set up."""
        return self.webhooks is not None

    @model_validator(mode="after")
    def _listeners_are_whole(self, info: ValidationInfo) -> ListenerSettings:
        say(_problems(self), info)
        return self


def named(value: SecretStr | None) -> dict[str, list[str]]:
    """`a=one two, b=three` as name -> words. Raises ValueError with the position of what is malformed."""
    found: dict[str, list[str]] = {}
    parts = value.get_secret_value().split(",") if value is not None else []
    for number, part in enumerate((one for one in parts if one.strip()), 1):
        name, equals, words = part.strip().partition("=")
        if not equals or not name.strip() or not words.split():
            raise ValueError(f"entry {number} is not `name=…`")
        found[name.strip()] = words.split()
    return found


def _problems(settings: ListenerSettings) -> Iterator[str]:
    lists = {
        "DINGTALK_ROBOTS": (settings.dingtalk_robots, (1, 2), "name=token secret"),
        "WECOM_ROBOTS": (settings.wecom_robots, (1,), "name=key"),
        "SLIPWAY_WEBHOOKS": (settings.webhooks, (2, 3), "name=https://… whsec_…"),
    }
    for alias, (value, sizes, shape) in lists.items():
        try:
            wrong = [name for name, words in named(value).items() if len(words) not in sizes]
        except ValueError as error:
            yield f"{alias}: {error}; write `{shape}`, several with commas"
        else:
            yield from (f"{alias}: '{name}' is not `{shape}`" for name in wrong)
    yield from _unsafe_webhooks(settings)
    if settings.webhook_networks:
        yield from _wrong_networks(settings.webhook_networks)
    if bool(settings.dingtalk_app_key) != (settings.dingtalk_app_secret is not None):
        yield "DINGTALK_APP_KEY and DINGTALK_APP_SECRET belong together"
    given = (bool(settings.wecom_corp_id), bool(settings.wecom_agent_id), settings.wecom_secret is not None)
    if any(given) and not all(given):
        yield "WECOM_CORP_ID, WECOM_AGENT_ID and WECOM_SECRET belong together"


def _wrong_networks(written: str) -> Iterator[str]:
    from notifiers.guarded import networks_of

    try:
        networks_of(written)
    except ValueError as error:
        yield f"SLIPWAY_WEBHOOK_NETWORKS: {error}; write networks such as 10.0.0.0/8"


def _unsafe_webhooks(settings: ListenerSettings) -> Iterator[str]:
    try:
        entries = named(settings.webhooks)
    except ValueError:
        return
    if not entries:
        return
    from notifiers.webhook import CDEVENTS, SLIPWAY, key_of

    for name, words in entries.items():
        if len(words) not in (2, 3):
            continue
        if words[2:] not in ([], [SLIPWAY], [CDEVENTS]):
            yield f"SLIPWAY_WEBHOOKS: '{name}' may say `{SLIPWAY}` or `{CDEVENTS}` after its secret, nothing else"
        if not words[0].startswith(("https://", "http://127.0.0.1", "http://localhost")):
            yield f"SLIPWAY_WEBHOOKS: the address of '{name}' must begin with https://"
        try:
            key_of(words[1])
        except ValueError as error:
            yield f"SLIPWAY_WEBHOOKS: the secret of '{name}' is {error}; make one with `openssl rand -base64 32`"
