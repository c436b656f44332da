"""What came out of a sweep, for programs: the ends of the metric, and the failures by kind."""

from __future__ import annotations

from typing import Any

from hsm.core.record.sweep import Sweep
from hsm.core.results.collect import ranked_results
from hsm.core.results.metric import Goal
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
        ends = [
            {
                "job": ranking.rows[at]["job"],
                "value": ranking.values[at],
                "params": sweep.jobs[ranking.rows[at]["job"]].params,
            }
            for at in (0, -1)
        ]
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
