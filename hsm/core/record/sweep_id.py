"""Sweep ids: they name directories, and can be typed on a command line."""

from __future__ import annotations

import os
import re
import time

from hsm.core.errors import SettingsError

#: The directory for sweeps, unless the caller or hsm.yaml names another.
OUTPUT_DIR = "outputs"
#: Means the newest sweep, so it cannot be an id.
LAST = "last"
#: Bytes; file systems allow names of up to 255.
_MAX_LENGTH = 200
_ALLOWED = f"a name for a directory other than {LAST!r}, with no slash and no . ~ or - in front"


def new_sweep_id(name: str) -> str:
    """A unique id that sorts by time: ``train-20260131-235959-3fa9c1``."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "sweep"
    return f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(3).hex()}"


def check_sweep_id(sweep_id: str, origin: str) -> None:
    """Check a sweep id, which names a directory, and the sweep on command lines.

    Args:
        sweep_id: what was given, of any type.
        origin: where it was given, for the message: ``"--sweep-id"``.

    Raises:
        SettingsError: the id is not valid; says what an id must be.
    """
    if not isinstance(sweep_id, str):
        raise SettingsError("sweep id", sweep_id, origin, "a string")
    is_name = sweep_id.isprintable() and "/" not in sweep_id and sweep_id not in ("", LAST)
    if not is_name or sweep_id.startswith((".", "~", "-")):
        raise SettingsError("sweep id", sweep_id, origin, _ALLOWED)
    size = len(os.fsencode(sweep_id))
    if size > _MAX_LENGTH:
        allowed = f"of at most {_MAX_LENGTH} bytes"
        message = f"{origin}: a sweep id has at most {_MAX_LENGTH} bytes, and this one {size}"
        raise SettingsError("sweep id", sweep_id, origin, allowed, message=message)
