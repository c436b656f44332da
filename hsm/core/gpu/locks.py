"""Which sweep of this machine has which GPU: a lock per GPU, in a directory that everybody may use.

    /tmp/hsm-gpus/  GPU-8f1c….lock   whoever holds the lock on it has the GPU
                    turn             whoever holds the lock on it gets the GPUs next that it names

The locks are flock(2)'s: the kernel frees them when the launcher dies, however it dies. What the
files say of their holders is for people; anybody may have written it.

A sweep that takes a GPU again the moment it is free would starve the others. So who waits for GPUs
of other sweeps keeps the turn, whose file says which GPUs these are, and nobody else takes those
before. A turn that has not been kept up for 30 seconds counts for nothing: its holder is stopped.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote

from hsm.core.at_fork import in_child
from hsm.core.files import file_key

#: Names another directory for the locks.
LOCKS_VARIABLE = "HSM_GPU_LOCKS"
_USUAL_FOLDER = "/tmp/hsm-gpus"
#: Seconds without a sign of life after which a turn counts for nothing, and between two such signs.
STALE_AFTER, _REFRESH_AFTER = 30.0, 1.0
_TURN = "turn"
_ANYBODYS = 0o1777
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
#: What a holder says of itself: its pid, the id of its sweep, and in further lines, which GPUs it
#: waits for.
_NOTE = re.compile(r"([0-9]{1,10})(?: ([\w.+-]{1,80}))?")
_MOST_NOTE = 1 << 14  # bytes
_TRIES = 8


class _Unusable(Exception):
    """There are no locks here; the text says why, in a few words."""


class GpuLocks:
    """The locks that one sweep holds on GPUs. Not thread-safe; never blocks.

    Where there can be no locks, all of them are free; `trouble` says why.

    Args:
        folder: the directory of the locks, made if it is missing; None for the usual one.

    Attributes:
        sweep: the id of the sweep, for people; may be set.
        trouble: why there are no locks, or not all of them, in one line; empty if there are.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path(os.environ.get(LOCKS_VARIABLE) or _USUAL_FOLDER)
        self._held: dict[str, int] = {}  # descriptors by key; -1 where there can be no lock
        self._turn: int | None = None  # its descriptor, as above; None if it is not held
        self._wanted: frozenset[str] = frozenset()  # what the turn's file says
        self._refreshed = 0.0  # when that was written or confirmed; monotonic
        self.sweep = ""
        self.trouble = ""
        in_child(self, GpuLocks._forget)

    @property
    def held(self) -> frozenset[str]:
        """The keys of the GPUs that this sweep has."""
        return frozenset(self._held)

    @property
    def has_turn(self) -> bool:
        """Whether it is this sweep's turn."""
        return self._turn is not None

    def try_take(self, keys: Iterable[str]) -> str | None:
        """Take the locks of all these GPUs, or none.

        Args:
            keys: their keys (`Gpu.key`); those that are held already stay so.

        Returns None if all are held now, else who has one of them: ``pid 99, sweep s1``.
        """
        taken: list[str] = []
        for key in keys:
            if key in self._held:
                continue
            fd, holder = self._lock(f"{quote(key, safe='')}.lock")
            if holder:
                self.release(taken)
                return holder
            self._held[key] = fd
            taken.append(key)
        return None

    def release(self, keys: Iterable[str]) -> None:
        """Give GPUs back to all. Those that are not held are passed over."""
        for key in list(keys):
            _unlock(self._held.pop(key, -1))

    def take_turn(self) -> tuple[str, frozenset[str]]:
        """Have the turn, if nobody else has it.

        Returns who else has it, and the keys of the GPUs that are to be theirs next; an empty text
        if nobody has, or does not keep it up.
        """
        if self._turn is None:
            fd, holder = self._lock(_TURN)
            if holder:
                return self._other_turn(holder)
            self._turn, self._wanted, self._refreshed = fd, frozenset(), 0.0
        return "", frozenset()

    def keep_turn(self, keys: Iterable[str]) -> None:
        """Keep the turn, which is held, up: tell others which GPUs are waited for."""
        wanted, now = frozenset(keys), time.monotonic()
        if self._turn is None or self._turn < 0:
            return
        if wanted != self._wanted or not self._refreshed:
            self._wanted, self._refreshed = wanted, now
            self._sign(self._turn, sorted(wanted))
        elif now >= self._refreshed + _REFRESH_AFTER:
            self._refreshed = now
            if not self._is_current(_TURN, self._turn):  # Somebody has tidied up.
                self.give_turn()
                return
            with suppress(OSError):  # somebody else's file, which may only be read
                os.utime(self._turn)

    def give_turn(self) -> None:
        """Let others have their turn. Idempotent."""
        turn, self._turn = self._turn, None
        _unlock(-1 if turn is None else turn)

    def close(self) -> None:
        """Give everything back. Idempotent."""
        self.give_turn()
        self.release(list(self._held))

    def _forget(self) -> None:
        """In a forked child: the locks are the parent's, and stay so."""
        for fd in (*self._held.values(), -1 if self._turn is None else self._turn):
            if fd >= 0:
                os.close(fd)
        self._held.clear()
        self._turn = None

    # --- the files ---

    def _other_turn(self, holder: str) -> tuple[str, frozenset[str]]:
        """Who else has the turn, and for what; nobody if it is not kept up."""
        try:
            fd = self._open(_TURN)
        except (_Unusable, OSError):
            return "", frozenset()
        try:
            if time.time() - os.fstat(fd).st_mtime > STALE_AFTER:
                return "", frozenset()
            lines = os.pread(fd, _MOST_NOTE, 0).decode(errors="replace").split("\n")
        finally:
            os.close(fd)
        return holder, frozenset(map(unquote, filter(None, lines[1:])))

    def _lock(self, name: str) -> tuple[int, str]:
        """Lock the file `name`.

        Returns its descriptor (-1 where there can be no lock) and an empty text, or, if somebody
        else has it, who.
        """
        try:
            for _ in range(_TRIES):
                fd = self._open(name)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    holder = _holder(fd)
                    os.close(fd)
                    return -1, holder
                except OSError as error:
                    os.close(fd)
                    raise _Unusable(f"cannot lock {name}: {error.strerror}") from error
                if self._is_current(name, fd):
                    self._sign(fd)
                    return fd, ""
                os.close(fd)  # Somebody has removed the file: the lock on it keeps nobody out.
            raise _Unusable(f"{name} is replaced again and again")
        except _Unusable as error:
            self._complain(str(error))
        except OSError as error:
            self._complain(f"cannot use {name}: {error.strerror}")
        return -1, ""

    def _complain(self, why: str) -> None:
        self.trouble = self.trouble or (
            f"other sweeps may use the same GPUs: no locks in {self._folder}: {why}"
        )

    def _is_current(self, name: str, fd: int) -> bool:
        try:
            there = os.stat(self._folder / name, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return file_key(there) == file_key(os.fstat(fd))

    def _sign(self, fd: int, keys: Iterable[str] = ()) -> None:
        """Write into a locked file who holds it, and what for."""
        if os.fstat(fd).st_nlink != 1:
            return  # A link to a file of another use: leave that as it is.
        lines = [f"{os.getpid()} {self.sweep}".strip(), *(quote(key, safe="") for key in keys)]
        with suppress(OSError):  # e.g. somebody else's file, which may only be read
            os.ftruncate(fd, 0)
            os.pwrite(fd, "".join(f"{line}\n" for line in lines).encode(), 0)

    def _open(self, name: str) -> int:
        """Open the file `name`, made if it is missing. Raises _Unusable, OSError."""
        for _ in range(_TRIES):
            folder = self._open_folder()
            try:
                fd = _open_file(folder, name)
            except FileNotFoundError:  # The directory was removed, or replaced, just now.
                continue
            finally:
                os.close(folder)
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                os.close(fd)
                raise _Unusable(f"{name} is not a regular file")
            return fd
        raise _Unusable("it is removed again and again")

    def _open_folder(self) -> int:
        """Open the directory, made if it is missing. Raises _Unusable."""
        for _ in range(_TRIES):
            try:
                fd = os.open(self._folder, _FOLDER_FLAGS)
            except FileNotFoundError:
                self._make_folder()
                continue
            except OSError as error:
                is_link = error.errno in (errno.ELOOP, errno.ENOTDIR)
                why = "it is not a directory" if is_link else str(error.strerror)
                raise _Unusable(why) from error
            try:
                _check_folder(fd)
            except _Unusable:
                os.close(fd)
                raise
            return fd
        raise _Unusable("it is removed again and again")

    def _make_folder(self) -> None:
        """Make the directory, which has its mode from the first moment on. Raises _Unusable."""
        try:
            made = tempfile.mkdtemp(prefix=f"{self._folder.name}.", dir=self._folder.parent)
            try:
                os.chmod(made, _ANYBODYS)  # whatever the umask
                # It replaces an empty directory of ours; who has just opened that tries again.
                os.rename(made, self._folder)
            except OSError as error:
                with suppress(OSError):
                    os.rmdir(made)
                if not os.path.lexists(self._folder):
                    raise _Unusable(f"cannot make it: {error.strerror}") from error
        except OSError as error:
            raise _Unusable(f"cannot make it: {error.strerror}") from error


def _check_folder(fd: int) -> None:
    """Check that nobody but root can move the locks of others away. Raises _Unusable."""
    found = os.fstat(fd)
    mode = stat.S_IMODE(found.st_mode)
    if mode & _ANYBODYS == _ANYBODYS:
        return
    if found.st_uid not in (os.geteuid(), 0):
        raise _Unusable(f"it belongs to another user and has mode {mode:o}, not 1777")
    if mode & stat.S_IWOTH:
        raise _Unusable(f"it has mode {mode:o}, not 1777")


def _open_file(folder: int, name: str) -> int:
    """Open a file in an open directory, for writing if possible; made if it is missing.

    First without O_CREAT, which the kernel refuses for other people's files in such a directory
    (fs.protected_regular), whatever their mode.

    Raises:
        OSError: as `os.open`.
    """
    with suppress(FileNotFoundError):
        return _open_present(folder, name)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _FILE_FLAGS
    try:
        fd = os.open(name, flags, 0o666, dir_fd=folder)
    except FileExistsError:  # Somebody was quicker.
        return _open_present(folder, name)
    os.fchmod(fd, 0o666)  # whatever the umask
    return fd


def _open_present(folder: int, name: str) -> int:
    try:
        return os.open(name, os.O_RDWR | _FILE_FLAGS, dir_fd=folder)
    except PermissionError:  # Its maker has just made it, or keeps it: reading is enough.
        return os.open(name, os.O_RDONLY | _FILE_FLAGS, dir_fd=folder)


def _unlock(fd: int) -> None:
    """Close a locked file. A child that was forked meanwhile may have it, too."""
    if fd >= 0:
        with suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)


def _holder(fd: int) -> str:
    """Who holds a locked file, as far as it says so."""
    try:
        text = os.pread(fd, _MOST_NOTE, 0).decode(errors="replace")
    except OSError:
        text = ""
    note = _NOTE.fullmatch(text.partition("\n")[0])
    if note is None:
        return "pid unknown"
    return f"pid {note[1]}, sweep {note[2]}" if note[2] else f"pid {note[1]}"
