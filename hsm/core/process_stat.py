"""What the kernel says about any process, in /proc/<pid>/stat; nothing where there is no /proc."""

from __future__ import annotations

#: Indices in `stat_fields`: a process's state, and when it started, in ticks since the machine did.
STATE, START_TIME = 0, 19


def stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/<pid>/stat from the state on; empty if the process is gone.

    The first one is field (3) in proc(5).
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []
