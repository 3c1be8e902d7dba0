"""Settings name themselves when they are wrong, and hide what is secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.settings import Settings, SettingsInvalid, read_console_tokens, read_settings


def test_every_mistake_is_named_at_once() -> None:
    """An operator should not have to start five times to learn of five mistakes."""
    with pytest.raises(SettingsInvalid) as caught:
        read_settings({"PORT": "99999", "SLIPWAY_LOG_LEVEL": "loud"})
    for name in ("SLIPWAY_CONFIG is missing", "PORT:", "SLIPWAY_LOG_LEVEL:"):
        assert name in caught.value.message


def test_the_command_line_is_over_the_environment(tmp_path: Path) -> None:
    """What is typed now is meant now."""
    settings = read_settings({"PORT": "1", "SLIPWAY_CONFIG": "/etc/slipway"}, port=2, config=tmp_path)
    assert (settings.port, settings.config) == (2, tmp_path)


def test_a_database_url_is_a_secret_and_gets_our_driver(tmp_path: Path) -> None:
    """It holds a password."""
    settings = read_settings({"SLIPWAY_CONFIG": str(tmp_path), "SLIPWAY_DATABASE_URL": "postgres://u:hunter2@db/x"})
    assert settings.database == "postgresql+psycopg://u:hunter2@db/x"
    assert "hunter2" not in repr(settings)


def test_flags_are_words(tmp_path: Path) -> None:
    """`false` must not switch the console on."""
    for word, wanted in (("1", True), ("yes", True), ("false", False), ("0", False), ("off", False)):
        assert read_settings({"SLIPWAY_CONFIG": str(tmp_path), "SLIPWAY_CONSOLE": word}).console is wanted
    with pytest.raises(SettingsInvalid, match="SLIPWAY_CONSOLE"):
        read_settings({"SLIPWAY_CONFIG": str(tmp_path), "SLIPWAY_CONSOLE": "perhaps"})


def test_console_tokens_are_read_and_never_told(tmp_path: Path) -> None:
    """A short token is refused by line, without showing it."""
    path = tmp_path / "tokens"
    path.write_text("# who: token\nowner: 0123456789abcdef-owner\n\nlead: short-one\n")
    with pytest.raises(SettingsInvalid) as caught:
        read_console_tokens(path)
    assert "tokens:4" in caught.value.message
    assert "short-one" not in caught.value.sentence()
    path.write_text("owner: 0123456789abcdef-owner\n")
    assert read_console_tokens(path)["owner"].get_secret_value() == "0123456789abcdef-owner"


def test_feishu_is_set_up_whole_or_not_at_all(tmp_path: Path) -> None:
    """Without its keys anybody could send events; over the long connection the app's secret is enough."""
    base = {"SLIPWAY_CONFIG": str(tmp_path), "FEISHU_APP_ID": "cli_1"}
    with pytest.raises(SettingsInvalid) as caught:
        read_settings(base)
    for name in ("FEISHU_APP_SECRET", "FEISHU_ENCRYPT_KEY", "FEISHU_VERIFICATION_TOKEN"):
        assert f"{name} is missing" in caught.value.message
    settings = read_settings({**base, "FEISHU_APP_SECRET": "hush", "FEISHU_LONG_CONNECTION": "1"})
    assert settings.feishu
    assert "hush" not in repr(settings)
    with pytest.raises(SettingsInvalid, match="FEISHU_ENCRYPT_KEY"):
        read_settings({"SLIPWAY_CONFIG": str(tmp_path), "FEISHU_VERIFICATION_TOKEN": "hush"})


@pytest.mark.parametrize("name", ["SLIPWAY_URL", "SLIPWAY_JENKINS_URL", "FEISHU_DOMAIN", "SLIPWAY_GIT_AUTHOR_NAME"])
def test_a_newline_at_the_end_is_no_part_of_a_value(name: str, tmp_path: Path) -> None:
    """Where an end is meant, the whole value must be as described: a header or a commit line could be forged."""
    with pytest.raises(SettingsInvalid, match=name):
        read_settings({name: "https://ci.example\n"}, config=tmp_path)


def test_no_pattern_lets_a_newline_pass() -> None:
    """In Python's expressions `$` does."""
    patterns = [
        found
        for field in Settings.model_fields.values()
        for one in field.metadata
        if (found := getattr(one, "pattern", None))
    ]
    assert len(patterns) > 20
    assert [pattern for pattern in patterns if pattern.endswith("$")] == []
