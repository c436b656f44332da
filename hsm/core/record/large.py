"""What is too large for a line of the journal: files beside it, named by hashes of their content.

    a value --Shelf.put--> .hsm/large/<sha256>.json   first, and then the record that refers to it:
                           {…, "large": {"value": {"sha256": …, "size": …}}}
    a record --Large.load--> the value as it was, or `LargeLost`, which says why not

The record names such fields beside its own, in `large`, which holds nothing else: so no value can
be taken for a reference. Who shows no values reads no such file, and one that is missing, or is not
what was recorded, costs that one value.
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

#: Bytes of JSON that a field of a record may have; what is larger lies beside.
INLINE = 16 << 10
#: Bytes of JSON; more is neither kept nor read.
MAX_SIZE = 1 << 30
#: Problems that are told of a sweep.
_MAX_TOLD = 200
_HASH = re.compile("[0-9a-f]{64}")
#: See `hsm.core.record.schema.check`.
Rule = tuple[Callable[[Any], bool], str]
_DAMAGED = "what the journal says of it is damaged"


def _hash(data: bytes) -> str:
    import hashlib  # which takes a while: few jobs need it

    return hashlib.sha256(data).hexdigest()


class LargeLost(HsmError):
    """What a record refers to is not there, or is not what was recorded; says why."""


@dataclass(frozen=True)
class Large:
    """A value that lies beside the journal.

    Attributes:
        paths: of its sweep.
        sha256: the hash of its JSON, which names its file.
        size: of its JSON, in bytes.
        identity: of parameters: what tells them from others.
        lost: why it could not be kept; None if it was.
        name: what it is, for messages: "job 3: its value".
        problems: where it is told that it cannot be had.
        rule: what the value must pass, and what that is in words; None if it may be anything.
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
        """What `reference`, of a record's `large`, refers to."""
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
        """What a record says of it."""
        if self.lost is not None:
            return {"lost": self.lost}
        told: dict[str, Any] = {"sha256": self.sha256, "size": self.size}
        return told if self.identity is None else {**told, "identity": self.identity}

    def told_in(self, problems: list[str], name: str, rule: Rule | None = None) -> Large:
        """The same, which is called `name` and tells in `problems` when it cannot be had."""
        return replace(self, problems=problems, name=name, rule=rule)

    @property
    def why_not(self) -> str:
        """Of one that is `lost`: that, for a message."""
        return f"could not be recorded: {self.lost}"

    @property
    def path(self) -> Path:
        """Its file."""
        return self.paths.large_file(self.sha256)

    def load(self) -> Any:
        """Read it. Raises LargeLost."""
        if self.lost is not None:
            raise LargeLost(self.why_not)
        try:
            with open(open_below(self.paths.sweep_dir, self.path), "rb") as file:
                fits = os.fstat(file.fileno()).st_size == self.size
                data = file.read() if fits else b""
            if not fits or _hash(data) != self.sha256:
                raise LargeLost(f"cannot be had: {self.path} is not what was recorded")
            value = json.loads(data)
            if not is_flat(value):
                raise ValueError("it is nested too deeply")
            if self.rule is not None and not self.rule[0](value):
                raise ValueError(f"it is not {self.rule[1]}")
            return value
        except OSError as error:
            raise LargeLost(f"cannot be had: {self.path}: {error.strerror}") from error
        except (ValueError, RecursionError, MemoryError) as error:
            raise LargeLost(f"cannot be read: {self.path}: {error}") from error

    def load_or(self, default: Any) -> Any:
        """Read it; `default` if it cannot be had, which is told once."""
        try:
            return self.load()
        except LargeLost as error:
            problem = f"{self.name} {error}"
            if problem not in self.problems and len(self.problems) < _MAX_TOLD:
                self.problems.append(problem)
            return default


class Shelf:
    """Puts beside the journal of a sweep what is too large for it. Thread-safe."""

    def __init__(self, paths: SweepPaths) -> None:
        self._paths = paths
        self._mutex = threading.Lock()
        self._put: dict[str, int] = {}  # inode of each file that was written here, by hash
        self._unsynced: list[Path] = []

    def put(self, text: str, *, identity: str | None = None, sync: bool = False) -> Large:
        """Keep the JSON `text`; it is there, whole, when this returns.

        Args:
            identity: of parameters, see `Large`.
            sync: put it onto the disk at once, and not with the next `sync`.

        Raises:
            OSError: there is no room for it, or it is too large to be kept.
        """
        data = text.encode()
        if len(data) > MAX_SIZE:
            raise OSError(errno.EFBIG, f"it has more than {MAX_SIZE >> 30} GiB as JSON")
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
        """Whether it was written here, and is still there."""
        try:
            found = os.lstat(large.path)
        except OSError:
            return False
        is_whole = stat.S_ISREG(found.st_mode) and found.st_size == large.size
        return is_whole and self._put.get(large.sha256) == found.st_ino

    def sync(self) -> None:
        """Put onto the disk what was kept since the last call."""
        with self._mutex:
            paths, self._unsynced = self._unsynced, []
        for path in paths:
            with suppress(OSError):  # as with the journal: it has been taken all the same
                fd = open_below(self._paths.sweep_dir, path)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)


class Facts(Mapping[str, Any]):
    """What a launcher recorded of itself; what of it lies beside is read when it is asked for.

    A field that is lost is not there.
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
        """These, with those of `other` in the place of their like."""
        large = {k: v for k, v in self._large.items() if k not in other._record}
        return Facts({**self._record, **other._record}, {**large, **other._large})
