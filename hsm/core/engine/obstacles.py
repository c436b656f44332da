"""What an error of the system means for a job that it keeps from starting.

OSError --obstacle--> NoRoom: it may pass, so the job waits
|-------------------> CannotStart: something of this job's own is in the way
`-------------------> NothingStarts: it would strike every job
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable

from hsm.core.engine.backend import CannotStart, NoRoom, NothingStarts
from hsm.core.own_threads import OWN_THREADS

#: Errors that go away when another process, a job or a person gives something back.
_MAY_PASS = frozenset(
    (
        errno.EAGAIN,
        errno.ENOMEM,
        errno.ENOBUFS,
        errno.EMFILE,
        errno.ENFILE,
        errno.ETOOMANYREFS,  # too many descriptors are on their way through sockets
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EIO,
        errno.ESTALE,
    )
)


def may_pass(error: OSError) -> bool:
    """Whether the same call may succeed later."""
    return error.errno in _MAY_PASS


def obstacle(
    error: OSError | MemoryError, doing: str, common: str | os.PathLike[str] | None = None
) -> CannotStart:
    """The exception to raise instead of `error`.

    Args:
        error: what the system said.
        doing: what could not be done: "fork".
        common: the directory that the jobs have in common, if `error` is about something in it.
            As long as that can be written, the job's own part of it is at fault.
    """
    if isinstance(error, MemoryError):
        return NoRoom(f"cannot {doing}: {os.strerror(errno.ENOMEM)}")
    text = f"cannot {doing}: {error.strerror or error}"
    if may_pass(error):
        return NoRoom(text)
    if common is not None and os.path.isdir(common) and os.access(common, os.W_OK | os.X_OK):
        return CannotStart(text)
    return NothingStarts(text)


class Obstacles:
    """Raises `obstacle` for an error of the system in a `with` block.

    Not a generator: this runs for each job in its keeper, where all that runs costs page faults.
    """

    __slots__ = ("_common", "_doing")

    def __init__(self, doing: str, common: str | os.PathLike[str] | None = None) -> None:
        self._doing = doing
        self._common = common

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        if isinstance(error, (OSError, MemoryError)):
            raise obstacle(error, self._doing, self._common) from error


def start_thread(target: Callable[[], None], name: str) -> threading.Thread:
    """Start a thread of hsm's own that jobs need. Raises NoRoom."""
    thread = threading.Thread(target=target, name=f"{OWN_THREADS}{name}", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise NoRoom(f"cannot start a thread: {error}") from error
    return thread
