"""Messages between a launcher's slots and the keepers of their jobs.

They are length-prefixed pickles over a socketpair:

    keeper:   Ready, once   ---> launcher
    launcher: Launch     ---> keeper      keeper: Started, then Reaped ---> launcher
              Pause, End --->                     or NotStarted        --->

If there can be no keeper, NotStarted comes instead of Ready, from the fork server or the keeper.
A warm script's server begins with Imported, over its own connection.

Pickle is safe here: both ends are processes of the same program and user, and no other process can
reach the socketpair.
"""

from __future__ import annotations

import pickle
import select
import socket
import struct
import threading
import time
from array import array
from contextlib import suppress
from typing import Any, NamedTuple

from hsm.core.engine.backend import CannotStart, PlaceGone

_LENGTH = struct.Struct("!Q")
_CHUNK = 1 << 16  # bytes to receive at a time
#: Flags to send without blocking, and to get an error if the peer is gone: SIGPIPE would end the
#: launcher of an app that reset that signal to its default action, as command line tools do.
SEND_FLAGS = socket.MSG_DONTWAIT | getattr(socket, "MSG_NOSIGNAL", 0)  # not on macOS


class Ready(NamedTuple):
    """The keeper is running, as process `pid`."""

    pid: int


class NotStarted(NamedTuple):
    """The job, or the keeper, was not started, for the reason in `error`; nothing follows."""

    error: CannotStart | PlaceGone


class End(NamedTuple):
    """End the job's process tree: SIGTERM now, SIGKILL `grace` seconds later (0: at once)."""

    grace: float


class Pause(NamedTuple):
    """Stop all processes of the job, or continue those that were stopped so."""

    is_on: bool


class Reaped(NamedTuple):
    """The job's process and all that it left behind are gone.

    Attributes:
        status: the process's wait status, as returned by `os.wait4`.
        asked: whether an `End` reached the keeper while the process was still running.
        cpu_seconds: user and system time of all reaped processes.
        max_memory: peak resident size of the largest reaped process, in bytes, without what a
            forked job began with.
        lost: describes output that is missing from the logs; None if all of it is there.
        report: what a function's job reported through its keeper's `Note`; None for nothing.
        has_links: whether the keeper has linked the logs into the job's directory.
    """

    status: int
    asked: bool
    cpu_seconds: float
    max_memory: int
    lost: str | None = None
    report: bytes | None = None
    has_links: bool = False


class Imported(NamedTuple):
    """A warm script's server has done its imports; see `hsm.core.local.warm_server`.

    Attributes:
        why_not: why jobs cannot be forks of this process, as a clause; None if they can.
        doubts: what is not known to be safe in a fork, but may be.
    """

    why_not: str | None
    doubts: tuple[str, ...] = ()


class Channel:
    """One end of a socketpair. Any thread may call `send`; only one at a time `wait` or `receive`.

    `send` never blocks, even if the other end does not read: `wait` sends the rest.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sending = threading.Lock()
        self._unsent = bytearray()
        self._received = bytearray()
        self._was_reset = False
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(self, message: Any) -> None:
        """Send `message`. Raises OSError if the other end is gone."""
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        with self._sending:
            self._unsent += _LENGTH.pack(len(data)) + data
            self._send_more()

    def _send_more(self) -> None:
        """Send as much as the socket takes without blocking."""
        try:
            while self._unsent:
                del self._unsent[: self._sock.send(self._unsent, SEND_FLAGS)]
        except BlockingIOError:
            return

    @property
    def has_message(self) -> bool:
        """Whether a whole message has come with another one: the socket does not tell of it."""
        return len(self._received) >= self._next_size()

    @property
    def has_unread(self) -> bool:
        """Whether the other end is known to have gone without having read all that was sent.

        Linux resets a Unix connection that is closed with unread data; elsewhere this may be False.
        """
        return self._was_reset or bool(self._unsent)

    def _next_size(self) -> int:
        """Bytes of the next message, its length included, as far as they are known."""
        if len(self._received) < _LENGTH.size:
            return _LENGTH.size
        return _LENGTH.size + int(_LENGTH.unpack_from(self._received)[0])

    def receive(self) -> Any:
        """Wait for the next message. Raises EOFError if the other end is gone."""
        received = self._received
        while (missing := (size := self._next_size()) - len(received)) > 0:
            try:
                chunk = self._sock.recv(max(_CHUNK, min(missing, 1 << 20)))
            except ConnectionError:
                chunk, self._was_reset = b"", True
            if not chunk:
                raise EOFError("the other end is gone")
            received += chunk
        message = pickle.loads(received[_LENGTH.size : size])
        del received[:size]
        return message

    def wait(self, deadline: float | None) -> bool:
        """Wait for a message or the connection's end; False if `deadline` (monotonic) passes."""
        while not self.has_message:
            poll = self._poll
            if self._unsent:
                poll = select.poll()
                poll.register(self._sock, select.POLLIN | select.POLLOUT)
            # At most a day at a time, since poll() takes a C int of milliseconds.
            left = 86400.0 if deadline is None else deadline - time.monotonic()
            ready = poll.poll(min(max(0.0, left), 86400.0) * 1000)
            if ready and ready[0][1] != select.POLLOUT:
                return True
            if ready:
                with self._sending, suppress(OSError):  # the next poll reports the connection's end
                    self._send_more()
            elif left <= 0:
                return False
        return True

    def shut(self) -> None:
        """End the connection for every process that has this end, and wake threads that wait."""
        with suppress(OSError):  # the other end has already done so
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Shut the connection and close the descriptor, on which no thread may be waiting."""
        self.shut()
        self._sock.close()

    def forget(self) -> None:
        """Close only this process's copy of this end."""
        self._sock.close()


def send_descriptors(sock: socket.socket, data: bytes, descriptors: list[int]) -> None:
    """Send `data` with copies of descriptors, without blocking or SIGPIPE. Raises OSError.

    `socket.send_fds` takes flags as well, but ignores them (python/cpython#107898).
    """
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))
    sock.sendmsg([data], [rights], SEND_FLAGS)
