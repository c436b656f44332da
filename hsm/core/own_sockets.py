"""hsm's own sockets in this process, to tell them from the app's."""

from __future__ import annotations

import socket
import threading
import weakref

from hsm.core.at_fork import in_child
from hsm.core.own_process import above_streams

_mutex = threading.Lock()  # a WeakSet must not grow while it is iterated
_own: weakref.WeakSet[socket.socket] = weakref.WeakSet()


def own_pair() -> tuple[socket.socket, socket.socket]:
    """Make a socketpair for hsm's own use."""
    first, second = (
        socket.socket(fileno=above_streams(end.detach())) for end in socket.socketpair()
    )
    pair = first, second
    with _mutex:
        _own.update(pair)
    return pair


def private_pair() -> tuple[socket.socket, socket.socket]:
    """Make a socketpair: this process's end, and the end of a process to be started.

    Later children do not keep the first end; otherwise a keeper could not notice that its launcher
    is gone.
    """
    ours, theirs = own_pair()
    in_child(ours, socket.socket.close)
    return ours, theirs


def own(sock: socket.socket) -> None:
    """Count a socket that this process was given by hsm as hsm's own."""
    with _mutex:
        _own.add(sock)


def own_descriptors() -> set[int]:
    """The descriptors of hsm's open sockets."""
    with _mutex:
        return {sock.fileno() for sock in _own}
