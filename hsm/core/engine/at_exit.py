"""Closes sources that are still open when the interpreter exits.

Like concurrent.futures, this waits for their jobs; after a Ctrl-C it ends them instead. It uses
the same private hook as concurrent.futures: ordinary atexit hooks run only after thread pools have
stopped accepting work, and then a job could not be retried.
"""

from __future__ import annotations

# Imported for its exit hook: hooks run in reverse order, so ours must be registered after it.
import concurrent.futures.thread  # noqa: F401
import sys
import threading
import weakref
from typing import Protocol

from hsm.core.at_fork import in_child


class Closable(Protocol):
    """A source, or an object that owns one and closes it along with other things."""

    def stop(self, reason: str) -> None: ...

    def close(self) -> None: ...


_open: weakref.WeakSet[Closable] = weakref.WeakSet()


def add(source: Closable) -> None:
    """Close `source` when the interpreter exits, unless it is discarded first."""
    _open.add(source)
    in_child(source, discard)  # A forked child must not close its parent's source.


def discard(source: Closable) -> None:
    """Forget `source`: it is closed, or its owner closes it."""
    _open.discard(source)


def _close_all() -> None:
    # The interpreter sets last_value when an exception goes uncaught.
    was_interrupted = isinstance(getattr(sys, "last_value", None), KeyboardInterrupt)
    for source in list(_open):
        if was_interrupted:
            source.stop("interrupted by SIGINT")
        source.close()


threading._register_atexit(_close_all)  # type: ignore[attr-defined]
