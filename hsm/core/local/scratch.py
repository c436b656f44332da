"""Temporary directories: one with a short path per source, with one for each job in it.

They are in /tmp, which is cleaned now and then: of files that nobody has used for days, or by a
person. So the source's directory has a lock, for which systemd-tmpfiles leaves it alone, and it is
made again when it is gone. Another user may have taken its name then, so it is used only while its
name leads to the directory that was made here.

Most jobs leave no trace in theirs. It then stays until a later job takes it, under a name of its
own: to make and remove a directory takes the file system ten times as long.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from hsm.core.at_fork import in_child
from hsm.core.files import file_key
from hsm.core.logger import get_logger
from hsm.core.removal import remove_tree

log = get_logger(__name__)

#: Characters. A Unix socket's path has at most 107 bytes, and jobs make sockets below TMPDIR.
_MAX_PARENT = 40


#: Of a directory: which one it is, its rights, and when a name in it was last changed; and when
#: anything of it was, which to rename it is, too.
_State = tuple[tuple[int, int, int, int, int, int], int]


class Scratch:
    """Makes and removes the temporary directories of one source.

    Args:
        keep: whether to leave the jobs' directories in place.
    """

    def __init__(self, *, keep: bool) -> None:
        self.keep = keep
        self._mutex = threading.Lock()  # guards what follows
        self._path: Path | None = None
        self._fd: int | None = None  # the directory, locked
        self._key: tuple[int, int] | None = None  # which one it is
        self._jobs: dict[str, _State | None] = {}  # the directories of jobs, as they were given
        self._spare: dict[str, _State] = {}  # those of earlier jobs, unused since
        in_child(self, Scratch._release)

    @property
    def path(self) -> Path:
        """The source's directory; made on first use, and when it is gone.

        Raises:
            OSError: it cannot be made.
        """
        with self._mutex:
            if self._path is None or not self._is_there(self._path):
                self._path = self._make_again(self._path)
                for name in self._jobs:  # of jobs that are running
                    (self._path / name).mkdir(mode=0o700)
            return self._path

    def _is_there(self, path: Path) -> bool:
        try:
            return file_key(os.lstat(path)) == self._key
        except OSError:
            return False

    def _make_again(self, path: Path | None) -> Path:
        """Make the directory, under the same name if possible: fork servers know that one."""
        self._release()
        if path is not None:
            try:
                path.mkdir(mode=0o700)
            except OSError:  # Somebody else has the name, or its parent is gone, too.
                path = None
        if path is None:
            path = _new_directory()
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with suppress(OSError):
            # Exclusive, or forked jobs would open the directory again, as one of the app's.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._fd, self._key = fd, file_key(os.fstat(fd))
        return path

    def _release(self) -> None:
        self._spare.clear()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = self._key = None

    @property
    def disposable(self) -> Path | None:
        """The directory that a fork server should remove if it outlives its launcher."""
        return None if self.keep else self.path

    def make(self, name: str) -> str:
        """Make a job's directory; it is empty unless kept from an earlier attempt.

        Args:
            name: the job's alone among those of the source, see `ShortNames`.

        Raises:
            OSError: it cannot be made.
        """
        path, state = self._use_spare(name)
        if state is None:
            path = f"{self.path}/{name}"
            try:
                os.mkdir(path, 0o700)
            except OSError:
                if not os.path.isdir(path):
                    raise
            with suppress(OSError):  # somebody cleans up here
                state = _state(path)
        with self._mutex:
            self._jobs[name] = state
        return path

    def _use_spare(self, name: str) -> tuple[str, _State | None]:
        """Give the job `name` the directory of an earlier one.

        Returns its path and state; None for the state if there was none.
        """
        with self._mutex:
            if not self._spare:
                return "", None
            # A job that runs again gets its own back, which has the name that it needs.
            own = name if name in self._spare else next(reversed(self._spare))
            before = self._spare.pop(own)
            path = f"{self._path}/{name}"  # texts: joining paths takes longer than renaming them
            try:
                if own != name:
                    # By descriptor, as the path may lead to somebody else's by now.
                    os.rename(own, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
                state = _state(path)
            except OSError:  # somebody cleans up here
                return "", None
        if state[0] == before[0]:  # so it is one that was made here
            return path, state
        remove_tree(f"{self.path}/{name}")
        return "", None

    def clean(self, name: str) -> None:
        """Remove a job's directory, unless directories are kept."""
        with self._mutex:
            state = self._jobs.pop(name, None)
            path = self._path
        if path is not None and not self.keep and not self._put_by(path, name, state):
            # What cannot be removed is reported at the end.
            remove_tree(path / name)

    def _put_by(self, folder: Path, name: str, state: _State | None) -> bool:
        """Keep a job's directory for another job, if this one has not touched it."""
        path = f"{folder}/{name}"
        with suppress(OSError):
            if state is None or _state(path) != state:
                return False
            # What happens within one tick of the clock leaves the time of change as it is.
            if _may_hide_names(state) and os.listdir(path):
                return False
            with self._mutex:
                if folder is self._path:
                    self._spare[name] = state
            return True
        return False

    def close(self) -> None:
        """Remove everything; with `keep`, only hsm's own files and empty directories."""
        with self._mutex:
            path, is_there = self._path, self._path is not None and self._is_there(self._path)
            self._release()
        if path is None or not is_there:
            return
        if not self.keep:
            if (left := remove_tree(path)) is not None:
                log.warning("cannot remove %s: %s; it stays", left.filename, left.strerror)
            return
        for below in (*path.iterdir(), path):
            try:
                if below.is_file():
                    below.unlink()  # hsm's own: jobs write to their directories
                else:
                    below.rmdir()
            except OSError:
                continue  # not empty: kept for the user


class ShortNames:
    """Names of jobs that differ within a source, which may run several sweeps. Thread-safe.

    A job's number is one within its sweep only: jobs of another sweep get its place as well.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._places: dict[str, int] = {}  # of sweeps, by directory

    def of(self, root: str, num: int) -> str:
        """The name of job `num` of the sweep in the directory `root`."""
        with self._mutex:
            place = self._places.setdefault(root, len(self._places))
        return f"{place}-{num}" if place else str(num)


def _state(path: str) -> _State:
    """Raises OSError."""
    status = os.lstat(path)
    rights = status.st_mode, status.st_uid, status.st_gid
    return (*file_key(status), *rights, status.st_mtime_ns), status.st_ctime_ns


def _may_hide_names(state: _State) -> bool:
    """Whether names may have come since the directory was given although its state is the same.

    A new name sets the time of the last one to now, which is never before the directory was given.
    """
    (*_, last_name), given = state
    return last_name >= given


def _new_directory() -> Path:
    for parent in _parents():
        with suppress(OSError):  # e.g. it was removed meanwhile
            return Path(tempfile.mkdtemp(prefix="hsm-", dir=parent))
    return Path(tempfile.mkdtemp(prefix="hsm-"))


def _parents() -> Iterator[str]:
    usual = tempfile.gettempdir()
    if len(usual) <= _MAX_PARENT:
        yield usual
    if os.access("/tmp", os.W_OK):
        yield "/tmp"
