"""How many trials of a study have ended, and how."""

from __future__ import annotations

from typing import NamedTuple

from hsm.core.record.job import JobState
from hsm.core.record.sweep import Sweep
from hsm.core.results.goal import Goal
from hsm.core.results.objective_values import is_finite, values_of
from hsm.core.results.repeats import Repeats


class TrialCounts(NamedTuple):
    """The trials of a study whose jobs have all ended.

    Attributes:
        succeeded: those that have a value.
        failed: those that have none.
        pruned: those that were pruned, be it after some of their repeats.
    """

    succeeded: int = 0
    failed: int = 0
    pruned: int = 0


def trial_counts(sweep: Sweep) -> TrialCounts:
    """Count the trials of a study; a cancelled one is none of these, as it may run again.

    Repeats are run in the order of their numbers: where some are missing before another trial, the
    study has left them out.
    """
    goal, repeats = Goal.recorded(sweep.latest), Repeats.recorded(sweep.latest)
    count = 1 if repeats is None else repeats.count
    # Of each trial, how many jobs there are, have ended, have values, were pruned.
    trials: dict[tuple[int | None, int], list[int]] = {}
    for job in sweep.jobs.once():
        key = (job.num, 0) if repeats is None else repeats.key(job.num)
        its = trials.setdefault(key, [0, 0, 0, 0])
        its[0] += 1
        if job.state is JobState.CANCELLED or job.outcome is None:
            continue
        its[1] += 1
        its[3] += job.state is JobState.PRUNED
        if job.state is JobState.COMPLETED:
            values = values_of(job.outcome.objective, len(goal.names))
            its[2] += values is not None and all(map(is_finite, values))
    last = max((trial for trial, _ in trials if trial is not None), default=0)
    succeeded = failed = pruned = 0
    for (trial, _), (jobs, ended, valued, prunings) in trials.items():
        wanted = 1 if trial is None else count
        if ended < jobs or (jobs < wanted and trial == last):
            continue
        if prunings or jobs < wanted:
            pruned += 1
        elif 2 * valued >= wanted:
            succeeded += 1
        else:
            failed += 1
    return TrialCounts(succeeded, failed, pruned)
