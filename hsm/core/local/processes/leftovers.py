"""Killing what is left of a job that has lost its keeper, and perhaps the fork server with it.

When a keeper dies, the server inherits its descendants and kills them. If the server dies at the
same moment, or is stopped, the launcher does it instead: it searches all processes for the job's.
Those have the job's variables in their environment or, if they are forks that never executed
another program, belong to the session that the keeper led.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from hsm.core.local.processes.process_tree import is_zombie, send_signal

if TYPE_CHECKING:
    import psutil

#: Variables that identify a job.
_NAMES = ("HSM_SWEEP_DIR", "HSM_JOB_ID")
#: Seconds between searches. During an exec a process has no environment for a moment, so a single
#: search that finds nothing is not enough.
_INTERVAL = 0.05
#: Seconds after which processes stuck in the kernel are left alone.
_UNKILLABLE = 10.0


def kill_leftovers(env: Mapping[str, str], keeper: int | None) -> None:
    """Kill what is left of a job; return when nothing is.

    Args:
        env: the environment variables that the job was started with.
        keeper: the pid of its keeper, if it had one.
    """
    deadline = time.monotonic() + _UNKILLABLE
    empty_searches = 0
    while empty_searches < 2 and time.monotonic() < deadline:
        left = _find(env, keeper)
        send_signal(left, signal.SIGKILL)
        empty_searches = 0 if left else empty_searches + 1
        time.sleep(_INTERVAL)


def _find(env: Mapping[str, str], keeper: int | None) -> list[psutil.Process]:
    import psutil

    command = psutil.Process().cmdline()
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid == os.getpid() or is_zombie(process):
                continue
            variables = process.environ()
            is_marked = all(variables.get(name) == env[name] for name in _NAMES)
            # A fork of the launcher has the launcher's command line.
            is_fork = os.getsid(process.pid) == keeper and process.cmdline() == command
            if is_marked or is_fork:
                found.append(process)
    return found
