"""Waiting for room: for what a job needs before it can have a process.

    start() --NoRoom--> a pause --> start() --NoRoom--> a longer pause --> …
                                        `--NoRoom, and no job has run for a while--> NothingStarts

While other jobs run, they may give back what is missing, so the wait has no bound then. Of those
that wait only one tries at a time: what is left may be enough for one, or for parts of several.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from hsm.core.engine.backend import NoRoom, NothingStarts
from hsm.core.units import format_duration

_T = TypeVar("_T")

#: Seconds without any running job after which jobs that cannot be started are given up.
PATIENCE = 60.0
#: Seconds until people are told of another reason why jobs wait.
_NOTICE_INTERVAL = 60.0
#: Seconds between two tries: at first, and in the end.
_FIRST_PAUSE, _LAST_PAUSE = 0.05, 2.0
#: Seconds between two looks whether a waiting job is still wanted.
_LOOK_INTERVAL = 0.2


class Room:
    """Has the jobs of one source wait for room. Thread-safe.

    Args:
        is_busy: whether any of them is running.
        notice: shows people a line.
    """

    def __init__(self, is_busy: Callable[[], bool], notice: Callable[[str], None]) -> None:
        self._is_busy = is_busy
        self._notice = notice
        self._turn = threading.Lock()  # held by the job that tries again
        self._freed = threading.Condition()  # guards what follows
        self._waiting = 0
        self._told: tuple[str, float] | None = None  # the last notice, and when (monotonic)
        self._idle_since: float | None = None  # since when jobs wait and none has run

    def get(self, start: Callable[[], _T], is_wanted: Callable[[], bool]) -> _T:
        """Call `start`, again and again as long as it raises NoRoom; return what it returns.

        Args:
            start: called in this thread. Its other exceptions propagate.
            is_wanted: whether to wait any longer; if not, `start` is called at once.

        Raises:
            NothingStarts: there was no room for too long.
        """
        pause = 0.0
        while True:
            try:
                found = self._call(start, is_wanted) if pause else start()
            except NoRoom as shortage:
                self._check_patience(shortage)
                self._tell(f"jobs wait: {shortage}")
            else:
                self._idle_since = None
                return found
            pause = min(2 * pause or _FIRST_PAUSE, _LAST_PAUSE)
            self._wait(pause, is_wanted)

    def freed(self) -> None:
        """A job has ended, and given back what it had: let one that waits try at once."""
        if self._waiting:
            with self._freed:
                self._freed.notify()

    def _call(self, start: Callable[[], _T], is_wanted: Callable[[], bool]) -> _T:
        """Call `start` when it is this job's turn, or when the job is no longer wanted."""
        while not (has_turn := self._turn.acquire(timeout=_LOOK_INTERVAL)) and is_wanted():
            pass
        try:
            return start()
        finally:
            if has_turn:
                self._turn.release()

    def _check_patience(self, shortage: NoRoom) -> None:
        with self._freed:
            waited = 0.0 if self._idle_since is None else time.monotonic() - self._idle_since
        if waited > PATIENCE and not self._is_busy():
            tried = format_duration(waited)
            raise NothingStarts(f"{shortage}, for {tried} in which no job ran") from shortage

    def _tell(self, text: str) -> None:
        now = time.monotonic()
        with self._freed:
            if self._told is not None:
                told, at = self._told
                if told == text or now < at + _NOTICE_INTERVAL:
                    return
            self._told = text, now
        self._notice(text)

    def _wait(self, seconds: float, is_wanted: Callable[[], bool]) -> None:
        end = time.monotonic() + seconds
        with self._freed:
            self._waiting += 1
            while is_wanted() and (left := end - time.monotonic()) > 0:
                if self._is_busy():
                    self._idle_since = None
                elif self._idle_since is None:
                    self._idle_since = time.monotonic()
                if self._freed.wait(min(left, _LOOK_INTERVAL)):
                    break
            self._waiting -= 1
