"""How a setting is written where people set it: what a hint tells them to write.

in_python     gpus=1
as_flag       --gpus 1
as_override   hydra.launcher.gpus=1
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from hsm.core.settings.resolve import SETTINGS

#: Writes a setting, of a name, with a value.
Spelling: TypeAlias = Callable[[str, object], str]


def in_python(name: str, value: object) -> str:
    """As an argument, and as records and hsm.yaml name it."""
    return f"{name}={value}"


def as_flag(name: str, value: object) -> str:
    """As an option of `hsm sweep`."""
    return f"{SETTINGS[name].flag} {value}"


def as_override(name: str, value: object) -> str:
    """As a Hydra app gets it."""
    return f"hydra.launcher.{name}={value}"
