from __future__ import annotations

import signal
from typing import Any

import pytest

from hsm.core.engine.backend import Ended
from hsm.core.engine.judgement import Stop, judge
from hsm.core.gpu.device import Gpu
from hsm.core.gpu.gpu_error_kinds import GpuError, GpuErrorKind
from hsm.core.gpu.grant import GpuGrant
from hsm.core.gpu.need import GpuNeed
from hsm.core.local.oom import KILLED, OomKill
from hsm.core.program.reports import Report
from hsm.core.record.job import Ending, JobState
from hsm.core.record.metrics import Measured

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


# --- jobs that end early ----------------------------------------------------------------------

TOLD = Measured({"loss": 0.5}, step=7, was_told=True, asks=True, count=8)
RAISED = Report(pruned="")


def early(
    ended: Ended,
    report: Report | None = None,
    measured: Measured = TOLD,
    reason: str | None = None,
    stop: Stop | None = None,
) -> Ending:
    return judge(ended, report, stop, is_function=True, measured=measured, prune_reason=reason)


@pytest.mark.parametrize("code", [0, 1, 3, 143])
@pytest.mark.parametrize("report", [None, Report(json=7), Report(error_type="ValueError"), RAISED])
def test_who_was_told_is_pruned_however_it_exits(code: int, report: Report | None) -> None:
    ending = early(exited(code), report)
    assert (ending.state, ending.exit_code, ending.value) == (JobState.PRUNED, code, None)
    assert (ending.objective, ending.reason) == (0.5, "pruned at step 7")


def test_who_raises_it_is_pruned_without_having_been_told() -> None:
    assert early(exited(0), RAISED, Measured()).describe() == "pruned"
    ending = early(exited(0), Report(pruned="too slow\nby far"), Measured())
    assert (ending.state, ending.reason) == (JobState.PRUNED, "too slow")


def test_the_reason_is_the_launchers_if_it_has_one() -> None:
    assert early(exited(0), RAISED, TOLD, "worse than the median").reason == "worse than the median"
    # But who goes on, and ends by itself, has completed.
    ending = early(exited(0), Report(json=7), Measured(), "worse than the median")
    assert (ending.state, ending.value) == (JobState.COMPLETED, 7)


@pytest.mark.parametrize(
    ("ended", "stop", "state"),
    [
        (killed(signal.SIGSEGV), None, JobState.FAILED),
        (killed(signal.SIGTERM, asked=True), TIMEOUT, JobState.TIMEOUT),
        (exited(0, asked=True), Stop(JobState.CANCELLED, "cancelled"), JobState.CANCELLED),
        (exited(1)._replace(out_of_memory="limit"), None, JobState.OUT_OF_MEMORY),
        (killed(signal.SIGTERM, asked=True), Stop(JobState.PRUNED, "x"), JobState.PRUNED),
    ],
)
def test_other_ends_come_first(ended: Ended, stop: Stop | None, state: JobState) -> None:
    ending = early(ended, stop=stop)
    assert ending.state is state
    assert ending.objective == (0.5 if state is JobState.PRUNED else None)


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


# --- errors of GPUs ---------------------------------------------------------------------------

NO_MEMORY = GpuError(GpuErrorKind.OUT_OF_MEMORY, "tried to allocate 2.00 GiB")
DRIVER_ERROR = GpuError(GpuErrorKind.DRIVER, "CUDA error: uncorrectable ECC error encountered")
GPUS = tuple(Gpu(str(index), index=index, memory=24 << 30) for index in range(3))


def on_gpus(
    ended: Ended, error: GpuError | None, grant: GpuGrant | None, stop: Stop | None = None
) -> Ending:
    return judge(ended, None, stop, is_function=False, gpu_error=error, grant=grant)


def grant_of(*neighbours: str, count: int = 1, **facts: Any) -> GpuGrant:
    return GpuGrant(0, GpuNeed(count), GPUS[:count], neighbours=set(neighbours), **facts)


@pytest.mark.parametrize(
    ("grant", "reason"),
    [
        (None, ""),
        (grant_of(), ""),
        (grant_of("pid 4711"), "; pid 4711 was on GPU 0 too"),
        (grant_of("job 12", "job 3"), "; job 3 and job 12 were on GPU 0 too"),
        (grant_of("job 3", count=2), "; job 3 was on GPUs 0 and 1 too"),
        (grant_of("job 3", count=3), "; job 3 was on GPUs 0, 1 and 2 too"),
        (
            grant_of(*(f"job {num}" for num in range(9))),
            "; job 0, job 1, job 2 and 6 others were on GPU 0 too",
        ),
        (grant_of(peak_memory=5 << 30), "; it had up to 5.0 GiB of 24 GiB"),
    ],
)
def test_out_of_gpu_memory_is_told_with_what_else_was_there(
    grant: GpuGrant | None, reason: str
) -> None:
    for ended in (exited(1), killed(signal.SIGABRT)):
        ending = on_gpus(ended, NO_MEMORY, grant)
        assert ending.state is JobState.OUT_OF_MEMORY
        assert ending.reason == f"out of GPU memory: tried to allocate 2.00 GiB{reason}"


def test_a_drivers_error_is_told_of_a_job_that_can_go_elsewhere() -> None:
    ending = on_gpus(exited(1), DRIVER_ERROR, grant_of())
    assert (ending.state, ending.reason) == (
        JobState.FAILED,
        "driver error on GPU 0: CUDA error: uncorrectable ECC error encountered",
    )
    assert on_gpus(exited(1), DRIVER_ERROR, None).reason is None


def test_whatever_a_gpu_did_hsms_own_reasons_come_first() -> None:
    assert on_gpus(exited(0), NO_MEMORY, grant_of()).state is JobState.COMPLETED
    assert on_gpus(exited(1, asked=True), NO_MEMORY, grant_of(), TIMEOUT).state is JobState.TIMEOUT
    memory = exited(1)._replace(out_of_memory="its memory")
    assert on_gpus(memory, NO_MEMORY, grant_of()).reason == "its memory"


def test_what_it_had_of_its_gpus_is_in_every_ending() -> None:
    grant = grant_of(peak_memory=5 << 30, mean_load=61.28)
    for ended, stop in ((exited(0), None), (exited(1), None), (exited(1, asked=True), TIMEOUT)):
        ending = on_gpus(ended, None, grant, stop)
        assert (ending.gpu_memory, ending.gpu_load) == (5 << 30, 61.3)
    assert (verdict(exited(1)).gpu_memory, verdict(exited(1)).gpu_load) == (None, None)
    assert (on_gpus(exited(0), None, grant_of()).gpu_load) is None
