"""Sources that nobody has closed when the interpreter exits.

Their jobs are waited for, as concurrent.futures does; if a Ctrl-C has ended the program, they are
ended. It is done by the same means as there, since an ordinary exit hook runs only after the pools
have been told to take nothing more, not even a job's next attempt.
"""

from __future__ import annotations

# It registers a hook of its own when it is imported; the last one to be registered is called first.
import concurrent.futures.thread  # noqa: F401
import sys
import threading
import weakref
from typing import Protocol

from hsm.core.at_fork import in_child


class Closable(Protocol):
    """A source, or what has one and closes it with more that is its own."""

    def stop(self, reason: str) -> None: ...

    def close(self) -> None: ...


_open: weakref.WeakSet[Closable] = weakref.WeakSet()


def add(source: Closable) -> None:
    """Close `source` at the interpreter's exit, unless it is discarded before."""
    _open.add(source)
    in_child(source, discard)  # It has no business with its parent's.


def discard(source: Closable) -> None:
    """`source` is closed, or somebody else closes it."""
    _open.discard(source)


def _close_all() -> None:
    # Set by the interpreter when nobody has caught an exception.
    was_interrupted = isinstance(getattr(sys, "last_value", None), KeyboardInterrupt)
    for source in list(_open):
        if was_interrupted:
            source.stop("interrupted by SIGINT")
        source.close()


threading._register_atexit(_close_all)  # type: ignore[attr-defined]
