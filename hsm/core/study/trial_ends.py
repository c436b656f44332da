"""How a trial ended, from how its jobs did: one, or its repeats.

Job --outcome_of--> JobOutcome, of each repeat --end_of--> TrialEnd
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hsm.core.record.job import Ending, Job, JobState
from hsm.core.settings.resolve import Direction
from hsm.core.study.option_values import RepeatAs
from hsm.core.study.options import StudyOptions
from hsm.core.study.proposer import TrialEnd, TrialState


@dataclass(frozen=True)
class JobOutcome:
    """What a study makes of a job that has ended.

    Attributes:
        state: complete only with `values`.
        values: one finite number for each objective; None if there are none.
        reason: why it failed or was pruned.
        constraints: one number for each constraint; None if there are none.
    """

    state: TrialState
    values: tuple[float, ...] | None = None
    reason: str = ""
    constraints: tuple[float, ...] | None = None


@dataclass
class RunningTrial:
    """A trial, and what its jobs came to.

    Attributes:
        index: its index in the sweep.
        trial_id: what the proposer calls it.
        point: its parameters, without those of repeats.
        asked: the repeats that were handed out.
        outcomes: those that have ended.
        end: how it ended; None until then.
        is_pruned: whether its other repeats are left out.
    """

    index: int
    trial_id: Any
    point: dict[str, Any]
    asked: set[int] = field(default_factory=set)
    outcomes: dict[int, JobOutcome] = field(default_factory=dict)
    end: TrialEnd | None = None
    is_pruned: bool = False

    def has_ended(self, repeats: int) -> bool:
        """Whether no job of it is under way or to come."""
        if self.is_pruned:
            return self.asked <= self.outcomes.keys()
        return len(self.outcomes) == repeats


def outcome_of(
    job: Job, count: int, constraints: tuple[float, ...] | None, problem: str = ""
) -> JobOutcome:
    """What a study makes of a job.

    Args:
        job: a job that has ended.
        count: how many objectives there are.
        constraints: its constraints.
        problem: why it has no objective, if it completed.
    """
    ending = job.outcome
    assert ending is not None
    values = _values(ending, count)
    if job.state is JobState.COMPLETED and values is not None:
        return JobOutcome(TrialState.complete, values, "", constraints)
    if job.state is JobState.COMPLETED:
        reason = ending.reason or problem or "it has no objective"
        return JobOutcome(TrialState.failed, None, reason, constraints)
    reason = f"{job.state.words}: {ending.describe()}"
    if ending.describe() == job.state.words:
        reason = job.state.words
    if job.state is JobState.PRUNED:
        return JobOutcome(TrialState.pruned, values, ending.describe(), constraints)
    return JobOutcome(TrialState.failed, None, reason, constraints)


def _values(ending: Ending, count: int) -> tuple[float, ...] | None:
    """The objective on record, if it is as many finite numbers as there are objectives."""
    found = ending.objective
    if found is None:
        return None
    numbers = found if isinstance(found, list) else [found]
    try:
        values = tuple(float(number) for number in numbers)
    except OverflowError:
        return None
    return values if len(values) == count and all(map(math.isfinite, values)) else None


def end_of(trial: RunningTrial, options: StudyOptions) -> TrialEnd:
    """How a trial ended whose jobs have all ended."""
    outcomes = [trial.outcomes[repeat] for repeat in sorted(trial.outcomes)]
    complete = [each for each in outcomes if each.state is TrialState.complete]
    values = _together([each.values for each in complete if each.values], options)
    constraints = _worst([each.constraints for each in complete if each.constraints is not None])
    if trial.is_pruned:
        return TrialEnd(TrialState.pruned, values, "pruned after some repeats", constraints)
    if options.repeats == 1:
        [only] = outcomes
        return TrialEnd(only.state, only.values, only.reason, only.constraints)
    if complete and 2 * len(complete) >= options.repeats:
        return TrialEnd(TrialState.complete, values, "", constraints)
    reason = next((each.reason for each in outcomes if each.reason), "")
    missing = options.repeats - len(complete)
    return TrialEnd(
        TrialState.failed, None, f"{missing} of {options.repeats} repeats failed: {reason}"
    )


def _together(
    found: Sequence[tuple[float, ...]], options: StudyOptions
) -> tuple[float, ...] | None:
    """The value of each objective over the repeats."""
    if not found:
        return None
    columns = list(zip(*found, strict=True))
    if options.repeat_as is RepeatAs.mean:
        return tuple(math.fsum(column) / len(column) for column in columns)
    if options.repeat_as is RepeatAs.median:
        import statistics  # slow to import, and rarely asked for

        return tuple(statistics.median(column) for column in columns)
    worst: Mapping[Direction, Any] = {Direction.minimize: max, Direction.maximize: min}
    return tuple(
        worst[direction](column)
        for direction, column in zip(options.direction, columns, strict=True)
    )


def _worst(found: Sequence[tuple[float, ...]]) -> tuple[float, ...] | None:
    return tuple(map(max, zip(*found, strict=True))) if found else None
