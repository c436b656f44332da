"""Reads a sweep from its journal, by replaying the records.

    journal.jsonl --read_sweep--> Sweep (jobs, attempts) <--Replay.advance-- a journal that grows

Nothing here writes or unpickles. A torn last line is ignored. A damaged line is reported in
`Sweep.problems`, and the rest is still used; what the damaged line said is inferred from other
lines where possible.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hsm.core.errors import shown
from hsm.core.record.attempt_records import read_ending, take_start
from hsm.core.record.controls import Asked
from hsm.core.record.job import Ending, IllegalTransition, Job, JobState
from hsm.core.record.job_table import JobTable
from hsm.core.record.journal_header import JournalError, check_version, open_journal, read_header
from hsm.core.record.journal_lines import JournalLines
from hsm.core.record.large import Facts, Large
from hsm.core.record.lock import is_locked
from hsm.core.record.paths import SweepPaths
from hsm.core.record.schema import (
    CONTROL_FIELDS,
    ENDING_FIELDS,
    FINAL_STATE,
    JOB_FIELDS,
    LAUNCH_FIELDS,
    RECORD_FIELDS,
    SECONDS,
    SERVER_FIELDS,
    START_FIELDS,
    TEXT,
    BadRecord,
    Check,
    check,
    is_count,
    parse,
)

#: How many problems of a journal are kept as text; any more are only counted.
_MAX_PROBLEMS = 100


@dataclass
class Sweep:
    """A sweep as recorded in its journal.

    Attributes:
        sweep_id: its id.
        paths: its paths.
        header: the journal's first line, including large fields beside the journal.
        jobs: its jobs by number.
        closed: why its launcher closed it ("finished", "interrupted by SIGINT"); None while the
            launcher is running, or if it died.
        seconds: how long it took, by a clock that nobody sets; None if it is not closed, if it was
            resumed, or if an older hsm wrote the journal.
        alive: whether it has a live launcher.
        last_time: when the last record was written, in Unix seconds.
        problems: the first 100 unusable lines of the journal, as ``"line 7: …"``, and files beside
            the journal that could not be read, once they have been accessed.
        problem_count: how many unusable lines there are.
        servers: how each fork server for a function or a script was started: `start_method`,
            `reason`, `found`.
        latest: what the latest launcher recorded about itself, like `header` for the first one:
            command line, versions, settings, program.
        planned: how many jobs it will have in the end; None if unknown.
        asked: what its launchers were asked to do while it ran.
    """

    sweep_id: str
    paths: SweepPaths
    header: Mapping[str, Any]
    jobs: JobTable = field(init=False)
    closed: str | None = None
    seconds: float | None = None
    alive: bool = False
    last_time: float = 0.0
    problems: list[str] = field(default_factory=list)
    problem_count: int = 0
    servers: list[Mapping[str, Any]] = field(default_factory=list)
    latest: Mapping[str, Any] = field(init=False)
    planned: int | None = None
    asked: Asked = field(default_factory=Asked)
    _is_resumed: bool = field(default=False, repr=False)
    _unfinished: dict[int, Job] = field(default_factory=dict, repr=False)  # of those with a `Job`
    _missing: int = field(default=0, repr=False)  # jobs of a submission still to come

    def __post_init__(self) -> None:
        self.jobs = JobTable(self.sweep_id)
        self.header = self.latest = self._facts = self._facts_of(self.header)
        self.planned = self.latest.get("planned")

    @property
    def to_come(self) -> int | None:
        """How many jobs were planned and are not on record; None if nobody knows that.

        A study that has finished may have done so early, as its target was reached: 0.
        """
        if self.planned is None:
            return None
        if self.closed == "finished" and "space" in self.chosen:
            return 0
        return max(0, self.planned - sum(1 for num in self.jobs if num < self.planned))

    @property
    def chosen(self) -> Mapping[str, Any]:
        """How its points were chosen: method, seed and so on; nothing if they are just a grid."""
        return self.latest.get("chosen") or {}

    @property
    def paused(self) -> bool:
        """Whether its launcher starts no jobs because it was asked to; ends with the launcher."""
        return self.asked.is_paused and self.alive and self.closed is None

    @property
    def status(self) -> str:
        """How it is, in words: running, paused, why it was closed, or that its launcher died."""
        if self.closed is not None or not self.alive:
            return self.closed or "launcher died"
        return "paused" if self.asked.is_paused else "running"

    def _facts_of(self, record: Mapping[str, Any]) -> Facts:
        """What a launcher recorded about itself."""
        return Facts(record, self._large(record, "what its launcher recorded", LAUNCH_FIELDS))

    def _large(
        self, record: Mapping[str, Any], owner: str, fields: Mapping[str, tuple[Check, str]]
    ) -> dict[str, Large]:
        """The fields of a record that lie beside the journal, by name.

        Args:
            record: the record.
            owner: what the record is about, for messages.
            fields: the fields that the record may have, and their checks.
        """
        return {
            name: Large.of(self.paths, reference).told_in(
                self.problems, f"{owner}: {_DISPLAY_NAMES.get(name, name)}", fields[name]
            )
            for name, reference in (record.get("large") or {}).items()
            if name in fields and name not in _ALWAYS_INLINE
        }

    def take_all(self, blocks: Iterable[tuple[int, Sequence[bytes | None]]]) -> int:
        """Replay lines of the journal, as `take` does for one, but faster.

        Args:
            blocks: the number of a first line, and it with those that follow it.

        Returns how many of them had an effect.
        """
        jobs, count = self.jobs, 0
        for first, lines in blocks:
            for number, line in jobs.take_usual(first, lines):
                self.last_time = jobs.last_time or self.last_time
                if (line is not None and self._take_submit(line)) or self.take(number, line):
                    count += 1
            self.last_time = jobs.last_time or self.last_time
            count += jobs.taken
        return count

    def _take_submit(self, line: bytes) -> bool:
        """Replay a usual submission; False if the line is another one."""
        found = self.jobs.submitted(line) if self.closed is None else None
        if found is None:
            return False
        self._missing = found.more
        self.last_time = found.time or self.last_time
        return True

    def take(self, number: int, line: bytes | None) -> Mapping[str, Any] | None:
        """Replay line `number` of the journal, or add it to `problems`.

        Returns the record if it had an effect.
        """
        try:
            record = parse(line)
            for problem in self.apply(record):
                self._add_problem(f"line {number}: {problem}")
        except (BadRecord, IllegalTransition) as error:
            self._add_problem(f"line {number}: {error}")
            return None
        return record

    def _add_problem(self, problem: str) -> None:
        self.problem_count += 1
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(problem)

    def apply(self, record: Mapping[str, Any]) -> list[str]:
        """Replay one record; returns problems with parts of it that were skipped.

        Raises:
            BadRecord, IllegalTransition: the record is unusable.
            JournalError: a newer hsm has resumed the sweep.
        """
        check(record, RECORD_FIELDS, "event")
        event = record["event"]
        problems: list[str] = []
        if event == "submit":
            check(record, {}, "jobs")
            self._reopen()
            self._missing = record.get("more") or 0
            problems = _each(record["jobs"], self._submit)
        elif event == "start":
            self._start(record)
        elif event in ("end", "retry"):
            self._end(record)
        elif event in ("resume", "requeue"):
            problems = self._resume(record)
        elif event == "close":
            check(record, {"reason": TEXT, "seconds": SECONDS}, "reason")
            self.closed = record["reason"]
            self.seconds = None if self._is_resumed else record.get("seconds")
        elif event == "control":
            large = self._large(record, "a request", CONTROL_FIELDS)
            known = {name: field.load_or(None) for name, field in large.items()}
            self.asked.take({**record, **known})
        elif event == "server":
            check(record, SERVER_FIELDS, "start_method")
            self.servers.append({name: record.get(name) for name in (*SERVER_FIELDS, "time")})
        elif event != "sweep":
            raise BadRecord(f"unknown event {shown(event)}")
        self.last_time = record.get("time") or self.last_time
        return problems

    def _job(self, record: Mapping[str, Any]) -> Job:
        """The job that a record is about, which counts as unfinished from now on."""
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
        params = large["params"] if "params" in large else entry["params"]
        needs = large["needs"].load_or({}) if "needs" in large else entry.get("needs")
        label = large.get("label")
        job = Job(num, job_id, entry["label"], params, large_label=label, needs=needs)
        if not self.jobs.add(job):
            raise BadRecord(f"job {num} was submitted before")
        self._unfinished[num] = job

    def _start(self, record: Mapping[str, Any]) -> None:
        check(record, START_FIELDS, "attempt", "time")
        job = self._job(record)
        _infer_lost_end(job, record)
        take_start(job.start(record["time"], record.get("pid")), record)

    def _end(self, record: Mapping[str, Any]) -> None:
        check(record, _END_FIELDS, "attempt", "time", "state")
        job = self._job(record)
        ending = read_ending(record, self._large(record, f"job {job.num}", ENDING_FIELDS))
        _infer_lost_start(job, record)
        (job.end if record["event"] == "end" else job.retry)(record["time"], ending)
        if job.state.is_final:
            self._unfinished.pop(job.num, None)

    def _resume(self, record: Mapping[str, Any]) -> list[str]:
        check(record, {}, "jobs")
        is_new_launcher = record["event"] == "resume"
        if is_new_launcher:
            check_version(self.paths.journal, record)
            check(record, LAUNCH_FIELDS)
        self._reopen(is_new_launcher=is_new_launcher)
        if is_new_launcher:
            known = {name: value for name, value in record.items() if value is not None}
            self.latest = self._facts = self._facts.replaced_by(self._facts_of(known))
            self.planned = self.latest.get("planned")
            self.asked.begins_anew()
        return _each(record["jobs"], self._requeue)

    def _requeue(self, num: Any) -> None:
        job = self._numbered(num)
        job.requeue()
        self._unfinished[job.num] = job

    def _reopen(self, *, is_new_launcher: bool = False) -> None:
        """There are more jobs, so the sweep has not ended after all."""
        if self.closed is not None or is_new_launcher:
            self._settle()
        self._is_resumed |= is_new_launcher
        self.closed = self.seconds = None

    def settle(self) -> None:
        """If the launcher has closed the sweep or died, end the jobs it left behind."""
        if self.closed is not None or not self.alive:
            self._settle()

    def _settle(self) -> None:
        if self._missing:
            text = f"{self._missing} jobs are missing: the launcher died while recording them"
            self._add_problem(text)
            self._missing = 0
        for job in self.jobs.left_running():
            self._unfinished[job.num] = job
        why = self.closed or "launcher died"
        reason = why if self.closed is None else f"{Job.MISSED_FIRST}: {why}"
        self.jobs.end_unstarted(Ending(JobState.CANCELLED, reason=reason))
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
    """Replay the journal of the sweep in `sweep_dir`; never writes or unpickles anything.

    Args:
        sweep_dir: the sweep's directory.
        alive: whether the sweep has a live launcher; default: check its lock.

    Raises:
        JournalError: there is no journal, its first line is damaged, or a newer hsm wrote it.
    """
    paths = SweepPaths(sweep_dir)
    # Check the launcher first: if it ends after this check, we still read its last line.
    alive = is_locked(paths.lock) if alive is None else alive
    with open_journal(paths) as lines:
        sweep = begin(paths, lines)
        sweep.alive = alive
        sweep.take_all(lines.read_blocks())
    sweep.settle()
    return sweep


def begin(paths: SweepPaths, lines: JournalLines) -> Sweep:
    """Start a sweep from the first of `lines`. Raises JournalError."""
    _, line = next(lines.read(), (0, b""))
    if line == b"" and lines.number == 0:
        raise JournalError(f"no sweep in {paths.sweep_dir}: its journal is empty")
    header = read_header(paths.journal, line)
    return Sweep(header["sweep_id"], paths, header, last_time=header["time"])


def _infer_lost_start(job: Job, record: Mapping[str, Any]) -> None:
    """If the line of an attempt's start was damaged, infer it from `record`, that of its end."""
    _infer_lost_end(job, record)
    if job.state is JobState.PENDING and record["attempt"] > len(job.attempts):
        job.start(None, None)


def _infer_lost_end(job: Job, record: Mapping[str, Any]) -> None:
    """If the line of an attempt's end was damaged, infer it from `record` of a later attempt."""
    if record["attempt"] <= len(job.attempts):
        return
    if job.state is JobState.RUNNING:
        job.retry(record["time"], Ending(JobState.FAILED, reason="the record of its end is lost"))
    elif job.state.is_final:
        job.requeue()


#: Fields that say what a record is about, and are never beside the journal.
_ALWAYS_INLINE = frozenset({"sweep_id", "time", "pid", "hsm", "planned", "job", "id", "large"})
#: How messages name the fields that may lie beside the journal.
_DISPLAY_NAMES = {"params": "its parameters", "value": "its return value", "label": "its label"}
#: The checks for an `end` or `retry`.
_END_FIELDS = {**ENDING_FIELDS, "state": FINAL_STATE}


def _each(items: Iterable[Any], take: Callable[[Any], None]) -> list[str]:
    """Call `take` for each of a record's items; returns the problems."""
    problems = []
    for item in items:
        try:
            take(item)
        except (BadRecord, IllegalTransition) as error:
            problems.append(str(error))
    return problems
