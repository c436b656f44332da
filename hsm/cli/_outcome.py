"""What came out of a sweep, for programs: the ends of the metric, and the failures by kind."""

from __future__ import annotations

from typing import Any

from hsm.core.record.sweep import Sweep
from hsm.core.results.collect import ranked_results
from hsm.core.results.goal import Goal
from hsm.core.results.metric import Ranking
from hsm.core.results.pareto import Front
from hsm.core.results.repeats import Repeats
from hsm.core.settings.resolve import Direction
from hsm.display.summary import grouped_failures


def outcome(sweep: Sweep, goal: Goal | None = None) -> dict[str, Any]:
    """The fields that `hsm sweep --json` and `hsm monitor --json` have in common.

    Args:
        sweep: the sweep, finished or not.
        goal: by what its jobs are ranked; default: what it has on record.
    """
    return {
        **ends(sweep, goal),
        "failures": [
            {
                "state": group.state,
                "message": group.message,
                "jobs": [job.num for job in group.jobs],
            }
            for group in grouped_failures(sweep)
        ],
    }


def ends(sweep: Sweep, goal: Goal | None = None) -> dict[str, Any]:
    """The best, the highest and the lowest job or trial, and the Pareto front; see `outcome`."""
    _, ranking = ranked_results(sweep, goal)
    direction = ranking.goal.direction
    found: list[dict[str, Any] | None] = [None, None]
    if ranking.rows:
        found = [_end(sweep, ranking, at) for at in (0, -1)]
    first, last = found
    rising = direction is Direction.minimize
    front = {} if ranking.front is None else {"pareto": _front(sweep, ranking.front)}
    return {
        "metric": ranking.metric,
        "direction": direction,
        "best": None if direction is None else first,
        "highest": last if rising else first,
        "lowest": first if rising else last,
        **front,
    }


def _front(sweep: Sweep, front: Front) -> list[dict[str, Any]]:
    """What is told of the jobs, or the trials, on the Pareto front."""
    names = [name for name, _ in front.objectives]
    return [
        {
            "job": jobs[0],
            **({"jobs": jobs} if len(jobs) > 1 else {}),
            "values": dict(zip(names, values, strict=True)),
            "params": _params(sweep, jobs[0]),
        }
        for jobs, values in zip(front.jobs, front.values, strict=True)
    ]


def _params(sweep: Sweep, num: int) -> dict[str, Any]:
    """The parameters of a job, without those in which the jobs of its trial differ."""
    repeats = Repeats.recorded(sweep.latest)
    keys = () if repeats is None else repeats.keys
    params = sweep.jobs[num].params
    return {key: value for key, value in params.items() if key.lstrip("+") not in keys}


def _end(sweep: Sweep, ranking: Ranking, at: int) -> dict[str, Any]:
    """What is told of the job, or the trial, at one end of a ranking."""
    num = ranking.rows[at]["job"]
    told = {"job": num, "value": ranking.values[at]}
    if not ranking.trials:
        return {**told, "params": sweep.jobs[num].params}
    trial, own = ranking.trials[at], _params(sweep, num)
    return {**told, "params": own, "jobs": trial.jobs, "deviation": trial.deviation}
