"""Finding open descriptors of the app that forked jobs would share, and take data from each other.

    a connection      an answer goes to whichever job reads first
    a pipe, a queue   likewise
    an event loop     an event for one job wakes another one

Ignored are regular files, since each job gets an offset of its own for files that it reads (except
for those that cannot be reopened); descriptors that this process was started with (standard
streams, make's jobserver, a shell's process substitution); and those of hsm and of Python's own
helpers.
"""

from __future__ import annotations

import fcntl
import os
import platform
import re
import socket
import stat
import sys
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import suppress
from glob import glob
from pathlib import Path

from hsm.core.local.fork_safety.finding import Finding, listed
from hsm.core.local.fork_safety.sockets import SocketFacts
from hsm.core.local.processes.own_files import shared_files
from hsm.core.own_sockets import own_descriptors

_GPU_DEVICES = ("/dev/nvidia", "/dev/kfd")
# What may be found; the details go into the braces.
_GPU = "the launching process has initialised a GPU driver ({} is open)"
_LOOP = "the launching process has an event loop open ({})"
_CONNECTION = "the launching process has a connection open ({})"
_PIPE = "the launching process has a pipe open ({})"
_FILE = "the launching process has a file open that jobs cannot open for themselves ({})"
_OTHER = "the launching process has something open that jobs would share ({})"
#: With these, a forked job is known to hang, or to get data meant for another.
_HARMFUL = frozenset((_GPU, _LOOP, _CONNECTION, _PIPE, _FILE))

_DOUBTFUL = frozenset(
    f"anon_inode:{name}" for name in ("[eventfd]", "[signalfd]", "[timerfd]", "[io_uring]")
) | {"anon_inode:inotify", "anon_inode:[inotify]"}
#: Where Python keeps its pipes to helper processes, which jobs do not use.
_HELPERS = (
    ("multiprocessing.resource_tracker", "_resource_tracker", "_fd"),
    ("multiprocessing.forkserver", "_forkserver", "_forkserver_alive_fd"),
    ("loky.backend.resource_tracker", "_resource_tracker", "_fd"),
    ("joblib.externals.loky.backend.resource_tracker", "_resource_tracker", "_fd"),
)
#: Sockets of multiprocessing's managers, to which each process makes its own connection.
_MANAGER = re.compile(r".*/pymp-[^/]*/(listener|sock)-[^/]*$")  # sock: from Python 3.14
#: The number of the system call `read`.
_READ = {"x86_64": "0", "aarch64": "63", "riscv64": "63", "ppc64le": "3", "s390x": "3"}


def find_shared() -> list[Finding]:
    """Find descriptors of this process that speak against a fork."""
    details: dict[str, list[str]] = defaultdict(list)
    for kind, detail in _Descriptors().app_owned():
        if detail not in details[kind]:
            details[kind].append(detail)
    if files := shared_files():
        details[_FILE] = files
    return [
        Finding(kind.format(listed(names)), is_harmful=kind in _HARMFUL)
        for kind, names in details.items()
    ]


class _Descriptors:
    """The descriptors of this process, by what they lead to."""

    def __init__(self) -> None:
        # By target, since copies of the standard streams also existed before the app.
        self._standard = {_target(fd) for fd in (0, 1, 2)}
        self._ignored = {0, 1, 2} | own_descriptors() | set(_helpers())
        self._parent = os.getppid()

    def app_owned(self) -> Iterator[tuple[str, str]]:
        """Yield what the app opened and forks would share: one of the texts above, and a detail."""
        pipes: dict[str, list[int]] = defaultdict(list)
        for fd in map(int, os.listdir("/proc/self/fd")):
            target = _target(fd)
            if fd in self._ignored or not target or target in self._standard:
                continue
            with suppress(OSError):  # closed in the meantime
                if stat.S_ISFIFO(os.fstat(fd).st_mode):
                    pipes[target].append(fd)
                elif not self._is_inherited(fd, target):
                    yield from _look_at(fd, target)
        for target, fds in pipes.items():
            with suppress(OSError):
                yield from _look_at_pipe(target, sorted(fds))

    def _is_inherited(self, fd: int, target: str) -> bool:
        """Whether this process was started with the descriptor: its parent has it, too."""
        return not _closes_on_exec(fd) and target == _target(fd, self._parent)


def _target(fd: int, pid: int | str = "self") -> str:
    with suppress(OSError):
        return os.readlink(f"/proc/{pid}/fd/{fd}")
    return ""


def _closes_on_exec(fd: int) -> bool:
    """Whether exec closes the descriptor. Python opens all like that; inherited ones are not."""
    return bool(fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC)


def _helpers() -> Iterator[int]:
    for module, name, attribute in _HELPERS:
        fd = getattr(getattr(sys.modules.get(module), name, None), attribute, None)
        if fd is not None:
            yield fd
    process = sys.modules.get("multiprocessing.process")
    for child in tuple(getattr(process, "_children", ())):
        # The pipe ends through which the two processes notice each other's end.
        finalizer = getattr(getattr(child, "_popen", None), "finalizer", None)
        yield from (fd for fd in getattr(finalizer, "_args", None) or () if isinstance(fd, int))


def _look_at(fd: int, target: str) -> Iterator[tuple[str, str]]:
    if target.startswith(_GPU_DEVICES):
        yield _GPU, target
    elif target.startswith("socket:"):
        yield from _look_at_socket(fd)
    elif target == "anon_inode:[eventpoll]":
        yield _LOOP, f"descriptor {fd}"
    elif target in _DOUBTFUL:
        yield _OTHER, f"{target.rpartition(':')[2].strip('[]')}, descriptor {fd}"


def _look_at_socket(fd: int) -> Iterator[tuple[str, str]]:
    facts = SocketFacts.of(fd)
    if facts.listens:
        yield _OTHER, f"a socket that listens on {facts.name or '?'}"
    elif facts.made_here:
        yield _PIPE, f"a pair of sockets, descriptor {fd}"
    elif facts.family == socket.AF_UNIX:
        yield from _look_at_unix_socket(fd, facts)
    elif facts.has_peer and facts.kind == socket.SOCK_STREAM:
        yield _CONNECTION, f"to {facts.peer or '?'}"
    else:
        yield _OTHER, f"a socket, descriptor {fd}"


def _look_at_unix_socket(fd: int, facts: SocketFacts) -> Iterator[tuple[str, str]]:
    if facts.kind == socket.SOCK_DGRAM:
        if facts.name:  # without a name it cannot receive anything: a logger's, say
            yield _OTHER, f"a socket, descriptor {fd}"
    elif facts.has_peer:
        # Without a name on either end it is half of a pair that the parent process has made.
        if (facts.peer or facts.name) and not _MANAGER.match(facts.peer):
            yield _CONNECTION, f"to {facts.peer}" if facts.peer else f"from {facts.name}"
    else:
        yield _OTHER, f"a socket, descriptor {fd}"


def _look_at_pipe(target: str, fds: list[int]) -> Iterator[tuple[str, str]]:
    """Yield a pipe if it is the app's: this process has both ends, or a child has the other one."""
    is_named = not target.startswith("pipe:")
    if not is_named and not all(map(_closes_on_exec, fds)):
        return
    modes = {fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE for fd in fds}
    reads, writes = modes != {os.O_WRONLY}, modes != {os.O_RDONLY}
    if not (reads and writes):
        # A pipe whose other end is elsewhere may be a copy of a standard stream that was replaced.
        is_apps = reads if is_named else _is_held_by_child(target, for_reading=writes)
        if not is_apps:
            return
    names = f"descriptor {listed([str(fd) for fd in fds])}"
    if reads and writes and _is_read_by_thread(fds):
        # Only possibly harmful: that thread reads what jobs write, as if one process had written.
        yield _OTHER, f"a pipe that a thread of it reads, {names}"
    else:
        yield _PIPE, target if is_named else names


def _is_held_by_child(target: str, *, for_reading: bool) -> bool:
    """Whether a child process holds the pipe's reading (or writing) end."""
    bit = stat.S_IRUSR if for_reading else stat.S_IWUSR
    for listing in glob("/proc/self/task/*/children"):
        with suppress(OSError):
            for pid in Path(listing).read_text().split():
                for link in glob(f"/proc/{pid}/fd/*"):
                    with suppress(OSError):
                        if os.readlink(link) == target and os.lstat(link).st_mode & bit:
                            return True
    return False


def _is_read_by_thread(fds: Collection[int]) -> bool:
    """Whether a thread of this process is blocked reading from one of `fds`."""
    number = _READ.get(platform.machine())
    for task in glob("/proc/self/task/*/syscall"):
        with suppress(OSError, ValueError):
            call, first, *_ = Path(task).read_text().split()
            if call == number and int(first, 16) in fds:
                return True
    return False
