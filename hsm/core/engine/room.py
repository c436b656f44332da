"""Waiting for room: for what a job's process needs besides what the admission counts.

    start --NoRoom--> refused() --a pause, then a longer one …--> one job tries again --> found()
                          `--and no job has run for a while--> True: it is no use

While other jobs run, they may give back what is missing, so the wait has no bound then. After a
refusal one job at a time tries: what is left may be enough for one, or for parts of several.
"""

from __future__ import annotations

#: Seconds without any running job after which jobs that cannot be started are given up.
PATIENCE = 60.0
#: Seconds between two tries: at first, and in the end.
_FIRST_PAUSE, _LAST_PAUSE = 0.05, 2.0


class Room:
    """Whether a place may be tried. Not thread-safe; `now` is monotonic.

    Attributes:
        shortage: what was missing at the last try; empty if there was room.
    """

    def __init__(self) -> None:
        self.shortage = ""
        self._pause = 0.0
        self._opens = 0.0
        self._idle_since: float | None = None  # since when jobs wait and none has run
        self._tries: object = None  # the job that tries, if one does

    def opens(self, now: float) -> float:
        """When the next job may try: seconds from now, 0 if at once."""
        if not self.shortage:
            return 0.0
        return _LAST_PAUSE if self._tries is not None else max(0.0, self._opens - now)

    def tries(self, job: object) -> None:
        """A job tries to start."""
        if self.shortage:
            self._tries = job

    def found(self, job: object) -> None:
        """A job has started, or needs no room."""
        if self._tries is job or not self.shortage:
            self.shortage, self._pause, self._tries, self._idle_since = "", 0.0, None, None

    def refused(self, job: object, shortage: str, now: float, *, is_busy: bool) -> float | None:
        """A job found no room.

        Args:
            job: the job.
            shortage: what was missing.
            now: the time.
            is_busy: whether any job is running.

        Returns how long jobs have waited while none ran, if that is too long.
        """
        if self._tries is job or not self.shortage:
            self._pause = min(2 * self._pause or _FIRST_PAUSE, _LAST_PAUSE)
            self._opens = now + self._pause
        self._tries = None if self._tries is job else self._tries
        self.shortage = shortage
        if is_busy:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        elif now - self._idle_since > PATIENCE:
            return now - self._idle_since
        return None

    def freed(self, job: object) -> None:
        """A job has given back what it had: let one that waits try at once."""
        self._tries = None if self._tries is job else self._tries
        self._opens = 0.0
