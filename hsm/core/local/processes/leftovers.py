"""What is left of a job that has lost its keeper, and perhaps the fork server with it.

A keeper's death makes whatever is below it the server's, which kills it. Where the server dies in
the same moment, or stands still, the launcher does: it looks among all processes for those of the
job. They carry the job's variables in their environment, or, if they are forks that have never
executed another program, belong to the session that the job's process led.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress

import psutil

from hsm.core.local.processes.process_tree import is_zombie, send_signal

#: What tells a job from all others.
_NAMES = ("HSM_SWEEP_DIR", "HSM_JOB_ID")
#: Seconds between looks. A process that is just executing a program has no environment for a
#: moment, so one look that finds nothing is not enough.
_INTERVAL = 0.05
#: Seconds after which what is stuck in the kernel is left alone.
_UNKILLABLE = 10.0


def kill_leftovers(env: Mapping[str, str], job: int | None) -> None:
    """Kill what is left of a job; returns when nothing is.

    Args:
        env: the variables that the job was started with.
        job: the pid of its process, if it had one.
    """
    deadline = time.monotonic() + _UNKILLABLE
    clean_looks = 0
    while clean_looks < 2 and time.monotonic() < deadline:
        left = _find(env, job)
        send_signal(left, signal.SIGKILL)
        clean_looks = 0 if left else clean_looks + 1
        time.sleep(_INTERVAL)


def _find(env: Mapping[str, str], job: int | None) -> list[psutil.Process]:
    command = psutil.Process().cmdline()
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid == os.getpid() or is_zombie(process):
                continue
            variables = process.environ()
            is_marked = all(variables.get(name) == env[name] for name in _NAMES)
            # A fork of the launcher shows the launcher's command line.
            is_fork = os.getsid(process.pid) == job and process.cmdline() == command
            if is_marked or is_fork:
                found.append(process)
    return found
