"""Names for sweeps."""

from __future__ import annotations

import re
import secrets
import time


def new_sweep_id(name: str) -> str:
    """An id that no other sweep has, and that sorts by time: ``train-20260131-235959-3fa9c1``."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "sweep"
    return f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
