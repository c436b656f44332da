"""The memory that a job has of its own: what would be free if the job were not there.

A forked job begins with the pages of its keeper, and so of the launching process, and costs nothing
until it writes to them. The keeper has the same pages, is idle, and is no part of the job:

    a process's share of all its pages (PSS) - the share of its keeper   what it has of its own,
                                                                         with other processes or not
    pages that no other process has (USS)                                it has at least these

The second figure counts pages that the job took over by writing to them: its keeper still has the
originals. Pages that the job's processes have in common count once, as each has a share of them.
Programs that were executed have nothing of the keeper's.

One thing is missing: a job's private pages that it shares with children forked later, as far as the
job has given up, or taken over, as much of what it began with.

Where the kernel does not tell (not Linux, another user's process), resident memory counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING

from hsm.core.process_stat import stat_fields

if TYPE_CHECKING:
    import psutil

#: Kinds of pages that the kernel tells apart (since Linux 5.4). Each is compared for itself, so
#: that private pages that a job has given up do not hide the memory that it shares.
_KINDS = ("Pss_Anon:", "Pss_File:", "Pss_Shmem:")
_PRIVATE = ("Private_Clean:", "Private_Dirty:")
#: In `stat_fields`: where a program's code and stack begin. Random, given anew by exec and only
#: by that.
_IMAGE = slice(23, 26, 2)


@cache
def process_errors() -> tuple[type[Exception], ...]:
    """What a psutil call raises for a process that vanishes meanwhile, or that is another user's.

    psutil turns most of an OSError into its own errors, but not all.
    """
    import psutil

    return psutil.Error, OSError


def own_memory(tree: Sequence[psutil.Process], keeper: psutil.Process | None) -> int:
    """Return the bytes that the processes of one job have of their own, see above.

    Args:
        tree: the job's processes.
        keeper: its keeper; None if it has none.
    """
    shared = {} if keeper is None else _sizes(keeper.pid)
    image = [] if keeper is None else stat_fields(keeper.pid)[_IMAGE]
    total = 0
    for process in tree:
        sizes = _sizes(process.pid)
        if not sizes:
            total += resident_memory(process)
        elif image and stat_fields(process.pid)[_IMAGE] == image:
            total += _less(sizes, shared)
        else:
            total += sizes.get("Pss:", 0)
    return total


def resident_memory(process: psutil.Process) -> int:
    """Return the resident bytes of one process; 0 if it is gone."""
    with suppress(*process_errors()):
        return int(process.memory_info().rss)
    return 0


def _less(sizes: dict[str, int], shared: dict[str, int]) -> int:
    kinds = [kind for kind in _KINDS if kind in sizes] or ("Pss:",)
    own = sum(max(0, sizes.get(kind, 0) - shared.get(kind, 0)) for kind in kinds)
    return max(own, sum(sizes.get(name, 0) for name in _PRIVATE))


def _sizes(pid: int) -> dict[str, int]:
    """Return the figures of /proc/<pid>/smaps_rollup in bytes; empty if they cannot be read."""
    sizes: dict[str, int] = {}
    with suppress(OSError), open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as file:
        for line in file:
            words = line.split()
            if words[-1] == "kB":  # not the range of addresses
                sizes[words[0]] = int(words[1]) * 1024
    return sizes
