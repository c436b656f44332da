"""Ports on which the processes of one job meet: each free, and of no other running job.

That a port is free is known for a moment only, so each launcher begins in a part of its own: jobs
of two sweeps are unlikely to be given the same one before they use it.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator

from hsm.core.errors import HsmError

#: Below those that Linux gives to outgoing connections, and Kubernetes to services.
FIRST, LAST = 15360, 29695
#: How many neighbouring ports a launcher tries before those of others.
_PART = 32


class NoPort(HsmError):
    """All ports are in use."""


def is_free(port: int) -> bool:
    """Whether nothing on this machine uses a TCP port, on loopback or any other address."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind(("", port))
    except OSError as error:
        # Where sockets are forbidden, no job has one either.
        return error.errno not in (errno.EADDRINUSE, errno.EACCES)
    return True


class Ports:
    """Gives each running job a port of its own. Thread-safe.

    Args:
        pid: what spreads launchers; by default this process's.
        is_free: whether nobody uses a port.
    """

    def __init__(self, pid: int | None = None, is_free: Callable[[int], bool] = is_free) -> None:
        self._pid = pid
        self._is_free = is_free
        self._mutex = threading.Lock()  # guards what follows
        self._taken: set[int] = set()
        self._next = 0

    def take(self) -> int:
        """A free port, until `give_back`. Raises NoPort."""
        with self._mutex:
            for port in self._in_order():
                if port not in self._taken and self._is_free(port):
                    self._taken.add(port)
                    return port
        raise NoPort(f"no TCP port from {FIRST} to {LAST} is free")

    def give_back(self, port: int) -> None:
        """A job needs its port no longer. Idempotent."""
        with self._mutex:
            self._taken.discard(port)

    def _in_order(self) -> Iterator[int]:
        """All ports, those of this launcher first; one that was just given back comes late."""
        count = LAST - FIRST + 1
        pid = os.getpid() if self._pid is None else self._pid  # It may be a fork of who made this.
        begin = pid * _PART % count
        first = self._next
        for step in range(_PART):
            at = (first + step) % _PART
            self._next = at + 1
            yield FIRST + (begin + at) % count
        for step in range(_PART, count):
            yield FIRST + (begin + step) % count


#: Those of this process: several sweeps may run in it.
PORTS = Ports()
