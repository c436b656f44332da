"""The switch that has Hydra compose and prepare jobs as it does without hsm, for whoever doubts.

HSM_COMPOSE=plain python train.py -m ...
"""

from __future__ import annotations

import os

from hsm.core.errors import SettingsError

_VARIABLE, _PLAIN = "HSM_COMPOSE", "plain"


def composes_plainly() -> bool:
    """Whether this process composes and prepares as Hydra does by itself.

    Raises:
        SettingsError: the variable has another value than the one that means something.
    """
    value = os.environ.get(_VARIABLE)
    if value and value != _PLAIN:
        raise SettingsError(
            _VARIABLE, value, f"environment variable {_VARIABLE}", f"{_PLAIN!r}, or not set"
        )
    return value == _PLAIN
