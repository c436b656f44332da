"""Whether the kernel's out-of-memory killer has killed something meanwhile.

It leaves no mark on its victims: they have died of SIGKILL like any other. What it does leave is a
count of its kills: of a control group's, which is what a job shares with its launcher and not with
the rest of the machine, or else of the whole machine's. A group's own count is read where there is
one, and not that of all groups below: what dies there was moved there by somebody else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from signal import SIGKILL

#: Where version 2 of the control groups is mounted, and below it, or instead, version 1.
_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUP = Path("/proc/self/cgroup")
_MACHINE = Path("/proc/vmstat")

#: How a job ends that the killer has hit, as `os.waitstatus_to_exitcode` tells it: by itself, or,
#: as a shell does, because what it has run was killed.
KILLED = (-SIGKILL, 128 + SIGKILL)


class OomKill(Enum):
    """What is known of such a kill while a job ran."""

    NONE = "none"
    SOMEWHERE = "somewhere"
    """There was one on this machine, perhaps of something else."""
    HERE = "here"
    """There was one in the jobs' control group."""

    def reason(self, exit_code: int | None) -> str | None:
        """Why a job whose end is one of `KILLED` ran out of memory; None if it did not.

        Args:
            exit_code: of its process; None if a signal ended it.
        """
        if self is OomKill.NONE:
            return None
        surely = "" if self is OomKill.HERE else "probably "
        what = f"{surely}killed by the kernel's out-of-memory killer"
        if exit_code is None:
            return what
        return f"exit code {exit_code}, as one of its processes was {what}"


@dataclass(frozen=True)
class OomKills:
    """The kills until now.

    Attributes:
        count: how many; None if the kernel does not tell.
        are_own: they are those of this process's control group.
    """

    count: int | None
    are_own: bool

    @classmethod
    def now(cls) -> OomKills:
        """Look them up."""
        for count in _counts_of_own_group():
            with suppress(OSError, ValueError):
                return cls(_count(count), True)
        with suppress(OSError, ValueError):
            return cls(_count(_MACHINE), False)
        return cls(None, False)

    def since(self) -> OomKill:
        """Whether there were more since this was looked up."""
        now = OomKills.now()
        if self.count is None or now.are_own != self.are_own or now.count == self.count:
            return OomKill.NONE
        return OomKill.HERE if self.are_own else OomKill.SOMEWHERE


def _counts_of_own_group() -> Iterator[Path]:
    """The files that may hold it, the most exact one first (cgroups(7), /proc/[pid]/cgroup)."""
    with suppress(OSError):
        for line in os.fsdecode(_read(_OWN_GROUP)).splitlines():
            number, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            if number == "0" and not controllers:
                group = f"{_GROUPS}{path}"
                yield Path(group, "memory.events.local")  # since Linux 5.2
                yield Path(group, "memory.events")
            elif "memory" in controllers.split(","):
                yield Path(f"{_GROUPS}/memory{path}", "memory.oom_control")


def _count(path: Path) -> int:
    """Raises ValueError if `path` does not tell it."""
    text = b"\n" + _read(path)
    start = text.index(b"\noom_kill ")
    return int(text[start:].split(maxsplit=2)[1])


def _read(path: Path) -> bytes:
    # Each job comes by here: `Path.read_text` takes three times as long.
    with open(path, "rb", buffering=0) as file:
        return file.read()
