"""What all jobs of a warm script begin with: the garbage collector leaves it alone in each of them.

A collection writes to each object that it looks at, and so copies the pages that jobs share. At its
end an interpreter collects three times. What that would do, it must do all the same: finalize what
only a circle of references keeps alive. There are two kinds of such circles:

- The script's own globals, and its functions. So its globals are kept apart from the shared ones.
- The globals of an imported module, and its functions. They may hold what the job has put there, a
  file say. So if anything with a finalizer is left at a job's end, all objects are looked at.
"""

from __future__ import annotations

import atexit
import gc
import io
import socket
import sys
from types import GeneratorType
from typing import Any

#: Types with a finalizer that does nothing for those of their objects that exist so early.
_HARMLESS = (GeneratorType, io.BytesIO, io.StringIO)


class SharedObjects:
    """The objects of this process, until a job calls `enter_job`.

    Args:
        script: the script's globals; it has none meanwhile.
        connection: the server's to its launcher, which jobs do not have.
    """

    def __init__(self, script: dict[str, Any], connection: socket.socket) -> None:
        self._script = script
        self._names = dict(script)
        script.clear()
        gc.collect()
        # An empty dict is none of the collector's business, so freezing leaves it alone.
        self._are_shared = not gc.is_tracked(script) and not _are_finalized(connection)

    def enter_job(self) -> None:
        """Give the script its globals."""
        self._script.update(self._names)
        if not self._are_shared:
            gc.unfreeze()


def finalize_at_exit() -> None:
    """Finalize what is left at this process's exit, after all exit hooks registered from now on."""
    atexit.register(_unfreeze_if_finalized)


def _unfreeze_if_finalized() -> None:
    if any(hasattr(kind, "__del__") for kind in set(map(type, gc.get_objects()))):
        gc.unfreeze()


def _are_finalized(connection: socket.socket) -> bool:
    """Whether anything that has been imported has a finalizer that does something."""
    streams: list[Any] = [sys.stdin, sys.stdout, sys.stderr]
    streams += [getattr(stream, "buffer", None) for stream in streams]
    streams += [getattr(stream, "raw", None) for stream in streams]
    own = set(map(id, [connection, *streams]))
    return any(
        hasattr(type(each), "__del__")
        and id(each) not in own
        and not issubclass(type(each), _HARMLESS)
        and type(each).__name__ != "ResourceTracker"  # of multiprocessing and of loky
        for each in gc.get_objects()
    )
