"""Whether the kernel's out-of-memory killer has killed something meanwhile.

It leaves no mark on its victims: they have died of SIGKILL like any other. What it does leave is a
count of its kills: of a control group's, which is what a job shares with its launcher and not with
the rest of the machine, or else of the whole machine's.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

#: Where version 2 of the control groups is mounted.
_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUP = Path("/proc/self/cgroup")
_MACHINE = Path("/proc/vmstat")


class OomKill(Enum):
    """What is known of such a kill while a job ran."""

    NONE = "none"
    SOMEWHERE = "somewhere"
    """There was one on this machine, perhaps of something else."""
    HERE = "here"
    """There was one in the jobs' control group."""


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
        with suppress(OSError, ValueError):
            return cls(_count(_own_group() / "memory.events"), True)
        with suppress(OSError, ValueError):
            return cls(_count(_MACHINE), False)
        return cls(None, False)

    def since(self) -> OomKill:
        """Whether there were more since this was looked up."""
        now = OomKills.now()
        if self.count is None or now.are_own != self.are_own or now.count == self.count:
            return OomKill.NONE
        return OomKill.HERE if self.are_own else OomKill.SOMEWHERE


def _own_group() -> Path:
    """Raises ValueError if there are no groups of version 2."""
    text = os.fsdecode(_read(_OWN_GROUP))
    start = f"\n{text}".index("\n0::/")
    return _GROUPS / text[start:].partition("\n")[0].removeprefix("0::/")


def _count(path: Path) -> int:
    """Raises ValueError if `path` does not tell it."""
    text = b"\n" + _read(path)
    start = text.index(b"\noom_kill ")
    return int(text[start:].split(maxsplit=2)[1])


def _read(path: Path) -> bytes:
    # Each job comes by here: `Path.read_text` takes three times as long.
    with open(path, "rb", buffering=0) as file:
        return file.read()
