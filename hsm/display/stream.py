"""A text stream whose writes never fail, whatever has happened to its other end."""

from __future__ import annotations

import os
import sys
import threading
from typing import TextIO

# A process forked in the middle of a write would inherit half a write, and the locked lock of the
# target's buffer. So no thread forks while a display writes, and every write is flushed.
_writing = threading.RLock()
os.register_at_fork(
    before=_writing.acquire,
    after_in_parent=_writing.release,
    after_in_child=_writing.release,
)


#: Columns: of a terminal that does not tell, and for text that goes elsewhere.
_USUAL_WIDTH, _WIDTH_OF_FILES = 80, 100


class SafeStream:
    """Writes to `target` without buffering and drops what cannot be written.

    A sweep must continue even if its terminal is gone. Characters that the target's encoding lacks
    are replaced.

    Args:
        target: where to write; None for nowhere, as `sys.stdout` is None in a process without one.
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
            # ValueError: closed. RuntimeError: a signal handler's write interrupted another write.
            pass

    def flush(self) -> None:
        """Do nothing: every write is flushed."""

    def drop(self) -> None:
        """Write nowhere from now on."""
        self._target = None

    def isatty(self) -> bool:
        try:
            return self._target is not None and self._target.isatty()
        except (ValueError, AttributeError):  # closed; a script's own stream without isatty
            return False

    @property
    def columns(self) -> int:
        """The width of the terminal; of anything else, what is easy to read."""
        if not self.isatty():
            return _WIDTH_OF_FILES
        try:
            return os.get_terminal_size(self.fileno()).columns or _USUAL_WIDTH
        except (OSError, ValueError):
            return _USUAL_WIDTH

    def fileno(self) -> int:
        fileno = getattr(self._target, "fileno", None)
        if fileno is None:
            raise OSError("the stream has no file descriptor")
        return int(fileno())


def _send_to_nowhere(stdout: TextIO) -> None:
    """Redirect stdout, with what it still buffers, to /dev/null, since its reader has gone.

    Otherwise the interpreter would fail to flush it at exit, complain, and exit with 120.
    """
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stdout.fileno())
        os.close(null)
    except (OSError, ValueError, AttributeError):
        pass
