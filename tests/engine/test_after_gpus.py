"""What becomes of a job and its GPUs when it fails because of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from helpers.reliability import Recorder, conf, events_of
from hsm.core.engine.after_attempt import AfterAttempt
from hsm.core.engine.after_gpus import AfterGpus
from hsm.core.engine.backend import Attempt, Backend, Ended, JobLost, Launch, Started, Work
from hsm.core.engine.launching import describe_launch
from hsm.core.engine.ledger import JobHandle, Ledger
from hsm.core.engine.measuring import Measuring
from hsm.core.engine.observers import Observers
from hsm.core.engine.output import OutputFollower
from hsm.core.engine.policy import RetryPolicy, StopPolicy
from hsm.core.engine.supervisor import Supervisor
from hsm.core.engine.time_limits import TimeLimits
from hsm.core.gpu.device import Gpu
from hsm.core.gpu.grant import GpuGrant
from hsm.core.gpu.need import GpuNeed
from hsm.core.gpu.pool import GpuPool
from hsm.core.record.job import Job, JobState
from hsm.core.record.journal import Journal
from hsm.core.record.paths import SweepPaths
from hsm.core.record.sweep import read_sweep

GIB = 1 << 30
OOM = "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB.\n"
ECC = "RuntimeError: CUDA error: uncorrectable ECC error encountered\n"


class Pool:
    """Four GPUs, or fewer."""

    def __init__(self, count: int) -> None:
        self.gpus = [Gpu(str(n), index=n, memory=24 * GIB) for n in range(count)]
        self.out: dict[int | str, str] = {}
        self.told: list[str] = []

    @property
    def is_gone(self) -> str:
        return "no GPU is left" if len(self.out) == len(self.gpus) else ""

    def grant(self, job: int, *indices: int) -> GpuGrant:
        return GpuGrant(job, GpuNeed(len(indices)), tuple(self.gpus[at] for at in indices))

    def job_ended(self, grant: GpuGrant) -> None:
        grant.peak_memory, grant.mean_load = 5 * GIB, 61.28
        grant.neighbours = {"job 12", "job 3"}

    @property
    def allowed(self) -> tuple[Gpu, ...]:
        return tuple(gpu for gpu in self.gpus if gpu.id not in self.out)

    def leave_out(self, gpu: Gpu, why: str) -> None:
        if why:
            self.out[gpu.id] = why
        else:
            del self.out[gpu.id]
        self.told.append(f"{gpu} is {'out' if why else 'back'}")


@dataclass
class Scripted(Attempt):
    """Says `words` on stderr, and ends with a code."""

    launch: Launch
    words: str
    ends: Ended | None

    def start(self) -> None:
        pass

    def started(self) -> Started:
        return Started(None)

    def ended(self, deadline: float | None) -> Ended:
        with open(self.launch.stderr, "a") as log:
            log.write(f"{self.launch.header}\n" if self.launch.header else "")
            log.write(self.words)
        if self.ends is None:
            raise JobLost("its keeper was killed, and the job with it")
        return self.ends

    def end(self, grace: float) -> None:
        pass

    def pause(self) -> None:
        pass

    def unpause(self) -> None:
        pass

    def close(self) -> None:
        pass


class Place(Backend):
    def __init__(self) -> None:
        self.words, self.ends = "", Ended(1)
        self.lost = False

    def prepare(self, function: object, script: object = None) -> Work:
        return Work()

    def allow(self, jobs: int | str) -> int:
        return int(jobs)

    def get_ready(self, is_wanted: object, notice: object) -> None:
        pass

    def close(self) -> None:
        pass

    def attempt(self, work: Work, launch: Launch) -> Scripted:
        return Scripted(launch, self.words, None if self.lost else self.ends)


@dataclass
class Sweep:
    """A supervisor of which each attempt has the GPUs and the end that a test says."""

    folder: Path
    pool: Pool | None
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.recorder, self.ledger, self.place = Recorder(), Ledger(), Place()
        self.retries: list[tuple[int, float]] = []
        self.stopped: list[str] = []
        self.journal = Journal(SweepPaths(self.folder), "s", {})
        settings = conf(**self.settings)
        observers = Observers([self.recorder], list, shows_output=False)
        self.output = OutputFollower(observers.job_output, every_line=False)
        self.measuring = Measuring(self.ledger, observers, 1.0)
        after = AfterAttempt()
        if self.pool is not None:
            pool = cast("GpuPool", self.pool)
            after = AfterGpus(pool, self.ledger, lambda change: change())
        self.supervisor = Supervisor(
            conf=settings,
            backend=self.place,
            ledger=self.ledger,
            observers=observers,
            output=self.output,
            measuring=self.measuring,
            time_limits=TimeLimits(settings),
            retries=RetryPolicy(settings),
            stops=StopPolicy(settings),
            after=after,
            retry_later=lambda handle, delay: self.retries.append((handle.job.num, delay)),
            put_back=lambda handle, shortage: None,
            has_started=lambda handle: None,
            stop=lambda reason: True,
            start_no_more=self.stopped.append,
        )

    def close(self) -> None:
        self.output.stop()
        self.measuring.stop()
        self.journal.close("finished")

    def job(self) -> JobHandle:
        num = len(self.ledger.all())
        job = Job(num, f"s_{num}", f"x={num}", {"x": num})
        self.journal.submit([job])
        work = Work(command=("train",))
        handle = JobHandle(job, work, None, self.journal, str(self.folder))
        handle.gpu_need = GpuNeed()
        self.ledger.add([handle])
        return handle

    def run(
        self, handle: JobHandle, *gpus: int, words: str = "", code: int = 1, slot: int = 0
    ) -> JobHandle:
        """Run one attempt of a job on these GPUs."""
        handle.grant = self.pool.grant(handle.job.num, *gpus) if self.pool and gpus else None
        handle.slot = slot
        self.place.words, self.place.ends = words, Ended(code)
        runs_again = self.supervisor.run(handle)
        assert runs_again == (not handle.job.state.is_final)
        return handle

    def fails(self, *gpus: int, words: str = "") -> JobHandle:
        return self.run(self.job(), *gpus, words=words)

    def completes(self, *gpus: int) -> JobHandle:
        return self.run(self.job(), *gpus, code=0)


@pytest.fixture
def sweep(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Sweep]:
    options = getattr(request, "param", {})
    made = Sweep(tmp_path, Pool(options.pop("gpus", 4)), options)
    yield made
    made.close()


def test_what_a_job_had_of_its_gpus_is_on_record(sweep: Sweep, tmp_path: Path) -> None:
    handle = sweep.job()
    handle.ready -= 7
    sweep.run(handle, 1, 3, code=0, slot=2)
    assert sweep.run(sweep.job(), code=0).job.state is JobState.COMPLETED
    start, end = events_of(tmp_path, 0)
    assert (start["slot"], start["gpus"]) == (2, [1, 3])
    assert 7 <= start["waited"] < 60
    assert (end["gpu_memory"], end["gpu_load"]) == (5 * GIB, 61.3)
    for event in events_of(tmp_path, 1):
        assert event.keys() & {"slot", "gpus", "waited", "gpu_memory", "gpu_load"} == set()
    attempt = read_sweep(tmp_path).jobs[0].attempts[0]
    assert (attempt.slot, attempt.gpus, attempt.gpu_load) == (2, [1, 3], 61.3)
    assert attempt == handle.job.attempts[0]


def test_a_job_that_was_lost_has_used_its_gpus_all_the_same(sweep: Sweep, tmp_path: Path) -> None:
    sweep.place.lost = True
    sweep.fails(1)
    assert events_of(tmp_path, 0)[-1]["gpu_memory"] == 5 * GIB


# --- out of GPU memory ------------------------------------------------------------------------


def test_a_job_without_gpu_memory_tells_who_else_was_there(sweep: Sweep) -> None:
    handle = sweep.fails(0, words=OOM)
    assert handle.job.state is JobState.OUT_OF_MEMORY
    assert handle.job.ending() == (
        "out of GPU memory: tried to allocate 2.00 GiB; job 3 and job 12 were on GPU 0 too; "
        "it had up to 5.0 GiB of 24 GiB"
    )


def test_so_does_one_that_hsm_gave_no_gpu(sweep: Sweep) -> None:
    handle = sweep.fails(words=OOM)
    assert handle.job.state is JobState.OUT_OF_MEMORY
    assert handle.job.ending() == "out of GPU memory: tried to allocate 2.00 GiB"
    assert sweep.fails(words="ValueError: x\n").job.ending() == "exit code 1"


@pytest.mark.parametrize("sweep", [{"max_retries": 1}], indirect=True)
def test_its_retry_runs_alone_on_its_gpu(sweep: Sweep) -> None:
    handle = sweep.fails(0, words=OOM)
    assert handle.gpu_need == GpuNeed(alone=True)
    assert (handle.job.state, handle.avoid) == (JobState.PENDING, frozenset())
    assert len(sweep.retries) == 1
    sweep.run(handle, 0, words=OOM)
    assert handle.job.state is JobState.OUT_OF_MEMORY


@pytest.mark.parametrize(
    "sweep", [{"max_retries": 1, "retry_on": ["failed"]}, {"max_retries": 1}], indirect=True
)
def test_only_a_retry_for_lack_of_gpu_memory_runs_alone(sweep: Sweep) -> None:
    words = OOM if sweep.settings.get("retry_on") else "ValueError: x\n"
    assert sweep.fails(0, words=words).gpu_need == GpuNeed()


@pytest.mark.parametrize("sweep", [{"max_retries": 1}], indirect=True)
def test_what_an_earlier_attempt_said_does_not_count(sweep: Sweep) -> None:
    handle = sweep.fails(0, words=OOM)
    sweep.run(handle, 0, words="")
    assert (handle.job.state, handle.job.ending()) == (JobState.FAILED, "exit code 1")


def test_nor_does_what_a_job_said_that_completed_or_that_hsm_ended(sweep: Sweep) -> None:
    assert sweep.run(sweep.job(), 0, words=OOM, code=0).job.state is JobState.COMPLETED
    handle = sweep.job()
    handle.grant = None
    sweep.place.words, sweep.place.ends = OOM, Ended(1, asked=True)
    sweep.supervisor.run(handle)
    assert handle.job.state is JobState.FAILED
    assert sweep.pool is not None
    assert not sweep.pool.out


# --- errors of drivers ------------------------------------------------------------------------


def test_a_job_that_a_drivers_error_killed_starts_elsewhere_once_at_no_retry(
    sweep: Sweep, tmp_path: Path
) -> None:
    handle = sweep.fails(1, words=ECC)
    assert (handle.job.state, handle.avoid) == (JobState.PENDING, frozenset("1"))
    assert sweep.retries == [(0, 0.0)]
    sweep.run(handle, 2, words=ECC)
    assert handle.job.state is JobState.FAILED
    assert sweep.retries == [(0, 0.0)]
    reason = "driver error on GPU {}: RuntimeError: CUDA error: uncorrectable ECC error encountered"
    told = [(event["event"], event.get("reason")) for event in events_of(tmp_path, 0)]
    assert told == [
        ("start", None),
        ("retry", reason.format(1)),
        ("start", None),
        ("end", reason.format(2)),
    ]


@pytest.mark.parametrize("sweep", [{"max_retries": 1, "retry_delay": 5}], indirect=True)
def test_its_retries_come_on_top_and_avoid_both_gpus(sweep: Sweep) -> None:
    handle = sweep.fails(1, words=ECC)
    sweep.run(handle, 2, words=ECC)
    assert (sweep.retries, handle.avoid) == ([(0, 0.0), (0, 5.0)], frozenset("12"))
    sweep.run(handle, 3, words=ECC)
    assert handle.job.state is JobState.FAILED
    assert [attempt.gpus for attempt in handle.job.attempts] == [[1], [2], [3]]


@pytest.mark.parametrize("sweep", [{"gpus": 1}, {"gpus": 1, "max_retries": 1}], indirect=True)
def test_with_one_gpu_there_is_no_elsewhere(sweep: Sweep) -> None:
    handle = sweep.fails(0, words=ECC)
    if sweep.settings:
        assert len(sweep.retries) == 1
        sweep.run(handle, 0, words=ECC)
    assert handle.job.state is JobState.FAILED
    assert len(handle.job.attempts) == 1 + len(sweep.settings)


def test_a_cancelled_job_starts_nowhere(sweep: Sweep) -> None:
    handle = sweep.job()
    handle.is_cancelled = True
    sweep.run(handle, 1, words=ECC)
    assert (handle.job.state, sweep.retries) == (JobState.FAILED, [])


def test_what_jobs_without_gpus_of_hsm_say_of_drivers_changes_nothing(sweep: Sweep) -> None:
    handle = sweep.fails(words=ECC)
    assert (handle.job.state, handle.job.ending()) == (JobState.FAILED, "exit code 1")
    assert not sweep.retries


# --- GPUs that are left out -------------------------------------------------------------------


def test_a_gpu_on_which_jobs_fail_that_do_not_fail_elsewhere_is_left_out(sweep: Sweep) -> None:
    assert sweep.pool is not None
    sweep.completes(1)
    sweep.fails(0)
    sweep.fails(0)
    assert list(sweep.pool.out) == [0]
    assert "jobs 1-2 failed on it within 60 s" in sweep.pool.out[0]
    sweep.fails(2)
    assert sweep.pool.told == ["GPU 0 is out", "GPU 0 is back"]
    assert not sweep.stopped


def test_a_job_that_still_runs_elsewhere_shows_that_it_can(sweep: Sweep) -> None:
    assert sweep.pool is not None
    long = sweep.job()
    launch = describe_launch(long, conf())
    sweep.ledger.launch(long, Scripted(launch, "", None))
    long.grant = sweep.pool.grant(long.job.num, 1)
    sweep.ledger.started(long, None)
    sweep.fails(0)
    sweep.fails(0)
    assert not sweep.pool.out
    long.began -= 60
    sweep.fails(0)
    assert list(sweep.pool.out) == [0]


def test_two_drivers_errors_leave_a_gpu_out_and_the_sweep_stops_with_the_last_one(
    sweep: Sweep,
) -> None:
    assert sweep.pool is not None
    for gpu in range(4):
        assert not sweep.stopped
        for _ in range(2):
            sweep.fails(gpu, words=ECC)
    assert list(sweep.pool.out) == [0, 1, 2, 3]
    assert sweep.stopped == ["no GPU is left"]


def test_a_source_without_gpus_has_nothing_to_look_after(tmp_path: Path) -> None:
    made = Sweep(tmp_path, None)
    assert made.fails(words=OOM).job.state is JobState.OUT_OF_MEMORY
    assert made.fails(words=ECC).job.state is JobState.FAILED
    made.close()
