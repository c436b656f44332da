"""Messages between a launcher's slots and the keepers of their jobs.

They are pickles, each after its length, over a socketpair:

    keeper:   Ready, once   ---> launcher
    launcher: Launch ---> keeper          keeper: Started, then Reaped ---> launcher
              End    --->                         or NotStarted        --->

Both ends are processes of the same user, of one program, connected by a socketpair that nobody else
can reach; that is why pickle is safe here.
"""

from __future__ import annotations

import pickle
import select
import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hsm.core.at_fork import in_child
from hsm.core.engine.own_sockets import own_pair

_LENGTH = struct.Struct("!Q")
#: To send what the socket takes. A peer that is gone is an error: SIGPIPE would end the launcher of
#: an app that has given that signal its default action, as command line tools do.
SEND_FLAGS = socket.MSG_DONTWAIT | getattr(socket, "MSG_NOSIGNAL", 0)  # macOS has no such flag.


@dataclass(frozen=True)
class Ready:
    """The keeper is there; its process is `pid`."""

    pid: int


@dataclass(frozen=True)
class NotStarted:
    """The job got no process, for `reason`. No `Reaped` follows."""

    reason: str


@dataclass(frozen=True)
class End:
    """End the job's process tree: SIGTERM now, SIGKILL `grace` seconds later (0: at once)."""

    grace: float


@dataclass(frozen=True)
class Reaped:
    """The job's process and all that it left behind are gone.

    Attributes:
        status: the process's wait status, as `os.wait4` gives it.
        asked: whether an `End` had reached the keeper while the process still ran.
        cpu_seconds: user and system time of everything that was reaped.
        max_memory: peak resident size of the largest process that was reaped, in bytes.
        lost: what of its output is not in its logs, and why; None if all of it is.
        report: what a function's job has told of itself by the way, see `report`.
    """

    status: int
    asked: bool
    cpu_seconds: float
    max_memory: int
    lost: str | None = None
    report: bytes | None = None


class Channel:
    """One end of a socketpair. Any thread may call `send`; one at a time, `wait` and `receive`.

    Nobody is kept waiting by an end that does not read: what the socket does not take is sent by
    whoever calls `wait`.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sending = threading.Lock()
        self._unsent = bytearray()

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(self, message: Any) -> None:
        """Send `message`. Raises OSError if the other end is gone."""
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        with self._sending:
            self._unsent += _LENGTH.pack(len(data)) + data
            self._send_more()

    def _send_more(self) -> None:
        """Send what the socket takes."""
        try:
            while self._unsent:
                del self._unsent[: self._sock.send(self._unsent, SEND_FLAGS)]
        except BlockingIOError:
            return

    def receive(self) -> Any:
        """The next message; waits for it. Raises EOFError if the other end is gone."""
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size))
        return pickle.loads(self._read(length))

    def wait(self, deadline: float | None) -> bool:
        """Wait for a message or the connection's end; False if `deadline` (monotonic) is first."""
        poll = select.poll()
        while True:
            poll.register(self._sock, select.POLLIN | (select.POLLOUT if self._unsent else 0))
            # In steps of a day at most, as poll() takes a C int of milliseconds.
            left = 86400.0 if deadline is None else deadline - time.monotonic()
            ready = poll.poll(min(max(0.0, left), 86400.0) * 1000)
            if any(event != select.POLLOUT for _, event in ready):
                return True
            if ready:
                with self._sending, suppress(OSError):  # The end of the connection is seen next.
                    self._send_more()
            elif left <= 0:
                return False

    def shut(self) -> None:
        """End the connection for every process that has this end; whoever waits on it wakes up."""
        with suppress(OSError):  # The other end was first.
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """`shut`, and free the descriptor. Nobody may be waiting on it."""
        self.shut()
        self._sock.close()

    def forget(self) -> None:
        """Close this process's copy of this end alone."""
        self._sock.close()

    def _read(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            try:
                chunk = self._sock.recv(min(length - len(data), 1 << 20))
            except ConnectionError:
                chunk = b""
            if not chunk:
                raise EOFError("the other end is gone")
            data += chunk
        return bytes(data)


def private_pair() -> tuple[socket.socket, socket.socket]:
    """A socketpair: this process's end, and that of one which it is to start.

    No later child keeps the first: a keeper could no longer tell that its launcher is gone.
    """
    ours, theirs = own_pair()
    in_child(ours, socket.socket.close)
    return ours, theirs
