"""Collects the journal and the jobs' own files into one table with a row per job.

    journal.jsonl            state, parameters, return value, times, memory, exit
    <job dir>/results.json   any object that the job wrote there; nested keys become dotted
    <job dir>/metrics.json   likewise
    .hsm/metrics/<n>.jsonl   the last value of each name that it reported

Nothing is written or unpickled, so the sweep may be running, interrupted or somebody else's. The
columns, in this order:

    job, state               the job's number; one of the states of `JobState`
    trial                    the same for all repeats of a point; only of a study, or if points are
                             repeated
    pruned                   whether the job was ended early as unpromising; only if one was
    pareto                   whether its trial is on the Pareto front; only of a study with several
                             objectives, for jobs that have all of these
    <parameter>              one column per parameter, under its own name
    objective                what a study was told of the job; objective.<metric> for several
    value                    the return value, if JSON can represent it; value.<key> for a dict
    <key>                    of results.json, then of metrics.json, then what it reported last
    attempts, duration       number of starts; seconds that the last attempt took
    cpu_seconds, max_memory  of the process tree; peak in bytes, as far as sampled
    gpus                     the GPUs that the last attempt had, as in 2,3; this and the next two
                             only if hsm gave GPUs to a job
    gpu_memory, gpu_load     its peak on one GPU in bytes, and the mean load of its GPUs in percent,
                             as far as they are known
    exit_code, signal        how the process ended
    reason                   why the job did not complete, in one line; or why it has no objective
    note                     what could not be read of a job; only if there is such a job

If several of these claim a name, it goes to the first of: hsm's own columns, parameters, return
value, results.json, metrics.json, reports. The others get a prefix: params., returned., results.,
metrics., reported.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hsm.core.record.gpu_facts import gpus_text
from hsm.core.record.job import Job, JobState
from hsm.core.record.large import Large, LargeLost
from hsm.core.record.metrics import read_measured
from hsm.core.record.sweep import Sweep, read_sweep
from hsm.core.results.goal import Goal
from hsm.core.results.job_files import FILES, flatten, read_object, reporting_jobs, wrote_files
from hsm.core.results.metric import TOLD, Ranking, infeasible_jobs
from hsm.core.results.objective_values import values_of, values_of_row, why_unranked
from hsm.core.results.repeats import Repeats, by_trial
from hsm.core.results.results_table import Results
from hsm.core.results.tables import as_text
from hsm.core.results.trial_front import pareto_front

_FIRST = ("job", "state")
_TRIAL, _PRUNED, _PARETO = "trial", "pruned", "pareto"
#: The column with what a study was told of a job.
_OBJECTIVE = "objective"
_RUN = ("attempts", "duration", "cpu_seconds", "max_memory")
_GPUS = ("gpus", "gpu_memory", "gpu_load")
_END = ("exit_code", "signal", "reason")
_NOTE = "note"
#: In how many directories to look for files of jobs if it matters little: looking into those of
#: 100,000 jobs takes half as long as all else that `hsm monitor --once` does.
_MOST_PLACES = 10_000
#: The groups of the other columns, in order; the first of them that claims a name gets it.
_GROUPS = ("params", TOLD, "returned", "results", "metrics", "reported")


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

    If each point is repeated, trials are ranked: the means over the repeats. Of several objectives
    the ranking has the Pareto front.

    The jobs' files are read only if the journal alone cannot say how they rank; if there is no goal
    either, only if some are found among those of 10,000 jobs.
    """
    goal = Goal.recorded(sweep.latest) if goal is None else goal
    # Where nobody has said what is best, all that depends on files are hints.
    most = _MOST_PLACES if goal == Goal() else None
    if not sweep.jobs.has_value() and not wrote_files(sweep, most):
        completed = sweep.jobs.by_state()[JobState.COMPLETED]
        nothing = Results((), _FIRST, sweep_id=sweep.sweep_id, paths=sweep.paths)
        return nothing, Ranking(goal, completed=completed)
    results = _Collector(sweep, files=False, only_completed=True).table()
    ranking = results.ranking(goal)
    if ranking.needs_files:
        results = _Collector(sweep, files=True, only_completed=True).table()
        ranking = results.ranking(goal)
    repeats = Repeats.recorded(sweep.latest)
    if goal.several:
        without = [*_left_out(sweep, repeats), *ranking.infeasible]
        found = pareto_front(list(results), results.told, goal, repeats, without)
        ranking = replace(ranking, front=found)
    elif repeats is not None and ranking.rows:
        ranking = by_trial(ranking, repeats, _left_out(sweep, repeats))
    return results, ranking


def _left_out(sweep: Sweep, repeats: Repeats | None) -> list[int]:
    """The numbers of jobs whose trials are not ranked.

    They were pruned; or they are the repeats of a study's trial of which not all have ended: the
    others may have been left out, since the trial was pruned after some.
    """
    jobs = sweep.jobs
    pruned = [job.num for job in jobs.where(lambda state: state is JobState.PRUNED)]
    if repeats is None or not Goal.recorded(sweep.latest).is_told:
        return pruned
    ended = [job.num for job in jobs.once(lambda state: state.is_final)]
    counts = Counter(map(repeats.key, ended))
    few = [num for num in ended if 0 < counts[repeats.key(num)] < repeats.count]
    return [*pruned, *(num for num in few if repeats.trial_of(num) is not None)]


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
        self._goal = Goal.recorded(sweep.latest)
        self._reporting = reporting_jobs(sweep.paths) if files else frozenset()
        self._has_gpus = False  # until there is a job that has some
        self._has_pruned = sweep.jobs.by_state()[JobState.PRUNED] > 0
        has = {
            _TRIAL: self._repeats is not None or self._goal.is_told,
            _PRUNED: self._has_pruned,
            _PARETO: bool(self._goal.several),
        }
        self._first = (*_FIRST, *(name for name, is_there in has.items() if is_there))

    def table(self) -> Results:
        varying = self._varying() if self._only_completed else None
        jobs = self._sweep.jobs.once(self._is_wanted)
        gathered = [(self._facts(job), self._gather(job)) for job in jobs]
        names = self._names()
        last = (*self._last(), _NOTE) if self._notes else self._last()
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
            elif self._goal.is_told:
                row[_TRIAL] = facts["job"]
            if self._has_pruned:
                row[_PRUNED] = facts["state"] == JobState.PRUNED
            if facts["job"] in self._notes:
                row[_NOTE] = self._notes[facts["job"]]
            rows.append(row)
        told = [names[TOLD][name] for name in self._goal.names if name in names[TOLD]]
        if self._goal.several:
            self._mark_front(rows, told, origins)
        return Results(
            rows,
            columns,
            sweep_id=self._sweep.sweep_id,
            paths=self._sweep.paths,
            parameters=names["params"].values(),
            metrics=origins,
            origins=origins,
            goal=self._goal,
            told=told,
            problems=self._problems,
            varying=None if varying is None else {names["params"][key] for key in varying},
        )

    def _mark_front(
        self, rows: list[dict[str, Any]], told: list[str], origins: Mapping[str, tuple[str, str]]
    ) -> None:
        """Say in each row that has all objectives whether its trial is on the Pareto front."""
        without = [
            *_left_out(self._sweep, self._repeats),
            *infeasible_jobs(rows, origins, self._goal),
        ]
        found = pareto_front(rows, told, self._goal, self._repeats, without)
        on_front = {num for jobs in found.jobs for num in jobs}
        for row in rows:
            if values_of_row(row, told) is not None:
                row[_PARETO] = row["job"] in on_front

    def _facts(self, job: Job) -> dict[str, Any]:
        """The columns that hsm itself fills; what is left out is None."""
        facts, attempt = _facts(job, self._goal), job.attempt
        if attempt is not None and attempt.gpus and not self._only_completed:
            its = (gpus_text(attempt.gpus), attempt.gpu_memory, attempt.gpu_load)
            facts.update(zip(_GPUS, its, strict=True))
            self._has_gpus = True
        return facts

    def _last(self) -> tuple[str, ...]:
        """The columns that hsm fills after all others, but for the note."""
        return (*_RUN, *_GPUS, *_END) if self._has_gpus else (*_RUN, *_END)

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
            told = values_of(job.outcome.objective, len(self._goal.names))
            if told is not None:
                groups[TOLD] = dict(zip(self._goal.names, told, strict=True))
            beside = job.outcome.large.get("value", job.outcome.value)
            value = self._whole(job, "its return value", beside)
        if value is not None:
            groups["returned"] = self._flat(job, "its return value", {"value": value})
        if self._reads_files and any(attempt.started is not None for attempt in job.attempts):
            self._add_files(job, groups)
        for group, found in groups.items():
            if not found.keys() <= self._keys[group].keys():
                self._keys[group].update(dict.fromkeys(found))
        return groups

    def _add_files(self, job: Job, groups: dict[str, Mapping[str, Any]]) -> None:
        """Add to `groups` what a job wrote and reported."""
        directory = self._job_dir(job)
        for group, name in FILES.items():
            try:
                content = read_object(directory, name, self._sweep.paths.sweep_dir)
            except (OSError, ValueError) as error:
                self._note(job, name, getattr(error, "strerror", None) or str(error))
                continue
            if content:
                groups[group] = self._flat(job, name, content)
        if job.num in self._reporting:
            start = job.attempts[-1].metrics
            groups["reported"] = read_measured(self._sweep.paths, job.num, start).latest

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
        for key, value in flatten(content):
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
        told = self._keys[TOLD]
        its = {name: f"{_OBJECTIVE}.{name}" if self._goal.several else _OBJECTIVE for name in told}
        taken = {"", _NOTE, *self._first, *self._last(), *its.values()}
        names: dict[str, dict[str, str]] = {group: {} for group in _GROUPS}
        names[TOLD] = its
        for group in _GROUPS:
            if group == TOLD:
                continue
            for key in self._keys[group]:
                name = key
                while name in taken:
                    name = f"{group}.{name}"
                taken.add(name)
                names[group][key] = name
        return names


def _facts(job: Job, goal: Goal) -> dict[str, Any]:
    """The columns of every table that hsm itself fills; what is left out is None."""
    attempt = job.attempt
    if attempt is None:
        return {
            "job": job.num,
            "state": str(job.state),
            "attempts": 0,
            "reason": _reason(job, goal),
        }
    return {
        "job": job.num,
        "state": str(job.state),
        "attempts": sum(attempt.started is not None for attempt in job.attempts),
        "duration": None if job.duration is None else round(job.duration, 6),
        "cpu_seconds": attempt.cpu_seconds,
        "max_memory": attempt.max_memory,
        "exit_code": attempt.exit_code,
        "signal": attempt.signal,
        "reason": _reason(job, goal),
    }


def _reason(job: Job, goal: Goal) -> str | None:
    if job.state.has_succeeded:
        reason = job.attempt.reason if job.attempt else None
        if reason is None and job.state is JobState.COMPLETED and job.outcome is not None:
            reason = why_unranked(job.outcome.objective, goal)
    else:
        reason = job.ending() if job.state.is_final else None
    return " ".join(reason.splitlines()) if reason else None
