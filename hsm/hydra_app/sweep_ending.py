"""How a sweep ends that its sweeper submits batch by batch, and what a person is told then.

A launcher is not told which batch is the last. So its sweep ends when it does, or the process; and
between two batches, while the sweeper thinks, a signal finds nobody but the handlers made here.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

from hsm.core.config import LocalConf
from hsm.core.engine.interrupts import Interruption, wait_for_program
from hsm.core.errors import HsmError
from hsm.core.job import JobState
from hsm.core.journal import Journal
from hsm.core.parameters import to_override
from hsm.core.paths import SweepPaths
from hsm.core.printable import command_line, printable
from hsm.core.sweep import read_sweep
from hsm.core.sweep_end import run_at_end

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _BetweenBatches:
    """A signal's handler. `replaced` is the handler that jobs get back."""

    def __init__(self, ending: SweepEnding, replaced: Any) -> None:
        self._ending = ending
        self.replaced = replaced

    def __call__(self, number: int, frame: object) -> None:
        self._ending.interrupt(number)


class SweepEnding:
    """Closes the journal of a Hydra sweep at its end, and says there why that came.

    Args:
        journal: the sweep's.
        conf: names the command to run when it has ended, if there is one.
    """

    def __init__(self, journal: Journal, conf: LocalConf) -> None:
        self._journal = journal
        self._conf = conf
        self._reason = "finished"
        self._pid = os.getpid()
        self._handlers: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in map(int, _SIGNALS):
                handler = signal.getsignal(number)
                if handler is not signal.SIG_IGN:
                    self._handlers[number] = _BetweenBatches(self, handler)
                    signal.signal(number, self._handlers[number])

    def interrupt(self, number: int) -> None:
        """A signal came. Raises SystemExit."""
        interruption = Interruption(number)
        self._reason = interruption.reason
        say_interrupted(interruption, self._journal.paths)
        raise SystemExit(interruption.exit_code)

    def close(self) -> None:
        """The sweep has ended; nothing to do with it in a child forked from its launcher."""
        if os.getpid() != self._pid:
            return
        for number, handler in self._handlers.items():
            if signal.getsignal(number) == handler:
                before = handler.replaced
                signal.signal(number, signal.SIG_DFL if before is None else before)
        self._journal.close(self._reason)
        if self._conf.on_sweep_end is not None:
            self._run_at_end(self._conf.on_sweep_end)

    def _run_at_end(self, command: Sequence[str]) -> None:
        wait = partial(wait_for_program, grace=self._conf.kill_grace)
        went = run_at_end(command, self._journal.paths, wait)
        if went.problem is not None:
            print(printable(went.problem), file=sys.stderr)
        if went.signum is None:
            return
        sys.stdout.flush()
        if signal.getsignal(went.signum) is signal.default_int_handler:
            # The KeyboardInterrupt that it raises would be nobody's, in a finalizer.
            signal.signal(went.signum, signal.SIG_DFL)
        signal.raise_signal(went.signum)


def say_interrupted(interruption: Interruption, paths: SweepPaths) -> None:
    """Tell what is done of the sweep, and how to go on with it."""
    try:
        jobs = read_sweep(paths.sweep_dir).jobs.values()
    except HsmError:
        jobs = {}.values()
    completed = sum(job.state is JobState.COMPLETED for job in jobs)
    print(
        f"{interruption.headline}: {completed} of {len(jobs)} jobs completed; "
        f"their results are kept in {printable(str(paths.sweep_dir))}\n"
        f"To go on where it stopped: {resume_command(paths)}",
        file=sys.stderr,
    )


def resume_command(paths: SweepPaths) -> str:
    """The command line of this process, with what makes it go on with the sweep."""
    settled = ("hydra.sweep.dir=", "hydra.launcher.resume=")
    words = [word for word in sys.argv[1:] if not word.lstrip("+").startswith(settled)]
    directory = to_override("hydra.sweep.dir", str(paths.sweep_dir))
    return command_line([*_program(), *words, directory, "hydra.launcher.resume=true"])


def _program() -> list[str]:
    """How this process was started: ``python train.py``, ``python -m app.train``, ``./train``."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None:
        return ["python", "-m", spec.name.removesuffix(".__main__")]
    script = sys.argv[0]
    return ["python", script] if script.endswith(".py") else [script]
