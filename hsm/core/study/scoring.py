"""The objectives and constraints of a study's jobs, from what these returned, wrote and reported.

Ending, what was measured --score--> Ending with its objective --outcome--> JobOutcome
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hsm.core.logger import get_logger
from hsm.core.record.job import Ending, Job, JobState
from hsm.core.record.paths import SweepPaths
from hsm.core.results.objective import VALUE, JobOutput
from hsm.core.study.options import StudyOptions
from hsm.core.study.proposer import TrialState
from hsm.core.study.trial_ends import JobOutcome, outcome_of

_log = get_logger(__name__)


class Scorer:
    """Looks up what a study wants to know of its jobs. May be used in any thread.

    Args:
        options: what was said of the study.
        paths: the sweep's.
    """

    def __init__(self, options: StudyOptions, paths: SweepPaths) -> None:
        self._options, self._paths = options, paths
        self._count = len(options.direction)
        self._has_warned = False  # of reports that no pruner looks at
        self._constraints: dict[int, tuple[float, ...]] = {}  # of jobs that were scored

    def score(self, job: Job, ending: Ending, measured: Any) -> Ending:
        """See `hsm.core.study.trials.Trials.score`."""
        latest = getattr(measured, "latest", measured) or {}
        if ending.state is JobState.PRUNED:
            found = self.reported(latest)
            return ending if found is None else replace(ending, objective=found[1])
        if ending.state is not JobState.COMPLETED:
            return ending
        output = self._output(job, ending, latest)
        objective = output.objective(self._options.metric, self._count)
        constraints, problem = self._constraints_of(output)
        if constraints is not None:
            self._constraints[job.num] = constraints
        if objective.problem:
            return replace(ending, objective=objective.recorded, reason=objective.problem)
        if problem:
            return replace(ending, objective=None, reason=problem)
        return replace(ending, objective=objective.recorded)

    def reported(self, values: Mapping[str, Any]) -> tuple[str, float] | None:
        """The name and the value that a pruner looks at; None if there is none.

        Without a name for the metric, the only number that is reported.
        """
        numbers = {
            name: float(value)
            for name, value in values.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        for name in [*(self._options.metric or ()), VALUE]:
            if name in numbers:
                return name, numbers[name]
        if self._options.metric is None and len(numbers) == 1:
            return next(iter(numbers.items()))
        if self._options.pruner is not None and numbers and not self._has_warned:
            self._has_warned = True
            names, metric = ", ".join(sorted(numbers)), self._options.metric
            wanted = "name its metric" if metric is None else f"its metric is {metric[0]}"
            _log.warning("jobs report %s, which no pruner looks at: %s", names, wanted)
        return None

    def outcome(self, job: Job) -> JobOutcome:
        """What the study makes of a job that has ended.

        One that was not scored, as before a resume, counts without what it reported.
        """
        problem = ""
        constraints = self._constraints.pop(job.num, None)
        ending = job.outcome
        if job.state is JobState.COMPLETED and ending is not None:
            output = self._output(job, ending, {})
            if ending.objective is None and not ending.reason:
                objective = output.objective(self._options.metric, self._count)
                if objective.values is not None:
                    values = objective.values
                    constraints, problem = self._constraints_of(output)
                    if not problem:
                        return JobOutcome(TrialState.complete, values, "", constraints)
                problem = objective.problem or problem
            elif constraints is None and self._options.constraints:
                constraints, problem = self._constraints_of(output)
        return outcome_of(job, self._count, constraints, problem)

    def _output(self, job: Job, ending: Ending, latest: Mapping[str, Any]) -> JobOutput:
        folder = ending.whole("job_dir") or job.job_dir
        return JobOutput(ending.whole("value"), folder, self._paths.sweep_dir, latest)

    def _constraints_of(self, output: JobOutput) -> tuple[tuple[float, ...] | None, str]:
        """How far a job is beyond each constraint; None, and why, if a number is missing."""
        found: list[float] = []
        for each in self._options.constraints:
            if output.lookup(each.name) is None:
                return None, f"it has no metric {each.name!r}, which a constraint is for"
            objective = output.objective([each.name], 1)
            if objective.values is None:
                return None, objective.problem
            found.append(each.violation(objective.values[0]))
        return tuple(found) if found else None, ""
