"""Resumes a sweep: matches new points with earlier jobs, and checks that the program is the same.

    points of the new submission --Resumption.match--> Match(num, earlier job, runs again?)

An earlier job keeps its number, and so its directory; a new one gets the next free number. Points
are matched by parameters, not by numbers, so a sweep with more points, or in another order, still
finds its results. Of a method that asks for each point, a number is what makes a job the same one:
it may ask for a point twice.
"""

from __future__ import annotations

import itertools
import json
import os
from collections import defaultdict, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from hsm.core.errors import HsmError, SettingsError, shown
from hsm.core.files import open_linked, read_below, replace_below
from hsm.core.job_numbers import show_numbers
from hsm.core.logger import get_logger
from hsm.core.plain_json import identity
from hsm.core.printable import printable
from hsm.core.record.job import Job, JobState
from hsm.core.record.journal import SweepInUse, cannot_write
from hsm.core.record.journal_file import JournalFile
from hsm.core.record.journal_header import JournalError, has_begun
from hsm.core.record.large import Large
from hsm.core.record.lock import Locked, LockFile
from hsm.core.record.named_job import named_job
from hsm.core.record.paths import SweepPaths
from hsm.core.record.provenance import describe_program
from hsm.core.record.sweep import Sweep, read_sweep

log = get_logger(__name__)

#: Which jobs run again: a key of `RERUN`, or the numbers of the only ones.
Rerun: TypeAlias = str | Collection[int]
_UNFINISHED = "unfinished"
#: What that means in a study, which has learnt from jobs that failed: none but cancelled ones.
_MISSING = "missing"
#: Which ended jobs run again, by the words that `rerun` may be. Cancelled ones always do.
RERUN: Mapping[str, frozenset[JobState]] = {
    _UNFINISHED: frozenset({JobState.FAILED, JobState.TIMEOUT, JobState.OUT_OF_MEMORY}),
    "failed": frozenset({JobState.FAILED, JobState.OUT_OF_MEMORY}),
    "timeout": frozenset({JobState.TIMEOUT}),
    "all": frozenset(state for state in JobState if state.is_final),
}

_MAX_DIFFERENCES = 20
#: Characters of script and configs that are kept; changes in what does not fit go unnoticed.
_MAX_KEPT = 1 << 20
#: Maximum bytes of their JSON, in which a character may become ``\\udead\\ubeef``.
_MAX_LAUNCHED = 16 << 20


class SweepChanged(HsmError):
    """A sweep cannot be resumed because its script or config has changed.

    Attributes:
        differences: what has changed, as lines for people.
        remedy: the option that resumes the sweep anyway.
    """

    def __init__(self, differences: Sequence[str]) -> None:
        super().__init__(differences)
        self.differences = list(differences)
        self.remedy = "accept_changes=True"

    def __str__(self) -> str:
        lines = "\n".join(f"  {printable(line)}" for line in self.differences)
        return (
            "cannot resume: the script or config has changed "
            f"({self.remedy} resumes anyway):\n{lines}"
        )


@dataclass(frozen=True)
class Match:
    """How a point of a resumed sweep matches its earlier jobs.

    Attributes:
        num: the number of the point's job.
        job: the earlier job with the same parameters; None if the point is new.
        runs: whether the job runs (again).
    """

    num: int
    job: Job | None
    runs: bool


def identity_of(job: Job) -> str:
    """The `identity` of a job's parameters; reads them only if the journal does not have it."""
    held = job.held_params
    return held.identity if isinstance(held, Large) and held.identity else identity(job.params)


class Resumption:
    """Matches the points of a resumed sweep with its earlier jobs.

    If several earlier jobs have the same parameters, each is used once, in order. So points may
    come in batches.

    Args:
        previous: the sweep so far; all its jobs have ended.
        rerun: a key of `RERUN`, or the numbers of the only jobs that run.
        journal_file: the journal to continue, opened before it was read, so that nothing is lost
            if somebody removes it meanwhile.

    Attributes:
        changes: settings that were changed while the sweep ran, and their values.
        priorities: those that jobs were given, by number; they keep them.
        added: the requests to add jobs while it ran.
        variables: names of the variables that its jobs got so far.
        over: how many of its jobs do not run again.
        jobs: its jobs, by number.
        method: how its points were chosen.
    """

    def __init__(
        self, previous: Sweep, rerun: Rerun, journal_file: JournalFile | None = None
    ) -> None:
        if not isinstance(rerun, str):
            for num in rerun:
                named_job(previous, num)
        self.journal_file = journal_file
        self.sweep_id = previous.sweep_id
        asked = previous.asked
        self.changes, self.priorities, self.added = asked.changes, asked.priorities, asked.added
        self.variables = recorded_variables(previous)
        self._rerun = rerun if isinstance(rerun, str) else frozenset(rerun)
        self.over = 0
        self.jobs: Mapping[int, Job] = previous.jobs
        self.method = str(previous.chosen.get("method") or "grid")
        self._known: dict[str, deque[Job]] = defaultdict(deque)
        for num in sorted(previous.jobs):
            job = previous.jobs[num]
            self._known[identity_of(job)].append(job)
            self.over += not runs_again(job, rerun)
        self._taken = set(previous.jobs)
        self._next_num = max(previous.jobs, default=-1) + 1

    def of_study(self) -> Rerun:
        """Have none of the jobs run again that failed, unless `rerun` names these expressly.

        A study has been told of them, and goes on with other points. Returns which do run again.
        """
        if self._rerun == _UNFINISHED:
            self._rerun = _MISSING
            self.over = sum(not runs_again(job, _MISSING) for job in self.jobs.values())
        return self._rerun

    def reserve(self, count: int) -> None:
        """Keep the numbers below `count` for points whose places in the sweep these are."""
        self._next_num = max(self._next_num, count)

    def left_over(self) -> list[Job]:
        """The earlier jobs that no point has matched so far, but for those that run again."""
        jobs = itertools.chain.from_iterable(self._known.values())
        return [job for job in jobs if not runs_again(job, self._rerun)]

    def match(self, points: Sequence[Mapping[str, Any]], first: int | None = None) -> list[Match]:
        """The match of each point, given by its parameters.

        Args:
            points: the points.
            first: the place in the sweep of the first one, if these are known: a new point gets
                the number that it would have had in the beginning, unless a job has it.

        Raises:
            SettingsError: a point is new, but only jobs with certain numbers are to run.
        """
        if first is None:
            return [self._match(params, None) for params in points]
        return [self._match(params, place) for place, params in enumerate(points, first)]

    def match_number(self, num: int) -> Match:
        """The match of a job that is known by its number, as under a method that asks for points.

        One that was cancelled, or that was running when the launcher died, runs again.
        """
        job = self.jobs.get(num)
        if job is None:
            self._taken.add(num)
            self._next_num = max(self._next_num, num + 1)
        return Match(num, job, job is None or runs_again(job, self._rerun))

    def _match(self, params: Mapping[str, Any], place: int | None) -> Match:
        candidates = self._known.get(identity(params))
        if candidates:
            job = candidates.popleft()
            return Match(job.num, job, runs_again(job, self._rerun))
        if not isinstance(self._rerun, str):
            jobs = show_numbers(self._rerun)
            message = (
                f"rerun: the sweep has points that no job of {self.sweep_id} has had, such as "
                f"{shown(dict(params))}: resume it without numbers of jobs to run these"
            )
            raise SettingsError("rerun", jobs, "rerun", "unfinished", message=message)
        if place is None or place in self._taken:
            place, self._next_num = self._next_num, self._next_num + 1
        self._taken.add(place)
        return Match(place, None, True)


def recorded_variables(sweep: Sweep) -> Sequence[str]:
    """Names of the variables that a sweep's jobs got; no record has their values."""
    settings = sweep.latest.get("settings") or {}
    variables = settings.get("env")
    return list(variables) if isinstance(variables, Mapping) else []


def runs_again(job: Job, rerun: Rerun) -> bool:
    """Whether a job that has ended runs again in a resumed sweep."""
    if not isinstance(rerun, str):
        return job.num in rerun
    return job.state is JobState.CANCELLED or job.state in RERUN.get(rerun, ())


def open_sweep(
    paths: SweepPaths,
    rerun: Rerun,
    files: Mapping[str, str],
    program: Mapping[str, Any],
    *,
    accept_changes: bool,
) -> tuple[LockFile, Resumption]:
    """Take over the sweep in a directory, whose launcher is gone.

    Lines of its journal that cannot be used are logged.

    Args:
        paths: the sweep's.
        rerun: a key of `RERUN`, or the numbers of the only jobs that run.
        files: texts of the script and configs as they are now, by name.
        program: what the jobs run now, as `hsm.core.program.program.Program.record` returns it.
        accept_changes: resume even if these have changed, and record them as the sweep's.

    Raises:
        SweepInUse: its launcher is still alive.
        SweepChanged: `files` or `program` have changed.
        SettingsError: `rerun` names a job that is not there.
        JournalError: there is no sweep, or its journal cannot be read.
    """
    if not has_begun(paths):
        raise JournalError(f"no sweep in {paths.sweep_dir}")
    try:
        paths.check()
        lock = LockFile(paths.lock)
    except Locked as error:
        raise SweepInUse(f"{paths.sweep_dir} is in use by {error.owner}") from error
    except OSError as error:
        raise cannot_write(error) from error
    file = None
    try:
        file = JournalFile(paths, lock)
        previous = read_sweep(paths.sweep_dir, alive=False)
        for problem in previous.problems[:_MAX_DIFFERENCES]:
            log.warning("%s, %s; ignoring it", paths.journal, problem)
        resumption = Resumption(previous, rerun, file)
        changes = _changed_program(previous.latest.get("program"), program)
        changes += describe_changes(_read_files(paths), files)
        if changes and not accept_changes:
            raise SweepChanged(changes)
        if changes:
            _write_files(paths, _added({}, files))
    except BaseException as error:
        if file is not None:
            file.close()
        lock.release()
        if isinstance(error, OSError):
            raise cannot_write(error) from error
        raise
    return lock, resumption


def _changed_program(before: Any, now: Mapping[str, Any]) -> list[str]:
    if not isinstance(before, Mapping):
        return []  # An older hsm did not record it.
    was, is_now = describe_program(before), describe_program(now)
    return [] if was == is_now else [f"it ran {was}, and would now run {is_now}"]


def save_files(paths: SweepPaths, files: Mapping[str, str]) -> None:
    """Save the texts of script and configs, to compare with when the sweep is resumed.

    May be called again when more of them are known. Saved texts are never overwritten, because
    the results come from them.
    """
    before = _read_files(paths)
    kept = _added(before, files)
    if kept != before:
        _write_files(paths, kept)


def _added(before: Mapping[str, str], files: Mapping[str, str]) -> dict[str, str]:
    """`before`, plus the new ones of `files` as far as there is room."""
    kept = dict(before)
    room = _MAX_KEPT - sum(map(len, kept.values()))
    for name, text in files.items():
        if name not in kept and len(text) <= room:
            room -= len(text)
            kept[name] = text
    return kept


def _write_files(paths: SweepPaths, files: Mapping[str, str]) -> None:
    data = json.dumps({"files": files}).encode()
    replace_below(paths.sweep_dir, paths.launched, data)


def _read_files(paths: SweepPaths) -> dict[str, str]:
    try:
        data = read_below(paths.sweep_dir, paths.launched, _MAX_LAUNCHED)
        files = json.loads(data)["files"]
        return {str(name): text for name, text in files.items() if isinstance(text, str)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}  # A sweep of functions, or an older one: nothing to compare with.


def describe_changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Lines that describe how files have changed; new files do not count."""
    import difflib  # slow to import, and a sweep that begins has nothing to compare

    lines: list[str] = []
    for name, text in before.items():
        new_text = now.get(name, _current_text(name))
        if new_text is None:
            lines.append(f"{name} is gone")
        elif new_text != text:
            lines.append(f"{name} has changed:")
            changes = difflib.unified_diff(
                text.splitlines(), new_text.splitlines(), n=0, lineterm=""
            )
            body = itertools.islice(changes, 2, None)  # without the two lines of file names
            changed = [f"  {line}" for line in body if not line.startswith("@@")]
            lines += changed or ["  (line ends only)"]
    if len(lines) > _MAX_DIFFERENCES:
        lines = [*lines[:_MAX_DIFFERENCES], f"(and {len(lines) - _MAX_DIFFERENCES} more lines)"]
    return lines


def _current_text(name: str) -> str | None:
    """The current text of a config that the resumed sweep has not read, if it still exists.

    Configs are read when a point needs them: never if the point was removed, later if it is in a
    later batch. Their names are their paths.
    """
    if not os.path.isabs(name):
        return None
    try:
        with open(open_linked(name), "rb") as file:
            return file.read(_MAX_LAUNCHED).decode()
    except (OSError, ValueError):
        return None
