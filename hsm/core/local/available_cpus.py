"""How many CPUs this process may use: those of its affinity, and its control groups' quota.

    sched_getaffinity(2)                                    taskset, cpusets, batch systems
    cgroups v2: cpu.max                                     docker --cpus, systemd's CPUQuota,
    cgroups v1: cpu.cfs_quota_us over cpu.cfs_period_us     a pod's limit

A quota is in time, not in CPUs: half of the time of 16 CPUs is as much as 8 CPUs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from hsm.core.own_process import LINUX

_ROOT = Path("/")
#: Where the controller of v1 is mounted, alone or with another one.
_MOUNTS_OF_V1 = ("cpu", "cpu,cpuacct", "cpuacct,cpu")


def usable_cpus() -> list[int]:
    """The numbers of the CPUs that the calling thread may run on."""
    if LINUX:
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def available_cpus() -> int:
    """How many CPUs' worth of computing this process may do; at least 1."""
    usable, quota = len(usable_cpus()), cpu_quota()
    return usable if quota is None else max(1, min(usable, int(quota)))


def cpu_quota(root: Path = _ROOT) -> float | None:
    """The CPU time per time that the control groups of this process allow; None for any.

    Args:
        root: where /proc and /sys are.
    """
    groups = root / "sys/fs/cgroup"
    limits: list[float] = []
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                limits += _limits(groups, path, _quota_of_v2)
            elif "cpu" in controllers.split(","):
                for mount in _MOUNTS_OF_V1:
                    limits += _limits(groups / mount, path, _quota_of_v1)
    return min(limits, default=None)


def _limits(mount: Path, path: str, read: Callable[[Path], float | None]) -> Iterator[float]:
    """Yield the quotas of a group and of those above it, as far as this process can see them."""
    # In a container the path may be that of the host, whose upper groups are not there.
    own = mount / path.lstrip("/")
    for folder in (own, *own.parents):
        with suppress(OSError, ValueError, ZeroDivisionError):
            if (quota := read(folder)) is not None:
                yield quota
        if folder == mount:
            return


def _quota_of_v2(folder: Path) -> float | None:
    quota, period = (folder / "cpu.max").read_text().split()
    return None if quota == "max" else int(quota) / int(period)


def _quota_of_v1(folder: Path) -> float | None:
    quota = int((folder / "cpu.cfs_quota_us").read_text())
    return None if quota < 0 else quota / int((folder / "cpu.cfs_period_us").read_text())
