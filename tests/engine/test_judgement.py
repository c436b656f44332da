from __future__ import annotations

import signal

import pytest

from hsm.core.engine.backend import Ended
from hsm.core.engine.judgement import Stop, judge
from hsm.core.local.oom import KILLED, OomKill
from hsm.core.program.reports import Report
from hsm.core.record.job import Ending, JobState

TIMEOUT = Stop(JobState.TIMEOUT, "timeout after 2 s")


def exited(code: int, *, asked: bool = False) -> Ended:
    return Ended(code, None, asked, 0.5, 1000)


def killed(number: int, *, asked: bool = False) -> Ended:
    return Ended(None, signal.Signals(number).name, asked, 0.5, 1000)


def verdict(
    ended: Ended, report: Report | None = None, stop: Stop | None = None, function: bool = True
) -> Ending:
    return judge(ended, report, stop, is_function=function)


def test_a_function_that_returned_completed_with_its_value() -> None:
    ending = verdict(exited(0), Report(json=7))
    assert (ending.state, ending.value, ending.exit_code) == (JobState.COMPLETED, 7, 0)
    assert (ending.cpu_seconds, ending.max_memory) == (0.5, 1000)


def test_a_command_that_exits_with_0_completed() -> None:
    assert verdict(exited(0), function=False).state is JobState.COMPLETED


def test_a_function_that_did_not_return_is_never_read_as_success() -> None:
    ending = verdict(exited(0))
    assert (ending.state, ending.exit_code) == (JobState.FAILED, 0)
    assert "did not return" in ending.describe()


@pytest.mark.parametrize("ended", [exited(3), killed(signal.SIGSEGV), killed(signal.SIGKILL)])
def test_how_the_process_ended_overrides_its_own_report_of_success(ended: Ended) -> None:
    ending = verdict(ended, Report(json=7))
    assert (ending.state, ending.value) == (JobState.FAILED, None)


def test_a_signal_is_named() -> None:
    ending = verdict(killed(signal.SIGABRT))
    assert (ending.signal, ending.exit_code, ending.describe()) == (
        "SIGABRT",
        None,
        "killed by SIGABRT",
    )


@pytest.mark.parametrize("ended", [killed(signal.SIGTERM, asked=True), exited(0, asked=True)])
def test_what_hsm_ended_has_the_state_that_goes_with_it(ended: Ended) -> None:
    ending = verdict(ended, Report(json=7), TIMEOUT)
    assert (ending.state, ending.reason, ending.value) == (
        JobState.TIMEOUT,
        "timeout after 2 s",
        None,
    )


def test_a_job_that_ended_by_itself_before_the_stop_reached_it_keeps_its_ending() -> None:
    assert verdict(exited(0), Report(json=7), TIMEOUT).value == 7
    assert verdict(exited(3), None, TIMEOUT).describe() == "exit code 3"


def test_an_exception_is_named() -> None:
    report = Report(error_type="ValueError", error_message="boom")
    assert verdict(exited(1), report).describe() == "ValueError: boom"


def test_a_value_that_cannot_be_pickled_is_named() -> None:
    ending = verdict(exited(0), Report(unpicklable="_thread.lock"))
    assert ending.state is JobState.COMPLETED
    assert ending.reason is not None
    assert "_thread.lock" in ending.reason


OOM = "killed by the kernel's out-of-memory killer"


@pytest.mark.parametrize(
    ("ended", "kill", "ending"),
    [
        (killed(signal.SIGKILL), OomKill.HERE, OOM),
        (killed(signal.SIGKILL), OomKill.SOMEWHERE, f"probably {OOM}"),
        (killed(signal.SIGKILL), OomKill.NONE, "killed by SIGKILL"),
        (killed(signal.SIGSEGV), OomKill.HERE, "killed by SIGSEGV"),
        (exited(137), OomKill.HERE, f"exit code 137, as one of its processes was {OOM}"),
        (
            exited(137),
            OomKill.SOMEWHERE,
            f"exit code 137, as one of its processes was probably {OOM}",
        ),
        (exited(137), OomKill.NONE, "exit code 137"),
        (exited(1), OomKill.HERE, "exit code 1"),
    ],
)
def test_a_kill_for_want_of_memory_is_named_as_far_as_it_is_known(
    ended: Ended, kill: OomKill, ending: str
) -> None:
    code = ended.exit_code
    if code is None:
        assert ended.signal is not None
        code = -signal.Signals[ended.signal]
    reason = kill.reason(ended.exit_code) if code in KILLED else None
    told = judge(ended._replace(out_of_memory=reason), None, None, is_function=False)
    assert told.describe() == ending
    assert told.state is (JobState.OUT_OF_MEMORY if OOM in ending else JobState.FAILED)
