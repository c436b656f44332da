"""The switch that has Hydra compose and prepare jobs as it does without hsm, for whoever doubts.

HSM_COMPOSE=plain python train.py -m ...
"""

from __future__ import annotations

import os

_VARIABLE = "HSM_COMPOSE"


def composes_plainly() -> bool:
    """Whether this process composes and prepares as Hydra does by itself. Read at the launch."""
    return os.environ.get(_VARIABLE) == "plain"
