"""A sweep as its journal tells it: reading the record, and replaying it.

    journal.jsonl --read_sweep--> Sweep (jobs, attempts) <--Replay.advance-- a journal that grows

Nothing here writes, and nothing unpickles. A torn last line is ignored. A damaged one is named in
`Sweep.problems`, and the others are used: what the lost line told is made up for where another one
tells it too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hsm.core.errors import HsmError
from hsm.core.files import NotRegular
from hsm.core.record.job import Ending, IllegalTransition, Job, JobState
from hsm.core.record.journal_lines import JournalLines
from hsm.core.record.large import Facts, Large
from hsm.core.record.lock import is_locked
from hsm.core.record.paths import SweepPaths
from hsm.core.record.schema import (
    ENDING_FIELDS,
    FINAL_STATE,
    JOB_FIELDS,
    LAUNCH_FIELDS,
    RECORD_FIELDS,
    SERVER_FIELDS,
    START_FIELDS,
    TEXT,
    BadRecord,
    Check,
    check,
    is_count,
    parse,
    shown,
)

#: Of the format: what this hsm writes, and the latest of those that it reads.
VERSION = 2

#: Problems of a journal that are kept in words; of more there is a number.
_MAX_PROBLEMS = 100


class JournalError(HsmError):
    """A journal that cannot be read or written; says which file and why."""


@dataclass
class Sweep:
    """A sweep as its journal tells it.

    Attributes:
        sweep_id: its id.
        paths: where everything of it lies.
        header: the journal's first line, with what of it lies beside the journal.
        jobs: by number.
        closed: why its launcher closed it ("finished", "interrupted by SIGINT"); None while that
            runs, or if it died.
        alive: whether a launcher works on it now.
        last_time: when the last record was written, in Unix seconds.
        problems: lines of the journal that could not be used, as ``"line 7: …"``: the first 100;
            and what lies beside it and could not be read, once somebody has looked at it.
        problem_count: how many such lines there are.
        servers: how each fork server for a function was started: `start_method`, `reason`, `found`.
        latest: what the latest launcher recorded of itself, as `header` of the first: command line,
            versions, settings, program.
        planned: how many jobs it is to have in the end; None if that is not known.
        controls: what was asked of its launchers while they ran, one record each, oldest first.
    """

    sweep_id: str
    paths: SweepPaths
    header: Mapping[str, Any]
    jobs: dict[int, Job] = field(default_factory=dict)
    closed: str | None = None
    alive: bool = False
    last_time: float = 0.0
    problems: list[str] = field(default_factory=list)
    problem_count: int = 0
    servers: list[Mapping[str, Any]] = field(default_factory=list)
    latest: Mapping[str, Any] = field(init=False)
    planned: int | None = None
    controls: list[Mapping[str, Any]] = field(default_factory=list)
    _unfinished: dict[int, Job] = field(default_factory=dict, repr=False)
    _ids: set[str] = field(default_factory=set, repr=False)
    _to_come: int = field(default=0, repr=False)  # jobs of a submission, in its next records

    def __post_init__(self) -> None:
        self.header = self.latest = self._facts = self._facts_of(self.header)
        self.planned = self.latest.get("planned")

    def _facts_of(self, record: Mapping[str, Any]) -> Facts:
        """What a launcher tells of itself."""
        return Facts(record, self._large(record, "what its launcher recorded", LAUNCH_FIELDS))

    def _large(
        self, record: Mapping[str, Any], owner: str, fields: Mapping[str, tuple[Check, str]]
    ) -> dict[str, Large]:
        """What of a record lies beside the journal, by its fields' names.

        Args:
            fields: those that the record may have, and what each must be.
        """
        return {
            name: Large.of(self.paths, reference).told_in(
                self.problems, f"{owner}: {_NAMES_FOR_PEOPLE.get(name, name)}", fields[name]
            )
            for name, reference in (record.get("large") or {}).items()
            if name in fields and name not in _ALWAYS_INLINE
        }

    def take(self, number: int, line: bytes | None) -> Mapping[str, Any] | None:
        """Replay line `number` of the journal, or name it in `problems`.

        Returns the record if it had an effect.
        """
        try:
            record = parse(line)
            for problem in self.apply(record):
                self._note(number, problem)
        except (BadRecord, IllegalTransition) as error:
            self._note(number, str(error))
            return None
        return record

    def _note(self, number: int, problem: str) -> None:
        self._tell(f"line {number}: {problem}")

    def _tell(self, problem: str) -> None:
        self.problem_count += 1
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(problem)

    def apply(self, record: Mapping[str, Any]) -> list[str]:
        """Replay one record; returns what of it could not be used, though the rest was.

        Raises:
            BadRecord, IllegalTransition: it does not fit.
            JournalError: a newer hsm has gone on with the sweep.
        """
        check(record, RECORD_FIELDS, "event")
        event = record["event"]
        problems: list[str] = []
        if event == "submit":
            check(record, {}, "jobs")
            self._continue()
            self._to_come = record.get("more") or 0
            problems = _each(record["jobs"], self._submit)
        elif event == "start":
            self._start(record)
        elif event in ("end", "retry"):
            self._end(record)
        elif event in ("resume", "requeue"):
            problems = self._resume(record)
        elif event == "close":
            check(record, {"reason": TEXT}, "reason")
            self.closed = record["reason"]
        elif event == "control":
            self.controls.append(record)
        elif event == "server":
            check(record, SERVER_FIELDS, "start_method")
            self.servers.append({name: record.get(name) for name in (*SERVER_FIELDS, "time")})
        elif event != "sweep":
            raise BadRecord(f"unknown event {shown(event)}")
        self.last_time = record.get("time") or self.last_time
        return problems

    def _job(self, record: Mapping[str, Any]) -> Job:
        """The job of which a record tells, and which is not over by then."""
        check(record, {}, "job")
        job = self._numbered(record["job"])
        self._unfinished[job.num] = job
        return job

    def _numbered(self, num: Any) -> Job:
        job = self.jobs.get(num) if is_count(num) else None
        if job is None:
            raise BadRecord(f"no job {shown(num)}")
        return job

    def _submit(self, entry: Any) -> None:
        if not isinstance(entry, dict):
            raise BadRecord(f"{shown(entry)} is not a job")
        check(entry, JOB_FIELDS, "job", "id", "label")
        num, job_id = entry["job"], entry["id"]
        large = self._large(entry, f"job {num}", JOB_FIELDS)
        if "params" not in large:
            check(entry, {}, "params")
        if num in self.jobs or job_id in self._ids:
            raise BadRecord(f"job {num} was submitted before")
        self._ids.add(job_id)
        params = large["params"] if "params" in large else entry["params"]
        job = Job(num, job_id, entry["label"], params, large_label=large.get("label"))
        self.jobs[num] = self._unfinished[num] = job

    def _start(self, record: Mapping[str, Any]) -> None:
        check(record, START_FIELDS, "attempt", "time")
        job = self._job(record)
        _make_up_for_lost_end(job, record)
        attempt = job.start(record["time"], record.get("pid"))
        attempt.slot, attempt.gpus = record.get("slot"), record.get("gpus")
        attempt.waited = record.get("waited")

    def _end(self, record: Mapping[str, Any]) -> None:
        check(record, _END_FIELDS, "attempt", "time", "state")
        job = self._job(record)
        ending = Ending(
            JobState(record["state"]),
            **{name: record.get(name) for name in ENDING_FIELDS},
            large=self._large(record, f"job {job.num}", ENDING_FIELDS),
        )
        _make_up_for_lost_start(job, record)
        (job.end if record["event"] == "end" else job.retry)(record["time"], ending)
        if job.state.is_final:
            self._unfinished.pop(job.num, None)

    def _resume(self, record: Mapping[str, Any]) -> list[str]:
        check(record, {}, "jobs")
        is_new_launcher = record["event"] == "resume"
        if is_new_launcher:
            _check_version(self.paths.journal, record)
            check(record, LAUNCH_FIELDS)
        self._continue(is_new_launcher=is_new_launcher)
        if is_new_launcher:
            known = {name: value for name, value in record.items() if value is not None}
            self.latest = self._facts = self._facts.replaced_by(self._facts_of(known))
            self.planned = self.latest.get("planned")
        return _each(record["jobs"], self._requeue)

    def _requeue(self, num: Any) -> None:
        job = self._numbered(num)
        job.requeue()
        self._unfinished[job.num] = job

    def _continue(self, *, is_new_launcher: bool = False) -> None:
        """More is to come after what looked like the end."""
        if self.closed is not None or is_new_launcher:
            self._settle()
        self.closed = None

    def settle(self) -> None:
        """Give the jobs that a closed or dead launcher left behind the end that they had."""
        if self.closed is not None or not self.alive:
            self._settle()

    def _settle(self) -> None:
        if self._to_come:
            self._tell(f"{self._to_come} jobs are missing: the launcher died while recording them")
            self._to_come = 0
        for job in self._unfinished.values():
            if job.state.is_final:
                continue
            if self.closed is None:
                reason = "launcher died"
            elif job.state is JobState.PENDING:
                reason = f"{job.missed_attempt}: {self.closed}"
            else:
                reason = self.closed
            job.end(self.last_time, Ending(JobState.CANCELLED, reason=reason))
        self._unfinished.clear()


def read_sweep(sweep_dir: str | Path, *, alive: bool | None = None) -> Sweep:
    """Replay the journal of the sweep in `sweep_dir`; never writes, and never unpickles anything.

    Args:
        alive: whether a launcher works on it; looked up by default.

    Raises:
        JournalError: there is no journal, its first line is damaged, or a newer hsm wrote it.
    """
    paths = SweepPaths(sweep_dir)
    # The launcher first: one that ends between the two looks has written its last line by then.
    alive = is_locked(paths.lock) if alive is None else alive
    with open_journal(paths) as lines:
        sweep = begin(paths, lines)
        sweep.alive = alive
        for number, line in lines.read():
            sweep.take(number, line)
    sweep.settle()
    return sweep


def open_journal(paths: SweepPaths) -> JournalLines:
    """The lines of the journal at `paths`. Raises JournalError if there is none to be read."""
    try:
        return JournalLines(paths.sweep_dir, paths.journal)
    except NotRegular as error:
        raise JournalError(f"cannot read {error.filename}: {error.strerror}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise JournalError(f"no sweep in {paths.sweep_dir}: {reason}") from error


def begin(paths: SweepPaths, lines: JournalLines) -> Sweep:
    """The sweep whose first line comes next. Raises JournalError."""
    _, line = next(lines.read(), (0, b""))
    if line == b"" and lines.number == 0:
        raise JournalError(f"no sweep in {paths.sweep_dir}: its record has not begun")
    header = read_header(paths.journal, line)
    return Sweep(header["sweep_id"], paths, header, last_time=header["time"])


def _make_up_for_lost_start(job: Job, record: Mapping[str, Any]) -> None:
    """The line that told of an attempt's start was damaged: that of its end tells enough."""
    _make_up_for_lost_end(job, record)
    if job.state is JobState.PENDING and record["attempt"] > len(job.attempts):
        job.start(None, None)


def _make_up_for_lost_end(job: Job, record: Mapping[str, Any]) -> None:
    """A further attempt shows that the one before has ended, though its line was damaged."""
    if record["attempt"] <= len(job.attempts):
        return
    if job.state is JobState.RUNNING:
        job.retry(record["time"], Ending(JobState.FAILED, reason="the record of its end is lost"))
    elif job.state.is_final:
        job.requeue()


#: What tells what a record is about lies in the record itself.
_ALWAYS_INLINE = frozenset({"sweep_id", "time", "pid", "hsm", "planned", "job", "id", "large"})
#: What of a job may lie beside the journal, in words.
_NAMES_FOR_PEOPLE = {"params": "its parameters", "value": "its return value", "label": "its label"}
#: What the record of an attempt's end must be.
_END_FIELDS = {**ENDING_FIELDS, "state": FINAL_STATE}


def _each(items: Iterable[Any], take: Callable[[Any], None]) -> list[str]:
    """Take each of a record's items; returns why some could not be used."""
    problems = []
    for item in items:
        try:
            take(item)
        except (BadRecord, IllegalTransition) as error:
            problems.append(str(error))
    return problems


def has_begun(paths: SweepPaths) -> bool:
    """Whether the journal at `paths` has a first line.

    One without, whose launcher was killed as it began, records nothing: there is no sweep yet.
    """
    try:
        with open_journal(paths) as lines:
            return next(lines.read(), None) is not None
    except JournalError:
        return False


def read_header(path: Path, line: bytes | None) -> dict[str, Any]:
    """What the first line of the journal at `path` says. Raises JournalError."""
    try:
        header = parse(line)
        if type(header.get("v")) is not int:
            raise BadRecord("it has no version")
        _check_version(path, header)
        check(header, LAUNCH_FIELDS, "sweep_id", "time")
    except BadRecord as error:
        raise JournalError(f"{path}: the first line does not describe a sweep: {error}") from error
    return header


def _check_version(path: Path, record: Mapping[str, Any]) -> None:
    """Refuse what a newer hsm has written, or has gone on with. Raises JournalError, BadRecord."""
    version = record.get("v", 1)
    if type(version) is not int:
        raise BadRecord(f"v is {shown(version)}, not a version")
    if version > VERSION:
        raise JournalError(
            f"{path}: written in format {version} by hsm {_version_text(record)}; "
            f"this hsm reads up to {VERSION}"
        )


def _version_text(header: Mapping[str, Any]) -> str:
    version = header.get("hsm", "?")
    return version if isinstance(version, str) and version.isprintable() else shown(version)
