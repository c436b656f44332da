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

_Needs = tuple[tuple[str, int], ...]


class Line:
    """Jobs of the same rank that need the same.

    Attributes:
        rank: smaller ranks come first.
        needs: the named resources that each of them takes, with amounts.
        jobs: the jobs, oldest first; those that left the line meanwhile are skipped.
    """

    __slots__ = ("jobs", "needs", "rank")

    def __init__(self, rank: tuple[int, bool], needs: Mapping[str, int]) -> None:
        self.rank = rank
        self.needs = needs
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
        self._lines: dict[tuple[tuple[int, bool], _Needs], Line] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, handles: Iterable[JobHandle]) -> None:
        """Have jobs wait. A job that has waited before keeps its age."""
        unordered: set[Line] = set()
        line, priority, is_new, needs = None, 0, True, None
        for handle in handles:
            was_new, is_new = is_new, len(handle.job.attempts) == handle.attempts_before
            # Of very many jobs, nearly all are in the line of the one before them.
            if handle.needs is not needs or handle.priority != priority or is_new is not was_new:
                priority, needs = handle.priority, handle.needs
                line = self._line(_rank(handle), needs)
            assert line is not None
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

    def _line(self, rank: tuple[int, bool], needs: Mapping[str, int]) -> Line:
        key = (rank, tuple(sorted(needs.items())) if needs else ())
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = Line(rank, needs)
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


def _rank(handle: JobHandle) -> tuple[int, bool]:
    return -handle.priority, not handle.has_run


def _turn(handle: JobHandle) -> tuple[tuple[int, bool], int]:
    return _rank(handle), handle.age
