"""The jobs that wait to be admitted, in the order in which their turns come.

    priority, highest first -> retries before others -> age
    jobs alike in these and in what they need ------> one _Line, oldest first

Whether a job can be admitted depends only on its line. So to find the next one takes a look at the
first job of each line, however many wait.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Mapping

from hsm.core.engine.ledger import JobHandle
from hsm.core.gpu.need import GpuNeed

_Needs = tuple[tuple[str, int], ...]
_Key = tuple[tuple[int, bool], _Needs, GpuNeed | None, frozenset[str]]


class Line:
    """Jobs of the same rank that need the same.

    Attributes:
        rank: smaller ranks come first.
        needs: the named resources that each of them takes, with amounts.
        gpu_need: what each of them needs of GPUs.
        avoid: tokens of GPUs on which they do not run.
        jobs: the jobs, oldest first; those that left the line meanwhile are skipped.
    """

    __slots__ = ("avoid", "gpu_need", "jobs", "needs", "rank")

    def __init__(self, like: JobHandle) -> None:
        self.rank = _rank(like)
        self.needs: Mapping[str, int] = like.needs
        self.gpu_need = like.gpu_need
        self.avoid = like.avoid
        self.jobs: deque[JobHandle] = deque()

    def first(self) -> JobHandle | None:
        """The oldest job that is still in the line."""
        while self.jobs and self.jobs[0].line is not self:
            self.jobs.popleft()
        return self.jobs[0] if self.jobs else None


class WaitingJobs:
    """Waiting jobs, from which any can be removed. Not thread-safe."""

    def __init__(self) -> None:
        self._ages = itertools.count(1)
        self._lines: dict[_Key, Line] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, handles: Iterable[JobHandle]) -> None:
        """Have jobs wait. A job that has waited before keeps its age."""
        unordered: set[Line] = set()
        line, last, is_new = None, None, True
        for handle in handles:
            was_new, is_new = is_new, len(handle.job.attempts) == handle.attempts_before
            # Of very many jobs, nearly all are in the line of the one before them.
            if last is None or is_new is not was_new or not _are_alike(handle, last):
                line = self._line(handle)
            assert line is not None
            last = handle
            handle.line = line
            self._count += 1
            if handle.age:
                self._insert(handle, line, unordered)
            else:
                handle.age = next(self._ages)
                line.jobs.append(handle)
        for line in unordered:
            line.jobs = deque(sorted(line.jobs, key=lambda handle: handle.age))

    def _insert(self, handle: JobHandle, line: Line, unordered: set[Line]) -> None:
        """Put a job that has waited before into its line; note the line if it is out of order."""
        if line.jobs and handle.age < line.jobs[0].age:
            line.jobs.appendleft(handle)
            return
        if line.jobs and handle.age < line.jobs[-1].age:
            unordered.add(line)
        line.jobs.append(handle)

    def _line(self, handle: JobHandle) -> Line:
        needs = tuple(sorted(handle.needs.items())) if handle.needs else ()
        key = (_rank(handle), needs, handle.gpu_need, handle.avoid)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = Line(handle)
        return line

    def remove(self, handle: JobHandle) -> bool:
        """Have a job wait no longer; False if it does not wait (any more)."""
        if handle.line is None:
            return False
        handle.line = None
        self._count -= 1
        return True

    def firsts(self) -> list[tuple[JobHandle, Line]]:
        """The first job of each line with the line, the one whose turn it is first."""
        if not self._count:
            return []
        if len(self._lines) == 1:  # as in nearly every sweep
            (line,) = self._lines.values()
            handle = line.first()
            return [] if handle is None else [(handle, line)]
        found, empty = [], []
        for key, line in self._lines.items():
            handle = line.first()
            if handle is None:
                empty.append(key)
            else:
                found.append((handle, line))
        for key in empty:
            del self._lines[key]
        if len(found) > 1:
            found.sort(key=lambda each: (each[1].rank, each[0].age))
        return found

    def ahead_of(self, handle: JobHandle) -> int:
        """How many jobs come before this one, which waits."""
        turn = _turn(handle)
        return sum(_turn(each) < turn for each in self)

    def __iter__(self) -> Iterator[JobHandle]:
        """The jobs, in no order."""
        for line in self._lines.values():
            # A job that left the line and came back is in it twice.
            yield from [handle for handle in dict.fromkeys(line.jobs) if handle.line is line]

    def take_all(self) -> list[JobHandle]:
        """Remove and return all jobs, in the order of their turns."""
        found = sorted(self, key=_turn)
        for handle in found:
            self.remove(handle)
        return found


def _are_alike(one: JobHandle, other: JobHandle) -> bool:
    """Whether two jobs are known to be in one line if both are retries, or none is."""
    return (
        one.needs is other.needs
        and one.priority == other.priority
        and one.gpu_need is other.gpu_need
        and one.avoid is other.avoid
    )


def _rank(handle: JobHandle) -> tuple[int, bool]:
    return -handle.priority, not handle.has_run


def _turn(handle: JobHandle) -> tuple[tuple[int, bool], int]:
    return _rank(handle), handle.age
