"""The user's directories, following the XDG Base Directory Specification.

Relative paths in its variables are ignored, as it demands. The functions raise RuntimeError if the
user has no home directory.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def state_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where hsm keeps its state: ``$XDG_STATE_HOME/hsm``, or ``~/.local/state/hsm``."""
    return _dir(environ, "XDG_STATE_HOME", ".local/state")


def config_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the user's hsm.yaml is: ``$XDG_CONFIG_HOME/hsm``, or ``~/.config/hsm``."""
    return _dir(environ, "XDG_CONFIG_HOME", ".config")


def _dir(environ: Mapping[str, str], variable: str, default: str) -> Path:
    folder = environ.get(variable, "")
    if not os.path.isabs(folder):
        return Path(environ.get("HOME") or Path.home(), default, "hsm")
    return Path(folder, "hsm")
