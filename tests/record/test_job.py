from __future__ import annotations

import pytest

from hsm.core.record.job import Ending, IllegalTransition, Job, JobState
from hsm.core.record.signal_names import signal_name

FINAL = [state for state in JobState if state.is_final]


def job() -> Job:
    return Job(3, "sweep_3", "lr=0.1", {"lr": 0.1})


def test_a_state_prints_as_its_bare_name() -> None:
    assert f"{JobState.RUNNING}" == str(JobState.RUNNING) == "RUNNING"
    assert [str(state) for state in JobState if not state.is_final] == ["PENDING", "RUNNING"]


@pytest.mark.parametrize("state", FINAL)
def test_a_running_job_may_end_in_every_final_state(state: JobState) -> None:
    running = job()
    running.start(10.0, 42)
    running.end(12.5, Ending(state, value=7, job_dir="/somewhere"))
    assert (running.state, running.duration, running.value) == (state, 2.5, 7)
    assert str(running.job_dir) == "/somewhere"


@pytest.mark.parametrize("state", FINAL)
def test_a_pending_job_can_only_be_cancelled(state: JobState) -> None:
    pending = job()
    if state is JobState.CANCELLED:
        pending.end(1.0, Ending(state, reason="cancelled"))
        assert (pending.state, pending.duration, pending.ending()) == (state, None, "cancelled")
    else:
        with pytest.raises(IllegalTransition, match=f"job 3 is PENDING: it cannot end as {state}"):
            pending.end(1.0, Ending(state))
        assert pending.state is JobState.PENDING


@pytest.mark.parametrize("state", FINAL)
def test_nothing_follows_a_final_state(state: JobState) -> None:
    ended = job()
    ended.start(1.0, 42)
    ended.end(2.0, Ending(state))
    with pytest.raises(IllegalTransition):
        ended.start(3.0, 43)
    with pytest.raises(IllegalTransition):
        ended.end(3.0, Ending(JobState.COMPLETED))
    assert (ended.state, len(ended.attempts)) == (state, 1)


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.RUNNING])
def test_a_job_cannot_end_in_a_state_that_is_no_end(state: JobState) -> None:
    running = job()
    running.start(1.0, 42)
    with pytest.raises(IllegalTransition):
        running.end(2.0, Ending(state))


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        (Ending(JobState.COMPLETED, exit_code=0), "completed"),
        (Ending(JobState.FAILED, exit_code=3), "exit code 3"),
        (Ending(JobState.FAILED, signal="SIGSEGV"), "killed by SIGSEGV"),
        (
            Ending(JobState.TIMEOUT, signal="SIGTERM", reason="timeout after 2 s"),
            "timeout after 2 s",
        ),
        (
            Ending(JobState.FAILED, exit_code=1, error_type="ValueError", error_message="a\nb"),
            "ValueError: a",
        ),
        (Ending(JobState.FAILED, exit_code=1, error_type="KeyError", error_message=""), "KeyError"),
        (Ending(JobState.OUT_OF_MEMORY), "out of memory"),
    ],
)
def test_an_ending_is_told_in_one_line(ending: Ending, text: str) -> None:
    assert ending.describe() == text


def test_signals_have_names() -> None:
    assert (signal_name(9), signal_name(11), signal_name(42)) == ("SIGKILL", "SIGSEGV", "SIG42")
