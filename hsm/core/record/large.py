"""Keeps values that are too large for a journal line in files beside it, named by their hashes.

    a value --Shelf.put--> .hsm/large/<sha256>.json   first, and then the record that refers to it:
                           {…, "large": {"value": {"sha256": …, "size": …}}}
    a record --Large.load--> the value as it was, or `LargeLost`, which says why not

References stand in the record's field `large`, which holds nothing else, so a value can never be
mistaken for a reference. The files are read only when a value is needed, and a missing or changed
file costs only that one value.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hsm.core.errors import HsmError
from hsm.core.files import make_folder_below, open_below, replace_below
from hsm.core.plain_json import is_flat
from hsm.core.record.paths import SweepPaths

#: Maximum bytes of a field's JSON in a record; a larger field moves beside the journal.
INLINE = 16 << 10
#: Maximum bytes of JSON that are stored or read.
MAX_SIZE = 1 << 30
#: How many problems are reported per sweep.
_MAX_PROBLEMS = 200
_HASH = re.compile("[0-9a-f]{64}")
#: See `hsm.core.record.schema.check`.
Rule = tuple[Callable[[Any], bool], str]
_DAMAGED = "its entry in the journal is damaged"


def _hash(data: bytes) -> str:
    import hashlib  # Slow to import, and few jobs need it.

    return hashlib.sha256(data).hexdigest()


class LargeLost(HsmError):
    """The file that a record refers to is missing or not what was recorded; says why."""


@dataclass(frozen=True)
class Large:
    """A reference to a value in a file beside the journal.

    Attributes:
        paths: its sweep's.
        sha256: the hash of its JSON, which names its file.
        size: the size of its JSON, in bytes.
        identity: for parameters: their `plain_json.identity`.
        lost: why it could not be stored; None if it was.
        name: what it is, for messages: "job 3: its value".
        problems: where to report that it cannot be read.
        rule: a check for the value, and what it checks in words; None if any value will do.
    """

    paths: SweepPaths = field(compare=False, repr=False)
    sha256: str = ""
    size: int = 0
    identity: str | None = None
    lost: str | None = None
    name: str = field(default="", compare=False)
    problems: list[str] = field(default_factory=list, compare=False, repr=False)
    rule: Rule | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, paths: SweepPaths, reference: object) -> Large:
        """Parse `reference`, an entry of a record's `large`."""
        if isinstance(reference, Mapping):
            known = {name: reference.get(name) for name in ("sha256", "size", "identity", "lost")}
            if isinstance(known["lost"], str):
                return cls(paths, lost=known["lost"])
            sha256, size, own = known["sha256"], known["size"], known["identity"]
            if (
                isinstance(sha256, str)
                and _HASH.fullmatch(sha256)
                and type(size) is int
                and 0 <= size <= MAX_SIZE
            ):
                return cls(paths, sha256, size, own if isinstance(own, str) else None)
        return cls(paths, lost=_DAMAGED)

    def reference(self) -> dict[str, Any]:
        """The entry for a record's `large`."""
        if self.lost is not None:
            return {"lost": self.lost}
        entry: dict[str, Any] = {"sha256": self.sha256, "size": self.size}
        return entry if self.identity is None else {**entry, "identity": self.identity}

    def told_in(self, problems: list[str], name: str, rule: Rule | None = None) -> Large:
        """A copy with the name `name` that reports to `problems` if it cannot be read."""
        return replace(self, problems=problems, name=name, rule=rule)

    @property
    def why_not(self) -> str:
        """For messages: why a `lost` value is not there."""
        return f"could not be recorded: {self.lost}"

    @property
    def path(self) -> Path:
        """The value's file."""
        return self.paths.large_file(self.sha256)

    def load(self) -> Any:
        """Read the value. Raises LargeLost."""
        if self.lost is not None:
            raise LargeLost(self.why_not)
        try:
            with open(open_below(self.paths.sweep_dir, self.path), "rb") as file:
                fits = os.fstat(file.fileno()).st_size == self.size
                data = file.read() if fits else b""
            if not fits or _hash(data) != self.sha256:
                raise LargeLost(f"cannot be read: {self.path} is not what was recorded")
            value = json.loads(data)
            if not is_flat(value):
                raise ValueError("it is nested too deeply")
            if self.rule is not None and not self.rule[0](value):
                raise ValueError(f"it is not {self.rule[1]}")
            return value
        except OSError as error:
            raise LargeLost(f"cannot be read: {self.path}: {error.strerror}") from error
        except (ValueError, RecursionError, MemoryError) as error:
            raise LargeLost(f"cannot be read: {self.path}: {error}") from error

    def load_or(self, default: Any) -> Any:
        """Read the value; if that fails, report it (once) and return `default`."""
        try:
            return self.load()
        except LargeLost as error:
            problem = f"{self.name} {error}"
            if problem not in self.problems and len(self.problems) < _MAX_PROBLEMS:
                self.problems.append(problem)
            return default


class Shelf:
    """Stores large values beside a sweep's journal. Thread-safe."""

    def __init__(self, paths: SweepPaths) -> None:
        self._paths = paths
        self._mutex = threading.Lock()
        self._put: dict[str, int] = {}  # by hash, the inode of each file this object wrote
        self._unsynced: list[Path] = []

    def put(self, text: str, *, identity: str | None = None, sync: bool = False) -> Large:
        """Store the JSON `text`; its file is complete when this returns.

        Args:
            text: the value's JSON.
            identity: of parameters, see `Large`.
            sync: sync it to disk at once, rather than with the next `sync`.

        Raises:
            OSError: there is no room for it, or it is too large.
        """
        data = text.encode()
        if len(data) > MAX_SIZE:
            raise OSError(errno.EFBIG, f"its JSON is larger than {MAX_SIZE >> 30} GiB")
        large = Large(self._paths, _hash(data), len(data), identity)
        with self._mutex:
            if not self._has(large):
                make_folder_below(self._paths.sweep_dir, self._paths.large)
                replace_below(self._paths.sweep_dir, large.path, data, sync=sync)
                self._put[large.sha256] = os.lstat(large.path).st_ino
                if not sync:
                    self._unsynced.append(large.path)
        return large

    def _has(self, large: Large) -> bool:
        """Whether this object wrote the file, and it is still there unchanged."""
        try:
            found = os.lstat(large.path)
        except OSError:
            return False
        is_whole = stat.S_ISREG(found.st_mode) and found.st_size == large.size
        return is_whole and self._put.get(large.sha256) == found.st_ino

    def sync(self) -> None:
        """Sync to disk what was stored since the last call."""
        with self._mutex:
            paths, self._unsynced = self._unsynced, []
        for path in paths:
            with suppress(OSError):  # As with the journal: the system has accepted the data anyway.
                fd = open_below(self._paths.sweep_dir, path)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)


class Facts(Mapping[str, Any]):
    """What a launcher recorded about itself. Large fields are read from their files on access.

    A field whose file cannot be read is missing.
    """

    def __init__(self, record: Mapping[str, Any], large: Mapping[str, Large]) -> None:
        self._large = large
        self._record = {name: record[name] for name in record if name not in large}

    def __getitem__(self, name: str) -> Any:
        if name not in self._large:
            return self._record[name]
        missing = object()
        value = self._large[name].load_or(missing)
        if value is missing:
            raise KeyError(name)
        return value

    def __repr__(self) -> str:
        return f"Facts({self._record!r}, beside={list(self._large)})"

    def __iter__(self) -> Iterator[str]:
        yield from self._record
        yield from self._large

    def __len__(self) -> int:
        return len(self._record) + len(self._large)

    def replaced_by(self, other: Facts) -> Facts:
        """These facts, updated with those of `other`."""
        large = {k: v for k, v in self._large.items() if k not in other._record}
        return Facts({**self._record, **other._record}, {**large, **other._large})
