"""A journal that is read as it grows: each call replays what has been written since the last one.

    journal.jsonl --from the offset reached so far--> Replay.advance --> Sweep, and what happened

For whoever watches a sweep from another process. It keeps the file open and reads each byte once;
the launcher does not know of it. If the file is replaced, it is the new one that tells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hsm.core.record.lock import is_locked
from hsm.core.record.paths import SweepPaths
from hsm.core.record.sweep import JournalError, begin, open_journal


class Replay:
    """The sweep at `paths`, as its journal has told so far.

    Attributes:
        sweep: as of the last `advance`; another object when the journal was replaced. Jobs that a
            dead launcher left behind have ended in it.

    Raises:
        JournalError: there is no journal, its first line is damaged, or a newer hsm wrote it.
    """

    def __init__(self, paths: SweepPaths) -> None:
        self._lines = open_journal(paths)
        try:
            self.sweep = begin(paths, self._lines)
        except JournalError:
            self._lines.close()
            raise
        self._read = 0  # records
        self._told = 0  # records that had an effect, of this journal and of those before it

    def advance(self) -> list[Mapping[str, Any]]:
        """Replay what was written since the last call; returns the records that had an effect."""
        records: list[Mapping[str, Any]] = []
        self._replay(records.append)
        return records

    def catch_up(self) -> None:
        """As `advance`, for whoever wants to know how things stand: there may be a lot to tell."""
        self._replay(lambda record: None)

    def _replay(self, tell: Callable[[Mapping[str, Any]], None]) -> None:
        # The launcher first: one that ends between the two looks has written its last line by then.
        alive = is_locked(self.sweep.paths.lock)
        if self._lines.is_replaced:
            self._start_over()
        sweep = self.sweep
        for number, line in self._lines.read():
            record = sweep.take(number, line)
            if record is None:
                continue
            self._read += 1
            if self._read > self._told:
                self._told = self._read
                tell(record)
        sweep.alive = alive
        sweep.settle()

    def _start_over(self) -> None:
        """Read the file that is there now, unless it is none yet; what was told once is known."""
        try:
            lines = open_journal(self.sweep.paths)
        except JournalError:
            return
        try:
            sweep = begin(self.sweep.paths, lines)
        except JournalError:
            lines.close()
            return
        self._lines.close()
        if sweep.sweep_id != self.sweep.sweep_id:
            self._told = 0
        self._lines, self.sweep, self._read = lines, sweep, 0

    @property
    def is_over(self) -> bool:
        """Whether the launcher has closed the journal, or is gone."""
        return self.sweep.closed is not None or not self.sweep.alive

    def close(self) -> None:
        """Free the file."""
        self._lines.close()

    def __enter__(self) -> Replay:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
