"""Processes that are found by a mark in the environment that their ancestor was started with.

A fork keeps it, however it daemonises; only a process that execs with another environment does not.
Linux only.
"""

from __future__ import annotations

import os
import uuid
from contextlib import suppress

import psutil

VARIABLE = "BENCHMARK_MARK"


def new_mark() -> str:
    """A value for `VARIABLE`."""
    return uuid.uuid4().hex


def marked_processes(mark: str) -> list[psutil.Process]:
    """Every process that carries `mark`, but for this one; no zombies."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(VARIABLE) == mark and process.pid != os.getpid():
                found.append(process)
    return found


def kill_marked(mark: str) -> None:
    """SIGKILL to all of them."""
    for process in marked_processes(mark):
        with suppress(psutil.Error):
            process.kill()
