"""How a Hydra sweep comes to its end: Hydra says so, or a signal comes while nobody waits for jobs.

A launcher is not told which batch is the last. Hydra tells its callbacks when the sweeper is done,
unless it failed; then the sweep ends with its launcher. And while the sweeper thinks, a signal
finds nobody but the handlers made here.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from hydra.experimental.callback import Callback

from hsm.core.command_line import join_command
from hsm.core.engine.interrupts import SIGNALS
from hsm.core.record.paths import SweepPaths
from hsm.core.space.arguments import to_override

if TYPE_CHECKING:
    from omegaconf import DictConfig


class Endable(Protocol):
    """A `Session`, seen from here."""

    def end(self) -> None: ...


class EndOfSweep(Callback):
    """Ends a session when its multirun does. Elsewhere, in a spawned job, it does nothing."""

    def __init__(self, session: Endable) -> None:
        self.session = session

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Raises SystemExit if the sweep was interrupted."""
        self.session.end()

    def __reduce__(self) -> tuple[Any, ...]:
        return Callback, ()


class IdleHandlers:
    """Handles signals wherever no other handler of hsm's does, from creation to `restore`.

    A signal that is ignored stays so. Outside the main thread there are none.

    Args:
        heard: is told a signal's number; False if it is not to be dealt with: whoever had handled
            that signal before then gets it.
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
        """Put back what was there before. Elsewhere than in the main thread that cannot be."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number, own in self._handlers.items():
            before = own.replaced
            if signal.getsignal(number) is own:
                signal.signal(number, signal.SIG_DFL if before is None else before)


class _IdleHandler:
    """`replaced` is the handler that jobs get back."""

    def __init__(self, heard: Callable[[int], bool], replaced: Any) -> None:
        self._heard = heard
        self._pid = os.getpid()
        self.replaced = replaced

    def __call__(self, number: int, frame: Any) -> None:
        if os.getpid() == self._pid and self._heard(number):
            return
        if callable(self.replaced):
            self.replaced(number, frame)
        elif self.replaced is signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)


def end_by(number: int) -> None:
    """Let a signal end the program where an exception would be nobody's: in a finalizer, say."""
    sys.stdout.flush()
    if signal.getsignal(number) is signal.default_int_handler:
        signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


def is_inside_hsm(frame: FrameType | None) -> bool:
    """Whether a function of hsm's is among those that have called the one of `frame`, or is it."""
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith("hsm."):
            return True
        frame = frame.f_back
    return False


def resume_command(paths: SweepPaths) -> str:
    """The command line of this process, with what makes it go on with the sweep."""
    settled = ("hydra.sweep.dir=", "hydra.launcher.resume=")
    words = [word for word in sys.argv[1:] if not word.lstrip("+").startswith(settled)]
    directory = to_override("hydra.sweep.dir", str(paths.sweep_dir))
    return join_command([*_program(), *words, directory, "hydra.launcher.resume=true"])


def _program() -> list[str]:
    """How this process was started: ``python train.py``, ``python -m app.train``, ``./train``."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None:
        return ["python", "-m", spec.name.removesuffix(".__main__")]
    script = sys.argv[0]
    return ["python", script] if script.endswith(".py") else [script]
