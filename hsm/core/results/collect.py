"""Collects the journal and the jobs' own files into one table with a row per job.

    journal.jsonl            state, parameters, return value, times, memory, exit
    <job dir>/results.json   any object that the job wrote there; nested keys become dotted
    <job dir>/metrics.json   likewise

Nothing is written or unpickled, so the sweep may be running, interrupted or somebody else's. The
columns, in this order:

    job, state               the job's number; one of the states of `JobState`
    trial                    the same for all repeats of a point; only if points are repeated
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
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hsm.core.files import open_below, open_linked
from hsm.core.plain_json import is_flat
from hsm.core.record.job import Job, JobState
from hsm.core.record.large import Large, LargeLost
from hsm.core.record.sweep import Sweep, read_sweep
from hsm.core.results.metric import Goal, Ranking
from hsm.core.results.repeats import Repeats, by_trial
from hsm.core.results.results_table import Results
from hsm.core.results.tables import as_text

_FIRST = ("job", "state")
_TRIAL = "trial"
_LAST = ("attempts", "duration", "cpu_seconds", "max_memory", "exit_code", "signal", "reason")
_NOTE = "note"
_GROUPS = ("params", "returned", "results", "metrics")
#: The group of columns, and the file in a job's directory that it comes from.
_FILES = {"results": "results.json", "metrics": "metrics.json"}
#: Bytes; a larger file is skipped, as it hardly belongs into a row of a table.
_MAX_FILE = 16 << 20


def collect_results(sweep_dir: str | os.PathLike[str]) -> Results:
    """The results of a sweep's jobs so far.

    Args:
        sweep_dir: the directory of a finished, running or interrupted sweep of any user.

    Raises:
        JournalError: there is no sweep, or its journal cannot be read.
    """
    return results_of(read_sweep(Path(sweep_dir)))


def results_of(sweep: Sweep, *, files: bool = True) -> Results:
    """The results of a sweep's jobs; without the jobs' `files`, what the journal has of them."""
    return _Collector(sweep, files=files).table()


def ranked_results(sweep: Sweep, goal: Goal | None = None) -> tuple[Results, Ranking]:
    """A sweep's completed jobs so far, and these ranked; `goal` is its own by default.

    If each point is repeated, trials are ranked: the means over the repeats.

    The jobs' files are read only if the journal alone cannot say how they rank.
    """
    if not sweep.jobs.has_value() and not _wrote_files(sweep):
        goal = Goal.recorded(sweep.latest) if goal is None else goal
        completed = sweep.jobs.by_state()[JobState.COMPLETED]
        nothing = Results((), _FIRST, sweep_id=sweep.sweep_id, paths=sweep.paths)
        return nothing, Ranking(goal, completed=completed)
    results = _Collector(sweep, files=False, only_completed=True).table()
    ranking = results.ranking(goal)
    if ranking.needs_files:
        results = _Collector(sweep, files=True, only_completed=True).table()
        ranking = results.ranking(goal)
    repeats = Repeats.recorded(sweep.latest)
    if repeats is not None and ranking.rows:
        ranking = by_trial(ranking, repeats)
    return results, ranking


def _wrote_files(sweep: Sweep) -> bool:
    """Whether any job has a file that a metric could come from; asks for each file just once.

    The journal cannot say so: a file may be written, or moved there, after its job has ended.
    """
    results, metrics = _FILES.values()
    try:
        # From the sweep's directory on, as looking up its path 200,000 times takes long.
        folder = os.open(sweep.paths.sweep_dir, getattr(os, "O_PATH", os.O_RDONLY))
    except OSError:
        return False
    try:
        for place in sweep.jobs.places(sweep.paths):
            if os.access(f"{place}/{results}", os.F_OK, dir_fd=folder) or os.access(
                f"{place}/{metrics}", os.F_OK, dir_fd=folder
            ):
                return True
    finally:
        os.close(folder)
    return False


class _Collector:
    """Gathers the results of all jobs, then names the columns, then makes the rows.

    With `only_completed`, only those of the jobs that have completed, but the table still knows the
    parameters of all, and which of these vary.
    """

    def __init__(self, sweep: Sweep, *, files: bool, only_completed: bool = False) -> None:
        self._sweep = sweep
        self._only_completed = only_completed
        self._reads_files = files
        self._problems = list(sweep.problems)
        if sweep.problem_count > len(sweep.problems):
            self._problems.append(f"{sweep.problem_count} damaged lines in all")
        self._keys: dict[str, dict[str, None]] = {group: {} for group in _GROUPS}
        self._notes: dict[int, str] = {}
        self._repeats = Repeats.recorded(sweep.latest)
        self._first = _FIRST if self._repeats is None else (*_FIRST, _TRIAL)

    def table(self) -> Results:
        varying = self._varying() if self._only_completed else None
        jobs = self._sweep.jobs.once(self._is_wanted)
        gathered = [(_facts(job), self._gather(job)) for job in jobs]
        names = self._names()
        last = (*_LAST, _NOTE) if self._notes else _LAST
        middle = [name for group in _GROUPS for name in names[group].values()]
        columns = [*self._first, *middle, *last]
        origins = {
            name: (group, key) for group in _GROUPS[1:] for key, name in names[group].items()
        }
        # Of nearly every table, each column has the name of its key.
        renamed = {group for group in _GROUPS if any(key != it for key, it in names[group].items())}
        empty, rows = dict.fromkeys(columns), []
        gathered.reverse()
        while gathered:  # There may be very many, so none is kept longer than it is needed.
            facts, groups = gathered.pop()
            row: dict[str, Any] = empty.copy()
            for group, found in groups.items():
                if group in renamed:
                    row.update((names[group][key], value) for key, value in found.items())
                else:
                    row.update(found)
            row.update(facts)
            if self._repeats is not None:
                row[_TRIAL] = self._repeats.trial_of(facts["job"])
            if facts["job"] in self._notes:
                row[_NOTE] = self._notes[facts["job"]]
            rows.append(row)
        return Results(
            rows,
            columns,
            sweep_id=self._sweep.sweep_id,
            paths=self._sweep.paths,
            parameters=names["params"].values(),
            metrics=origins,
            origins=origins,
            goal=Goal.recorded(self._sweep.latest),
            problems=self._problems,
            varying=None if varying is None else {names["params"][key] for key in varying},
        )

    def _is_wanted(self, state: JobState) -> bool:
        return state is JobState.COMPLETED or not self._only_completed

    def _varying(self) -> set[str]:
        """The parameters that vary between all jobs, not only those that are in the table."""
        texts: dict[str, str] = {}
        counts: Counter[str] = Counter()
        varying: set[str] = set()
        jobs = 0
        for held in self._sweep.jobs.all_params():
            params = held.load_or({}) if isinstance(held, Large) else held
            jobs += 1
            for name, value in params.items():
                counts[name] += 1
                if name not in varying:
                    text = as_text(value)
                    if texts.setdefault(name, text) != text:
                        varying.add(name)
        self._keys["params"].update(dict.fromkeys(counts))
        return varying | {name for name in texts if texts[name] and counts[name] < jobs}

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
        if self._reads_files and any(attempt.started is not None for attempt in job.attempts):
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
            if not found.keys() <= self._keys[group].keys():
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
        usual = self._sweep.paths.job_dir_text(job.num)
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
        taken = {"", _NOTE, *self._first, *_LAST}
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
    """The columns that hsm itself fills; what is left out is None."""
    attempt = job.attempt
    if attempt is None:
        return {"job": job.num, "state": str(job.state), "attempts": 0, "reason": _reason(job)}
    return {
        "job": job.num,
        "state": str(job.state),
        "attempts": sum(attempt.started is not None for attempt in job.attempts),
        "duration": None if job.duration is None else round(job.duration, 6),
        "cpu_seconds": attempt.cpu_seconds,
        "max_memory": attempt.max_memory,
        "exit_code": attempt.exit_code,
        "signal": attempt.signal,
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
    place = f"{directory}/{name}"
    try:
        is_link = stat.S_ISLNK(os.lstat(place).st_mode)  # most jobs have no such file
        folder, path = Path(directory), Path(place)
        fd = open_linked(path, folder, sweep_dir) if is_link else open_below(folder, path)
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
