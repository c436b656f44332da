"""Runs a whole sweep in the foreground: submit, show, wait; on a signal, shut down cleanly.

All of hsm's front ends do this in the same order, which matters: catch signals before there is
anything to end; submit jobs before the display starts a thread, because submitting forks the fork
server; close the source before anyone reports the end.
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
    """Run the jobs that `submit` gives to `source`, then close the source.

    Args:
        source: a new source.
        submit: submits the jobs and returns their ids; its exceptions propagate.
        display: shows progress. Showing its summary is left to the caller.

    Returns:
        The jobs' ids, and what interrupted them, or None.
    """
    source.observers.append(display)
    with Interrupts().caught() as interrupts, source:
        job_ids = list(submit())
        with display:
            ended = 0
            while len(source.jobs()) > ended:  # Others may be added while the first ones run.
                ended = len(source.jobs())
                interrupts.wait(source, None)
    interruption = source.interruption
    if interruption is None or interruption.signum is None:
        # Closing the source may take a while, since it runs on_sweep_end: was there a signal?
        interruption = interrupts.late() or interruption
    return job_ids, interruption
