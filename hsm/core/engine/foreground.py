"""A whole sweep in the foreground: submit, show, wait, and end it in good order if a signal comes.

Each of hsm's three doors does this in the same order, which matters: signals are caught before
anything can need to be ended, jobs are submitted before the display has a thread (a fork server is
forked by that), and the source is closed before anybody speaks of the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hsm.core.engine.interrupts import Interrupts

if TYPE_CHECKING:
    from hsm.core.engine.compute_source import SweepDisplay
    from hsm.core.engine.interrupts import Interruption
    from hsm.core.engine.sweep_source import SweepSource


def run_to_end(
    source: SweepSource, submit: Callable[[], Sequence[str]], display: SweepDisplay
) -> tuple[list[str], Interruption | None]:
    """Run the jobs that `submit` gives to `source`; closes the source.

    Args:
        source: a fresh one.
        submit: submits the jobs and returns their ids; what it raises is passed on.
        display: shows how they go. Its summary is left to the caller.

    Returns:
        The jobs' ids, and what interrupted them, or None.
    """
    source.observers.append(display)
    with Interrupts().caught() as interrupts, source:
        job_ids = list(submit())
        with display:
            interrupts.wait(source, job_ids)
    interruption = source.interruption
    if interruption is None or interruption.signum is None:
        # Closing the source may have taken a while: it runs on_sweep_end.
        interruption = interrupts.late() or interruption
    return job_ids, interruption
