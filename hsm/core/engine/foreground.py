"""Runs a whole sweep in the foreground: submit, show, wait; on a signal, shut down cleanly.

All of hsm's front ends do this in the same order, which matters: catch signals before there is
anything to end; submit jobs before the display starts a thread, because submitting forks the fork
server; close the source before anyone reports the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from hsm.core.engine.interrupts import Interrupts

if TYPE_CHECKING:
    from hsm.core.engine.compute_source import SweepDisplay
    from hsm.core.engine.interrupts import Interruption
    from hsm.core.engine.sweep_source import SweepSource


class Jobs(Protocol):
    """The jobs of a sweep, as they come: a `Feed`, or what `SweepSource.ask_jobs` returns."""

    @property
    def job_ids(self) -> list[str]: ...

    def begin(self, interrupts: Interrupts) -> None: ...

    def run(self, interrupts: Interrupts) -> None: ...


def run_to_end(
    source: SweepSource,
    feed: Jobs,
    display: SweepDisplay,
    begun: Callable[[], None] = lambda: None,
) -> Interruption | None:
    """Run the jobs of `feed`, then close the source.

    Args:
        source: a new source.
        feed: hands over the jobs.
        display: shows progress. Showing its summary is left to the caller.
        begun: called once the first jobs were handed over.

    Returns:
        What interrupted the jobs, or None.

    Raises:
        Exception: what `feed` raised; jobs that were handed over before it have ended.
    """
    source.observers.append(display)
    with Interrupts().caught() as interrupts, source:
        feed.begin(interrupts)
        begun()
        with display:
            feed.run(interrupts)
            ended = len(feed.job_ids)
            while len(source.jobs()) > ended:  # Others may be added while the first ones run.
                ended = len(source.jobs())
                interrupts.wait(source, None)
    interruption = source.interruption
    if interruption is None or interruption.signum is None:
        # Closing the source may take a while, since it runs on_sweep_end: was there a signal?
        interruption = interrupts.late() or interruption
    return interruption
