"""The switch for doubters: ``HSM_COMPOSE=plain`` leaves all composing and preparing to Hydra."""

from __future__ import annotations

import os


def composes_plainly() -> bool:
    """Whether the user wants configs composed, copied and written by Hydra's own code alone."""
    return os.environ.get("HSM_COMPOSE") == "plain"
