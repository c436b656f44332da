"""The jobs of a sweep that was read, by number: as numbers in columns until somebody asks for one.

    usual lines of the journal --take--> columns --[num]--> Job, which is then kept
                    every other job --add--> Job   `--once()--> Job, for the moment

A `Job` with its attempt, ending and parameters takes a kilobyte; in the columns it takes 150 bytes.
"""

from __future__ import annotations

import json
import os
import threading
from array import array
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hsm.core.record.attempt_records import take_start
from hsm.core.record.job import Ending, Job, JobState
from hsm.core.record.large import Large
from hsm.core.record.paths import SweepPaths
from hsm.core.record.usual_lines import USUAL_END, USUAL_START, UsualSubmit, UsualSubmits

#: What a column of states holds: this job has a `Job`, or the state that it is in.
_MADE, _PENDING, _RUNNING, _COMPLETED, _FAILED = range(5)
#: From here on: it never started, and ended as `_endings` says.
_UNSTARTED = 5
_MOST_CODES = 256
_CODES = {b"COMPLETED": _COMPLETED, b"FAILED": _FAILED}
_STATES = {
    _PENDING: JobState.PENDING,
    _RUNNING: JobState.RUNNING,
    _COMPLETED: JobState.COMPLETED,
    _FAILED: JobState.FAILED,
}


@dataclass
class Tally:
    """Sums over jobs that have no `Job`.

    Attributes:
        states: how many are in each state.
        job_seconds: the sum of their durations.
        began, last_end: the first start and the last end, in Unix seconds; None if there is none.
        timed: how many of them ran until they ended by themselves.
        failed: the numbers of those that failed, in order.
    """

    states: Counter[JobState]
    job_seconds: float = 0.0
    began: float | None = None
    last_end: float | None = None
    timed: int = 0
    failed: list[int] = field(default_factory=list)


class JobTable(Mapping[int, Job]):
    """A sweep's jobs by number, in the order in which they were submitted.

    Any thread may read it while no other one adds to it.

    Args:
        sweep_id: the sweep's id.

    Attributes:
        taken: how many lines the latest `take_usual` has taken.
        last_time: the time in the last of these since it yielded a line; 0 if there is none.
    """

    def __init__(self, sweep_id: str) -> None:
        self._sweep_id = sweep_id
        self._submits = UsualSubmits(sweep_id)
        self._making = threading.Lock()  # Two threads may ask for the same job.
        self._jobs: dict[int, Job] = {}  # those that have a `Job`
        self._ids: set[str] = set()  # of those that do not follow from the numbers
        # By number, without gaps. `_jobs` may have more jobs, with larger numbers.
        self._codes = bytearray()
        self._made_codes = 0  # how many are `_MADE`
        self._open_codes = 0  # how many are `_PENDING` or `_RUNNING`
        self._started, self._ended = array("d"), array("d")
        self._seconds, self._cpu_seconds = array("d"), array("d")
        self._pids, self._memory, self._exit_codes = array("q"), array("q"), array("h")
        self._values: dict[int, bytes] = {}  # JSON
        self._dirs: dict[int, str] = {}
        # What their lines say of GPUs, as JSON after a comma.
        self._gpus: dict[int, bytes] = {}
        self._gpu_use: dict[int, bytes] = {}
        self._endings: list[Ending] = []  # of jobs that never started
        # The lines of submissions, and the number of the first job in each.
        self._firsts, self._lines = array("q"), list[bytes]()
        self._parsed: tuple[int, list[dict[str, Any]]] = (-1, [])  # one of these lines
        self.taken, self.last_time = 0, 0.0

    # --- filling it ---

    def add(self, job: Job) -> bool:
        """Add a job; False if its number or its id is known."""
        follows = job.job_id == self._usual_id(job.num)
        if job.num in self or job.job_id in self._ids or (not follows and self._has_id(job.job_id)):
            return False
        if not follows:
            self._ids.add(job.job_id)
        if job.num == len(self._codes) and len(self._jobs) == self._made_codes:
            self._grow(1, _MADE)
            self._made_codes += 1
        self._jobs[job.num] = job
        return True

    def _usual_id(self, num: int) -> str:
        return f"{self._sweep_id}_{num}"

    def _has_id(self, job_id: str) -> bool:
        """Whether some job has this id, which is not the usual one of the job that may get it."""
        prefix, _, num = job_id.rpartition("_")
        if prefix != self._sweep_id or not num.isascii() or not num.isdigit():
            return False
        known = self._jobs.get(int(num))
        return int(num) in self and (known is None or known.job_id == job_id)

    def submitted(self, line: bytes) -> UsualSubmit | None:
        """Take a line if it is a usual submission of the next jobs; None if it is not."""
        found = self._submits.match(line)
        first = len(self._codes)
        if found is None or found.jobs != list(range(first, first + len(found.jobs))):
            return None
        if self._ids or len(self._jobs) != self._made_codes:
            return None
        self._grow(len(found.jobs), _PENDING)
        self._open_codes += len(found.jobs)
        self._firsts.append(first)
        self._lines.append(line)
        return found

    def _grow(self, count: int, code: int) -> None:
        self._codes += bytes([code]) * count
        for column in (self._started, self._ended, self._seconds, self._cpu_seconds):
            column.frombytes(bytes(column.itemsize * count))
        for numbers in (self._pids, self._memory, self._exit_codes):
            numbers.frombytes(bytes(numbers.itemsize * count))

    def take_usual(
        self, first: int, lines: Sequence[bytes | None]
    ) -> Iterator[tuple[int, bytes | None]]:
        """Take the usual lines of starts and ends; the others are yielded, with their numbers.

        `taken` and `last_time` tell of them. One loop over local names, as a call and a look for an
        attribute each would take a third of the time that a line takes.

        Args:
            first: the number of the first line.
            lines: it and those that follow it.
        """
        codes, started, ended = self._codes, self._started, self._ended
        seconds, cpu_seconds, memory = self._seconds, self._cpu_seconds, self._memory
        pids, exit_codes = self._pids, self._exit_codes
        is_end, is_start = USUAL_END.fullmatch, USUAL_START.fullmatch
        count, last_time = 0, 0.0
        for number, line in enumerate(lines, first):
            # Nearly every line is one of these.
            if line is not None and (match := is_end(line)) is not None:
                fields = match.groups()
                num = int(fields[0])
                if num < len(codes) and codes[num] == _RUNNING:
                    _, state, code, wall, cpu, peak, value, job_dir, gpu_use, time = fields
                    codes[num], exit_codes[num] = _CODES[state], int(code)
                    seconds[num], cpu_seconds[num], memory[num] = float(wall), float(cpu), int(peak)
                    ended[num] = last_time = float(time)
                    if value is not None:
                        self._values[num] = value
                    if job_dir is not None:
                        self._dirs[num] = job_dir.decode()
                    if gpu_use:
                        self._gpu_use[num] = gpu_use
                    self._open_codes -= 1
                    count += 1
                    continue
            elif line is not None and (match := is_start(line)) is not None:
                job, pid, gpus, time = match.groups()
                num = int(job)
                if num < len(codes) and codes[num] == _PENDING:
                    codes[num], pids[num] = _RUNNING, int(pid)
                    started[num] = last_time = float(time)
                    if gpus is not None:
                        self._gpus[num] = gpus
                    count += 1
                    continue
            self.taken, self.last_time = count, last_time
            yield number, line
            last_time = 0.0
        self.taken, self.last_time = count, last_time

    def end_unstarted(self, ending: Ending) -> None:
        """End the jobs without a `Job` that never started."""
        if not self._open_codes:
            return
        if ending not in self._endings:
            self._endings.append(ending)
        code = _UNSTARTED + self._endings.index(ending)
        if code < _MOST_CODES:
            self._open_codes -= self._codes.count(_PENDING)
            self._codes[:] = self._codes.replace(bytes([_PENDING]), bytes([code]))
            return
        for num in self._with(_PENDING):
            self[num].end(0.0, ending)

    # --- reading it ---

    def __getitem__(self, num: int) -> Job:
        job = self._jobs.get(num)
        if job is not None:
            return job
        if num not in self:
            raise KeyError(num)
        with self._making:
            return self._jobs.get(num) or self._keep(num)

    def _keep(self, num: int) -> Job:
        """Make the `Job` of one that has none, and keep it in place of the columns."""
        job = self._jobs[num] = self._made(num)
        self._open_codes -= self._codes[num] in (_PENDING, _RUNNING)
        self._made_codes += 1
        self._codes[num] = _MADE
        for column in (self._started, self._ended, self._seconds):
            column[num] = 0.0
        for facts in (self._values, self._dirs, self._gpus, self._gpu_use):
            facts.pop(num, None)
        return job

    def __contains__(self, num: object) -> bool:
        if num in self._jobs:
            return True
        return isinstance(num, int) and 0 <= num < len(self._codes)

    def __len__(self) -> int:
        return len(self._codes) - self._made_codes + len(self._jobs)

    def __iter__(self) -> Iterator[int]:
        known = len(self._codes)
        yield from range(known)
        if len(self) > known:
            yield from [num for num in self._jobs if num >= known]

    def once(self, holds: Callable[[JobState], bool] = lambda state: True) -> Iterator[Job]:
        """The jobs by number, for a look: who keeps one may have what nobody else will see.

        Args:
            holds: accepts the states of those that are wanted.
        """
        codes = self._codes_where(holds)
        for num in sorted(self) if len(self) > len(self._codes) else self:
            job = self._jobs.get(num)
            if job is not None:
                if holds(job.state):
                    yield job
            elif self._codes[num] in codes:
                yield self._made(num)

    def all_params(self) -> Iterator[dict[str, Any] | Large]:
        """The parameters of all jobs, by number, as `Job.held_params` has them."""
        for num in sorted(self) if len(self) > len(self._codes) else self:
            job = self._jobs.get(num)
            yield self._entry(num)["params"] if job is None else job.held_params

    def needs_of(self, num: int) -> Mapping[str, float] | None:
        """A job's own needs; one that has some has a `Job`."""
        job = self._jobs.get(num)
        return None if job is None else job.needs

    def where(self, holds: Callable[[JobState], bool]) -> list[Job]:
        """The jobs whose state `holds` accepts, by number; these are kept."""
        codes = self._codes_where(holds)
        found = [num for num, job in list(self._jobs.items()) if holds(job.state)]
        return [self[num] for num in sorted([*found, *self._with(*codes)])]

    def _codes_where(self, holds: Callable[[JobState], bool]) -> list[int]:
        """The codes of the states that `holds` accepts."""
        codes = [code for code, state in _STATES.items() if holds(state)]
        unstarted = range(_UNSTARTED, _UNSTARTED + len(self._endings))
        return [*codes, *(unstarted if holds(JobState.CANCELLED) else ())]

    def _with(self, *codes: int) -> list[int]:
        found = []
        for code in codes:
            at = self._codes.find(code)
            while at >= 0:
                found.append(at)
                at = self._codes.find(code, at + 1)
        return found

    def left_running(self) -> list[Job]:
        """Those that run and have no `Job`, which is made."""
        return [self[num] for num in self._with(_RUNNING)] if self._open_codes else []

    def made(self) -> list[Job]:
        """Those that have a `Job`."""
        return list(self._jobs.values())

    def by_state(self) -> Counter[JobState]:
        """How many jobs are in each state."""
        counts = Counter(job.state for job in self._jobs.values())
        for code, state in _STATES.items():
            counts[state] += self._codes.count(code)
        for at, ending in enumerate(self._endings):
            counts[ending.state] += self._codes.count(_UNSTARTED + at)
        return counts

    def count_states(self) -> dict[str, int]:
        """How many jobs are in each state, in the order of `JobState`, without empty states."""
        counts = self.by_state()
        return {str(state): counts[state] for state in JobState if counts[state]}

    def has_value(self) -> bool:
        """Whether some job has a value, or an objective."""
        return bool(self._values) or any(
            job.outcome is not None
            and (
                job.outcome.value is not None
                or job.outcome.objective is not None
                or job.outcome.large
            )
            for job in self._jobs.values()
        )

    def places(self, paths: SweepPaths) -> Iterator[str]:
        """Where jobs that have started may have written files, before the sweep was moved too.

        Those in the sweep's directory are relative to it.
        """
        for num, code in enumerate(self._codes):
            if code in (_RUNNING, _COMPLETED, _FAILED):
                yield str(num)
        for num, job in self._jobs.items():
            if job.attempts:
                yield str(num)
                if job.job_dir is not None:
                    yield os.fspath(job.job_dir)
        for num, recorded in self._dirs.items():
            if recorded != paths.job_dir_text(num):
                yield recorded

    def tally(self) -> Tally:
        """Sums over those that have no `Job`, which would take long to make."""
        tally = Tally(self.by_state() - Counter(job.state for job in self._jobs.values()))
        tally.job_seconds = sum(self._seconds)
        tally.began = min(filter(None, self._started), default=None)
        tally.last_end = max(filter(None, self._ended), default=None)
        tally.timed = tally.states[JobState.COMPLETED] + tally.states[JobState.FAILED]
        tally.failed = self._with(_FAILED)
        return tally

    def _made(self, num: int) -> Job:
        """Make the `Job` of one that has none."""
        entry = self._entry(num)
        job = Job(num, entry["id"], entry["label"], entry["params"])
        code = self._codes[num]
        if code >= _UNSTARTED:
            job.end(0.0, self._endings[code - _UNSTARTED])
        elif code != _PENDING:
            attempt = job.start(self._started[num], self._pids[num])
            take_start(attempt, _fields(self._gpus.get(num)))
            if code != _RUNNING:
                job.end(self._ended[num], self._ending(num, _STATES[code]))
        return job

    def _ending(self, num: int, state: JobState) -> Ending:
        value = self._values.get(num)
        return Ending(
            state,
            exit_code=self._exit_codes[num],
            seconds=self._seconds[num],
            cpu_seconds=self._cpu_seconds[num],
            max_memory=self._memory[num],
            value=None if value is None else json.loads(value),
            job_dir=self._dirs.get(num),
            **_fields(self._gpu_use.get(num)),
        )

    def _entry(self, num: int) -> dict[str, Any]:
        """A job's entry in the line of its submission."""
        at = bisect(self._firsts, num) - 1
        if self._parsed[0] != at:
            self._parsed = at, json.loads(self._lines[at])["jobs"]
        return self._parsed[1][num - self._firsts[at]]


def _fields(part: bytes | None) -> dict[str, Any]:
    """The fields in a part of a line, which begins with a comma; none if there is no such part."""
    return json.loads(b"{%b}" % part[1:]) if part else {}
