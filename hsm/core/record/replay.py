"""Follows a growing journal: each call replays what has been written since the last one.

    journal.jsonl --from the offset reached so far--> Replay.advance --> Sweep, and the new records

For watching a sweep from another process. It keeps the file open and reads each byte once; the
launcher does not notice. If the file is replaced, it continues with the new one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hsm.core.record.journal_header import JournalError, open_journal
from hsm.core.record.lock import is_locked
from hsm.core.record.paths import SweepPaths
from hsm.core.record.sweep import Sweep, begin


class Replay:
    """The sweep at `paths`, as far as its journal has been read.

    Attributes:
        sweep: the sweep as of the last `advance`; a new object if the journal was replaced. Jobs
            that a dead launcher left behind count as ended.

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
        self._read = 0  # records read from the current file
        self._reported = 0  # records reported so far, from this file and those it replaced

    def advance(self) -> list[Mapping[str, Any]]:
        """Replay what was written since the last call; returns the records that had an effect."""
        records: list[Mapping[str, Any]] = []

        def take(sweep: Sweep) -> None:
            for number, line in self._lines.read():
                record = sweep.take(number, line)
                if record is None:
                    continue
                self._read += 1
                if self._read > self._reported:
                    self._reported = self._read
                    records.append(record)

        self._replay(take)
        return records

    def catch_up(self) -> None:
        """Like `advance`, without keeping the records, of which there may be many."""

        def take(sweep: Sweep) -> None:
            self._read += sweep.take_all(self._lines.read_blocks())
            self._reported = max(self._read, self._reported)

        self._replay(take)

    def _replay(self, take: Callable[[Sweep], None]) -> None:
        # Check the launcher first: if it ends after this check, we still read its last line.
        alive = is_locked(self.sweep.paths.lock)
        if self._lines.is_replaced:
            self._start_over()
        sweep = self.sweep
        take(sweep)
        sweep.alive = alive
        sweep.settle()

    def _start_over(self) -> None:
        """Switch to the new file, if it is a journal yet. Does not report records twice."""
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
            self._reported = 0
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
