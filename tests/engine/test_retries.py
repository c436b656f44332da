"""A job that fails gets its further attempts, and nobody waits for them who need not."""

from __future__ import annotations

import errno
import os
import re
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from helpers.processes import PATIENCE, App, both_methods, is_running, wait_for
from helpers.reliability import (
    Recorder,
    events_of,
    points,
    source,
    start_driver,
    write_driver,
)
from hsm.core.engine import room
from hsm.core.engine.output import OutputFollower
from hsm.core.engine.timer import Timer
from hsm.core.local import LocalComputeSource
from hsm.core.record.job import Job, JobFailed, JobState
from hsm.core.record.paths import SweepPaths
from hsm.core.record.sweep import read_sweep

pytestmark = pytest.mark.thorough

#: Fails until the attempt whose number is the parameter x.
FLAKY = [
    "sh",
    "-c",
    'echo "out $HSM_ATTEMPT"; echo "err $HSM_ATTEMPT" >&2; [ $HSM_ATTEMPT -ge {x} ]',
]
HEADER = r"---- attempt (\d+), \d{4}-\d\d-\d\d \d\d:\d\d:\d\d ----"


def flaky(params: dict[str, Any]) -> str:
    attempt = int(os.environ["HSM_ATTEMPT"])
    print(f"out {attempt}")
    if attempt < params["x"]:
        raise RuntimeError(f"not yet: {attempt}")
    return f"done at {attempt}"


@both_methods
def test_a_function_is_retried_until_it_completes(tmp_path: Path, start_method: str) -> None:
    recorder = Recorder()
    settings = {"max_retries": 3, "retry_delay": 0.05, "start_method": start_method}
    with source(recorder, **settings) as made:
        one, two, never = made.submit_jobs(points(1, 3, 99), "s", tmp_path, function=flaky)
        assert made.result(one) == "done at 1"
        assert made.result(two) == "done at 3"
        with pytest.raises(JobFailed, match=r"job 2 \(x=99\) FAILED: RuntimeError: not yet: 4"):
            made.result(never)
    sweep = read_sweep(tmp_path)
    assert [len(job.attempts) for job in sweep.jobs.values()] == [1, 3, 4]
    assert [attempt.error_message for attempt in sweep.jobs[2].attempts] == [
        f"not yet: {number}" for number in (1, 2, 3, 4)
    ]
    assert sorted(recorder.events).count(("retried", 2)) == 3
    assert sorted(recorder.events).count(("ended", 2)) == 1


def test_a_command_is_retried_and_its_output_is_appended_under_headers(tmp_path: Path) -> None:
    with source(max_retries=2, retry_delay=0.05) as made:
        (job_id,) = made.submit_jobs(points(3), "s", tmp_path, command=FLAKY)
        assert made.wait() == {job_id: JobState.COMPLETED}
    paths = SweepPaths(tmp_path)
    for path, word in ((paths.stdout(0), "out"), (paths.stderr(0), "err")):
        lines = path.read_text().splitlines()
        assert lines[0::2] == [f"{word} {number}" for number in (1, 2, 3)]
        assert [re.fullmatch(HEADER, line)[1] for line in lines[1::2]] == ["2", "3"]  # type: ignore[index]


def test_a_header_begins_a_line_of_its_own_and_none_is_empty(tmp_path: Path) -> None:
    command = ["sh", "-c", "printf partial; [ $HSM_ATTEMPT = 2 ]"]
    shown: list[str] = []

    class Reader(Recorder):
        def job_output(self, job: Job, stream: str, line: str) -> None:
            shown.append(line)

    with source(Reader(), show_output=True, max_retries=1, retry_delay=0) as made:
        made.submit_jobs(points(0), "s", tmp_path, command=command)
        made.wait()
    paths = SweepPaths(tmp_path)
    assert re.fullmatch(rf"partial\n{HEADER}\npartial", paths.stdout(0).read_text())
    assert re.fullmatch(rf"{HEADER}\n", paths.stderr(0).read_text())
    assert [line for line in shown if "attempt" not in line] == ["partial", "partial"]


def test_every_attempt_is_in_the_journal_with_its_times_and_its_end(tmp_path: Path) -> None:
    with source(max_retries=1, retry_delay=0.3) as made:
        made.submit_jobs(points(99), "s", tmp_path, command=FLAKY)
    events = [event["event"] for event in events_of(tmp_path, 0)]
    assert events == ["start", "retry", "start", "end"]
    job = read_sweep(tmp_path).jobs[0]
    first, second = job.attempts
    for number, attempt in enumerate(job.attempts, start=1):
        assert (attempt.number, attempt.exit_code, attempt.pid is not None) == (number, 1, True)
        assert attempt.started is not None
        assert attempt.ended is not None
        assert attempt.started <= attempt.ended
        assert attempt.cpu_seconds is not None
        assert attempt.max_memory
    assert first.pid != second.pid
    assert second.started is not None
    assert first.ended is not None
    assert second.started - first.ended >= 0.29


def test_the_live_job_and_its_replay_agree(tmp_path: Path) -> None:
    with source(max_retries=2, retry_delay=0.05) as made:
        made.submit_jobs(points(2, 99), "s", tmp_path, command=FLAKY)
        made.wait()
        live = made.jobs()
    replayed = list(read_sweep(tmp_path).jobs.values())
    for job in replayed:
        job.job_dir = SweepPaths(tmp_path).job_dir(job.num)  # follows from the number
    assert replayed == live


def die_of(params: dict[str, Any]) -> None:
    if params["x"] == "crashed":
        os.kill(os.getpid(), signal.SIGKILL)
    if params["x"] == "timeout":
        time.sleep(60)
    if params["x"] == "failed":
        raise ValueError


@pytest.mark.parametrize("kind", ["failed", "timeout", "crashed"])
def test_retry_on_chooses_what_is_retried(tmp_path: Path, kind: str) -> None:
    settings = {"max_retries": 1, "retry_delay": 0, "retry_on": [kind], "timeout": 3}
    with source(max_parallel_jobs=3, **settings) as made:
        made.submit_jobs(points("failed", "timeout", "crashed"), "s", tmp_path, function=die_of)
    attempts = {job.params["x"]: len(job.attempts) for job in read_sweep(tmp_path).jobs.values()}
    assert attempts == {"failed": 1, "timeout": 1, "crashed": 1, kind: 2}


def test_the_back_off_doubles_up_to_its_cap(tmp_path: Path) -> None:
    recorder = Recorder()
    with source(recorder, max_retries=4, retry_delay=0.02, retry_max_delay=0.1) as made:
        made.submit_jobs(points(99), "s", tmp_path, command=FLAKY)
    assert recorder.delays == [0.02, 0.04, 0.08, 0.1]


def test_a_back_off_holds_no_slot(tmp_path: Path) -> None:
    """One slot: while job 0 waits for its second attempt, the others run."""
    with source(max_parallel_jobs=1, max_retries=1, retry_delay=1.5) as made:
        flaky_id, *others = made.submit_jobs(points(2, 1, 1, 1), "s", tmp_path, command=FLAKY)
        states = made.wait(others)
        assert set(states.values()) == {JobState.COMPLETED}
        assert made.get_job_status(flaky_id) is JobState.PENDING
        assert made.wait() == dict.fromkeys([flaky_id, *others], JobState.COMPLETED)
    sweep = read_sweep(tmp_path)
    first, second = sweep.jobs[0].attempts
    assert first.ended is not None
    assert second.started is not None
    for num in (1, 2, 3):
        attempt = sweep.jobs[num].attempts[0]
        assert attempt.started is not None
        assert attempt.ended is not None
        assert first.ended <= attempt.started
        assert attempt.ended <= second.started


def test_an_attempt_that_is_due_comes_before_jobs_that_have_not_started(tmp_path: Path) -> None:
    command = ["sh", "-c", "sleep 0.3; [ {x} != 0 ] || [ $HSM_ATTEMPT = 2 ]"]
    recorder = Recorder()
    settings = {"max_parallel_jobs": 1, "max_retries": 1, "retry_delay": 0.05}
    with source(recorder, **settings) as made:
        ids = made.submit_jobs(points(0, 1, 2, 3, 4), "s", tmp_path, command=command)
        assert made.wait(timeout=PATIENCE) == dict.fromkeys(ids, JobState.COMPLETED)
    starts = [num for event, num in recorder.events if event == "started"]
    again = len(starts) - 1 - starts[::-1].index(0)
    assert again < starts.index(4)
    assert starts[again + 1 :] == sorted(starts[again + 1 :])


def test_a_job_that_waits_for_its_attempt_can_be_cancelled_at_once(tmp_path: Path) -> None:
    recorder = Recorder()
    with source(recorder, max_retries=1, retry_delay=600) as made:
        (job_id,) = made.submit_jobs(points(99), "s", tmp_path, command=FLAKY)
        wait_for(lambda: recorder.has("retried", 0), "the back-off")
        wait_for(lambda: made.job(job_id).state is JobState.PENDING, "the back-off")
        assert made.cancel_job(job_id)
        assert made.wait(timeout=PATIENCE) == {job_id: JobState.CANCELLED}
        assert not made.cancel_job(job_id)
    job = read_sweep(tmp_path).jobs[0]
    assert (str(job.state), job.ending()) == ("CANCELLED", "not retried: cancelled")
    assert [attempt.exit_code for attempt in job.attempts] == [1]


@pytest.mark.parametrize("how", ["cancel_job", "stop"])
def test_a_cancellation_just_before_the_back_off_begins_is_not_missed(
    tmp_path: Path, how: str
) -> None:
    """An observer hears of the retry after the job has been put back, and before it waits."""
    sources: list[LocalComputeSource] = []

    def react(job: Job) -> None:
        if how == "stop":
            sources[0].stop("enough")
        else:
            assert sources[0].cancel_job(job.job_id)

    with source(Recorder(retried=react), max_retries=1, retry_delay=600) as made:
        sources.append(made)
        (job_id,) = made.submit_jobs(points(99), "s", tmp_path, command=FLAKY)
        assert made.wait(timeout=PATIENCE) == {job_id: JobState.CANCELLED}
    why = "enough" if how == "stop" else "cancelled"
    assert why in read_sweep(tmp_path).jobs[0].ending()


@pytest.mark.slow
def test_a_cancellation_while_a_job_times_out_prevents_its_retry(tmp_path: Path) -> None:
    """It is deaf to SIGTERM: between timeout and SIGKILL there is time to cancel it."""
    deaf = ["sh", "-c", 'trap "" TERM; while :; do sleep 0.05; done']
    with source(max_retries=5, retry_delay=0, timeout=0.5, kill_grace=2.0) as made:
        (job_id,) = made.submit_jobs(points(0), "s", tmp_path, command=deaf)
        handle = made._ledger[job_id]
        wait_for(lambda: handle.stop is not None, "the timeout")
        assert made.cancel_job(job_id)
        assert made.wait(timeout=PATIENCE) == {job_id: JobState.TIMEOUT}
    assert len(read_sweep(tmp_path).jobs[0].attempts) == 1


def test_close_waits_for_the_attempts_that_are_to_come(tmp_path: Path) -> None:
    with source(max_retries=2, retry_delay=0.2) as made:
        made.submit_jobs(points(3), "s", tmp_path, command=FLAKY)
    assert str(read_sweep(tmp_path).jobs[0].state) == "COMPLETED"


def test_a_program_that_just_ends_still_gets_its_retries(tmp_path: Path) -> None:
    """Nobody closes the source: the interpreter's exit waits for the attempts to come."""
    write_driver(
        tmp_path,
        """
        made = source(max_retries=2, retry_delay=0.3)
        command = ["sh", "-c", "[ $HSM_ATTEMPT -ge {x} ]"]
        made.submit_jobs([{"x": 3}, {"x": 1}, {"x": 99}], "s", "sweep", command=command)
        """,
    )
    with start_driver(tmp_path) as sweep:
        done = sweep.finish()
    assert (done.code, done.states) == (0, ["COMPLETED", "COMPLETED", "FAILED"])
    assert [len(job.attempts) for job in done.jobs.values()] == [3, 1, 3]
    assert done.sweep.closed == "finished"


def test_fail_fast_counts_a_job_once_it_has_no_attempt_left(tmp_path: Path) -> None:
    slow = ["sh", "-c", "[ $HSM_ATTEMPT -ge {x} ] && sleep {nap}"]
    jobs: list[dict[str, Any]]
    jobs = [{"x": 3, "nap": 0.1}, {"x": 99, "nap": 0}, {"x": 1, "nap": 60}]
    with source(max_parallel_jobs=3, max_retries=2, retry_delay=0.05, fail_fast=True) as made:
        made.submit_jobs(jobs, "s", tmp_path, command=slow)
    states = [str(job.state) for job in read_sweep(tmp_path).jobs.values()]
    assert states[1:] == ["FAILED", "CANCELLED"]
    assert [len(job.attempts) for job in read_sweep(tmp_path).jobs.values()][1:] == [3, 1]


@pytest.mark.slow
def test_each_attempt_has_its_own_timeout(tmp_path: Path) -> None:
    sleeps = ["sh", "-c", "[ $HSM_ATTEMPT -ge 2 ] || sleep 60"]
    with source(timeout=3, max_retries=1, retry_delay=0) as made:
        (job_id,) = made.submit_jobs(points(0), "s", tmp_path, command=sleeps)
        assert made.wait() == {job_id: JobState.COMPLETED}
    first, second = read_sweep(tmp_path).jobs[0].attempts
    assert first.ending is not None
    assert first.ending.state is JobState.TIMEOUT
    assert first.reason == "timeout after 3 s"
    assert second.ending is not None
    assert second.ending.state is JobState.COMPLETED


def test_many_jobs_wait_for_their_attempts_with_two_threads_and_no_slot(tmp_path: Path) -> None:
    recorder = Recorder()
    with source(recorder, max_retries=1, retry_delay=600) as made:
        made.submit_jobs(points(*range(90, 130)), "s", tmp_path, command=FLAKY)
        wait_for(lambda: len(recorder.delays) == 40, "40 back-offs")
        assert sum(thread.name == "hsm-timer" for thread in threading.enumerate()) == 1
        made.stop("enough")
        # Long before the 600 seconds of their back-offs are over.
        assert set(made.wait(timeout=PATIENCE).values()) == {JobState.CANCELLED}


# --- under Hydra ------------------------------------------------------------------------------


def crash_until(attempt: int) -> str:
    return f"""
    def job(cfg):
        note(f"{{cfg.job}}-{{os.environ['HSM_ATTEMPT']}}")
        print("attempt", os.environ["HSM_ATTEMPT"])
        if int(os.environ["HSM_ATTEMPT"]) < {attempt} and cfg.job == 1:
            os.kill(os.getpid(), signal.SIGSEGV)
        return cfg.job * 10
    """


@both_methods
def test_a_crashed_job_of_a_hydra_sweep_is_retried(tmp_path: Path, start_method: str) -> None:
    done = App(tmp_path, crash_until(3)).run(
        "job=range(3)", max_retries=2, retry_delay=0.1, start_method=start_method
    )
    assert (done.code, done.states, done.values) == (0, ["COMPLETED"] * 3, [0, 10, 20])
    assert [attempt.signal for attempt in done.jobs[1].attempts] == ["SIGSEGV", "SIGSEGV", None]
    lines = done.log(1, "stdout").splitlines()
    assert lines[0::2] == ["attempt 1", "attempt 2", "attempt 3"]
    assert all(re.fullmatch(HEADER, line) for line in lines[1::2])
    assert "attempt 2" in done.screen


@pytest.mark.slow
def test_ctrl_c_during_a_back_off_ends_the_sweep_at_once(tmp_path: Path) -> None:
    app = App(tmp_path, crash_until(99))
    with app.start("job=range(2)", max_retries=5, retry_delay=600) as sweep:

        def waits() -> bool:
            return {"retry", "end"} <= {event["event"] for event in app.events()}

        wait_for(waits, "the end of job 0, and the back-off of job 1")
        sweep.process.send_signal(signal.SIGINT)
        done = sweep.finish()
        sweep.assert_all_gone()
    assert done.code == 130
    assert done.states == ["COMPLETED", "CANCELLED"]
    assert "interrupted by SIGINT" in done.jobs[1].ending()


def test_a_job_that_is_killed_with_its_keeper_has_crashed(tmp_path: Path) -> None:
    command = ["sh", "-c", "[ $HSM_ATTEMPT = 2 ] || exec sleep 60"]

    def kill_keeper(job: Job) -> None:
        attempt = job.attempts[-1]
        if attempt.number == 1:
            keeper = psutil.Process(attempt.pid).parent()
            assert keeper is not None
            keeper.kill()

    settings = {"max_retries": 1, "retry_delay": 0, "retry_on": ["crashed"]}
    with source(Recorder(started=kill_keeper), **settings) as made:
        (job_id,) = made.submit_jobs(points(1), "s", tmp_path, command=command)
        assert made.wait(timeout=PATIENCE) == {job_id: JobState.COMPLETED}
    lost, _ = read_sweep(tmp_path).jobs[0].attempts
    assert lost.reason == "its keeper was killed, and the job with it"


# --- faults of hsm's own ----------------------------------------------------------------------


class Broken(Recorder):
    """Notes everything, and then raises."""

    def jobs_submitted(self, jobs: Sequence[Job]) -> None:
        raise RuntimeError("I cannot count")

    def _note(self, event: str, job: Job) -> None:
        super()._note(event, job)
        raise RuntimeError(f"I cannot bear that a job has {event}")


def test_what_an_observer_raises_is_logged_once_and_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken, recorder = Broken(), Recorder()
    with source(broken, recorder, max_retries=1, retry_delay=0) as made:
        ids = made.submit_jobs(points(1, 2), "s", tmp_path, command=FLAKY)
        assert made.wait(timeout=PATIENCE) == dict.fromkeys(ids, JobState.COMPLETED)
    assert sorted(broken.events) == sorted(recorder.events)
    assert recorder.has("retried", 1)
    told = [record for record in caplog.records if "observer" in record.message]
    assert len(told) == 1
    assert "I cannot count" in caplog.text


@both_methods
def test_a_job_that_hsm_cannot_look_after_is_ended_before_its_slot_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start_method: str
) -> None:
    """No descriptor is left when its output is to be followed, say."""
    alive: dict[int, bool] = {}

    def is_left(job: Job) -> None:
        assert job.attempts[0].pid is not None
        alive[job.num] = is_running(job.attempts[0].pid)

    def add(self: OutputFollower, job: Job, *_: Any, **__: Any) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    def stay(params: dict[str, Any]) -> None:
        time.sleep(60)

    monkeypatch.setattr(OutputFollower, "add", add)
    with source(Recorder(ended=is_left), start_method=start_method) as made:
        made.submit_jobs(points(0, 1, 2), "s", tmp_path, function=stay)
        made.wait(timeout=PATIENCE)
    assert alive == {0: False, 1: False, 2: False}
    for job in read_sweep(tmp_path).jobs.values():
        assert (str(job.state), len(job.attempts)) == ("FAILED", 1)
        assert "Too many open files" in job.ending()


def test_a_retry_that_nobody_can_wait_for_ends_its_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def later(self: Timer, *_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Timer, "later", later)
    with source(max_retries=1, retry_delay=0) as made:
        (job_id,) = made.submit_jobs(points(2), "s", tmp_path, command=FLAKY)
        assert made.wait(timeout=PATIENCE) == {job_id: JobState.CANCELLED}
    job = read_sweep(tmp_path).jobs[0]
    assert "not retried" in job.ending()
    assert job.attempts[0].exit_code == 1


@pytest.mark.parametrize("names", [("hsm-slot",), ("hsm-",)])
def test_without_a_single_thread_no_job_starts_and_nobody_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    start = threading.Thread.start

    def no_slots(self: threading.Thread) -> None:
        if self.name.startswith(names):
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", no_slots)
    recorder = Recorder()
    with source(recorder) as made:
        ids = made.submit_jobs(points(0, 1), "s", tmp_path, command=["true"])
        assert made.wait(timeout=PATIENCE) == dict.fromkeys(ids, JobState.CANCELLED)
    ending = read_sweep(tmp_path).jobs[0].ending()
    reason = "cannot start a thread: can't start new thread"
    assert ending == f"never started: jobs cannot be started: {reason}"
    assert recorder.messages == [f"no more jobs start: {reason}; a resume runs the others"]


@pytest.mark.parametrize("settings", [{"show_output": True}, {"memory_limit": "1GB"}])
def test_jobs_wait_for_a_thread_that_hsm_needs_and_have_not_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    start = threading.Thread.start
    refused: list[str] = []

    def late(self: threading.Thread) -> None:
        if self.name in ("hsm-output", "hsm-memory") and len(refused) < 3:
            refused.append(self.name)
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", late)
    recorder = Recorder()
    with source(recorder, **settings) as made:
        ids = made.submit_jobs(points(0, 1), "s", tmp_path, command=["true"])
        assert made.wait(timeout=PATIENCE) == dict.fromkeys(ids, JobState.COMPLETED)
    assert len(refused) == 3
    assert recorder.messages == ["jobs wait: cannot start a thread: can't start new thread"]


@pytest.mark.parametrize("settings", [{"show_output": True}, {"memory_limit": "1GB"}])
def test_a_thread_that_cannot_start_leaves_a_record_that_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    start = threading.Thread.start

    def no_more(self: threading.Thread) -> None:
        if self.name in ("hsm-output", "hsm-memory"):
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", no_more)
    monkeypatch.setattr(room, "PATIENCE", 0.1)
    with source(**settings) as made:
        (job_id,) = made.submit_jobs(points(0), "s", tmp_path, command=["sleep", "60"])
        assert made.wait(timeout=PATIENCE) == {job_id: JobState.CANCELLED}
    sweep = read_sweep(tmp_path)
    assert sweep.closed is not None
    assert sweep.closed.startswith("jobs cannot be started: cannot start a thread")
    assert sweep.jobs[0].attempts == []
    assert "can't start new thread" in sweep.jobs[0].ending()
