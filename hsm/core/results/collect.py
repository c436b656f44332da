"""Collects the journal and the jobs' own files into one table with a row per job.

    journal.jsonl            state, parameters, return value, times, memory, exit
    <job dir>/results.json   any object that the job wrote there; nested keys become dotted
    <job dir>/metrics.json   likewise

Nothing is written or unpickled, so the sweep may be running, interrupted or somebody else's. The
columns, in this order:

    job, state               the job's number; one of the states of `JobState`
    <parameter>              one column per parameter, under its own name
    value                    the return value, if JSON can represent it; value.<key> for a dict
    <key>                    of results.json, then of metrics.json
    attempts, duration       number of starts; seconds that the last attempt took
    cpu_seconds, max_memory  of the process tree; peak in bytes, as far as sampled
    exit_code, signal        how the process ended
    reason                   why the job did not complete, in one line
    note                     what could not be read of a job; only if there is such a job

If several of these claim a name, it goes to the first of: hsm's own columns, parameters, return
value, results.json, metrics.json. The others get a prefix: params., returned., results., metrics.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from hsm.core.errors import SettingsError, did_you_mean
from hsm.core.files import open_below, open_linked
from hsm.core.plain_json import is_flat
from hsm.core.record.job import Job, JobState
from hsm.core.record.large import Large, LargeLost
from hsm.core.record.paths import SweepPaths
from hsm.core.record.sweep import Sweep, read_sweep
from hsm.core.results import tables
from hsm.core.user_files import replacing

_FIRST = ("job", "state")
_LAST = ("attempts", "duration", "cpu_seconds", "max_memory", "exit_code", "signal", "reason")
_NOTE = "note"
_GROUPS = ("params", "returned", "results", "metrics")
#: The group of columns, and the file in a job's directory that it comes from.
_FILES = {"results": "results.json", "metrics": "metrics.json"}
#: Bytes; a larger file is skipped, as it hardly belongs into a row of a table.
_MAX_FILE = 16 << 20

Target = str | os.PathLike[str]


class Results:
    """A table; iterate over it for rows. Each is a dict with all columns, None where empty.

    Attributes:
        columns: the columns' names, in order.
        sweep_id: the sweep's id.
        paths: the sweep's paths.
        problems: what could not be read, one line each.
    """

    def __init__(
        self,
        rows: Iterable[dict[str, Any]],
        columns: Iterable[str],
        *,
        sweep_id: str,
        paths: SweepPaths,
        problems: Iterable[str] = (),
    ) -> None:
        self._rows = list(rows)
        self.columns = list(columns)
        self.sweep_id = sweep_id
        self.paths = paths
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
            rows, columns, sweep_id=self.sweep_id, paths=self.paths, problems=self.problems
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


def collect_results(sweep_dir: str | os.PathLike[str]) -> Results:
    """The results of a sweep's jobs so far.

    Args:
        sweep_dir: the directory of a finished, running or interrupted sweep of any user.

    Raises:
        JournalError: there is no sweep, or its journal cannot be read.
    """
    sweep = read_sweep(Path(sweep_dir))
    return _Collector(sweep).table()


class _Collector:
    """Gathers the results of all jobs, then names the columns, then makes the rows."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._problems = list(sweep.problems)
        if sweep.problem_count > len(sweep.problems):
            self._problems.append(f"{sweep.problem_count} damaged lines in all")
        self._keys: dict[str, dict[str, None]] = {group: {} for group in _GROUPS}
        self._notes: dict[int, str] = {}

    def table(self) -> Results:
        jobs = [job for _, job in sorted(self._sweep.jobs.items())]
        gathered = [self._gather(job) for job in jobs]
        names = self._names()
        last = (*_LAST, _NOTE) if self._notes else _LAST
        middle = [name for group in _GROUPS for name in names[group].values()]
        columns = [*_FIRST, *middle, *last]
        rows = []
        for job, groups in zip(jobs, gathered, strict=True):
            row: dict[str, Any] = dict.fromkeys(columns)
            for group, found in groups.items():
                row.update((names[group][key], value) for key, value in found.items())
            row.update(_facts(job))
            if job.num in self._notes:
                row[_NOTE] = self._notes[job.num]
            rows.append(row)
        return Results(
            rows,
            columns,
            sweep_id=self._sweep.sweep_id,
            paths=self._sweep.paths,
            problems=self._problems,
        )

    def _gather(self, job: Job) -> dict[str, Mapping[str, Any]]:
        """A job's results: group -> key -> value."""
        params = self._whole(job, "its parameters", job.held_params)
        groups: dict[str, Mapping[str, Any]] = {"params": params or {}}
        value = None
        if job.outcome is not None:
            beside = job.outcome.large.get("value", job.outcome.value)
            value = self._whole(job, "its return value", beside)
        if value is not None:
            groups["returned"] = self._flat(job, "its return value", {"value": value})
        if any(attempt.started is not None for attempt in job.attempts):
            directory = self._job_dir(job)
            for group, name in _FILES.items():
                try:
                    content = _read_object(directory, name, self._sweep.paths.sweep_dir)
                except (OSError, ValueError) as error:
                    self._note(job, name, getattr(error, "strerror", None) or str(error))
                    continue
                if content:
                    groups[group] = self._flat(job, name, content)
        for group, found in groups.items():
            self._keys[group].update(dict.fromkeys(found))
        return groups

    def _whole(self, job: Job, what: str, held: Any) -> Any:
        """`held`, or the value that it refers to; a note about `what` if that cannot be read."""
        if not isinstance(held, Large):
            return held
        try:
            return held.load()
        except LargeLost as error:
            self._note(job, what, str(error))
            return None

    def _job_dir(self, job: Job) -> str:
        """The job's directory, even if the sweep's directory was moved."""
        usual = os.fspath(self._sweep.paths.job_dir(job.num))
        if job.job_dir is None:
            return usual
        recorded = os.fspath(job.job_dir)
        return recorded if recorded == usual or os.path.isdir(recorded) else usual

    def _flat(self, job: Job, what: str, content: Mapping[str, Any]) -> dict[str, Any]:
        flat: dict[str, Any] = {}
        for key, value in _flatten(content):
            if key in flat:
                self._note(job, what, f"holds {key} twice; the first is shown")
            else:
                flat[key] = value
        return flat

    def _note(self, job: Job, what: str, reason: str) -> None:
        note = f"{what}: {reason}"
        self._problems.append(f"job {job.num}: {note}")
        earlier = self._notes.get(job.num)
        self._notes[job.num] = f"{earlier}; {note}" if earlier else note

    def _names(self) -> dict[str, dict[str, str]]:
        """Group -> key -> name of its column; all names are different."""
        taken = {"", _NOTE, *_FIRST, *_LAST}
        names: dict[str, dict[str, str]] = {group: {} for group in _GROUPS}
        for group in _GROUPS:
            for key in self._keys[group]:
                name = key
                while name in taken:
                    name = f"{group}.{name}"
                taken.add(name)
                names[group][key] = name
        return names


def _facts(job: Job) -> dict[str, Any]:
    """The columns that hsm itself fills."""
    attempt = job.attempt
    return {
        "job": job.num,
        "state": str(job.state),
        "attempts": sum(attempt.started is not None for attempt in job.attempts),
        "duration": None if job.duration is None else round(job.duration, 6),
        "cpu_seconds": attempt.cpu_seconds if attempt else None,
        "max_memory": attempt.max_memory if attempt else None,
        "exit_code": attempt.exit_code if attempt else None,
        "signal": attempt.signal if attempt else None,
        "reason": _reason(job),
    }


def _reason(job: Job) -> str | None:
    if job.state.has_succeeded:
        reason = job.attempt.reason if job.attempt else None
    else:
        reason = job.ending() if job.state.is_final else None
    return " ".join(reason.splitlines()) if reason else None


def _read_object(directory: str, name: str, sweep_dir: Path) -> dict[str, Any] | None:
    """The JSON object in a job's file; None if there is no file. Raises OSError or ValueError.

    The file may be a link to a file in the job's directory or in the sweep's.
    """
    folder = Path(directory)
    path = folder / name
    try:
        fd = open_linked(path, folder, sweep_dir) if path.is_symlink() else open_below(folder, path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with open(fd, "rb") as file:
        size = os.fstat(fd).st_size
        if size > _MAX_FILE:
            raise ValueError(f"is larger than {_MAX_FILE >> 20} MiB")
        try:
            content = json.loads(file.read(size))
        except (RecursionError, MemoryError):
            raise ValueError("is nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError(f"holds a {type(content).__name__}, not an object")  # noqa: TRY004
    if not is_flat(content):
        raise ValueError("is nested too deeply")
    return content


def _flatten(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """``{"a": {"b": 1}}`` -> ``("a.b", 1)``; an empty object counts as a value."""
    for key, value in content.items():
        if isinstance(value, dict) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


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
