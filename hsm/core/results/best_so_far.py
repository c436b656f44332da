"""Finds out while a sweep runs which of its jobs, or of its trials, is the best so far.

    jobs that ended --ended--> Best, whenever there is a new one

A job's value is what a study was told of it; in another sweep what `hsm.core.results.metric` finds
first, where a metric without a name is what the job returned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from hsm.core.record.job import Job, JobState
from hsm.core.record.metrics import read_measured
from hsm.core.record.paths import SweepPaths
from hsm.core.results.goal import Goal
from hsm.core.results.objective import VALUE, JobOutput
from hsm.core.results.objective_values import is_finite, values_of
from hsm.core.results.repeats import Repeats
from hsm.core.results.trial import Trial
from hsm.core.settings.resolve import Direction


class Best(NamedTuple):
    """The best so far.

    Attributes:
        job: the job, or the first one of the trial.
        value: its value.
        params: its parameters, without those in which the jobs of a trial differ; none of those
            that lie beside the journal.
        trial: the trial, if points are repeated.
    """

    job: Job
    value: float
    params: Mapping[str, Any]
    trial: Trial | None = None


class BestSoFar:
    """The best job or trial of those that have ended. Not thread-safe.

    Without a direction, and with several objectives, nothing is best.

    Args:
        goal: by what jobs are ranked.
        repeats: how points are repeated, if they are.
        paths: the sweep's; None to look at no files.
    """

    def __init__(
        self, goal: Goal, repeats: Repeats | None = None, paths: SweepPaths | None = None
    ) -> None:
        self._goal, self._repeats, self._paths = goal, repeats, paths
        self._best: Best | None = None
        # Of the trials that are not over: their jobs that have ended, by number.
        self._open: dict[object, dict[int, Job]] = {}

    @classmethod
    def recorded(cls, facts: Mapping[str, Any], paths: SweepPaths) -> BestSoFar:
        """For a sweep of which a launcher recorded this about itself."""
        return cls(Goal.recorded(facts), Repeats.recorded(facts), paths)

    def ended(self, jobs: Iterable[Job]) -> Best | None:
        """Some jobs have ended; returns the best of all, if it is one of these."""
        if self._goal.direction is None:
            return None
        before = self._best
        for job in jobs:
            candidate = self._candidate(job)
            if candidate is not None and self._is_better(candidate.value):
                self._best = candidate
        return None if self._best is before else self._best

    def _is_better(self, value: float) -> bool:
        if self._best is None:
            return True
        if self._goal.direction is Direction.minimize:
            return value < self._best.value
        return value > self._best.value

    def _candidate(self, job: Job) -> Best | None:
        """What a job that has ended may be the best of, with its value."""
        if self._repeats is None or self._repeats.trial_of(job.num) is None:
            value = self._value(job)
            if value is None or self._breaks_constraint(job):
                return None
            return Best(job, value, _held(job))
        key = self._repeats.key(job.num)
        its = self._open.setdefault(key, {})
        its[job.num] = job
        if len(its) < self._repeats.count:
            return None
        del self._open[key]
        return self._trial([its[num] for num in sorted(its)], self._repeats)

    def _trial(self, jobs: Sequence[Job], repeats: Repeats) -> Best | None:
        """A trial all of whose jobs have ended."""
        found = [(job, value) for job in jobs if (value := self._value(job)) is not None]
        if not found or not repeats.is_enough(jobs[0].num, len(found)):
            return None
        if any(job.state is JobState.PRUNED or self._breaks_constraint(job) for job in jobs):
            return None
        numbers = [job.num for job, _ in found]
        values = [value for _, value in found]
        trial = Trial.of(numbers, values, repeats.how, self._goal.direction)
        params = {
            name: value
            for name, value in _held(found[0][0]).items()
            if name.lstrip("+") not in repeats.keys
        }
        return Best(found[0][0], trial.value, params, trial)

    def _value(self, job: Job) -> float | None:
        """What a completed job has of the metric; None if that is no finite number."""
        if job.state is not JobState.COMPLETED or job.outcome is None:
            return None
        found = values_of(job.outcome.objective)
        if found is None and not self._goal.is_told:
            value = self._looked_up(job)
            found = None if isinstance(value, list) else values_of(value)
        return found[0] if found is not None and is_finite(found[0]) else None

    def _looked_up(self, job: Job) -> object:
        """What a job of a sweep that is no study has of the metric."""
        metric, returned = self._goal.metric, job.outcome.value if job.outcome else None
        if metric in (None, VALUE) and not isinstance(returned, Mapping | None):
            return returned
        if metric is None:
            return None
        found = self._output(job).lookup(metric.removeprefix(f"{VALUE}."))
        return None if found is None else found[0]

    def _breaks_constraint(self, job: Job) -> bool:
        is_asked = self._goal.constraints and job.state is JobState.COMPLETED
        output = self._output(job) if is_asked else None
        for constraint in self._goal.constraints:
            found = output.lookup(constraint.name) if output is not None else None
            values = values_of(found[0]) if found is not None else None
            if values is not None and constraint.is_broken_by(values[0]):
                return True
        return False

    def _output(self, job: Job) -> JobOutput:
        """What a job has left that a metric may be in."""
        returned = None if job.outcome is None else job.outcome.value
        if self._paths is None:
            return JobOutput(returned)
        start = job.attempts[-1].metrics if job.attempts else 0
        latest = read_measured(self._paths, job.num, start).latest
        job_dir = job.job_dir or self._paths.job_dir(job.num)
        return JobOutput(returned, job_dir, self._paths.sweep_dir, latest)


def _held(job: Job) -> Mapping[str, Any]:
    return job.held_params if isinstance(job.held_params, dict) else {}
