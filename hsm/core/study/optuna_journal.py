"""The file in which Optuna keeps a study by default: ``<sweep>/.hsm/optuna.journal``.

It has the format of Optuna's own JournalFileBackend, so all that reads those reads it. Only the
launcher writes it, which holds the sweep's lock; so there is no lock of its own, which a launcher
that was killed would leave behind. What belongs together, such as all that asking for one trial
writes, is one write: so a launcher that is killed leaves all of it or nothing. A power cut may tear
a write: each line tells how many of its write follow, in a key that Optuna does not look at.

The sweep's own journal is the truth: a write that was torn off is cut, and a file that cannot be
read otherwise is set aside, see `open_study_file`.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend

from hsm.core.errors import HsmError
from hsm.core.files import NotRegular, check_place
from hsm.core.logger import get_logger

log = get_logger(__name__)

#: The key of a line that tells how many lines of its write follow.
_FOLLOWING = "hsm_following"


class StudyFile(BaseJournalBackend):
    """A journal of Optuna's in a file, of which this process is the only writer.

    Others may add to it nevertheless, as optuna-dashboard does, if whole lines: these are read.

    Args:
        path: the file; made if it is not there.

    Raises:
        ValueError: a line of it is no JSON object.
        NotRegular: it is a link, or anything else than a file of its own.
        OSError: it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        check_place(path)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o644)
        self._first = 0  # the number of the first of `_logs`; those before it have been read
        self._logs: list[dict[str, Any]] = []
        self._pending: list[str] = []
        self._holds = 0
        self._has_warned = False
        self._size = 0
        try:
            self._read_new(is_first=True)
            self._cut()
        except BaseException:
            self.close()
            raise

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in it."""
        return self._size == 0

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        with self._lock:
            del self._logs[: log_number_from - self._first]
            self._first = log_number_from
            found = list(self._logs)
        yield from found

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        lines = [json.dumps(each, separators=(",", ":")) for each in logs]
        with self._lock:
            if not self._holds and not self._pending:
                with suppress(ValueError):
                    self._read_new()
            self._logs += map(json.loads, lines)
            self._pending += lines
            self._flush()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write all that is written meanwhile at once, at the end; after an error, later."""
        with self._lock:
            self._holds += 1
        try:
            yield
        except BaseException:
            with self._lock:
                self._holds -= 1
            raise
        with self._lock:
            self._holds -= 1
            self._flush()

    def close(self) -> None:
        """Close the file. What is appended after that goes nowhere."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
            self._fd = -1

    def _flush(self) -> None:
        if self._holds or not self._pending or self._fd < 0:
            return
        data = b"".join(_marked(self._pending))
        try:
            written = 0
            while written < len(data):
                written += os.write(self._fd, data[written:])
        except OSError as error:
            # All of it is in memory, and in the sweep's journal: so try again with the next lines.
            with suppress(OSError):
                os.ftruncate(self._fd, self._size)
            if not self._has_warned:
                self._has_warned = True
                log.warning("cannot write %s: %s", self._path, error.strerror)
            return
        self._size += len(data)
        self._pending.clear()

    def _read_new(self, *, is_first: bool = False) -> None:
        """Read the lines that are new in the file, but a last one without an end.

        Args:
            is_first: whether nobody writes to it now: then a write that is not all there is torn.
        """
        if self._fd < 0:
            return
        size = os.fstat(self._fd).st_size
        if size <= self._size:
            return
        data = os.pread(self._fd, size - self._size, self._size)
        lines = data[: data.rfind(b"\n") + 1].splitlines(keepends=True)
        found: list[dict[str, Any]] = []
        for at, line in enumerate(lines):
            try:
                found.append(_parsed(line))
            except ValueError:
                if at == len(lines) - 1:  # torn off as well: a power cut may leave zeros
                    break
                raise
        if is_first:
            del found[_whole_writes(found) :]
        self._logs += found
        self._size += sum(map(len, lines[: len(found)]))

    def _cut(self) -> None:
        """Cut off what is torn: a line that is appended to could never be read again."""
        if os.fstat(self._fd).st_size > self._size:
            os.ftruncate(self._fd, self._size)


def _marked(lines: Sequence[str]) -> Iterator[bytes]:
    """The lines of one write, as they stand in the file."""
    for following, line in zip(range(len(lines) - 1, -1, -1), lines, strict=True):
        mark = f',"{_FOLLOWING}":{following}}}' if following else "}"
        yield f"{line[:-1]}{mark}\n".encode()


def _whole_writes(records: Sequence[Mapping[str, Any]]) -> int:
    """How many records there are before a last write that is not all there."""
    count = len(records)
    missing = records[-1].get(_FOLLOWING) if records else None
    if not isinstance(missing, int):
        return count
    while count and records[count - 1].get(_FOLLOWING) == missing:
        count, missing = count - 1, missing + 1
    return count


def _parsed(line: bytes) -> dict[str, Any]:
    found = json.loads(line)
    if not isinstance(found, dict) or "op_code" not in found:
        raise ValueError("no record of Optuna's")
    return found


def open_study_file(path: Path, *, is_new: bool) -> tuple[JournalStorage, StudyFile]:
    """Open the file of a study; one that cannot be read is set aside, and a new one begun.

    Args:
        path: the file.
        is_new: whether the study is, so that what is there belongs to another one.

    Raises:
        HsmError: it can be neither read nor replaced.
    """
    try:
        if is_new and os.path.lexists(path):
            set_aside_file(path)
        try:
            return _opened(path)
        except (ValueError, LookupError, TypeError, AssertionError) as error:
            aside = set_aside_file(path)
            log.warning(
                "%s is damaged (%s): it is now %s, and made again from the sweep's journal",
                path,
                error,
                aside.name,
            )
        return _opened(path)
    except NotRegular as error:
        raise HsmError(f"cannot use {path}: {error}") from None
    except OSError as error:
        raise HsmError(f"cannot use {path}: {error.strerror or error}") from None


def _opened(path: Path) -> tuple[JournalStorage, StudyFile]:
    file = StudyFile(path)
    try:
        return JournalStorage(file), file
    except BaseException:
        file.close()
        raise


def set_aside_file(path: Path) -> Path:
    """Rename a file to a name that is free: ``optuna.journal.1``; returns the new path."""
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}.{number}")):
        number += 1
    path.rename(aside)
    return aside
