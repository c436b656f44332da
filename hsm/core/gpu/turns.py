"""Getting GPUs that other sweeps may have, so that each sweep's turn comes.

claim --all there--> their locks are held
   `--another sweep has some--> the turn is kept, round after round, until they are there
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from hsm.core.gpu.block import Block, Why
from hsm.core.gpu.locks import GpuLocks

#: Seconds for which others may have their turn, after a GPU that was waited for with it: longer
#: than they take between two looks.
REST = 1.0


class Turns:
    """Takes locks for one sweep. Not thread-safe; never blocks.

    Args:
        locks: the locks.

    Attributes:
        others: who else has a GPU, or gets it first, as far as was found out, by key.
        freed: the keys of those that others had until the current round.
    """

    def __init__(self, locks: GpuLocks) -> None:
        self.others: dict[str, Block] = {}
        self.freed: set[str] = set()
        self._locks = locks
        self._wanted: set[str] = set()  # keys waited for in the current round
        self._tried: set[str] = set()  # keys of `perhaps` that were tried in the current round
        self._keeps_turn = False
        self._rests_until = -math.inf

    def begin_round(self) -> None:
        """Jobs ask for GPUs, one after another, in the order of their turns."""
        self._wanted.clear()
        self._tried.clear()
        self.freed.clear()

    def end_round(self) -> None:
        """None of them has got any."""
        if not self._wanted:
            self._give_turn()

    def claim(
        self,
        count: int,
        free: Sequence[str],
        perhaps: Mapping[str, bool],
        now: float,
        *,
        keeps: bool,
    ) -> list[str]:
        """Take the locks of as many GPUs as are needed, or none.

        Args:
            count: how many are needed.
            free: the keys of those that would do, the best ones first.
            perhaps: the keys of those that might do if what is in the way is another sweep, and for
                each, whether the next look will tell.
            now: the time; monotonic.
            keeps: whether the turn is kept if GPUs of other sweeps are waited for.

        Returns the keys, or, if others are in the way, an empty list; `others` tells who.
        """
        owner, theirs = self._take_turn([*free], now)
        held, found, refused = self._locks.held, list[str](), list[str]()
        for key in free:
            if self._is_refused(key, owner, theirs):
                refused.append(key)
            else:
                found.append(key)
            if len(found) == count:
                self._succeeded(now)
                return found
        hoped = []
        for key, is_unseen in perhaps.items():
            if key not in self._tried:  # Once is enough, however many jobs ask.
                self._try(key, owner, theirs)
            if key in self.others:
                refused.append(key)
            elif is_unseen or key in self.freed:
                hoped.append(key)
        self._locks.release(key for key in found if key not in held)
        wanted = {*found, *refused, *hoped}
        # What others have given back is waited for until it has been looked at, too.
        is_others = bool(refused or (hoped and self._keeps_turn))
        if is_others and keeps and len(wanted) >= count and self._locks.has_turn:
            self._wanted |= wanted
            self._keeps_turn = True
            self._locks.keep_turn(self._wanted)
        return []

    def _take_turn(self, free: Iterable[str], now: float) -> tuple[str, frozenset[str]]:
        """Who else has the turn, if anybody has, and for which GPUs."""
        if now < self._rests_until:
            return "whoever waits for it", frozenset(free)
        owner, theirs = self._locks.take_turn()
        return f"another sweep ({owner})", theirs

    def _try(self, key: str, owner: str, theirs: frozenset[str]) -> None:
        """See whether another sweep has a GPU that this one does not want yet."""
        self._tried.add(key)
        was_theirs, is_held = key in self.others, key in self._locks.held
        if not self._is_refused(key, owner, theirs):
            if not is_held:
                self._locks.release([key])
            if was_theirs:
                self.freed.add(key)

    def _is_refused(self, key: str, owner: str, theirs: frozenset[str]) -> bool:
        """Whether another sweep has a GPU, or gets it first; else its lock is held."""
        is_held = key in self._locks.held
        if (holder := self._locks.try_take([key])) is not None:
            self.others[key] = Block(Why.locked, "", f"another sweep ({holder}) has ")
        elif key in theirs:
            if not is_held:
                self._locks.release([key])
            self.others[key] = Block(Why.promised, " first", f"{owner} gets ")
        else:
            self.others.pop(key, None)
            return False
        return True

    def _succeeded(self, now: float) -> None:
        """GPUs were claimed. If they were waited for, others have their turn first then."""
        if self._wanted:  # The turn is kept for a job that came before.
            return
        if self._keeps_turn:
            self._rests_until = now + REST
        self._give_turn()

    def _give_turn(self) -> None:
        self._keeps_turn = False
        self._locks.give_turn()
