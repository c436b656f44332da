"""Names for sweeps."""

from __future__ import annotations

import os
import re
import secrets
import time

from hsm.core.errors import SettingsError

_ALLOWED = "a name for a directory: without a slash, not starting with . ~ or -, and not 'last'"


def new_sweep_id(name: str) -> str:
    """An id that no other sweep has, and that sorts by time: ``train-20260131-235959-3fa9c1``."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "sweep"
    return f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"


def check_sweep_id(sweep_id: object, origin: str) -> None:
    """See that a sweep can have this id: it names directories, and is typed in terminals.

    Args:
        origin: where it came from, for the message.

    Raises:
        SettingsError: it cannot.
    """
    if not isinstance(sweep_id, str) or not sweep_id or not _is_name(sweep_id):
        raise SettingsError("sweep id", sweep_id, origin, _ALLOWED)


def _is_name(text: str) -> bool:
    is_short = text.isprintable() and len(os.fsencode(text)) <= 200
    return is_short and "/" not in text and not text.startswith((".", "~", "-")) and text != "last"
