"""A job that takes too long is ended with all that it has started, in time, and nobody else is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from textwrap import dedent

import pytest

from helpers.processes import (
    FORK_OR_SLOW_SPAWN,
    START_METHODS,
    App,
    Finished,
    RunningSweep,
    both_methods,
    is_running,
    wait_for,
)
from hsm.core.record.job import Job, JobState

pytestmark = pytest.mark.thorough

KILL_GRACE = 1.0
#: Seconds over timeout and grace that the end of a job may take, on a busy machine.
SLACK = 30.0

# One job for each way to outlive one's time; each notes the pids of all its processes.
OUTLIVING = """
    def save(signum, frame):
        time.sleep(0.3)
        note("saved", "all of it")
        sys.exit(0)


    def job(cfg):
        name = KINDS[cfg.job]
        note(f"{name}.self", os.getpid())
        if "deaf" in name:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what it starts inherits that
        if "program" in name:
            program = subprocess.Popen(["sleep", "1000"])
            note(f"{name}.sleep", program.pid)
        if "child" in name:
            child(f"{name}.child")
        if "daemon" in name:
            daemon(f"{name}.daemon")
        if name == "saves":
            signal.signal(signal.SIGTERM, save)
        if name == "stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        stay()
"""
_ALL_KINDS = (
    "hangs",
    "deaf",
    "child",
    "deaf child",
    "program",
    "deaf program",
    "daemon",
    "deaf daemon",
    "stopped",
    "saves",
)
KINDS = {
    "fork": _ALL_KINDS,
    # Fewer, since ten interpreters that start at once take a while to get to what is tested here.
    "spawn": ("hangs", "deaf child", "daemon", "deaf daemon", "saves"),
}
#: Seconds. Jobs need some of it for their own start.
TIMEOUT = {"fork": 5.0, "spawn": 15.0}


@dataclass(frozen=True)
class TimedOut:
    """A sweep whose jobs all timed out.

    Attributes:
        start_method: of the launcher.
        done: the sweep.
        left: by job, those of its processes that were there when the journal told of its end.
        folder: of the app.
    """

    start_method: str
    done: Finished
    left: dict[int, list[str]]
    folder: Path

    @property
    def timeout(self) -> float:
        return TIMEOUT[self.start_method]

    def num(self, kind: str) -> int:
        return KINDS[self.start_method].index(kind)

    def job(self, kind: str) -> Job:
        return self.done.jobs[self.num(kind)]


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], TimedOut]:
    """Gives the sweep with a start method; it is run when the first test asks for it."""
    return cache(lambda start_method: _run(start_method, tmp_path_factory.mktemp("timeouts")))


@pytest.fixture
def timed_out(request: pytest.FixtureRequest, sweeps: Callable[[str], TimedOut]) -> TimedOut:
    return sweeps(request.param)


def _run(start_method: str, folder: Path) -> TimedOut:
    kinds = KINDS[start_method]
    left: dict[int, list[str]] = {}
    with App(folder, f"KINDS = {kinds!r}\n" + dedent(OUTLIVING)).start(
        f"job=range({len(kinds)})",
        start_method=start_method,
        max_parallel_jobs=len(kinds),
        timeout=TIMEOUT[start_method],
        kill_grace=KILL_GRACE,
    ) as running:

        def all_seen() -> bool:
            journal = running.sweep_dir / ".hsm" / "journal.jsonl"
            # It is empty for a moment, until its first line has been put together.
            has_begun = journal.exists() and journal.stat().st_size > 0
            jobs = running.read().jobs if has_begun else {}
            for num, job in jobs.items():
                if job.state.is_final and num not in left:
                    left[num] = [f.name for f in folder.glob(f"{kinds[num]}.*") if _runs(f)]
            return len(left) == len(kinds)

        wait_for(all_seen, "the end of every job")
        return TimedOut(start_method, running.finish(), left, folder)


def _runs(file: Path) -> bool:
    return file.suffix != ".tmp" and is_running(int(file.read_text()))


def each(*kinds: str) -> pytest.MarkDecorator:
    """Parametrise a test with each start method and those of `kinds` that are tested with it."""
    pairs = [
        pytest.param(method, kind, marks=[pytest.mark.slow] if method == "spawn" else [])
        for method in START_METHODS
        for kind in kinds
        if kind in KINDS[method]
    ]
    return pytest.mark.parametrize(("timed_out", "kind"), pairs, indirect=["timed_out"])


each_sweep = pytest.mark.parametrize("timed_out", FORK_OR_SLOW_SPAWN, indirect=True)


@each(*_ALL_KINDS)
def test_a_job_that_takes_too_long_is_ended_in_time(timed_out: TimedOut, kind: str) -> None:
    job = timed_out.job(kind)
    assert job.state is JobState.TIMEOUT
    assert job.ending() == f"timeout after {timed_out.timeout:g} s"
    assert job.duration is not None
    assert timed_out.timeout - 0.1 <= job.duration <= timed_out.timeout + KILL_GRACE + SLACK
    assert job.value is None


@each(*_ALL_KINDS)
def test_nothing_of_it_is_left_when_its_end_is_told(timed_out: TimedOut, kind: str) -> None:
    expected = 1 + sum(word in kind for word in ("program", "child", "daemon"))
    assert len(list(timed_out.folder.glob(f"{kind}.*"))) == expected  # it had got so far
    assert timed_out.left[timed_out.num(kind)] == []


@each("hangs", "child", "program", "daemon", "stopped")
def test_one_that_obeys_sigterm_is_not_killed(timed_out: TimedOut, kind: str) -> None:
    job = timed_out.job(kind)
    assert job.attempt is not None
    assert job.attempt.signal == "SIGTERM"


@each("deaf", "deaf child", "deaf program", "deaf daemon")
def test_one_that_does_not_is_killed_after_its_grace(timed_out: TimedOut, kind: str) -> None:
    job = timed_out.job(kind)
    assert job.attempt is not None
    assert job.attempt.signal == "SIGKILL"
    assert job.duration is not None
    assert job.duration >= timed_out.timeout + KILL_GRACE - 0.1


@each_sweep
def test_work_is_saved_within_the_grace(timed_out: TimedOut) -> None:
    assert (timed_out.folder / "saved").read_text() == "all of it"


@each_sweep
def test_the_command_tells(timed_out: TimedOut) -> None:
    assert timed_out.done.code == 1
    told = timed_out.done.screen.count(f"timeout after {timed_out.timeout:g} s")
    assert told >= len(KINDS[timed_out.start_method])


@pytest.mark.slow
@both_methods
def test_other_jobs_are_left_alone(tmp_path: Path, start_method: str) -> None:
    # Job 0 hangs; job 1 ends when most of job 0's time is over; then job 2 starts and outlives it.
    body = """
        def job(cfg):
            daemon(f"daemon{cfg.job}")
            note(f"self{cfg.job}", os.getpid())
            if cfg.job == 0:
                stay()
            wait_for(f"go{cfg.job}")
            return 10 * cfg.job
    """
    with App(tmp_path, body).start(
        "job=range(3)", start_method=start_method, timeout=12, kill_grace=1
    ) as running:
        running.wait_for_files("self0", "daemon0", "self1", "daemon1")
        running.wait_until_running(0)
        started = running.read().jobs[0].attempts[0].started
        assert started is not None
        # Job 2 has as much time, and most of it is left when job 0 has ended.
        wait_for(lambda: time.time() > started + 8, "most of the time of job 0")
        running.touch("go1")
        running.wait_for_files("self2", "daemon2")
        assert not is_running(running.pid("daemon1"))  # job 1 has ended, and its daemon with it
        assert running.wait_until_ended(0).state is JobState.TIMEOUT
        assert not is_running(running.pid("self0"))
        assert not is_running(running.pid("daemon0"))
        assert is_running(running.pid("self2"))
        assert is_running(running.pid("daemon2"))
        running.touch("go2")
        running.wait_until_ended(2)
        assert not is_running(running.pid("daemon2"))
        done = running.finish()
    assert done.states == ["TIMEOUT", "COMPLETED", "COMPLETED"]
    assert done.values == [None, 10, 20]
    assert done.code == 1


LEAVING = """
    def job(cfg):
        signal.signal(signal.SIGTERM, signal.SIG_IGN if cfg.job == 2 else signal.SIG_DFL)
        if cfg.job != 0:
            daemon(f"daemon{cfg.job}")
            child(f"child{cfg.job}")
            wait_for(f"daemon{cfg.job}")
            wait_for(f"child{cfg.job}")
        if cfg.job == 3:
            os._exit(4)
        return 10 * cfg.job
"""


def _see_them_end(running: RunningSweep, *numbers: int) -> Finished:
    """The sweep, once nothing is left of each of these jobs when its end was told."""
    for num in numbers:
        running.wait_for_files(f"daemon{num}", f"child{num}")
        running.wait_until_ended(num)
        assert not is_running(running.pid(f"daemon{num}"))
        assert not is_running(running.pid(f"child{num}"))
    return running.finish()


@pytest.mark.slow
@both_methods
def test_what_a_job_leaves_behind_ends_with_it(tmp_path: Path, start_method: str) -> None:
    """None of it is deaf, so the grace of ten minutes is waited for by nobody."""
    with App(tmp_path, LEAVING).start(
        "job=0,1,3", start_method=start_method, kill_grace=600
    ) as running:
        for num, job in ((1, 1), (2, 3)):
            running.wait_for_files(f"daemon{job}", f"child{job}")
            running.wait_until_ended(num)
            assert not is_running(running.pid(f"daemon{job}"))
            assert not is_running(running.pid(f"child{job}"))
        done = running.finish()
    assert done.states == ["COMPLETED", "COMPLETED", "FAILED"]
    assert done.values == [0, 10, None]
    assert done.jobs[2].ending() == "exit code 4"


@pytest.mark.slow
@both_methods
def test_what_it_leaves_behind_that_is_deaf_is_killed_after_the_grace(
    tmp_path: Path, start_method: str
) -> None:
    with App(tmp_path, LEAVING).start(
        "job=range(5)", start_method=start_method, kill_grace=1
    ) as running:
        done = _see_them_end(running, 1, 2, 3, 4)
    assert done.states == ["COMPLETED"] * 3 + ["FAILED", "COMPLETED"]
    assert done.values == [0, 10, 20, None, 40]
    assert done.jobs[3].ending() == "exit code 4"
