"""Whatever the place, what follows from an end is the same: retries, timeouts, stops."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from contract_jobs import DEAF, FLAKY, STAY, end_somehow, flaky
from contract_support import Place, Recorder, journal_events, noted_pid, points, states
from helpers.processes import PATIENCE, is_running, wait_for
from hsm import JobFailed, read_sweep
from hsm.core.record.paths import SweepPaths

HEADER = r"---- attempt (\d+), \d{4}-\d\d-\d\d \d\d:\d\d:\d\d ----"


# --- retries ----------------------------------------------------------------------------------


def test_a_function_is_retried_until_it_completes(place: Place) -> None:
    recorder = Recorder()
    with place.source(recorder, max_retries=2, retry_delay=0.05) as source:
        one, two, never = source.submit_jobs(points(1, 2, 9), "s", "s", function=flaky)
        assert [source.result(one), source.result(two)] == ["done at 1", "done at 2"]
        with pytest.raises(JobFailed, match=r"job 2 \(x=9\) FAILED: RuntimeError: not yet: 3"):
            source.result(never)
    jobs = read_sweep("s").jobs
    assert [len(job.attempts) for job in jobs.values()] == [1, 2, 3]
    messages = [attempt.error_message for attempt in jobs[2].attempts]
    assert messages == [f"not yet: {number}" for number in (1, 2, 3)]
    assert recorder.of(2) == [*("submitted", "started"), *("retried", "started") * 2, "ended"]


def test_attempts_append_to_the_logs_under_headers(place: Place) -> None:
    with place.source(max_retries=2, retry_delay=0) as source:
        source.submit_jobs(points(3), "s", "s", command=FLAKY)
        assert states(source) == ["COMPLETED"]
    paths = SweepPaths("s")
    for path, word in ((paths.stdout(0), "out"), (paths.stderr(0), "err")):
        lines = path.read_text().splitlines()
        assert lines[0::2] == [f"{word} {number}" for number in (1, 2, 3)]
        headers = [re.fullmatch(HEADER, line) for line in lines[1::2]]
        assert [header and header[1] for header in headers] == ["2", "3"]


def test_a_header_begins_a_line_of_its_own_and_only_what_is_new_is_told(place: Place) -> None:
    recorder = Recorder()
    command = ["sh", "-c", "printf partial; [ $HSM_ATTEMPT = 2 ]"]
    with place.source(recorder, show_output=True, max_retries=1, retry_delay=0) as source:
        source.submit_jobs(points(0), "s", "s", command=command)
        states(source)
    paths = SweepPaths("s")
    assert re.fullmatch(rf"partial\n{HEADER}\npartial", paths.stdout(0).read_text())
    assert re.fullmatch(rf"{HEADER}\n", paths.stderr(0).read_text())
    shown = [line for _, _, line in recorder.lines if "attempt" not in line]
    assert shown == ["partial", "partial"]


def test_a_retry_waits_for_its_delay_and_holds_no_slot_meanwhile(place: Place) -> None:
    recorder = Recorder()
    settings = {"max_parallel_jobs": 1, "max_retries": 1, "retry_delay": 1.0}
    with place.source(recorder, **settings) as source:
        ids = source.submit_jobs(points(2, 1), "s", "s", command=FLAKY)
        assert states(source, ids[1:]) == ["COMPLETED"]
        assert states(source) == ["COMPLETED"] * 2
    assert recorder.delays == [1.0]
    again, other = read_sweep("s").jobs.values()
    first, second = again.attempts
    assert first.ended is not None
    assert second.started is not None
    assert second.started - first.ended >= 0.95
    assert other.attempts[0].ended is not None
    assert other.attempts[0].ended <= second.started


@pytest.mark.parametrize("kind", ["failed", "crashed"])
def test_retry_on_chooses_what_is_retried(place: Place, kind: str) -> None:
    hows = {"failed": "error", "crashed": "signal"}
    settings = {"max_retries": 1, "retry_delay": 0, "retry_on": [kind]}
    with place.source(**settings) as source:
        source.submit_jobs(points(*hows.values()), "s", "s", function=end_somehow)
        states(source)
        attempts = {job.params["x"]: len(job.attempts) for job in source.jobs()}
    assert attempts == {"error": 1, "signal": 1, hows[kind]: 2}


def test_a_job_that_waits_for_its_attempt_can_be_cancelled(place: Place) -> None:
    recorder = Recorder()
    with place.source(recorder, max_retries=1, retry_delay=600) as source:
        (job_id,) = source.submit_jobs(points(9), "s", "s", command=FLAKY)
        wait_for(lambda: "retried" in recorder.of(0), "the back-off")
        assert source.cancel_job(job_id)
        assert states(source) == ["CANCELLED"]
        assert source.job(job_id).ending() == "not retried: cancelled"


# --- timeouts ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_job_that_takes_too_long_is_ended(place: Place) -> None:
    with place.source(timeout=0.4) as source:
        (job_id,) = source.submit_jobs(points(0), "s", "s", command=STAY)
        assert states(source) == ["TIMEOUT"]
        job = source.job(job_id)
        pid = job.attempts[0].pid
        assert pid is not None
        assert not is_running(pid)
    assert (job.ending(), job.attempts[0].signal) == ("timeout after 0.4 s", "SIGTERM")


def test_what_a_job_makes_of_its_sigterm_changes_nothing(place: Place) -> None:
    command = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.02; done"]
    with place.source(timeout=3) as source:
        source.submit_jobs(points(0), "s", "s", command=command)
        assert states(source) == ["TIMEOUT"]
        assert source.jobs()[0].attempts[0].exit_code == 0


def test_between_sigterm_and_sigkill_lies_the_grace(place: Place) -> None:
    began = time.monotonic()
    with place.source(timeout=3, kill_grace=0.5) as source:
        source.submit_jobs(points(0), "s", "s", command=DEAF)
        assert states(source) == ["TIMEOUT"]
        assert source.jobs()[0].attempts[0].signal == "SIGKILL"
        assert 3.5 <= time.monotonic() - began < PATIENCE


def test_each_attempt_has_its_own_timeout(place: Place) -> None:
    command = ["sh", "-c", "[ $HSM_ATTEMPT -ge 2 ] || exec sleep 60"]
    with place.source(timeout=3, max_retries=1, retry_delay=0, retry_on=["timeout"]) as source:
        source.submit_jobs(points(0), "s", "s", command=command)
        assert states(source) == ["COMPLETED"]
        first, second = source.jobs()[0].attempts
    assert (first.reason, second.reason) == ("timeout after 3 s", None)


# --- stops ------------------------------------------------------------------------------------


def test_with_fail_fast_one_failure_ends_the_sweep(place: Place) -> None:
    fails = "until [ -e pid-1 ]; do sleep 0.02; done; exit 3"
    command = ["sh", "-c", f"[ {{x}} != 0 ] || {{{{ {fails}; }}}}; {STAY[-1]}"]
    with place.source(fail_fast=True) as source:
        source.submit_jobs(points(0, 1, 2), "s", "s", command=command)
        assert states(source) == ["FAILED", "CANCELLED", "CANCELLED"]
        assert not is_running(noted_pid(1))
        assert source.jobs()[2].attempts == []
    assert (read_sweep("s").closed or "").startswith("fail_fast")


def test_with_max_failures_so_many_end_the_sweep(place: Place) -> None:
    with place.source(max_parallel_jobs=1, max_failures=2) as source:
        source.submit_jobs(points(1, 0, 1, 0), "s", "s", command="sh -c 'exit {x}'")
        assert states(source) == ["FAILED", "COMPLETED", "FAILED", "CANCELLED"]
    assert journal_events("s")[-1]["reason"].startswith("max_failures")


_REFUSES_2 = """
import sys
if "x=2" in sys.argv:
    print("train.py: error: unrecognized arguments: x=2", file=sys.stderr)
    sys.exit(2)
"""


def test_a_script_that_refuses_its_arguments_stops_the_sweep_before_a_job_has_completed(
    place: Place,
) -> None:
    Path("train.py").write_text(_REFUSES_2)
    recorder = Recorder()
    conf: dict[str, Any] = {"max_parallel_jobs": 1, "max_retries": 1, "retry_delay": 0}
    with place.source(recorder, **conf) as source:
        source.submit_jobs(points(2, 3), "s", "s", script="train.py", args_style="hydra")
        assert states(source) == ["FAILED", "CANCELLED"]
    assert [len(job.attempts) for job in read_sweep("s").jobs.values()] == [1, 0]
    assert [text for text in recorder.messages if text.startswith("train.py refused its arg")]
    # Once a job has completed, even in an earlier run, it is that job's own failure.
    for resume, sweep in ((False, (1, 2, 3)), (True, (1, 2, 3, 4))):
        with place.source(**conf) as source:
            source.submit_jobs(points(*sweep), "t", "t", script="train.py", resume=resume)
            others = ["COMPLETED"] * (len(sweep) - 2)
            assert states(source) == ["COMPLETED", "FAILED", *others]
