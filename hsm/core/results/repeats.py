"""Repeats: each point of a sweep run several times, such as once for each of a few seeds.

jobs of a point --by_trial--> a trial: the mean of the metric over them, and how far they spread

The repeats of a point have numbers that follow one another, so a job's trial is its number divided
by how many there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from hsm.core.record.schema import is_count
from hsm.core.results.metric import Ranking, Row
from hsm.core.results.trial import Trial
from hsm.core.settings.resolve import Direction


@dataclass(frozen=True)
class Repeats:
    """How a sweep repeats its points.

    Attributes:
        keys: the parameters in which the repeats of a point differ.
        count: how many there are of each point.
        planned: how many jobs the sweep began with; None if unknown. Jobs that were added later
            have numbers from it on, and are no repeats of one another.
    """

    keys: tuple[str, ...]
    count: int
    planned: int | None = None

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
        return cls(keys, prod(map(len, repeat.values())), planned if is_count(planned) else None)

    def trial_of(self, num: int) -> int | None:
        """The trial of job `num`; None if the job was added."""
        if self.planned is not None and num >= self.planned:
            return None
        return num // self.count


def by_trial(ranking: Ranking, repeats: Repeats) -> Ranking:
    """Rank trials instead of jobs, by their means.

    A trial counts if at least half of its jobs have a value. Its row is that of its first job,
    without what differs between the repeats.
    """
    found: dict[tuple[int | None, int], list[int]] = {}  # of each trial, where its jobs are ranked
    for at, row in enumerate(ranking.rows):
        trial = repeats.trial_of(row["job"])
        found.setdefault((trial, row["job"] if trial is None else 0), []).append(at)
    trials: list[tuple[Row, Trial]] = []
    left_out = 0
    for (trial, _), places in found.items():
        if trial is not None and 2 * len(places) < repeats.count:
            left_out += 1
            continue
        places.sort(key=lambda at: int(ranking.rows[at]["job"]))
        jobs = [int(ranking.rows[at]["job"]) for at in places]
        first = ranking.rows[places[0]]
        row = {key: value for key, value in first.items() if key not in repeats.keys}
        trials.append((row, Trial.of(jobs, [ranking.values[at] for at in places])))
    is_rising = ranking.goal.direction is Direction.minimize
    trials.sort(key=lambda each: (each[1].mean, -each[1].jobs[0]), reverse=not is_rising)
    return replace(
        ranking,
        rows=[row for row, _ in trials],
        values=[trial.mean for _, trial in trials],
        trials=[trial for _, trial in trials],
        left_out=left_out,
    )
