"""What was given on a command line for the settings, whoever has read the line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hsm.core.errors import SettingsError
from hsm.core.settings.choices import Choice
from hsm.core.settings.resolve import SETTINGS

HSM_CONFIG = "--hsm-config"
#: Where jobs run.
MODES = ("local",)


def check_mode(mode: str) -> None:
    """Raises SettingsError for a mode that is not there."""
    if mode not in MODES:
        raise SettingsError("mode", mode, "--mode", " or ".join(MODES))


def given_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that were given on the command line, checked. Raises SettingsError."""
    given: dict[str, Any] = {}
    for name, value in settings.items():
        setting = SETTINGS[name]
        if isinstance(value, bool) and isinstance(setting.kind, Choice):
            given[name] = setting.kind.parse(setting.kind.names[0 if value else 1])
        elif isinstance(value, bool):
            given[name] = value
        elif isinstance(value, list):  # of an option that may be given several times
            given[name] = setting.gather(value)
        elif value is not None:
            given[name] = setting.parse(value, setting.flag)
    return given


def option_name(setting_name: str) -> str:
    """What a setting, or the hsm.yaml itself, is called on the command line: for errors."""
    setting = SETTINGS.get(setting_name)
    return HSM_CONFIG if setting is None else setting.flag
