"""How much CPU and memory the process trees of running jobs use, sampled."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Mapping

import psutil

#: Seconds for which a sample is good enough: looking at every process of the machine is not free.
_SAMPLE_AGE = 1.0

#: CPU in percent of one core (None at first), resident bytes.
Usage = tuple[float | None, int | None]


class UsageSampler:
    """Samples process trees. Thread-safe."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._taken = 0.0  # monotonic
        self._recent: dict[str, Usage] = {}
        # By the root's pid: when it was looked at (monotonic), and its CPU seconds by then.
        self._cpu: dict[int, tuple[float, float]] = {}

    def recent(self, roots: Mapping[str, int]) -> dict[str, Usage]:
        """A sample that is at most a second old; a tree that is newer than that may be missing.

        Args:
            roots: pid of each tree's root, by job id.
        """
        with self._mutex:
            now = time.monotonic()
            if now - self._taken >= _SAMPLE_AGE:
                self._refresh(roots)
            return self._recent

    def sample(self, roots: Mapping[str, int]) -> dict[str, Usage]:
        """A sample of now; arguments and result as for `recent`."""
        with self._mutex:
            self._refresh(roots)
            return self._recent

    def _refresh(self, roots: Mapping[str, int]) -> None:
        self._taken = time.monotonic()
        self._recent = self._sample(roots)

    def _sample(self, roots: Mapping[str, int]) -> dict[str, Usage]:
        children: dict[int, list[psutil.Process]] = defaultdict(list)
        processes: dict[int, psutil.Process] = {}
        for process in psutil.process_iter(["ppid"]):
            children[process.info["ppid"]].append(process)
            processes[process.pid] = process
        now = time.monotonic()
        usage: dict[str, Usage] = {}
        cpu_now: dict[int, tuple[float, float]] = {}
        for key, pid in roots.items():
            if pid in processes:
                cpu, memory = _measure(processes[pid], children)
                cpu_now[pid] = (now, cpu)
                usage[key] = (self._percent(pid, now, cpu), memory)
        self._cpu = cpu_now
        return usage

    def _percent(self, pid: int, now: float, cpu: float) -> float | None:
        if pid not in self._cpu:
            return None
        then, cpu_then = self._cpu[pid]
        return max(0.0, 100.0 * (cpu - cpu_then) / (now - then))


def exact_memory(pid: int) -> int:
    """Bytes of the tree below process `pid`, what it shares with others counted in parts (PSS).

    Where the kernel does not tell (not Linux, another user's process), resident bytes.
    """
    try:
        root = psutil.Process(pid)
        tree = [root, *root.children(recursive=True)]
    except psutil.Error:
        return 0
    return sum(map(_proportional_size, tree))


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


def _measure(
    root: psutil.Process, children: Mapping[int, list[psutil.Process]]
) -> tuple[float, int]:
    cpu, memory = 0.0, 0
    pending = [root]
    while pending:
        process = pending.pop()
        pending += children.get(process.pid, ())
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
