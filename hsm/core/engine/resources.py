"""The named resources of a source: how many there are, and which jobs have them."""

from __future__ import annotations

from collections.abc import Mapping


class Resources:
    """Countable things that jobs share. Not thread-safe.

    Args:
        totals: how many there are, by name.
    """

    def __init__(self, totals: Mapping[str, int]) -> None:
        self._totals = dict(totals)
        self._free = dict(totals)
        # Numbers of jobs; of several sweeps some may be the same.
        self._users: dict[str, list[int]] = {name: [] for name in totals}

    def lacking(self, needs: Mapping[str, int]) -> list[str]:
        """The names of those of which too few are free for these needs."""
        return [name for name, amount in needs.items() if self._free.get(name, 0) < amount]

    def take(self, num: int, needs: Mapping[str, int]) -> None:
        """Job `num` takes what it needs, which is free."""
        for name, amount in needs.items():
            self._free[name] -= amount
            self._users[name].append(num)

    def give_back(self, num: int, needs: Mapping[str, int]) -> None:
        """Job `num` needs it no more."""
        for name, amount in needs.items():
            self._free[name] += amount
            self._users[name].remove(num)

    def describe(self, name: str, amount: int) -> str:
        """What a job that needs so many of `name` waits for, in a few words."""
        free, total = self._free.get(name, 0), self._totals.get(name, 0)
        users = ", ".join(map(str, sorted(self._users.get(name, ()))))
        has = f", the others have jobs {users}" if users else ""
        return f"{amount} of {name}: {free} of {total} free{has}"
