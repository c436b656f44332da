"""What came out of a sweep, for programs: the ends of the metric, and the failures by kind."""

from __future__ import annotations

from typing import Any

from hsm.core.record.sweep import Sweep
from hsm.core.results.collect import ranked_results
from hsm.core.results.metric import Goal, Ranking
from hsm.core.results.repeats import Repeats
from hsm.core.settings.resolve import Direction
from hsm.display.summary import grouped_failures


def outcome(sweep: Sweep, goal: Goal | None = None) -> dict[str, Any]:
    """The fields that `hsm sweep --json` and `hsm monitor --json` have in common.

    Args:
        sweep: the sweep, finished or not.
        goal: by what its jobs are ranked; default: what it has on record.
    """
    _, ranking = ranked_results(sweep, goal)
    direction = ranking.goal.direction
    ends: list[dict[str, Any] | None] = [None, None]
    if ranking.rows:
        ends = [_end(sweep, ranking, at) for at in (0, -1)]
    first, last = ends
    rising = direction is Direction.minimize
    return {
        "metric": ranking.metric,
        "direction": direction,
        "best": None if direction is None else first,
        "highest": last if rising else first,
        "lowest": first if rising else last,
        "failures": [
            {
                "state": group.state,
                "message": group.message,
                "jobs": [job.num for job in group.jobs],
            }
            for group in grouped_failures(sweep)
        ],
    }


def _end(sweep: Sweep, ranking: Ranking, at: int) -> dict[str, Any]:
    """What is told of the job, or the trial, at one end of a ranking."""
    num = ranking.rows[at]["job"]
    params, told = sweep.jobs[num].params, {"job": num, "value": ranking.values[at]}
    if not ranking.trials:
        return {**told, "params": params}
    trial, repeats = ranking.trials[at], Repeats.recorded(sweep.latest)
    assert repeats is not None
    own = {key: value for key, value in params.items() if key.lstrip("+") not in repeats.keys}
    return {**told, "params": own, "jobs": trial.jobs, "deviation": trial.deviation}
