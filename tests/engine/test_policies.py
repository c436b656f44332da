"""What follows from a job's end, without any process: retries, stops, the timer, limits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from statistics import median
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.processes import wait_for
from helpers.reliability import conf
from helpers.sweeps import PROFILE
from hsm.core.engine.backend import Attempt, Ended, Started, Work
from hsm.core.engine.judgement import Stop
from hsm.core.engine.ledger import JobHandle, Ledger
from hsm.core.engine.policy import RetryPolicy, StopPolicy, failure_kinds
from hsm.core.engine.time_limits import TimeLimits
from hsm.core.engine.timer import Timer
from hsm.core.record.job import Ending, Job, JobState
from hsm.core.settings.resolve import FAILURES, LocalConf

pytestmark = pytest.mark.thorough

FINAL = [state for state in JobState if state.is_final]
STATES = st.sampled_from(FINAL)
SIGNALS = st.none() | st.sampled_from(["SIGSEGV", "SIGKILL", "SIGTERM"])

# --- retries ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "kind"),
    [
        (Ending(JobState.FAILED, exit_code=1), "failed"),
        (Ending(JobState.FAILED, signal="SIGSEGV"), "crashed"),
        (Ending(JobState.FAILED, reason="its keeper was killed"), "failed"),
        (Ending(JobState.TIMEOUT, signal="SIGTERM"), "timeout"),
        (Ending(JobState.OUT_OF_MEMORY, signal="SIGKILL"), "out_of_memory"),
    ],
)
def test_each_failure_has_one_name(ending: Ending, kind: str) -> None:
    assert failure_kinds(ending) == {kind}
    assert kind in FAILURES


@pytest.mark.parametrize("state", [JobState.COMPLETED, JobState.CANCELLED])
def test_what_is_no_failure_has_none(state: JobState) -> None:
    assert failure_kinds(Ending(state, signal="SIGTERM")) == frozenset()


@PROFILE
@given(
    STATES,
    SIGNALS,
    st.integers(1, 6000),
    st.integers(0, 5000),
    st.sets(st.sampled_from(FAILURES)),
)
def test_a_retry_comes_if_there_is_one_left_and_it_is_of_a_wanted_kind(
    state: JobState, signal: str | None, attempts: int, most: int, on: set[str]
) -> None:
    ending = Ending(state, signal=signal)
    policy = RetryPolicy(LocalConf(max_retries=most, retry_on=tuple(on)))
    wanted = bool(failure_kinds(ending) & on)
    assert (policy.delay(ending, attempts) is not None) == (wanted and attempts <= most)


@PROFILE
@given(
    st.floats(0, 1e6),
    st.floats(0, 1e6),
    st.integers(1, 5000),
)
def test_the_back_off_doubles_up_to_its_cap(delay: float, cap: float, attempts: int) -> None:
    policy = RetryPolicy(LocalConf(max_retries=10_000, retry_delay=delay, retry_max_delay=cap))
    failed = Ending(JobState.FAILED, exit_code=1)
    first, this, following = (policy.delay(failed, n) for n in (1, attempts, attempts + 1))
    assert first is not None
    assert this is not None
    assert following is not None
    assert first == min(delay, cap)
    assert 0 <= this <= following <= cap
    # The exponent stops at 60; by then only a delay that is next to nothing is below its cap.
    assert following == min(2 * this, cap) or attempts >= 60


# --- failure policies -------------------------------------------------------------------------


@PROFILE
@given(
    st.lists(STATES, max_size=30),
    st.booleans(),
    st.none() | st.integers(1, 10),
    st.none() | st.integers(1, 5),
)
def test_a_sweep_stops_at_the_first_job_that_breaks_a_policy(
    states: list[JobState], fail_fast: bool, most: int | None, in_a_row: int | None
) -> None:
    settings = LocalConf(fail_fast=fail_fast, max_failures=most, max_consecutive_failures=in_a_row)
    policy = StopPolicy(settings)
    failures = row = 0
    for num, state in enumerate(states):
        reason = policy.note(num, state)
        succeeded = state in (JobState.COMPLETED, JobState.PRUNED)
        failed = not succeeded and state is not JobState.CANCELLED
        failures += failed
        row = row + 1 if failed else 0 if succeeded else row
        expected = failed and (
            fail_fast
            or (most is not None and failures >= most)
            or (in_a_row is not None and row >= in_a_row)
        )
        assert (reason is not None) == expected
        if reason is not None:
            assert reason.startswith(("fail_fast", "max_failures", "max_consecutive_failures"))


def test_a_pruned_job_has_not_completed() -> None:
    policy = StopPolicy(LocalConf())
    assert policy.note(0, JobState.PRUNED) is None
    assert not policy.has_completed
    assert policy.note(1, JobState.COMPLETED) is None
    assert policy.has_completed


# --- the timer --------------------------------------------------------------------------------


class Calls:
    """Notes which of its functions were called, in order."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def __call__(self, name: str) -> Callable[[], None]:
        return lambda: self.made.append(name)


def test_the_timer_calls_in_the_order_in_which_things_are_due() -> None:
    timer, calls = Timer(), Calls()
    for name, delay in (("c", 0.9), ("a", 0.3), ("b", 0.6), ("now", 0.0)):
        timer.later(delay, name, calls(name))
    wait_for(lambda: len(calls.made) == 4, "all four calls")
    assert calls.made == ["now", "a", "b", "c"]


def test_the_timer_forgets_what_is_cancelled() -> None:
    timer, calls = Timer(), Calls()
    timer.later(1.0, "a", calls("a"))
    timer.later(1.1, "b", calls("b"))
    assert timer.cancel("a")
    assert not timer.cancel("a")
    assert not timer.cancel("nobody")
    wait_for(lambda: calls.made, "b")
    assert calls.made == ["b"]
    assert not timer.cancel("b")


def test_the_timer_takes_the_new_time_of_what_was_cancelled_and_given_again() -> None:
    timer, calls = Timer(), Calls()
    timer.later(1.0, "a", calls("first"))
    timer.later(1.1, "b", calls("b"))
    assert timer.cancel("a")
    timer.later(1.4, "a", calls("again"))
    wait_for(lambda: len(calls.made) == 2, "both calls")
    assert calls.made == ["b", "again"]


def test_the_timer_hurries_and_its_thread_ends_when_nothing_waits() -> None:
    timer, calls = Timer(), Calls()
    threads = set(threading.enumerate())
    for name in "abc":
        timer.later(1000.0, name, calls(name))
    timer.hurry()
    wait_for(lambda: len(calls.made) == 3, "all three, at once")
    assert calls.made == ["a", "b", "c"]
    wait_for(lambda: set(threading.enumerate()) <= threads, "the end of its thread")
    timer.later(0.0, "d", calls("d"))
    wait_for(lambda: calls.made[-1] == "d", "a call by a new thread")


def test_the_timers_thread_ends_when_all_is_cancelled() -> None:
    timer, calls = Timer(), Calls()
    threads = set(threading.enumerate())
    timer.later(1000.0, "a", calls("a"))
    timer.cancel("a")
    wait_for(lambda: set(threading.enumerate()) <= threads, "the end of its thread")


# --- time limits ------------------------------------------------------------------------------


def limits(**settings: Any) -> TimeLimits:
    return TimeLimits(conf(**settings))


@PROFILE
@given(
    st.lists(st.floats(0.001, 1e4), max_size=20),
    st.none() | st.floats(0.01, 1e5),
    st.none() | st.floats(1.01, 100),
)
def test_the_time_limit_is_the_shorter_of_the_fixed_one_and_the_medians_multiple(
    durations: list[float], timeout: float | None, factor: float | None
) -> None:
    of_source = limits(timeout=timeout, timeout_factor=factor)
    for duration in durations:
        of_source.completed(duration)
    expected = [] if timeout is None else [timeout]
    if factor is not None and len(durations) >= 3:
        expected.append(factor * median(durations))
    limit = of_source.timeout()
    assert (None if limit is None else limit[0]) == min(expected, default=None)
    assert limit is None or limit[1].startswith("timeout after ")


# --- the ledger -------------------------------------------------------------------------------


class FakeAttempt(Attempt):
    """Notes whether the ledger was locked when it was called."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.sent: list[tuple[str, bool]] = []

    def start(self) -> None:
        self.sent.append(("start", self.ledger._lock.locked()))

    def end(self, grace: float) -> None:
        self.sent.append(("end", self.ledger._lock.locked()))

    def pause(self) -> None:
        self.sent.append(("pause", self.ledger._lock.locked()))

    def unpause(self) -> None:
        self.sent.append(("unpause", self.ledger._lock.locked()))

    def started(self) -> Started:
        raise NotImplementedError

    def ended(self, deadline: float | None) -> Ended | None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


def launched(ledger: Ledger) -> tuple[JobHandle, FakeAttempt]:
    nothing: Any = None  # the ledger only hands it on
    job = Job(0, "s_0", "x=0", {"x": 0})
    handle = JobHandle(job, Work(command=("true",)), None, nothing, "/")
    attempt = FakeAttempt(ledger)
    ledger.add([handle])
    ledger.launch(handle, attempt)
    ledger.started(handle, 42)
    return handle, attempt


def test_an_end_cannot_reach_the_slots_next_job() -> None:
    """Between the look at a job's attempt and its end, the slot must not change hands."""
    ledger = Ledger()
    handle, attempt = launched(ledger)
    assert ledger.end(handle, Stop(JobState.CANCELLED, "cancelled"), 1.0)
    assert attempt.sent == [("start", True), ("end", True)]


def test_a_job_that_times_out_and_is_cancelled_meanwhile_is_not_retried() -> None:
    ledger = Ledger()
    handle, _ = launched(ledger)
    timeout = Stop(JobState.TIMEOUT, "timeout after 2 s")
    ledger.end(handle, timeout, 1.0)
    assert ledger.end(handle, Stop(JobState.CANCELLED, "cancelled"), 1.0)
    ledger.left(handle)
    assert handle.stop == timeout  # that is why it ended
    assert not ledger.retried(handle, Ending(JobState.TIMEOUT))


def test_a_job_that_times_out_is_retried_with_a_clean_slate() -> None:
    ledger = Ledger()
    handle, _ = launched(ledger)
    ledger.end(handle, Stop(JobState.TIMEOUT, "timeout after 2 s"), 1.0)
    ledger.left(handle)
    assert ledger.retried(handle, Ending(JobState.TIMEOUT))
    assert (handle.stop, handle.job.state) == (None, JobState.PENDING)
    ledger.check_wanted(handle)


def test_no_job_is_retried_once_everything_was_stopped() -> None:
    ledger = Ledger()
    handle, _ = launched(ledger)
    ledger.left(handle)  # it has failed by itself
    ledger.stop(Stop(JobState.CANCELLED, "fail_fast"), 1.0)
    assert not ledger.retried(handle, Ending(JobState.FAILED, exit_code=1))
