"""Ending a Hydra sweep: when the multirun ends, or when a signal arrives between two batches.

A launcher does not know which batch is the last. Hydra calls its callbacks when the sweeper has
finished; if the sweeper fails, it does not, and the sweep ends with its launcher. While the sweeper
computes the next batch, only the handlers installed here handle signals.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from hydra.experimental.callback import Callback

from hsm.core.engine.interrupts import SIGNALS, Interruption, burst
from hsm.core.own_command import command_to_paste, own_words
from hsm.core.record.paths import SweepPaths
from hsm.core.space.arguments import to_override
from hsm.display import wording

if TYPE_CHECKING:
    from omegaconf import DictConfig

#: How overrides begin that a command to resume has anew.
_REPLACED = ("hydra.sweep.dir=", "hydra.launcher.resume=", "hydra.launcher.rerun=")


class Endable(Protocol):
    """The part of `Session` that this module needs."""

    def end(self) -> None: ...


class EndOfSweep(Callback):
    """Ends a session when its multirun ends. Pickled into a spawned job, it does nothing."""

    def __init__(self, session: Endable) -> None:
        self.session = session

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """End the session. Raises SystemExit if the sweep was interrupted."""
        self.session.end()

    def __reduce__(self) -> tuple[Any, ...]:
        return Callback, ()


class IdleHandlers:
    """Handles signals while no other handler of hsm's is installed, from creation to `restore`.

    Signals that were ignored stay ignored. Outside the main thread this does nothing.

    Args:
        heard: called with a signal's number; returns False to pass the signal to the handler that
            was installed before.
    """

    def __init__(self, heard: Callable[[int], bool]) -> None:
        self._handlers: dict[int, _IdleHandler] = {}
        if threading.current_thread() is threading.main_thread():
            for number in map(int, SIGNALS):
                before = signal.getsignal(number)
                if before is not signal.SIG_IGN:
                    handler = self._handlers[number] = _IdleHandler(heard, before)
                    signal.signal(number, handler)

    def restore(self) -> None:
        """Restore the previous handlers, after a signal once its like are no longer expected.

        Does nothing outside the main thread.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        burst.wait()
        for number, own in self._handlers.items():
            before = own.replaced
            if signal.getsignal(number) is own:
                signal.signal(number, signal.SIG_DFL if before is None else before)


class _IdleHandler:
    """A handler for one signal; jobs get `replaced`, the previous handler, back."""

    def __init__(self, heard: Callable[[int], bool], replaced: Any) -> None:
        self._heard = heard
        self._pid = os.getpid()
        self.replaced = replaced

    def __call__(self, number: int, frame: Any) -> None:
        if os.getpid() == self._pid and (burst.has() or self._heard(number)):
            return
        if callable(self.replaced):
            self.replaced(number, frame)
        elif self.replaced is signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)


def end_by(number: int) -> None:
    """End the program with a signal, where an exception would be lost: in a finalizer, say."""
    sys.stdout.flush()
    if signal.getsignal(number) is signal.default_int_handler:
        signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


def is_inside_hsm(frame: FrameType | None) -> bool:
    """Whether `frame`, or any frame that called it, belongs to a function of hsm's."""
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith("hsm."):
            return True
        frame = frame.f_back
    return False


def tell_interruption(
    interruption: Interruption | None, paths: SweepPaths, config: DictConfig
) -> None:
    """Say on stderr what interrupted a sweep, if anything has, and how it is resumed."""
    if interruption is not None:
        command = resume_command(paths, str(config.hydra.runtime.cwd))
        print(*wording.interrupted(interruption, paths, command), sep="\n", file=sys.stderr)


def resume_command(paths: SweepPaths, directory: str) -> str:
    """Return this process's command line, changed so that it resumes the sweep.

    Args:
        paths: the sweep's.
        directory: where the app was started.
    """
    program, arguments = own_words()
    return command_to_paste([*program, *resuming(arguments, paths)], directory)


def resuming(arguments: Sequence[str], paths: SweepPaths, *more: str) -> list[str]:
    """Return an app's arguments, changed so that they resume the sweep, with `more` overrides."""
    words = [word for word in arguments if not word.lstrip("+").startswith(_REPLACED)]
    # Hydra accepts overrides only in one piece, not some before and some after an option.
    overrides = [at for at, word in enumerate(words, 1) if _is_override(word)]
    end = max(overrides, default=len(words))
    there = to_override("hydra.sweep.dir", str(paths.sweep_dir))
    return [*words[:end], there, "hydra.launcher.resume=true", *more, *words[end:]]


def _is_override(word: str) -> bool:
    return not word.startswith("-") and ("=" in word or word.startswith("~"))
