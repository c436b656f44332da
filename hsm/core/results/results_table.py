"""Results: the table of a sweep's jobs, a row each; `collect` makes it.

parameters   columns that hold what the job was given
metrics      columns that hold what it gave: its return value, results.json, metrics.json
the others   hsm's own: job, state, duration, ...
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from types import MappingProxyType
from typing import Any

from hsm.core.errors import SettingsError, did_you_mean
from hsm.core.record.job import JobState
from hsm.core.record.paths import SweepPaths
from hsm.core.results import tables
from hsm.core.results.base_table import Table
from hsm.core.results.goal import Goal
from hsm.core.results.grouping import Groups, groups
from hsm.core.results.metric import Origins, Ranking, rank
from hsm.core.settings.resolve import SETTINGS


class Results(Table):
    """The jobs of a sweep, a row each.

    Attributes:
        paths: the sweep's paths.
        goal: the metric and the direction that the sweep has on record.
        told: the columns with what a study was told of its jobs, in the order of its objectives.
    """

    row_word = "job"

    def __init__(
        self,
        rows: Iterable[dict[str, Any]],
        columns: Iterable[str],
        *,
        sweep_id: str,
        paths: SweepPaths,
        parameters: Iterable[str] = (),
        metrics: Iterable[str] = (),
        origins: Origins = MappingProxyType({}),
        goal: Goal = Goal(),  # noqa: B008 -- frozen
        told: Sequence[str] = (),
        problems: Iterable[str] = (),
        varying: Collection[str] | None = None,
    ) -> None:
        super().__init__(
            rows,
            columns,
            sweep_id=sweep_id,
            parameters=parameters,
            metrics=metrics,
            problems=problems,
        )
        self.paths = paths
        self.goal = goal
        self.told = list(told)
        self._origins = origins
        self._varying = varying  # if jobs that are not in the table count, too

    def _is_kept(self, name: str) -> bool:
        wanted = self.goal.metric
        if wanted is not None and name in self.metrics:
            key = self._origins.get(name, ("", ""))[1]
            return wanted in (name, key, key.removeprefix("value."))
        return name in ("job", "state") or super()._is_kept(name)

    def _shown_columns(self) -> list[str]:
        if all(row.get("trial") == row.get("job") for row in self):
            return [name for name in self.columns if name != "trial"]  # It would say nothing new.
        return self.columns

    def _must_tell(self, row: dict[str, Any], name: str) -> bool:
        return (
            name not in self.metrics or row.get("state", JobState.COMPLETED) == JobState.COMPLETED
        )

    @property
    def varying(self) -> list[str]:
        """The parameters in which jobs differ; one that only some jobs have counts as such."""
        if self._varying is not None:
            return [name for name in self.parameters if name in self._varying]
        return [
            name for name in self.parameters if len({tables.as_text(row[name]) for row in self}) > 1
        ]

    # --- ranking ---

    def best(self, metric: str | None = None, direction: str | None = None) -> dict[str, Any]:
        """The row of the best completed job.

        Args:
            metric, direction: as for `ranked`.

        Raises:
            SettingsError: as `ranked`.
        """
        return self._ranked("best", metric, direction)[0]

    def ranked(self, metric: str | None = None, direction: str | None = None) -> Results:
        """The completed jobs that have the metric, best first.

        Args:
            metric: the name of a number that jobs returned or wrote, see `hsm.core.results.metric`;
                by default the sweep's setting, or the one metric that there is.
            direction: "minimize" or "maximize"; by default the sweep's setting.

        Raises:
            SettingsError: there is no direction, no such metric, or more than one that it may be.
        """
        return self._with(self._ranked("ranked", metric, direction), self.columns)

    def _ranked(
        self, caller: str, metric: str | None, direction: str | None
    ) -> Sequence[dict[str, Any]]:
        given = {
            "metric": SETTINGS["metric"].check(metric, "argument metric"),
            "direction": SETTINGS["direction"].check(direction, "argument direction"),
        }
        goal = self.goal.given(given)
        if goal.several:
            names = ", ".join(goal.names)
            message = (
                f"{caller}: no single job is best by several objectives, those that no other one "
                f"beats are true in the column pareto; pass metric= for one of {names}"
            )
            raise SettingsError("metric", None, caller, f"one of {names}", message=message)
        if goal.direction is None:
            allowed = "minimize or maximize"
            message = (
                f"{caller}: the sweep has no direction on record: "
                "pass direction='minimize' or direction='maximize'"
            )
            raise SettingsError("direction", None, caller, allowed, message=message)
        ranking = self.ranking(goal)
        if not ranking.rows:
            several = len(ranking.known) > 1 and goal.metric is None
            hint = f"; pass metric={ranking.known[0]!r}, or another" if several else ""
            message = f"{caller}: {ranking.problem}{hint}"
            raise SettingsError("metric", metric, caller, "one of the metrics", message=message)
        return ranking.rows

    def ranking(self, goal: Goal | None = None) -> Ranking:
        """The completed jobs ranked by `goal`, by default the sweep's own; nothing is an error."""
        self._check(["state"], "ranking")
        origins = {name: self._origins[name] for name in self.metrics if name in self._origins}
        return rank(self, origins, self.goal if goal is None else goal)

    # --- choosing rows and groups ---

    def only(self, *states: str | Iterable[str]) -> Results:
        """The jobs in one of these states, such as ``only("failed", "timeout")``.

        Raises:
            SettingsError: there is no such state, or `select` has dropped the column state.
        """
        wanted: set[str] = set()
        for group in states:
            wanted.update(map(_state, [group] if isinstance(group, str) else group))
        self._check(["state"], "only")
        return self._with([row for row in self if row["state"] in wanted], self.columns)

    def group_by(self, *columns: str | Iterable[str], over: str | Iterable[str] = ()) -> Groups:
        """The mean of each metric over groups of jobs.

        ``group_by("seed")`` has a row for each seed, with means over all jobs that have it.
        ``group_by(over="seed")`` has a row for each combination of the other parameters, with means
        over the seeds.

        Args:
            columns: what the jobs of a group have in common.
            over: parameters in which they may differ, if `columns` are not given.

        Raises:
            SettingsError: none or both are given, or there is no such column or parameter.
        """
        shared, differing = _names(columns), _names([over])
        if bool(shared) == bool(differing):
            raise SettingsError(
                "columns",
                shared or None,
                "group_by",
                "columns, or over=parameters",
                message="group_by: give either columns or over=, "
                + ("not both" if shared else 'such as group_by("lr") or group_by(over="seed")'),
            )
        self._check([*shared, "state"], "group_by")
        for name in differing:
            if name not in self.parameters:
                hint = did_you_mean(name, self.parameters)
                allowed = f"one of {', '.join(self.parameters)}"
                raise SettingsError("parameter", name, "group_by", allowed, hint)
        if differing:
            shared = [name for name in self.parameters if name not in differing]
        return groups(self, shared)


def _state(name: str) -> str:
    known = [str(state) for state in JobState]
    plain = str(name).strip().upper().replace("-", "_").replace(" ", "_")
    if plain not in known:
        allowed = f"one of {', '.join(known)}"
        raise SettingsError("state", name, "only", allowed, did_you_mean(plain, known))
    return plain


def _names(groups: Iterable[Any]) -> list[Any]:
    """What was given one by one or in lists, each once; not all of it need be names."""
    names: list[Any] = []
    for group in groups:
        is_list = isinstance(group, Iterable) and not isinstance(group, str)
        for name in group if is_list else [group]:
            if name not in names:
                names.append(name)
    return names
