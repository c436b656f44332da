"""What a dotted path names."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any


def import_path(path: str) -> Any:
    """What a dotted path names. Raises ImportError, AttributeError, or what a module raises.

    Modules in the working directory are found, too, where a command finds none by itself.
    """
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        return _imported(path)
    finally:
        sys.path.remove(here)


def _imported(path: str) -> Any:
    parts = path.split(".")
    for at in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:at])
        try:
            found: Any = import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
                continue
            raise
        for part in parts[at:]:
            found = getattr(found, part)
        return found
    raise ImportError(f"there is no module {parts[0]}")
