"""The line that tells of a job, or a trial, as soon as it is the best so far.

A module of its own, since much of what it needs is slow to import, and most sweeps need none of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hsm.core.job_numbers import show_numbers
from hsm.core.printable import printable, shorten
from hsm.core.record.job import Job
from hsm.core.record.paths import SweepPaths
from hsm.core.results.best_so_far import Best, BestSoFar
from hsm.core.results.goal import Goal
from hsm.core.results.grouping import with_deviation
from hsm.core.results.tables import for_people
from hsm.core.results.trial import MEAN
from hsm.display.varying import text_of
from hsm.display.wording import MAX_LENGTH


class BestLine:
    """Finds the best job of a sweep while it runs, and words it. Not thread-safe.

    Args:
        facts: what a launcher recorded about itself.
        paths: the sweep's.
    """

    def __init__(self, facts: Mapping[str, Any], paths: SweepPaths) -> None:
        self._best = BestSoFar.recorded(facts, paths)
        self._metric = Goal.recorded(facts).metric

    def ended(self, jobs: Iterable[Job], names: Mapping[str, str]) -> str | None:
        """Some jobs have ended; returns a line if one of these is the best of all.

        Args:
            jobs: the jobs.
            names: the parameters that vary, and their short names.
        """
        best = self._best.ended(jobs)
        return None if best is None else _wording(best, self._metric, names)


def _wording(best: Best, metric: str | None, names: Mapping[str, str]) -> str:
    """``best so far: loss 0.1234 by job 17: lr=0.01``.

    Args:
        best: the best.
        metric: the metric's name, if it has one.
        names: the parameters that vary, and their short names.
    """
    value, which = for_people(best.value), f"job {best.job.num}"
    if (trial := best.trial) is not None and trial.deviation is not None:
        which = f"jobs {show_numbers(trial.jobs)}"
        if trial.how == MEAN:
            value = with_deviation(trial.mean, trial.deviation)
    what = f"{printable(metric)} {value}" if metric else value
    params = best.params
    shown = " ".join(
        f"{short}={text_of(params[name])}" for name, short in names.items() if name in params
    )
    if best.trial is None:  # else the label names what differs between its jobs
        shown = shown or printable(best.job.label)
    shown = shorten(shown, MAX_LENGTH)
    return f"best so far: {what} by {which}" + (f": {shown}" if shown else "")
