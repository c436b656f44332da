"""Results: the table of a sweep's jobs, a row each; `collect` makes it.

parameters   columns that hold what the job was given
metrics      columns that hold what it gave: its return value, results.json, metrics.json
the others   hsm's own: job, state, duration, ...
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from types import MappingProxyType
from typing import Any, overload

from hsm.core.errors import SettingsError, did_you_mean
from hsm.core.record.job import JobState
from hsm.core.record.paths import SweepPaths
from hsm.core.results import tables
from hsm.core.results.metric import Goal, Origins, Ranking, rank
from hsm.core.settings.resolve import SETTINGS
from hsm.core.user_files import replacing

Target = str | os.PathLike[str]


class Results:
    """A table; iterate over it for rows. Each is a dict with all columns, None where empty.

    Attributes:
        columns: the columns' names, in order.
        sweep_id: the sweep's id.
        paths: the sweep's paths.
        parameters: the names of the columns that hold parameters.
        metrics: the names of those that hold what jobs returned or wrote: return values,
            results.json and metrics.json.
        goal: the metric and the direction that the sweep has on record.
        problems: what could not be read, one line each.
    """

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
        problems: Iterable[str] = (),
    ) -> None:
        self._rows = list(rows)
        self.columns = list(columns)
        self.sweep_id = sweep_id
        self.paths = paths
        self.parameters = [name for name in parameters if name in self.columns]
        self.metrics = [name for name in metrics if name in self.columns]
        self._origins = {name: origins[name] for name in self.metrics if name in origins}
        self.goal = goal
        self.problems = list(problems)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        return self._rows[index]

    def __repr__(self) -> str:
        return f"<Results of sweep {self.sweep_id}: {len(self)} jobs, {len(self.columns)} columns>"

    @property
    def varying(self) -> list[str]:
        """The parameters in which jobs differ; one that only some jobs have counts as such."""
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
        return rank(self, self._origins, self.goal if goal is None else goal)

    # --- choosing rows and columns ---

    def sorted_by(self, column: str, descending: bool = False) -> Results:
        """The rows sorted by a column; rows with None or NaN there come last.

        Raises:
            SettingsError: there is no such column.
        """
        self._check([column], "sorted_by")
        missing = [row for row in self if tables.is_missing(row[column])]
        present = [row for row in self if not tables.is_missing(row[column])]
        present.sort(key=lambda row: tables.sort_key(row[column]), reverse=descending)
        return self._with([*present, *missing], self.columns)

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

    def select(self, columns: Sequence[str]) -> Results:
        """Only these columns, in this order.

        Raises:
            SettingsError: there is no such column.
        """
        self._check(columns, "select")
        return self._with([{name: row[name] for name in columns} for row in self], columns)

    def _with(self, rows: Iterable[dict[str, Any]], columns: Iterable[str]) -> Results:
        return Results(
            rows,
            columns,
            sweep_id=self.sweep_id,
            paths=self.paths,
            parameters=self.parameters,
            metrics=self.metrics,
            origins=self._origins,
            goal=self.goal,
            problems=self.problems,
        )

    def _check(self, columns: Iterable[str], origin: str) -> None:
        for name in columns:
            if name not in self.columns:
                allowed = f"one of {', '.join(self.columns)}"
                hint = did_you_mean(str(name), self.columns)
                raise SettingsError("column", name, origin, allowed, hint)

    # --- writing ---

    def to_csv(self, target: Target | Any = None) -> str:
        """The table as CSV; also written to `target` (a path or a text file), if given.

        None becomes an empty cell, lists and dicts become JSON. A text or name that a spreadsheet
        would run as a formula gets an apostrophe in front; JSON and Parquet keep every text as it
        is. For a terminal, control characters are escaped as well.
        """
        writer = tables.to_csv_on_terminal if _is_terminal(target) else tables.to_csv
        return self._write(writer, target)

    def to_json(self, target: Target | Any = None) -> str:
        """The table as a JSON list of objects; NaN and infinities, which JSON lacks, become null.

        Also written to `target`, as by `to_csv`.
        """
        return self._write(tables.to_json, target)

    def to_markdown(self, target: Target | Any = None) -> str:
        """The table in Markdown, for people: floats are rounded to six significant digits.

        Texts are escaped, so that none becomes a link, an image or HTML. Also written to `target`,
        as by `to_csv`.
        """
        return self._write(tables.to_markdown, target)

    def to_parquet(self, target: Target | Any) -> None:
        """Write a Parquet file. Raises HsmError if pyarrow is not installed."""
        if hasattr(target, "write"):
            tables.to_parquet(self._rows, self.columns, target)
            return
        with replacing(target) as file:
            tables.to_parquet(self._rows, self.columns, file)

    def to_pandas(self) -> Any:
        """The table as a pandas DataFrame. Raises HsmError if pandas is not installed."""
        pandas = tables.import_extra("pandas", "pandas")
        return pandas.DataFrame(self._rows, columns=self.columns)

    def _write(self, writer: tables.Writer, target: Target | Any) -> str:
        text = tables.encodable(writer(self._rows, self.columns))
        if target is None:
            return text
        if hasattr(target, "write"):
            target.write(text)
        else:
            with replacing(target) as file:
                file.write(text.encode())
        return text


def _state(name: str) -> str:
    known = [str(state) for state in JobState]
    plain = str(name).strip().upper().replace("-", "_").replace(" ", "_")
    if plain not in known:
        allowed = f"one of {', '.join(known)}"
        raise SettingsError("state", name, "only", allowed, did_you_mean(plain, known))
    return plain


def _is_terminal(target: Any) -> bool:
    try:
        return bool(target.isatty())
    except (AttributeError, ValueError):  # A path or None; a closed file.
        return False
