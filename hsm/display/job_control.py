"""A shell's job control: when a live view must leave the terminal, and when it may come back.

    Ctrl-Z      the view goes, and the cursor comes back, before the process stops
    fg          the view is drawn again, below what the shell has printed
    bg, &       no view as long as the terminal is somebody else's
    kill -STOP  cannot be prepared for; the view is drawn again, below, when the process goes on

Only the main thread can install signal handlers. Elsewhere only the third line holds.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from hsm.core.at_fork import in_child
from hsm.display.stream import SafeStream

#: Seconds that hiding the view may take before the process stops all the same.
_PATIENCE = 1.0


class JobControl:
    """Follows the signals of job control between `start` and `stop`.

    Attributes:
        was_moved: whether the cursor is no longer where the view left it; the display resets this.

    Args:
        stream: the terminal.
        hide: takes the view off the terminal; called from a thread of its own.
    """

    def __init__(self, stream: SafeStream, hide: Callable[[], None]) -> None:
        self.was_moved = False
        self._stream = stream
        self._hide = hide
        self._is_stopping = False
        self._handlers: list[_Handler] = []

    def start(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number, hear in ((signal.SIGTSTP, self._suspend), (signal.SIGCONT, self._go_on)):
            replaced = signal.getsignal(number)
            # None: installed from C, and could not come back.
            if replaced is not None and replaced is not signal.SIG_IGN:
                handler = _Handler(number, hear, replaced)
                self._handlers.append(handler)
                signal.signal(number, handler)
        in_child(self, JobControl.stop)

    def stop(self) -> None:
        """Put the earlier handlers back; outside the main thread, hsm's have no effect any more."""
        handlers, self._handlers = self._handlers, []
        for handler in handlers:
            handler.retire()

    def may_draw(self) -> bool:
        """Whether the terminal is this process's to draw on."""
        return not self._is_stopping and _is_in_front(self._stream)

    def _suspend(self, stop: Callable[[], None]) -> None:
        self._is_stopping = True
        try:
            # Not here: this thread may have been interrupted while it held a lock of the display.
            hiding = threading.Thread(target=self._hide, name="hsm-display", daemon=True)
            with suppress(RuntimeError):  # no more threads
                hiding.start()
                hiding.join(_PATIENCE)
            stop()
        finally:
            self._is_stopping = False

    def _go_on(self, go_on: Callable[[], None]) -> None:
        self.was_moved = True
        go_on()


class _Handler:
    """Handles a signal, which keeps its earlier effect; jobs get `replaced` back.

    Args:
        number: the signal.
        hear: called with a function that has the earlier effect.
        replaced: the handler before.
    """

    def __init__(
        self, number: signal.Signals, hear: Callable[[Callable[[], None]], None], replaced: Any
    ) -> None:
        self.replaced = replaced
        self._number = number
        self._hear = hear

    def __call__(self, number: int, frame: FrameType | None) -> None:
        def effect() -> None:
            if callable(self.replaced):
                self.replaced(number, frame)
            elif number == signal.SIGTSTP:
                installed = signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)  # Returns when somebody has continued the process.
                signal.signal(number, installed)

        self._hear(effect)

    def retire(self) -> None:
        self._hear = lambda effect: effect()
        installed: Any = signal.getsignal(self._number)
        if installed is self and threading.current_thread() is threading.main_thread():
            signal.signal(self._number, self.replaced)


def _is_in_front(stream: SafeStream) -> bool:
    """Whether this process is in the terminal's foreground; True if it is not its terminal."""
    try:
        return os.tcgetpgrp(stream.fileno()) == os.getpgrp()
    except (OSError, ValueError):  # not a terminal, or another session's
        return True
