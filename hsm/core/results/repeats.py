"""Repeats: each point of a sweep run several times, such as once for each of a few seeds.

jobs of a point --by_trial--> a trial: the mean of the metric over them, and how far they spread;
                              or the median or the worst, if the sweep says so

The repeats of a point have numbers that follow one another, so a job's trial is its number divided
by how many there are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from hsm.core.record.schema import is_count
from hsm.core.results.metric import Ranking, Row
from hsm.core.results.trial import MEAN, REPEAT_AS, Trial
from hsm.core.settings.resolve import Direction


@dataclass(frozen=True)
class Repeats:
    """How a sweep repeats its points.

    Attributes:
        keys: the parameters in which the repeats of a point differ.
        count: how many there are of each point.
        planned: how many jobs the sweep began with; None if unknown. Jobs that were added later
            have numbers from it on, and are no repeats of one another.
        how: how the values of a trial's jobs become one: the mean, the median or the worst.
    """

    keys: tuple[str, ...]
    count: int
    planned: int | None = None
    how: str = MEAN

    @classmethod
    def recorded(cls, facts: Mapping[str, Any]) -> Repeats | None:
        """What a launcher recorded about itself says of repeats; None if it says nothing."""
        chosen = facts.get("chosen")
        repeat = chosen.get("repeat") if isinstance(chosen, Mapping) else None
        if not isinstance(repeat, Mapping) or not repeat:
            return None
        if not all(isinstance(values, list) and values for values in repeat.values()):
            return None
        planned = facts.get("planned")
        keys = tuple(str(key).lstrip("+") for key in repeat)
        known = planned if is_count(planned) else None
        how = chosen.get("repeat_as") if isinstance(chosen, Mapping) else None
        how = how if how in REPEAT_AS else MEAN
        return cls(keys, prod(map(len, repeat.values())), known, how)

    def trial_of(self, num: int) -> int | None:
        """The trial of job `num`; None if the job was added."""
        if self.planned is not None and num >= self.planned:
            return None
        return num // self.count

    def key(self, num: int) -> tuple[int | None, int]:
        """What the jobs of job `num`'s trial have in common, and no other job has."""
        trial = self.trial_of(num)
        return trial, num if trial is None else 0

    def is_enough(self, num: int, count: int) -> bool:
        """Whether the trial of job `num` counts if `count` of its jobs have a value: half do."""
        return self.trial_of(num) is None or 2 * count >= self.count


def by_trial(ranking: Ranking, repeats: Repeats, left_out: Collection[int] = ()) -> Ranking:
    """Rank trials instead of jobs, by their means, or what the sweep ranks them by.

    A trial counts if at least half of its jobs have a value, and none breaks a constraint. Its row
    is that of its first job, without what differs between the repeats.

    Args:
        ranking: the jobs, ranked.
        repeats: which of them are repeats of a point.
        left_out: the numbers of jobs whose trials are not ranked, as they were pruned.
    """
    found: dict[tuple[int | None, int], list[int]] = {}  # of each trial, where its jobs are ranked
    without = {repeats.key(num) for num in (*left_out, *ranking.infeasible)}
    for at, row in enumerate(ranking.rows):
        if (key := repeats.key(row["job"])) not in without:
            found.setdefault(key, []).append(at)
    trials: list[tuple[Row, Trial]] = []
    few = 0
    for places in found.values():
        if not repeats.is_enough(ranking.rows[places[0]]["job"], len(places)):
            few += 1
            continue
        places.sort(key=lambda at: int(ranking.rows[at]["job"]))
        jobs = [int(ranking.rows[at]["job"]) for at in places]
        first = ranking.rows[places[0]]
        row = {key: value for key, value in first.items() if key not in repeats.keys}
        values, end = [ranking.values[at] for at in places], ranking.goal.direction
        trials.append((row, Trial.of(jobs, values, repeats.how, end)))
    is_rising = ranking.goal.direction is Direction.minimize
    trials.sort(key=lambda each: each[1].jobs[0])  # Of equal ones the first is the best.
    trials.sort(key=lambda each: each[1].value, reverse=not is_rising)
    return replace(
        ranking,
        rows=[row for row, _ in trials],
        values=[trial.value for _, trial in trials],
        trials=[trial for _, trial in trials],
        left_out=few,
        how=repeats.how,
    )
