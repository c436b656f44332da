"""Sampling the CPU and memory that running jobs use.

A job's processes are all those below its keeper, because a daemon that leaves the process that
started it becomes a child of the keeper.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import TypeGuard

import psutil

from hsm.core.engine.backend import Usage
from hsm.core.local.processes.process_tree import KEEPER_NAME

#: Seconds for which a sample is reused, since looking at every process of the machine is not cheap.
SAMPLE_AGE = 1.0
#: A tree's exact size is read again once its resident size has grown by this factor.
_GROWTH = 1.02


class UsageSampler:
    """Samples the process trees of jobs, identified by their pids. Thread-safe."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._taken = 0.0  # monotonic
        self._recent: dict[int, Usage] = {}
        # By pid: the (monotonic) time of the last sample, and the job's CPU seconds then.
        self._cpu: dict[int, tuple[float, float]] = {}
        # By pid: the largest resident size and the largest exact size of a job that has several
        # processes.
        self._peaks: dict[int, tuple[int, int]] = {}

    def recent(self, pids: Collection[int]) -> dict[int, Usage]:
        """Return a sample that is at most a second old; jobs newer than that may be missing."""
        with self._mutex:
            now = time.monotonic()
            if now - self._taken >= SAMPLE_AGE:
                self._refresh(pids)
            return self._recent

    def sample(self, pids: Collection[int]) -> dict[int, Usage]:
        """Take a new sample."""
        with self._mutex:
            self._refresh(pids)
            return self._recent

    def watch(self, pid: int) -> None:
        """Keep track of the peak of the job with process `pid`, until `peak` is called."""
        with self._mutex:
            self._peaks[pid] = (0, 0)

    def peak(self, pid: int) -> int:
        """Return and forget the largest sample, in bytes, of all the job's processes together.

        Shared memory is counted proportionally. 0 if the job never had several processes in a
        sample.
        """
        with self._mutex:
            return self._peaks.pop(pid, (0, 0))[1]

    def exact(self, pid: int) -> int:
        """Return `exact_memory` of the job, and count it towards the peak."""
        memory = exact_memory(pid)
        with self._mutex:
            if pid in self._peaks:
                resident, exact = self._peaks[pid]
                self._peaks[pid] = (resident, max(exact, memory))
        return memory

    def _refresh(self, pids: Collection[int]) -> None:
        self._recent = self._sample(pids)
        self._taken = time.monotonic()

    def _sample(self, pids: Collection[int]) -> dict[int, Usage]:
        children: dict[int, list[psutil.Process]] = defaultdict(list)
        processes: dict[int, psutil.Process] = {}
        for process in psutil.process_iter(["ppid"]):
            children[process.info["ppid"]].append(process)
            processes[process.pid] = process
        now = time.monotonic()
        usage: dict[int, Usage] = {}
        cpu_now: dict[int, tuple[float, float]] = {}
        for pid in pids:
            if pid in processes:
                keeper = processes.get(processes[pid].info["ppid"])
                tops = children[keeper.pid] if _is_keeper(keeper) else [processes[pid]]
                tree = _below(tops, children)
                cpu, memory = _measure(tree)
                cpu_now[pid] = (now, cpu)
                usage[pid] = (self._percent(pid, now, cpu), memory)
                self._note_peak(pid, tree, memory)
        self._cpu = cpu_now
        return usage

    def _percent(self, pid: int, now: float, cpu: float) -> float | None:
        if pid not in self._cpu:
            return None
        then, cpu_then = self._cpu[pid]
        return max(0.0, 100.0 * (cpu - cpu_then) / (now - then))

    def _note_peak(self, pid: int, tree: Sequence[psutil.Process], resident: int) -> None:
        """Read the exact size of a job if it may be a new peak.

        The exact size takes the kernel a while, so it is not read with every sample. For a single
        process, the kernel itself keeps track of the peak.
        """
        if pid not in self._peaks or len(tree) < 2:
            return
        largest, exact = self._peaks[pid]
        if resident > largest * _GROWTH:
            self._peaks[pid] = (resident, max(exact, sum(map(_proportional_size, tree))))


def exact_memory(pid: int) -> int:
    """Memory in bytes of the job with process `pid`, shared memory counted proportionally (PSS).

    Resident bytes where the kernel does not report PSS (not Linux, another user's process).
    """
    try:
        process = psutil.Process(pid)
        keeper = process.parent()
        if keeper is not None and _is_keeper(keeper):
            tree = keeper.children(recursive=True)
        else:
            tree = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0
    return sum(map(_proportional_size, tree))


def _is_keeper(process: psutil.Process | None) -> TypeGuard[psutil.Process]:
    """Whether `process` is the keeper of a job, which has only the job's processes below it.

    Only on Linux do daemons become the keeper's children, and only there does it have its name.
    After a keeper is killed, the job has another parent until it is killed, too.
    """
    if process is None:
        return False
    try:
        return process.name() == KEEPER_NAME
    except psutil.Error:
        return False


def _proportional_size(process: psutil.Process) -> int:
    try:
        with open(f"/proc/{process.pid}/smaps_rollup", encoding="ascii") as file:
            for line in file:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


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


def _measure(tree: Sequence[psutil.Process]) -> tuple[float, int]:
    """Return the CPU seconds and resident bytes of a process tree."""
    cpu, memory = 0.0, 0
    for process in tree:
        try:
            with process.oneshot():
                times = process.cpu_times()
                cpu += times.user + times.system
                # Include reaped children, or a tree's CPU time would drop when they end.
                cpu += getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
                memory += process.memory_info().rss
        except psutil.Error:
            continue
    return cpu, memory
