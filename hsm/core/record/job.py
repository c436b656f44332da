"""A job, its attempts, and the states it goes through.

    PENDING --start--> RUNNING --end--> COMPLETED | PRUNED | FAILED | TIMEOUT | OUT_OF_MEMORY
     ^ ^ |                |                 |                                 | CANCELLED
     | | `--end--> CANCELLED (never started)
     | `------retry-------'                 |
     `---------requeue (a resumed sweep)----'

The states are Slurm's plus PRUNED: the job stopped early, with a value, because it looked
unpromising. A retry is a new `Attempt` of the same job. *How* a process ended (exit code, signal,
the limit it exceeded) is data on the attempt, not part of the state's name. Every change of state
is a method of `Job`; one that the drawing does not show raises `IllegalTransition`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hsm.core.errors import HsmError
from hsm.core.printable import printable
from hsm.core.record.large import Large
from hsm.core.record.paths import SweepPaths
from hsm.core.text_enum import TextEnum


class JobState(TextEnum):
    """The state of a job. `str(JobState.RUNNING) == "RUNNING"`."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    PRUNED = "PRUNED"
    FAILED = "FAILED"
    TIMEOUT = "TIMEOUT"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        """Whether a job in this state has ended for good."""
        return self not in (JobState.PENDING, JobState.RUNNING)

    @property
    def has_succeeded(self) -> bool:
        """Whether a job in this state ended as intended: completed or pruned."""
        return self in (JobState.COMPLETED, JobState.PRUNED)

    @property
    def has_failed(self) -> bool:
        """Whether a job in this state ended for good, by its own fault: not cancelled."""
        return self in (JobState.FAILED, JobState.TIMEOUT, JobState.OUT_OF_MEMORY)

    @property
    def words(self) -> str:
        """The state as people write it: ``out of memory``."""
        return self.lower().replace("_", " ")


class IllegalTransition(HsmError):
    """An impossible change of state: a bug in hsm, or a damaged journal."""

    def __init__(self, job: Job, event: str) -> None:
        super().__init__(f"job {job.num} is {job.state}: it cannot {event}")
        self.job = job
        self.event = event


@dataclass(frozen=True, slots=True)
class Ending:
    """How one attempt ended.

    Attributes:
        state: the job's final state if this was its last attempt.
        exit_code: the process's exit code, 0 to 255; None if a signal ended it or it never ran.
        signal: name of the signal that ended the process, such as ``"SIGKILL"``.
        reason: why, in one line, if exit code and signal do not say ("timeout after 2 s").
        error_type: qualified name of the exception that a Python job raised.
        error_message: that exception's message.
        seconds: how long the attempt took, by a clock that nobody sets; None if it never ran, or
            if an older hsm wrote the journal.
        cpu_seconds: user and system time of the whole process tree, in seconds.
        max_memory: bytes; the larger of the peak of the tree's largest process and the largest
            sample of the whole tree.
        value: the job's return value; None if JSON cannot represent it or it is in `large`.
        job_dir: the job's directory, if only its process knew it.
        objective: the result of the job's trial: a number, or one number per objective.
        gpu_memory: the most bytes that it was seen to have on one of its GPUs; None if unknown.
        gpu_load: percent of the time in which its GPUs computed; None if unknown, or if others used
            them too.
        large: by field name, what lies in files beside the journal; of a text, the field itself
            has the beginning.
    """

    state: JobState
    exit_code: int | None = None
    signal: str | None = None
    reason: str | None = None
    error_type: str | None = None
    error_message: str | None = None
    seconds: float | None = None
    cpu_seconds: float | None = None
    max_memory: int | None = None
    value: Any = None
    job_dir: str | None = None
    objective: float | list[float] | None = None
    gpu_memory: int | None = None
    gpu_load: float | None = None
    large: Mapping[str, Large] = field(default_factory=dict)

    def whole(self, name: str) -> Any:
        """The full value of field `name`, read from its file if it lies beside the journal.

        If that file cannot be read, the field itself: None, or the beginning of a text.
        """
        present = getattr(self, name)
        return self.large[name].load_or(present) if name in self.large else present

    def describe(self) -> str:
        """The ending in one line: the most informative fact known."""
        if self.state is JobState.COMPLETED:
            return "completed"
        if self.reason:
            return self.reason
        if self.state is JobState.PRUNED:
            return "pruned"
        if self.error_type:
            first_line = (self.error_message or "").strip().split("\n", 1)[0]
            return f"{self.error_type}: {first_line}" if first_line else self.error_type
        if self.signal:
            return f"killed by {self.signal}"
        if self.exit_code is not None:
            return f"exit code {self.exit_code}"
        return self.state.words


@dataclass(slots=True)
class Attempt:
    """One run of a job's process.

    Attributes:
        number: counts from 1.
        started, ended: Unix seconds.
        pid: its process's pid.
        ending: how it ended; None while it is running.
        slot: the slot it ran in.
        gpus: the GPUs it had, to itself or shared: their numbers or ids.
        waited: seconds from being ready to start until it started.
        metrics: where in the file of what the job reports this attempt begins, in bytes.
    """

    number: int
    started: float | None = None
    ended: float | None = None
    pid: int | None = None
    ending: Ending | None = None
    slot: int | None = None
    gpus: list[int | str] | None = None
    waited: float | None = None
    metrics: int = 0

    @property
    def duration(self) -> float | None:
        """Seconds from start to end; None while it is running.

        If only the times are on record, their difference: wrong if the clock was set in between.
        """
        if self.ending is not None and self.ending.seconds is not None:
            return self.ending.seconds
        if self.started is None or self.ended is None:
            return None
        return max(0.0, self.ended - self.started)

    @property
    def exit_code(self) -> int | None:
        return self.ending.exit_code if self.ending else None

    @property
    def signal(self) -> str | None:
        return self.ending.signal if self.ending else None

    @property
    def reason(self) -> str | None:
        return self.ending.reason if self.ending else None

    @property
    def error_type(self) -> str | None:
        return self.ending.error_type if self.ending else None

    @property
    def error_message(self) -> str | None:
        return self.ending.error_message if self.ending else None

    @property
    def cpu_seconds(self) -> float | None:
        return self.ending.cpu_seconds if self.ending else None

    @property
    def max_memory(self) -> int | None:
        return self.ending.max_memory if self.ending else None

    @property
    def gpu_memory(self) -> int | None:
        return self.ending.gpu_memory if self.ending else None

    @property
    def gpu_load(self) -> float | None:
        return self.ending.gpu_load if self.ending else None


#: The attributes that tell what is known of a job.
_SHOWN = ("num", "job_id", "label", "params", "state", "attempts", "outcome", "job_dir")


class Job:
    """One point of a sweep.

    Attributes:
        num: its number in the sweep, from 0; names its directory and its logs.
        job_id: unique across sweeps: ``<sweep id>_<num>``.
        label: one line that identifies it, such as ``lr=0.1 model=svm``.
        held_params: its parameters, or a reference to their file beside the journal (for a job
            read from a journal); see `params`.
        state: its current state; changed only by `start`, `end`, `retry` and `requeue`.
        attempts: its attempts so far, oldest first.
        outcome: how it finally ended; None until then.
        held_dir: its directory, once known, or the sweep where it has the usual one; see
            `job_dir`.
        before: its outcome before it was requeued; None once it has started again.
        large_label: the full label, if `label` is only the beginning.
        needs: what it needs by name, GPUs too, if not only what all jobs of its sweep need.
    """

    #: The `missed_attempt` of a job that never started.
    MISSED_FIRST = "never started"

    # There may be very many, so they have no dict.
    __slots__ = (
        *("num", "job_id", "label", "held_params", "state", "attempts", "outcome", "held_dir"),
        *("before", "large_label", "needs"),
    )

    def __init__(
        self,
        num: int,
        job_id: str,
        label: str = "",
        params: dict[str, Any] | Large | None = None,
        *,
        job_dir: Path | SweepPaths | None = None,
        large_label: Large | None = None,
        needs: Mapping[str, float] | None = None,
    ) -> None:
        self.num = num
        self.job_id = job_id
        self.label = label
        self.held_params = {} if params is None else params
        self.state = JobState.PENDING
        self.attempts: list[Attempt] = []
        self.outcome: Ending | None = None
        self.held_dir = job_dir
        self.before: Ending | None = None
        self.large_label = large_label
        self.needs = needs

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Job):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in (*_SHOWN, "before"))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Job({', '.join(f'{name}={getattr(self, name)!r}' for name in _SHOWN)})"

    @property
    def params(self) -> dict[str, Any]:
        """Its parameters, representable in JSON; those beside the journal are read on each access.

        Empty if they lie in a file there that cannot be read.
        """
        held = self.held_params
        return held.load_or({}) if isinstance(held, Large) else held

    @params.setter
    def params(self, value: dict[str, Any]) -> None:
        self.held_params = value

    @property
    def job_dir(self) -> Path | None:
        """Its directory, once known."""
        held = self.held_dir
        return held.job_dir(self.num) if isinstance(held, SweepPaths) else held

    @job_dir.setter
    def job_dir(self, value: Path | SweepPaths | None) -> None:
        self.held_dir = value

    @property
    def job_dir_text(self) -> str | None:
        """The same as text, which takes a tenth of the time."""
        held = self.held_dir
        if isinstance(held, SweepPaths):
            return held.job_dir_text(self.num)
        return None if held is None else str(held)

    @property
    def value(self) -> Any:
        """The return value, if JSON can represent it; a large value is read on each access."""
        return None if self.outcome is None else self.outcome.whole("value")

    @property
    def attempt(self) -> Attempt | None:
        """The latest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def duration(self) -> float | None:
        """Seconds that the latest attempt took; None if it has not ended or there is none."""
        return self.attempts[-1].duration if self.attempts else None

    @property
    def missed_attempt(self) -> str:
        """What a waiting job misses when it is cancelled: its first attempt or a retry."""
        return "not retried" if self.attempts else self.MISSED_FIRST

    def start(self, time: float | None, pid: int | None) -> Attempt:
        """A new attempt has started at `time` (Unix seconds; None: unknown) as process `pid`."""
        if self.state is not JobState.PENDING:
            raise IllegalTransition(self, "start")
        attempt = Attempt(number=len(self.attempts) + 1, started=time, pid=pid)
        self.attempts.append(attempt)
        self.state = JobState.RUNNING
        self.before = None
        return attempt

    def end(self, time: float, ending: Ending) -> None:
        """The job has finally ended. A job that is still waiting can only be cancelled.

        A requeued job that ends before it starts gets its earlier outcome back.
        """
        if self.state is JobState.PENDING and self.before is not None:
            ending, self.before = self.before, None
        elif not self._may_end_as(ending.state):
            raise IllegalTransition(self, f"end as {ending.state}")
        if self.state is JobState.RUNNING:
            self._end_attempt(time, ending)
        self.state = ending.state
        self.outcome = ending

    def _may_end_as(self, state: JobState) -> bool:
        if self.state is JobState.PENDING:
            return state is JobState.CANCELLED
        return self.state is JobState.RUNNING and state.is_final

    def retry(self, time: float, ending: Ending) -> None:
        """The attempt has ended like this, and another one will follow."""
        if self.state is not JobState.RUNNING or ending.state.has_succeeded:
            raise IllegalTransition(self, f"retry after {ending.state}")
        self._end_attempt(time, ending)
        self.state = JobState.PENDING

    def requeue(self) -> None:
        """The job ended before the sweep was resumed, and will run again."""
        if not self.state.is_final:
            raise IllegalTransition(self, "be queued again")
        # A cancelled job has no outcome worth keeping, and a new cancel is news.
        self.before = None if self.state is JobState.CANCELLED else self.outcome
        self.state = JobState.PENDING
        self.outcome = None

    def _end_attempt(self, time: float, ending: Ending) -> None:
        attempt = self.attempts[-1]
        attempt.ended = time
        attempt.ending = ending
        job_dir = ending.whole("job_dir")
        if job_dir is not None:
            self.job_dir = Path(job_dir)

    def ending(self) -> str:
        """How the job ended, in one line; its state in lower case if it has not."""
        return self.state.lower() if self.outcome is None else self.outcome.describe()


class JobFailed(HsmError):
    """The value of a job was requested, but the job did not complete.

    Attributes:
        job: the job, with its attempts.
    """

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.job = job

    def __str__(self) -> str:
        label = f" ({self.job.label})" if self.job.label else ""
        return printable(f"job {self.job.num}{label} {self.job.state}: {self.job.ending()}")
