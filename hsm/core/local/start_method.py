"""How the processes of Python jobs come to life: forked from the launching one, or spawned afresh.

A fork takes milliseconds and carries everything that is loaded, but only the forking thread: a lock
that another thread held stays locked for ever in the child. And a GPU driver that the launching
process has initialised does not work in a fork.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress

from hsm.core.local.process import LINUX

#: Names of hsm's own threads start so. They hold no lock that a job's process uses.
OWN_THREADS = "hsm-"
_GPU_DEVICES = ("/dev/nvidia", "/dev/kfd")


def choose_start_method(asked: str) -> tuple[str, str]:
    """The start method to use, and why.

    Args:
        asked: "auto", "fork" or "spawn".

    Returns:
        "fork" or "spawn", and a reason: empty unless "auto" means "spawn" here.
    """
    if asked != "auto":
        return asked, ""
    why = _why_not_fork()
    return ("spawn", why) if why else ("fork", "")


def _why_not_fork() -> str:
    if not LINUX:
        return "this is not Linux"
    threads = [
        thread.name
        for thread in threading.enumerate()
        if thread is not threading.current_thread() and not thread.name.startswith(OWN_THREADS)
    ]
    if threads:
        more = f" and {len(threads) - 3} more" if len(threads) > 3 else ""
        return f"the launching process has other threads ({', '.join(threads[:3])}{more})"
    device = _open_gpu_device()
    if device:
        return f"the launching process has initialised a GPU driver ({device} is open)"
    return ""


def _open_gpu_device() -> str | None:
    with suppress(OSError):
        for fd in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                target = os.readlink(f"/proc/self/fd/{fd}")
                if target.startswith(_GPU_DEVICES):
                    return target
    return None
