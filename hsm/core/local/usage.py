"""How much CPU and memory the processes of running jobs use, sampled.

A job's processes are those below its keeper: a daemon leaves the process that has started it, and
becomes the keeper's child.
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

#: Seconds for which a sample is good enough: looking at every process of the machine is not free.
SAMPLE_AGE = 1.0
#: A tree's exact size is asked for again once its resident size has grown by this factor.
_GROWTH = 1.02


class UsageSampler:
    """Samples the process trees of jobs, each known by its process's pid. Thread-safe."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._taken = 0.0  # monotonic
        self._recent: dict[int, Usage] = {}
        # By the pid of the job's process: when it was looked at (monotonic), and the job's CPU
        # seconds by then.
        self._cpu: dict[int, tuple[float, float]] = {}
        # By the same: the largest resident size seen, and the largest exact one, of a job that has
        # several processes.
        self._peaks: dict[int, tuple[int, int]] = {}

    def recent(self, pids: Collection[int]) -> dict[int, Usage]:
        """A sample that is at most a second old; a tree that is newer than that may be missing."""
        with self._mutex:
            now = time.monotonic()
            if now - self._taken >= SAMPLE_AGE:
                self._refresh(pids)
            return self._recent

    def sample(self, pids: Collection[int]) -> dict[int, Usage]:
        """A sample of now."""
        with self._mutex:
            self._refresh(pids)
            return self._recent

    def watch(self, pid: int) -> None:
        """Keep the peak of the job whose process is `pid`, from now until `peak`."""
        with self._mutex:
            self._peaks[pid] = (0, 0)

    def peak(self, pid: int) -> int:
        """The most bytes that the job had in a sample, all its processes together; forgets them.

        What processes share is counted in parts. 0 if it had one process only, or was not sampled.
        """
        with self._mutex:
            return self._peaks.pop(pid, (0, 0))[1]

    def exact(self, pid: int) -> int:
        """`exact_memory`, which counts for the peak."""
        memory = exact_memory(pid)
        with self._mutex:
            if pid in self._peaks:
                resident, most = self._peaks[pid]
                self._peaks[pid] = (resident, max(most, memory))
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
        """Take a look at the exact size of a job, if it may be larger than it ever was.

        The exact one takes the kernel a while, so it is not asked for at every sample. Of a single
        process, the kernel keeps the peak by itself.
        """
        if pid not in self._peaks or len(tree) < 2:
            return
        largest, exact = self._peaks[pid]
        if resident > largest * _GROWTH:
            self._peaks[pid] = (resident, max(exact, sum(map(_proportional_size, tree))))


def exact_memory(pid: int) -> int:
    """Bytes of the job whose process is `pid`, what they share with others counted in parts (PSS).

    Where the kernel does not tell (not Linux, another user's process), resident bytes.
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
    """Whether `process` has a job's processes below it, and nothing else.

    Only Linux makes daemons its children, and only there it can be told by its name. If it was
    killed, the job's parent is another for as long as it takes to kill the job.
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
    """The processes `tops`, and all that they have started."""
    tree: list[psutil.Process] = []
    pending = list(tops)
    while pending:
        process = pending.pop()
        tree.append(process)
        pending += children.get(process.pid, ())
    return tree


def _measure(tree: Sequence[psutil.Process]) -> tuple[float, int]:
    """CPU seconds and resident bytes of some processes."""
    cpu, memory = 0.0, 0
    for process in tree:
        try:
            with process.oneshot():
                times = process.cpu_times()
                cpu += times.user + times.system
                # With children that were waited for, or a tree's CPU time would fall as they end.
                cpu += getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
                memory += process.memory_info().rss
        except psutil.Error:
            continue
    return cpu, memory
