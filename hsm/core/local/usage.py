"""Sampling the CPU and memory that running jobs use.

A job's processes are all those below its keeper, because a daemon that leaves the process that
started it becomes a child of the keeper.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, TypeGuard

from hsm.core.engine.backend import Usage
from hsm.core.local.job_memory import own_memory, process_errors, resident_memory
from hsm.core.local.processes.process_tree import KEEPER_NAME
from hsm.core.own_process import sees_processes

if TYPE_CHECKING:
    import psutil

#: Seconds for which a sample is reused, since looking at every process of the machine is not cheap.
SAMPLE_AGE = 1.0
#: A sample is also reused for this many times as long as it took: reading a job's own memory takes
#: the kernel a while for large processes.
_AGE_FACTOR = 50


class _Tree(NamedTuple):
    """The processes of one job, and its keeper, which is None if it was killed."""

    processes: list[psutil.Process]
    keeper: psutil.Process | None

    def own_memory(self) -> int:
        return own_memory(self.processes, self.keeper)


class UsageSampler:
    """Samples the process trees of jobs, identified by their pids. Thread-safe."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._expires = 0.0  # monotonic
        self._recent: dict[int, Usage] = {}
        # By pid: the (monotonic) time of the last sample, and the job's CPU seconds then.
        self._cpu: dict[int, tuple[float, float]] = {}
        # By pid: the most memory that a sample has found, in bytes.
        self._peaks: dict[int, int] = {}

    def recent(self, pids: Collection[int]) -> dict[int, Usage]:
        """Return a sample that is at most a second old, or a little more where sampling is slow.

        Jobs that started since it was taken may be missing.
        """
        with self._mutex:
            began = time.monotonic()
            if began >= self._expires:
                self._recent = self._sample(pids, began)
                now = time.monotonic()
                self._expires = max(began + SAMPLE_AGE, now + _AGE_FACTOR * (now - began))
            return self._recent

    def above(self, pids: Collection[int], limit: int) -> dict[int, int]:
        """Return the jobs that have more than `limit` bytes of their own, with these bytes."""
        found: dict[int, int] = {}
        for pid, tree in _trees(pids).items():
            # Resident memory is never below the exact figure, and is quick to read.
            if sum(map(resident_memory, tree.processes)) > limit:
                memory = tree.own_memory()
                with self._mutex:
                    self._note_peak(pid, memory)
                if memory > limit:
                    found[pid] = memory
        return found

    def watch(self, pid: int) -> None:
        """Keep track of the peak of the job with process `pid`, until `peak` is called."""
        with self._mutex:
            self._peaks[pid] = 0

    def peak(self, pid: int) -> int:
        """Return and forget the most memory that a sample of the job has found; 0 if none did."""
        with self._mutex:
            return self._peaks.pop(pid, 0)

    def _note_peak(self, pid: int, memory: int) -> None:
        if pid in self._peaks:
            self._peaks[pid] = max(self._peaks[pid], memory)

    def _sample(self, pids: Collection[int], now: float) -> dict[int, Usage]:
        usage: dict[int, Usage] = {}
        cpu_now: dict[int, tuple[float, float]] = {}
        for pid, tree in _trees(pids).items():
            cpu, memory = sum(map(_cpu_seconds, tree.processes)), tree.own_memory()
            cpu_now[pid] = (now, cpu)
            usage[pid] = (self._percent(pid, now, cpu), memory)
            self._note_peak(pid, memory)
        self._cpu = cpu_now
        return usage

    def _percent(self, pid: int, now: float, cpu: float) -> float | None:
        if pid not in self._cpu:
            return None
        then, cpu_then = self._cpu[pid]
        return max(0.0, 100.0 * (cpu - cpu_then) / (now - then))


def _trees(pids: Collection[int]) -> dict[int, _Tree]:
    """Look at every process of the machine; return the trees of the jobs that have any."""
    children: dict[int, list[psutil.Process]] = defaultdict(list)
    processes: dict[int, psutil.Process] = {}
    parents: dict[int, int] = {}
    if not pids or not sees_processes():
        return {}
    import psutil

    errors = process_errors()
    for process in psutil.process_iter():
        with suppress(*errors):
            parents[process.pid] = process.ppid()
            children[parents[process.pid]].append(process)
            processes[process.pid] = process
    trees: dict[int, _Tree] = {}
    for pid in pids:
        if pid in processes:
            keeper = processes.get(parents[pid])
            if _is_keeper(keeper):
                trees[pid] = _Tree(_below(children[keeper.pid], children), keeper)
            else:
                trees[pid] = _Tree(_below([processes[pid]], children), None)
    return trees


def _is_keeper(process: psutil.Process | None) -> TypeGuard[psutil.Process]:
    """Whether `process` is the keeper of a job, which has only the job's processes below it.

    Only on Linux do daemons become the keeper's children, and only there does it have its name.
    After a keeper is killed, the job has another parent until it is killed, too.
    """
    if process is None:
        return False
    try:
        return process.name() == KEEPER_NAME
    except process_errors():
        return False


def _below(
    tops: Sequence[psutil.Process], children: Mapping[int, list[psutil.Process]]
) -> list[psutil.Process]:
    """Return the processes `tops` and all their descendants."""
    tree: list[psutil.Process] = []
    pending = list(tops)
    while pending:
        process = pending.pop()
        tree.append(process)
        pending += children.get(process.pid, ())
    return tree


def _cpu_seconds(process: psutil.Process) -> float:
    """Return the CPU seconds of a process; 0 if it is gone."""
    try:
        times = process.cpu_times()
    except process_errors():
        return 0.0
    # Include reaped children, or a tree's CPU time would drop when they end.
    reaped = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return float(times.user + times.system + reaped)
