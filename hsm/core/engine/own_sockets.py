"""The sockets that hsm itself has open in this process: they are none of the app's."""

from __future__ import annotations

import socket
import threading
import weakref

from hsm.core.own_process import above_streams

_mutex = threading.Lock()  # a WeakSet that grows cannot be looked through
_own: weakref.WeakSet[socket.socket] = weakref.WeakSet()


def own_pair() -> tuple[socket.socket, socket.socket]:
    """A socketpair of hsm's."""
    first, second = (
        socket.socket(fileno=above_streams(end.detach())) for end in socket.socketpair()
    )
    pair = first, second
    with _mutex:
        _own.update(pair)
    return pair


def own_descriptors() -> set[int]:
    """The descriptors of those that are open."""
    with _mutex:
        return {sock.fileno() for sock in _own}
