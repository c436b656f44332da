"""Reads what jobs have reported while they ran: ``.hsm/metrics/<n>.jsonl``, one JSON value a line.

    {"step": 3, "loss": 0.1}   a measurement
    {"loss": 0.1}              one without a step
    "asks"                     the job asks whether it is to end early: see `hsm.should_prune`
    "pruned"                   it was told so, or says so itself; "pruned: why"

    <n>.jsonl --MetricsFile.read, as it grows--> Measurements, and Measured: all of them in short

A file has the lines of all attempts, one after another; where an attempt begins is in the record of
its start (`Attempt.metrics`). Anyone may have written it, so no line, and no file, however long,
takes up more than a bounded part of the reader's memory.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from hsm.core.files import open_below
from hsm.core.record.paths import SweepPaths

#: A value that a job reports.
Value: TypeAlias = "int | float | str | bool | None"

#: The words in lines of their own, see above.
ASKS, PRUNED = "asks", "pruned"
_PRUNED_AS = f"{PRUNED}: "

#: Bytes of a line; a longer one is not used.
MAX_LINE = 1 << 16
#: Steps, and other integers, are below this.
_MAX_INTEGER = 1 << 63
#: Characters of a text that are kept.
_MAX_TEXT = 500
#: Names whose latest values are kept.
_MAX_NAMES = 1000
#: Bytes that are read at once.
_CHUNK = 1 << 20
#: Bytes: who is further behind than this goes on with the last part of the file.
_MAX_BEHIND = 16 << 20


class Measurement(NamedTuple):
    """One line of what a job reports.

    Attributes:
        step: the step that it is of; None if it has none.
        values: the values, by name.
    """

    step: int | None
    values: Mapping[str, Value]


@dataclass
class Measured:
    """All that one attempt has reported, in short.

    Attributes:
        latest: the last value of each name.
        step: the last step; None if there was none.
        was_told: whether the job knows that it is to end early: `hsm.should_prune` has said so, or
            the job itself, by an `hsm.Pruned` that nobody caught.
        asks: whether it has called `hsm.should_prune`.
        count: how many measurements there were.
        unusable: how many lines were none, and no word of hsm's either.
        why: what the job said of why it ends early, if anything.
    """

    latest: dict[str, Value] = field(default_factory=dict)
    step: int | None = None
    was_told: bool = False
    asks: bool = False
    count: int = 0
    unusable: int = 0
    why: str = ""

    def take(self, found: Measurement | str | None) -> None:
        """Take a line into account: a measurement, a word, or None for what makes no sense."""
        if isinstance(found, Measurement):
            self.count += 1
            self.step = self.step if found.step is None else found.step
            for name, value in found.values.items():
                if name in self.latest or len(self.latest) < _MAX_NAMES:
                    self.latest[name] = value
        elif found == ASKS:
            self.asks = True
        elif found is not None and (found == PRUNED or found.startswith(_PRUNED_AS)):
            self.was_told = True
            self.why = self.why or found[len(_PRUNED_AS) :][:_MAX_TEXT]
        else:
            self.unusable += 1

    @property
    def last_value(self) -> float | None:
        """The last ``value``, or that of the only name that has a number; else None."""
        numbers = {
            name: value
            for name, value in self.latest.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        if "value" in numbers:
            return numbers["value"]
        return next(iter(numbers.values())) if len(numbers) == 1 else None


class MetricsFile:
    """Reads what one attempt of a job reports, each byte once. Not thread-safe.

    Args:
        paths: the sweep's.
        num: the job's number.
        start: where the attempt begins in the file; a file that is shorter counts as a whole.
            None: at its end.
        skips: whether to leave out the beginning of what is too much to be read at once.

    Attributes:
        offset: the bytes up to here have been read.
        measured: what they say.
    """

    def __init__(
        self, paths: SweepPaths, num: int, start: int | None = 0, *, skips: bool = True
    ) -> None:
        self._root, self._path = str(paths.sweep_dir), paths.metrics_text(num)
        self._skips = skips
        self.offset = 0
        self.offset = (self._size() or 0) if start is None else start
        self.measured = Measured()
        self._torn = b""  # the beginning of a line that is not complete yet
        self._is_passing = False  # whether the line that is read now is none to be used

    def read(self) -> list[Measurement]:
        """The measurements in lines that were completed since the last call, not all if many.

        Empty if there is no such file, or if it is no regular file.
        """
        size = self._size()
        if size is None or size == self.offset:
            return []
        try:
            data = self._read(size)
        except OSError:
            return []
        lines = (self._torn + data).split(b"\n")
        self._torn = lines.pop()
        if lines and self._is_passing:
            del lines[0]
            self._is_passing = False
        if len(self._torn) > MAX_LINE:
            if not self._is_passing:
                self.measured.unusable += 1
            self._torn, self._is_passing = b"", True
        return [found for line in lines if isinstance(found := self._take(line), Measurement)]

    def finish(self) -> list[Measurement]:
        """What is left, now that the attempt is over: a last line may have no newline."""
        found: list[Measurement] = []
        while self.has_more:
            before = self.offset
            found += self.read()
            if self.offset == before:  # it cannot be read
                break
        torn, self._torn = self._torn, b""
        last = _parsed(torn) if torn and not self._is_passing else None
        if last is not None:  # else its writer was killed
            self.measured.take(last)
            if isinstance(last, Measurement):
                found.append(last)
        return found

    @property
    def has_more(self) -> bool:
        """Whether there is something to read."""
        size = self._size()
        return size is not None and size != self.offset

    def _size(self) -> int | None:
        """How long the file is; None if there is none, or something else."""
        if not os.access(self._path, os.F_OK):  # as of nearly all jobs: faster than an error
            return None
        try:
            status = os.lstat(self._path)
        except OSError:
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def _read(self, size: int) -> bytes:
        if size < self.offset:  # somebody has emptied it
            self.offset, self._torn, self._is_passing = 0, b"", False
        if self._skips and size - self.offset > _MAX_BEHIND:
            self.offset, self._torn, self._is_passing = size - _MAX_BEHIND, b"", True
        fd = open_below(self._root, self._path)
        try:
            if self._is_passing:
                self._skip_hole(fd, size)
            data = os.pread(fd, min(_CHUNK, size - self.offset), self.offset)
        finally:
            os.close(fd)
        self.offset = self.offset + len(data) if data else size
        return data

    def _skip_hole(self, fd: int, size: int) -> None:
        """Skip to where the file has data again: a hole is all zeros, so it has no newline."""
        if hasattr(os, "SEEK_DATA"):
            try:
                self.offset = min(size, os.lseek(fd, self.offset, os.SEEK_DATA))
            except OSError:  # there is no more data
                self.offset = size

    def _take(self, line: bytes) -> Measurement | str | None:
        if not line.strip():
            return None
        found = _parsed(line) if len(line) <= MAX_LINE else None
        self.measured.take(found)
        return found


def read_measured(paths: SweepPaths, num: int, start: int = 0) -> Measured:
    """What an attempt of a job has reported so far, in short; nothing if there is no such file.

    Of more than 16 MiB, only the last part is read.

    Args:
        paths: the sweep's.
        num: the job's number.
        start: where the attempt begins, see `Attempt.metrics`.
    """
    file = MetricsFile(paths, num, start)
    file.finish()
    return file.measured


def measurements(paths: SweepPaths, num: int, start: int = 0) -> Iterator[Measurement]:
    """All measurements of an attempt of a job so far, one after another; see `read_measured`."""
    file = MetricsFile(paths, num, start, skips=False)
    while file.has_more:
        before = file.offset
        yield from file.read()
        if file.offset == before:  # it cannot be read
            return
    yield from file.finish()


def _parsed(line: bytes) -> Measurement | str | None:
    """What a line says: a measurement or a word; None if it makes no sense."""
    try:
        found = json.loads(line.decode())
    except (ValueError, RecursionError, MemoryError):
        return None
    if isinstance(found, str):
        return found
    if not isinstance(found, dict):
        return None
    try:
        step = _step(found.pop("step", None))
        return Measurement(step, {name: _value(value) for name, value in found.items()})
    except (ValueError, OverflowError):
        return None


def _step(step: Any) -> int | None:
    """Raises ValueError if it is no step."""
    if step is None:
        return None
    if type(step) is float and step.is_integer():  # as some languages write all numbers
        step = int(step)
    if type(step) is int and 0 <= step < _MAX_INTEGER:
        return step
    raise ValueError(step)


def _value(value: Any) -> Value:
    """Raises ValueError or OverflowError if it is none that a job may report."""
    kind = type(value)
    if kind is float or kind is bool or value is None:
        return value  # type: ignore[no-any-return]
    if kind is int:
        return value if abs(value) < _MAX_INTEGER else float(value)
    if kind is str:
        return str(value[:_MAX_TEXT])
    raise ValueError(value)
