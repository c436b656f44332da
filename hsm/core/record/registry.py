"""A list of the sweeps that this user has started, to find one without knowing its directory.

    LocalComputeSource --register--> sweeps.jsonl --known_sweeps--> `hsm list`
                                          `-------- find_sweep --> `hsm monitor last`

One JSON object per line, newest last, appended with a single write:

    {"sweep_id": "train-20260131-235959-3fa9c1", "dir": "/home/me/p/outputs/…",
     "time": 1770000000.0, "cwd": "/home/me/p"}

(on one line; an older hsm wrote no `cwd`).

The file is ``sweeps.jsonl`` in ``$HSM_STATE_DIR``, else in ``$XDG_STATE_HOME/hsm``, else in
``~/.local/state/hsm``. It is a convenience, never the truth: that is each sweep's own journal. So
no command fails because of it; if it cannot be written, people name sweeps by their directories.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hsm.core.errors import SettingsError, did_you_mean, shown
from hsm.core.files import open_linked
from hsm.core.record.paths import SweepPaths
from hsm.core.record.schema import PATH, TEXT, TIME, BadRecord, check, parse
from hsm.core.record.sweep_id import LAST
from hsm.core.user_dirs import state_dir
from hsm.core.user_files import replacing

STATE_DIR_VARIABLE = "HSM_STATE_DIR"
#: Bytes; a longer list is compacted. A line has about 150.
_MAX_SIZE = 1 << 20
#: Bytes; the rest of a longer file is ignored, as hsm never writes that much.
_MAX_READ = 16 << 20
#: Seconds that a writer waits for the lock before it writes without.
_TIMEOUT = 0.5
_ALLOWED = f"an id, its start, a directory, or {LAST}"


@dataclass(frozen=True)
class KnownSweep:
    """A sweep in the list.

    Attributes:
        sweep_id: its id.
        sweep_dir: its directory.
        time: when it was started or last resumed, in Unix seconds.
        cwd: the working directory at that time; None if unknown.
    """

    sweep_id: str
    sweep_dir: Path
    time: float
    cwd: Path | None = None

    @cached_property  # a list may have thousands of sweeps, of which one is sought
    def paths(self) -> SweepPaths:
        return SweepPaths(self.sweep_dir)

    @property
    def exists(self) -> bool:
        """Whether its journal still exists."""
        return os.path.exists(self.paths.journal)

    def belongs_to(self, project: Path) -> bool:
        """Whether it was started in the directory `project`, or lies anywhere below it."""
        return self.cwd == project or project in self.sweep_dir.parents


def registry_file() -> Path:
    """The list's file, which need not exist. Raises RuntimeError if there is no home directory."""
    named = os.environ.get(STATE_DIR_VARIABLE, "")
    if named.strip():
        return Path(named).expanduser().absolute() / "sweeps.jsonl"
    return state_dir() / "sweeps.jsonl"


def register(sweep_id: str, sweep_dir: str | os.PathLike[str]) -> None:
    """Add a sweep that is starting or being resumed. Never fails: if that is impossible, skips it.

    Safe for concurrent writers. The list stays bounded: when it grows too long, this drops sweeps
    whose directories are gone, and then the oldest ones.
    """
    directory = os.path.abspath(os.fspath(sweep_dir))
    with suppress(OSError, RuntimeError, ValueError):
        path = registry_file()
        path.parent.mkdir(0o700, parents=True, exist_ok=True)
        with _writers_lock(path) as locked:
            size = _append(path, _line(sweep_id, directory, time.time(), _cwd()))
            if locked and size > _MAX_SIZE:
                _compact(path)


def _cwd() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # It was removed.
        return None


def known_sweeps() -> Iterator[KnownSweep]:
    """The sweeps in the list whose journals still exist, newest first, each directory once."""
    return (sweep for sweep in _entries() if sweep.exists)


def taken_by(sweep_id: str) -> Path | None:
    """The directory of a sweep of this project that has this id; None if the id is free here.

    The project is the current directory, see `KnownSweep.belongs_to`.
    """
    here = Path(os.getcwd())  # the list records it like this
    found = (sweep for sweep in _entries_of(sweep_id) if sweep.exists)
    return next((sweep.sweep_dir for sweep in found if sweep.belongs_to(here)), None)


def find_sweep(
    name: str, *, origin: str = "sweep", roots: Sequence[str | os.PathLike[str]] = ()
) -> SweepPaths:
    """The sweep that a person means by `name`.

    Tried in this order: `last`, the newest sweep; a path (has a slash, or starts with ``.`` or
    ``~``); an id; a directory below one of `roots`, or here; the unambiguous start of an id. If
    several sweeps have the same id, the only one below the current directory wins, else the only
    one that was started in it.

    Args:
        name: what was typed.
        origin: where it was typed, for messages.
        roots: directories that contain sweeps, such as hsm.yaml's output_dir.

    Raises:
        SettingsError: there is no such sweep, or more than one; names similar ones.
    """
    if name == LAST:
        newest = next(known_sweeps(), None)
        if newest is None:
            raise _refused(name, origin, "no sweeps yet")
        return newest.paths
    if os.sep in name or name.startswith((".", "~")):
        paths = SweepPaths(os.path.expanduser(name))
        if os.path.exists(paths.journal):
            return paths
        raise _refused(name, origin, f"there is no sweep in {shown(str(paths.sweep_dir))}")
    same_id = [entry for entry in _entries_of(name) if entry.exists]
    if same_id:
        return _only(name, same_id, origin)
    for root in (*roots, os.curdir):
        paths = SweepPaths(Path(root, name))
        if name and os.path.exists(paths.journal):
            return paths
    entries = list(_entries())
    beginnings = [entry for entry in entries if entry.sweep_id.startswith(name) and entry.exists]
    if name and beginnings:
        return _only(name, beginnings, origin)
    raise _refused(name, origin, _nearest(name, entries))


def has_sweep(sweep_id: str, roots: Sequence[str | os.PathLike[str]] = ()) -> bool:
    """Whether there is a sweep with exactly this id, or a directory of that name with one.

    Args:
        sweep_id: the id.
        roots: directories that contain sweeps, besides the current one.
    """
    if any(sweep.exists for sweep in _entries_of(sweep_id)):
        return True
    places = (SweepPaths(Path(root, sweep_id)) for root in (*roots, os.curdir))
    return any(os.path.exists(paths.journal) for paths in places)


def _only(name: str, found: Sequence[KnownSweep], origin: str) -> SweepPaths:
    """The one sweep that is meant. Raises SettingsError if that is ambiguous."""
    if len(found) > 1 and len({entry.sweep_id for entry in found}) == 1:
        here = Path.cwd()
        below = [entry for entry in found if here in entry.sweep_dir.parents]
        own = [entry for entry in found if entry.belongs_to(here)]
        found = next((some for some in (below, own) if len(some) == 1), found)
        names = [str(entry.sweep_dir) for entry in found]
    else:
        names = [entry.sweep_id for entry in found]
    if len(found) == 1:
        return found[0].paths
    fitting = f"{', '.join(names[:5])}{', …' if len(names) > 5 else ''}"
    raise _refused(name, origin, f"{len(names)} sweeps match {shown(name)}: {fitting}")


def _nearest(name: str, entries: Sequence[KnownSweep]) -> str:
    """Why there is no sweep of that name, and which was meant."""
    ids = list(dict.fromkeys(entry.sweep_id for entry in entries if entry.exists))
    if not ids:
        return f"no sweep {shown(name)}: there are none yet"
    near = did_you_mean(name, ids, most=3, cutoff=0.5)
    if near:
        return f"no sweep {shown(name)}; {near}"
    return f"no sweep {shown(name)} (newest: {ids[0]}); give {_ALLOWED}"


def _refused(name: str, origin: str, message: str) -> SettingsError:
    return SettingsError("sweep", name, origin, _ALLOWED, message=message)


# --- the file ---


def _entries() -> Iterator[KnownSweep]:
    """The list, newest first; of each directory only the latest entry."""
    return _latest(_lines())


def _entries_of(sweep_id: str) -> Iterator[KnownSweep]:
    """Those of them that have this id.

    Each sweep looks for its own id when it starts and when it ends, and to parse a line takes a
    hundred times as long as to search it. So only those are parsed that have the id, or the
    directory of one that has it, as hsm writes them.
    """
    lines, wanted = _lines(), {_written(sweep_id)}
    named = [entry for line in _with(wanted, lines) if (entry := _read(line)) is not None]
    wanted.update(_written(str(entry.sweep_dir)) for entry in named)
    found = _latest(_with(wanted, lines)) if named else ()
    return (entry for entry in found if entry.sweep_id == sweep_id)


def _written(text: str) -> bytes:
    return json.dumps(text).encode()


def _with(texts: Collection[bytes], lines: Sequence[bytes]) -> list[bytes]:
    """The lines that contain one of the texts."""
    return [line for line in lines if any(map(line.__contains__, texts))]


def _lines() -> list[bytes]:
    try:
        with open(open_linked(registry_file()), "rb") as file:
            return file.read(_MAX_READ).split(b"\n")
    except (OSError, RuntimeError, ValueError):
        return []


def _latest(lines: Sequence[bytes]) -> Iterator[KnownSweep]:
    seen = set()
    for line in reversed(lines):
        entry = _read(line)
        if entry is not None and entry.sweep_dir not in seen:
            seen.add(entry.sweep_dir)
            yield entry


def _read(line: bytes) -> KnownSweep | None:
    """Parse a line; None if it is torn or invalid."""
    try:
        entry = parse(line)
        check(entry, _FIELDS, "sweep_id", "dir", "time")
    except BadRecord:
        return None
    cwd = entry.get("cwd")
    started_in = None if cwd is None else Path(cwd)
    return KnownSweep(entry["sweep_id"], Path(entry["dir"]).absolute(), entry["time"], started_in)


_FIELDS = {"sweep_id": TEXT, "dir": PATH, "time": TIME, "cwd": PATH}


def _line(sweep_id: str, directory: str, when: float, cwd: str | None) -> bytes:
    entry: dict[str, Any] = {"sweep_id": sweep_id, "dir": directory, "time": when}
    if cwd is not None:
        entry["cwd"] = cwd
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"


def _append(path: Path, line: bytes) -> int:
    """Append a line with a single write; returns the file's size."""
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(fd).st_size
        torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"  # Then start a new line.
        return size + os.write(fd, (b"\n" if torn else b"") + line)
    finally:
        os.close(fd)


@contextmanager
def _writers_lock(path: Path) -> Iterator[bool]:
    """Keep other writers out; yields False if the lock cannot be had soon.

    Without the lock, another process's compaction may lose our line. That is better than a sweep
    that waits for a stopped process, or for a file system without locks.
    """
    fd = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        locked = _lock(fd)
        try:
            yield locked
        finally:
            if locked:
                # close() would not do: another thread may have forked meanwhile, and the child's
                # copy of the descriptor would keep the lock.
                fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)


def _lock(fd: int) -> bool:
    deadline = time.monotonic() + _TIMEOUT
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.005)
        except OSError:
            return False
        else:
            return True


def forget(sweep_dir: Path) -> None:
    """Remove a sweep, which is gone, from the list. Never fails: nobody is shown it anyway."""
    with suppress(OSError, RuntimeError, ValueError):
        path = registry_file()
        with _writers_lock(path) as locked, open(open_linked(path), "rb") as file:
            lines = file.read(_MAX_READ).splitlines(keepends=True)
            kept = [line for line in lines if not _is_of(sweep_dir, line)]
            if locked and len(kept) < len(lines):
                with replacing(path) as new:
                    new.writelines(kept)


def _is_of(sweep_dir: Path, line: bytes) -> bool:
    entry = _read(line.rstrip(b"\n"))
    return entry is not None and entry.sweep_dir == sweep_dir


def _compact(path: Path) -> None:
    """Atomically replace the list by a shorter one. The caller holds the writers' lock."""
    kept: list[bytes] = []
    room = _MAX_SIZE // 2
    for entry in known_sweeps():
        cwd = None if entry.cwd is None else str(entry.cwd)
        line = _line(entry.sweep_id, str(entry.sweep_dir), entry.time, cwd)
        room -= len(line)
        if room < 0:
            break
        kept.append(line)
    if not kept:
        return  # The list cannot be read, or we would see at least the sweep just added.
    with replacing(path) as file:
        file.writelines(reversed(kept))
