"""A journal that is read as it grows: each call replays what has been written since the last one.

    journal.jsonl --from the offset reached so far--> Replay.advance --> Sweep, and what happened

For whoever watches a sweep from another process. It keeps the one file open and reads each byte
once; the launcher does not know of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hsm.core.job import IllegalTransition
from hsm.core.lock import is_locked
from hsm.core.paths import SweepPaths
from hsm.core.sweep import JournalError, Sweep, read_header


class Replay:
    """The sweep at `paths`, as its journal has told so far.

    Attributes:
        sweep: as of the last `advance`. Jobs that a dead launcher left behind have ended in it.

    Raises:
        JournalError: there is no journal, its first line is damaged, or a newer hsm wrote it.
    """

    def __init__(self, paths: SweepPaths) -> None:
        try:
            self._file = paths.journal.open("rb")
        except OSError as error:
            raise JournalError(f"no sweep in {paths.sweep_dir}: {error.strerror}") from error
        self._rest = b""
        self._line = 1
        try:
            header = read_header(paths.journal, self._file.readline())
        except JournalError:
            self._file.close()
            raise
        self.sweep = Sweep(header["sweep_id"], paths, header)

    def advance(self) -> list[Mapping[str, Any]]:
        """Replay what was written since the last call; returns the records that had an effect."""
        sweep = self.sweep
        # The launcher first: one that ends between the two looks has written its last line by then.
        alive = is_locked(sweep.paths.lock)
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        records: list[Mapping[str, Any]] = []
        for line in lines:
            self._line += 1
            try:
                record = json.loads(line)
                sweep.apply(record)
            except (ValueError, KeyError, TypeError, AttributeError, IllegalTransition) as error:
                sweep.problems.append(f"line {self._line}: {error}")
            else:
                records.append(record)
        sweep.alive = alive
        sweep.settle()
        return records

    @property
    def is_over(self) -> bool:
        """Whether the launcher has closed the journal, or is gone."""
        return self.sweep.closed is not None or not self.sweep.alive

    def close(self) -> None:
        """Free the file."""
        self._file.close()

    def __enter__(self) -> Replay:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
