"""Small numbers for things that come and go, such as the jobs that run at once."""

from __future__ import annotations

import heapq


class FreeNumbers:
    """Gives out the smallest number, from 0, that nobody has. Not thread-safe."""

    def __init__(self) -> None:
        self._free: list[int] = []  # a heap
        self._next = 0

    def take(self) -> int:
        """The smallest free number."""
        if self._free:
            return heapq.heappop(self._free)
        self._next += 1
        return self._next - 1

    def give_back(self, number: int) -> None:
        """A number is free again."""
        heapq.heappush(self._free, number)
