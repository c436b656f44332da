"""The styles in which a script can get its parameters as arguments."""

from __future__ import annotations

from hsm.core.errors import SettingsError
from hsm.core.text_enum import TextEnum


class ArgsStyle(TextEnum):
    """How parameters are written on a command line."""

    auto = "auto"  # as the script reads them, which its source says
    hydra = "hydra"  # lr=0.1
    flags = "flags"  # --lr 0.1
    flags_equals = "flags-equals"  # --lr=0.1
    none = "none"  # nothing: the script reads $HSM_PARAMS


def check_args_style(value: object, origin: str) -> ArgsStyle:
    """The style of that name. Raises SettingsError."""
    try:
        return ArgsStyle(value)
    except ValueError:
        allowed = f"{', '.join(list(ArgsStyle)[:-1])} or {ArgsStyle.none}"
        raise SettingsError("args_style", value, origin, allowed) from None
