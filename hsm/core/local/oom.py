"""Finding out whether the kernel's out-of-memory killer killed something while a job ran.

The killer leaves no mark on its victims: they die of SIGKILL like any other process. But the kernel
counts its kills, per control group and for the whole machine. A job shares its control group with
its launcher and not with the rest of the machine, so the group's count is preferred. The count
without subgroups is read where there is one: processes in subgroups were moved there by somebody
else.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from signal import SIGKILL

#: Where cgroups v2 is mounted, and below it, or instead of it, v1.
_GROUPS = "/sys/fs/cgroup"
_OWN_GROUP = "/proc/self/cgroup"
_MACHINE = "/proc/vmstat"

_CHUNK = 1 << 16
#: Seconds. A kill that is longer ago is never taken for one of a job that has begun since.
_AGE = 0.05

#: Exit codes, as of `os.waitstatus_to_exitcode`, of a job that was killed itself, or that exited
#: like a shell because the command that it ran was killed.
KILLED = (-SIGKILL, 128 + SIGKILL)


class OomKill(Enum):
    """Whether and where the out-of-memory killer struck while a job ran."""

    NONE = "none"
    #: On this machine; the victim may be unrelated to the job.
    SOMEWHERE = "somewhere"
    #: In the jobs' control group.
    HERE = "here"

    def reason(self, exit_code: int | None) -> str | None:
        """Describe the end of a job that ended as in `KILLED`; None if there was no such kill.

        Args:
            exit_code: the job's exit code; None if a signal ended it.
        """
        if self is OomKill.NONE:
            return None
        probably = "" if self is OomKill.HERE else "probably "
        cause = f"{probably}killed by the kernel's out-of-memory killer"
        if exit_code is None:
            return cause
        return f"exit code {exit_code}, as one of its processes was {cause}"


@dataclass(frozen=True)
class OomKills:
    """The number of kills so far.

    Attributes:
        count: the number; None if the kernel does not report it.
        are_own: whether it is the count of this process's control group.
    """

    count: int | None
    are_own: bool

    @classmethod
    def lately(cls) -> OomKills:
        """The count of less than 50 milliseconds ago: many short jobs begin with the same one."""
        if time.monotonic() >= _latest.expires:
            now = time.monotonic()  # before it is read: a kill must not be missed
            _latest.kills, _latest.expires = cls.now(), now + _AGE
        return _latest.kills

    @classmethod
    def now(cls) -> OomKills:
        """Read the current count."""
        for count in _counts_of_own_group():
            with suppress(OSError, ValueError):
                return cls(_count(count), True)
        with suppress(OSError, ValueError):
            return cls(_count(_MACHINE), False)
        return cls(None, False)

    def since(self) -> OomKill:
        """Whether and where there were more kills since this count was read."""
        now = OomKills.now()
        if self.count is None or now.are_own != self.are_own or now.count == self.count:
            return OomKill.NONE
        return OomKill.HERE if self.are_own else OomKill.SOMEWHERE


class _Latest:
    """The last count that was read, and until when it may be used again (monotonic)."""

    def __init__(self, kills: OomKills, expires: float) -> None:
        self.kills = kills
        self.expires = expires


_latest = _Latest(OomKills(None, False), 0.0)


def _counts_of_own_group() -> tuple[str, ...]:
    """Files that may hold the count, most exact first."""
    try:
        groups = _read(_OWN_GROUP)
    except OSError:
        return ()
    return _counts_of(groups, _GROUPS)


@lru_cache(maxsize=1)  # this runs for every job, and hardly anyone moves a process elsewhere
def _counts_of(groups: bytes, mounted: str) -> tuple[str, ...]:
    """The same for the content of /proc/[pid]/cgroup (cgroups(7)), and where these are mounted."""
    found = []
    for line in os.fsdecode(groups).splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            group = f"{mounted}{path}"
            found.append(f"{group}/memory.events.local")  # since Linux 5.2
            found.append(f"{group}/memory.events")
        elif "memory" in controllers.split(","):
            found.append(f"{mounted}/memory{path}/memory.oom_control")
    return tuple(found)


def _count(path: str) -> int:
    """Read the count from `path`. Raises ValueError if it is not there."""
    text = b"\n" + _read(path)
    start = text.index(b"\noom_kill ")
    return int(text[start:].split(maxsplit=2)[1])


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # runs for every job; `open` takes twice as long
    text = b""
    try:
        while some := os.read(fd, _CHUNK):
            text += some
    finally:
        os.close(fd)
    return text
