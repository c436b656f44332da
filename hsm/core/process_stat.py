"""What the kernel says about any process, in /proc/<pid>/stat; nothing where there is no /proc."""

from __future__ import annotations

import os
import time
from contextlib import suppress

#: Indices in `stat_fields`: a process's state, its flags, and when it started, in ticks since the
#: machine did.
STATE, FLAGS, START_TIME = 0, 6, 19
#: The flag of a process that is on its way out (PF_EXITING in the kernel's sched.h).
_EXITING = 0x4


def stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/<pid>/stat from the state on; empty if the process is gone.

    The first one is field (3) in proc(5).
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def is_exiting(pid: int) -> bool:
    """Whether a process is dying, dead or gone.

    A dying process closes its files before its children get another parent: who sees the end of a
    connection to it may still find it as theirs.
    """
    fields = stat_fields(pid)
    return not fields or fields[STATE] in ("Z", "X") or bool(int(fields[FLAGS]) & _EXITING)


def running_seconds(pid: int) -> float | None:
    """For how long a process has run, whatever became of the clock; None if it is gone."""
    fields = stat_fields(pid)
    if not fields:
        return None
    started = int(fields[START_TIME]) / os.sysconf("SC_CLK_TCK")
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)


def process_command(pid: int) -> str:
    """The name of a process's program, of at most 15 characters; empty if it is gone."""
    with suppress(OSError), open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
        return file.read().strip()
    return ""
