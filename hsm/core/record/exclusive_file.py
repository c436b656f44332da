"""A lock for file systems that have none: a file in the sweep's directory that only one can make.

Some mounts of Lustre and NFS refuse every kind of lock. There a launcher makes ``.hsm.lock``, which
says whose it is: machine, boot, process and when that started. It removes the file at its end. If
it died, a launcher on the same machine sees that, and takes over; one on another machine cannot,
and says which file to remove.

The file appears with its content in one step, by a hard link, which is safe in old versions of NFS
too; where there are no links, by O_EXCL.
"""

from __future__ import annotations

import errno
import json
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from hsm.core.at_fork import in_child
from hsm.core.files import file_key, open_in, read_below, renamed
from hsm.core.process_stat import START_TIME, STATE, stat_fields

#: What locking a file raises on a file system without locks.
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
#: What `os.link` raises on a file system without hard links.
_NO_LINKS = (errno.EPERM, errno.EMLINK, errno.EINVAL, *NO_LOCKS)
FILE_NAME = ".hsm.lock"
_MAX_SIZE = 1 << 12
_OVER = ("Z", "X")  # states of a process that has ended


class Maker(NamedTuple):
    """The process that made such a file.

    Attributes:
        host, machine: the machine's name, and its id if it has one.
        boot: which start of the machine that was.
        pids: the pid namespace; a container has its own.
        pid: the process.
        started: when it started, in ticks since the machine did.
    """

    host: str
    machine: str
    boot: str
    pids: str
    pid: int
    started: str

    @classmethod
    def this(cls) -> Maker:
        """This process."""
        try:
            pids = os.readlink("/proc/self/ns/pid")
        except OSError:
            pids = ""
        return cls(
            socket.gethostname(),
            _line("/etc/machine-id"),
            _line("/proc/sys/kernel/random/boot_id"),
            pids,
            os.getpid(),
            _started(os.getpid()),
        )

    @classmethod
    def parse(cls, text: bytes) -> Maker | None:
        """The maker that a file names; None if it names none."""
        try:
            made = cls(**json.loads(text))
        except (ValueError, TypeError, RecursionError):
            return None
        texts = (made.host, made.machine, made.boot, made.pids, made.started)
        is_valid = type(made.pid) is int and 0 < made.pid < 1 << 31
        return made if is_valid and all(isinstance(it, str) for it in texts) else None

    def is_here(self) -> bool:
        """Whether its pid is one that this process can see."""
        here = Maker.this()
        return (self.host, self.machine, self.boot, self.pids) == (
            here.host,
            here.machine,
            here.boot,
            here.pids,
        )

    def is_over(self) -> bool:
        """Whether it is known to have ended."""
        if self.is_here():
            return not _is_running(self.pid, self.started)
        here = Maker.this()
        # The same machine has started again since.
        return (self.host, self.machine) == (here.host, here.machine) and self.boot != here.boot


class Taken(Exception):
    """Another process has made the file, and may be running; the text says who and where it is."""


class ExclusiveFile:
    """Has the file in `folder` from creation to `release`.

    Raises:
        Taken: another process has it.
        OSError: it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._fd = _acquire(folder, place, FILE_NAME)
        finally:
            os.close(place)
        self._key = file_key(os.fstat(self._fd))
        in_child(self, ExclusiveFile._forget)

    def is_current(self) -> bool:
        """Whether the file is still the one that this process made."""
        try:
            return file_key(os.lstat(self.path)) == self._key
        except OSError:
            return False

    def _forget(self) -> None:
        """In a forked child: the file is the parent's."""
        os.close(self._fd)
        self._fd = -1

    def release(self) -> None:
        """Remove the file. Idempotent."""
        if self._fd >= 0:
            if self.is_current():
                with suppress(OSError):
                    os.unlink(self.path)
            os.close(self._fd)
            self._fd = -1


def check_free(folder: Path) -> None:
    """Check that no process has the file in `folder`.

    Raises:
        Taken: one has it, or it is unknown who.
    """
    with suppress(FileNotFoundError):
        _check_over(folder, FILE_NAME)


def maker_of(folder: Path) -> Maker | None:
    """The process that has the file in `folder`; None if none has, or if the file names none."""
    try:
        maker = _maker(folder, FILE_NAME)
    except OSError:
        return None
    return None if maker is None or maker.is_over() else maker


def _maker(folder: Path, name: str) -> Maker | None:
    return Maker.parse(read_below(folder, folder / name, _MAX_SIZE))


def _check_over(folder: Path, name: str) -> Maker:
    """Check that the maker of a file is over. Raises Taken, FileNotFoundError."""
    path = folder / name
    try:
        maker = _maker(folder, name)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Taken(f"whoever made {path} ({error.strerror})") from error
    if maker is None:
        raise Taken(f"whoever made {path}; if nobody uses it any more, remove that file")
    if not maker.is_over():
        hint = "" if maker.is_here() else f"; if that has ended, remove {path}"
        raise Taken(f"process {maker.pid} on {maker.host}{hint}")
    return maker


def _acquire(folder: Path, place: int, name: str) -> int:
    """Make the file, or replace that of a maker that is over; return its descriptor.

    Args:
        folder: its directory.
        place: the same, open.
        name: its name.

    Raises:
        Taken, OSError: see `ExclusiveFile`.
    """
    while True:
        fd = _make(place, name)
        if fd is not None:
            return fd
        with suppress(FileNotFoundError):
            over = _check_over(folder, name)
            # Only one process at a time may replace it, or the second would replace the first's.
            turn = f"{name}.next"
            guard = _acquire(folder, place, turn)
            try:
                if _check_over(folder, name) == over:
                    return _replace(place, name)
            finally:
                os.unlink(turn, dir_fd=place)
                os.close(guard)


def _make(place: int, name: str) -> int | None:
    """Make a file in the open directory; return its descriptor, None if there is one already."""
    temporary = f"{name}.{os.urandom(8).hex()}"
    fd = _write_new(place, temporary)
    try:
        os.link(temporary, name, src_dir_fd=place, dst_dir_fd=place, follow_symlinks=False)
    except FileExistsError:
        pass
    except OSError as error:
        os.close(fd)
        if error.errno not in _NO_LINKS:
            raise
        with suppress(FileExistsError):
            return _write_new(place, name)
        return None
    finally:
        os.unlink(temporary, dir_fd=place)
    with suppress(FileNotFoundError):
        # Compare: NFS may say that there is a link because it has made it twice.
        there = os.stat(name, dir_fd=place, follow_symlinks=False)
        if file_key(there) == file_key(os.fstat(fd)):
            return fd
    os.close(fd)
    return None


def _replace(place: int, name: str) -> int:
    temporary = f"{name}.{os.urandom(8).hex()}"
    fd = _write_new(place, temporary)
    with renamed(temporary, name, place):
        return fd


def _write_new(place: int, name: str) -> int:
    """Make a file that names this process. Raises OSError, e.g. FileExistsError."""
    fd = open_in(place, name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        os.write(fd, json.dumps(Maker.this()._asdict()).encode())
    except BaseException:
        os.close(fd)
        os.unlink(name, dir_fd=place)
        raise
    return fd


def _is_running(pid: int, started: str) -> bool:
    if started:
        fields = stat_fields(pid)
        return bool(fields) and fields[STATE] not in _OVER and fields[START_TIME] == started
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _started(pid: int) -> str:
    fields = stat_fields(pid)
    return fields[START_TIME] if fields else ""


def _line(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
