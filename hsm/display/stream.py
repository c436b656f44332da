"""A text stream that can be written to whatever has become of its other end."""

from __future__ import annotations

import os
import sys
import threading
from typing import TextIO

# A process forked in the middle of a write inherits half of it, and the lock of the target's buffer
# with nobody to release it. So nobody forks while a display writes, and every write is flushed.
_writing = threading.RLock()
os.register_at_fork(
    before=_writing.acquire,
    after_in_parent=_writing.release,
    after_in_child=_writing.release,
)


class SafeStream:
    """Writes to `target`, at once; what cannot be written is lost, never an error.

    A sweep goes on without its audience. Characters that the target's encoding lacks are replaced.

    Args:
        target: where to write. None: nowhere, as Python's `sys.stdout` of a process without one.
    """

    def __init__(self, target: TextIO | None) -> None:
        self._target = target
        self.encoding = getattr(target, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        with _writing:
            if self._target is not None:
                self._write(self._target, text)
        return len(text)

    def _write(self, target: TextIO, text: str) -> None:
        try:
            try:
                target.write(text)
            except UnicodeEncodeError:
                target.write(text.encode(self.encoding, "replace").decode(self.encoding))
            target.flush()
        except BrokenPipeError:
            self.drop()
            if target is sys.__stdout__:
                _send_to_nowhere(target)
        except (OSError, ValueError, RuntimeError):
            # ValueError: it was closed. RuntimeError: a signal handler's write interrupted another.
            pass

    def flush(self) -> None:
        """Nothing is left to flush."""

    def drop(self) -> None:
        """Write nowhere from now on."""
        self._target = None

    def isatty(self) -> bool:
        try:
            return self._target is not None and self._target.isatty()
        except (ValueError, AttributeError):  # closed; a script's own, which need not have it
            return False

    def fileno(self) -> int:
        fileno = getattr(self._target, "fileno", None)
        if fileno is None:
            raise OSError("the stream leads nowhere, or does not say where")
        return int(fileno())


def _send_to_nowhere(stdout: TextIO) -> None:
    """Nobody reads stdout any more: let it, with what it still buffers, run into /dev/null.

    Otherwise the interpreter fails to flush it at exit, complains, and the exit code is 120.
    """
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stdout.fileno())
        os.close(null)
    except (OSError, ValueError, AttributeError):
        pass
