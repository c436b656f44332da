"""Making a connection to a process that is about to start."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from hsm.core.engine.obstacles import Obstacles
from hsm.core.own_sockets import private_pair


@contextmanager
def new_connection(doing: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A socketpair for a process that the block starts: our end, which stays open, and its end.

    Args:
        doing: what fails if the block raises an error of the system, see `obstacle`.
    """
    with Obstacles(doing):
        ours, theirs = private_pair()
        try:
            yield ours, theirs
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
