"""Names of signals, also of those that Python has no names for."""

from __future__ import annotations

import signal as signals


def signal_name(number: int) -> str:
    """``9`` -> ``"SIGKILL"``; real-time signals, which have no names, become ``"SIG42"``."""
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"SIG{number}"
