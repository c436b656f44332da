"""Jobs that run out of GPU memory are told from those that fail otherwise, whoever gave them it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.processes import both_methods, wait_for
from helpers.reliability import Recorder, events_of, points, source
from hsm.core.engine.admission import Admission
from hsm.core.engine.ledger import JobHandle
from hsm.core.engine.supervisor import Supervisor
from hsm.core.record.job import JobFailed, JobState
from hsm.core.record.sweep import read_sweep

pytestmark = pytest.mark.thorough

#: A module that raises as torch does.
TORCH = """
class OutOfMemoryError(RuntimeError):
    pass
"""
MESSAGE = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.65 GiB"
#: Each kind of job, by the parameter x.
SCRIPT = f"""
import os, sys, time
sys.path.insert(0, os.path.dirname(__file__))
import torch

kind = sys.argv[1]
try:
    if kind in ("raised", "wrapped", "survived", "aborted"):
        raise torch.OutOfMemoryError({MESSAGE!r})
except torch.OutOfMemoryError as error:
    if kind == "raised":
        raise
    if kind == "wrapped":
        raise ValueError("training failed") from error
    if kind == "aborted":
        print("terminate called after throwing an instance of 'c10::OutOfMemoryError'\\n"
              f"  what():  {{error}}", file=sys.stderr, flush=True)
        os.abort()
    print(f"{{error}}, retrying with smaller batch", file=sys.stderr)
if kind == "survived":
    raise ValueError("the batch must be even")
if kind == "memory":
    raise MemoryError
"""
STATES = {
    "raised": "OUT_OF_MEMORY",
    "wrapped": "OUT_OF_MEMORY",
    "aborted": "OUT_OF_MEMORY",
    "survived": "FAILED",
    "memory": "FAILED",
    "fine": "COMPLETED",
}
REASON = "out of GPU memory: tried to allocate 2.00 GiB"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "torch.py").write_text(TORCH)
    (tmp_path / "train.py").write_text(SCRIPT)
    return tmp_path


def test_commands_are_told_by_their_last_words(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(folder / "train.py"), "{x}"]
    with source() as made:
        made.submit_jobs(points(*STATES), "s", tmp_path / "sweep", command=command)
    jobs = read_sweep(tmp_path / "sweep").jobs.values()
    assert {job.params["x"]: str(job.state) for job in jobs} == STATES
    assert {job.ending() for job in jobs if job.state is JobState.OUT_OF_MEMORY} == {REASON}
    aborted = next(job for job in jobs if job.params["x"] == "aborted")
    assert aborted.attempts[0].signal == "SIGABRT"


class OutOfMemoryError(RuntimeError):
    """Raised under torch's name for it."""


OutOfMemoryError.__module__ = "torch"


def train(params: dict[str, Any]) -> None:
    kind = params["x"]
    error = OutOfMemoryError(MESSAGE)
    if kind == "child":
        program = f"import sys; sys.exit('RuntimeError: ' + {MESSAGE!r})"
        subprocess.run([sys.executable, "-c", program], check=True)
    try:
        if kind != "fine":
            raise error
    except OutOfMemoryError:
        if kind == "raised":
            raise
        if kind == "wrapped":
            raise ValueError("training failed") from error
        print(f"{error}, retrying with smaller batch", file=sys.stderr)
    if kind == "survived":
        raise SystemExit(3)


@both_methods
def test_functions_are_told_by_what_they_raised(tmp_path: Path, start_method: str) -> None:
    kinds = ("raised", "wrapped", "child", "survived", "fine")
    with source(start_method=start_method) as made:
        ids = made.submit_jobs(points(*kinds), "s", tmp_path, function=train)
        states = list(map(str, made.wait().values()))
        assert states == [*["OUT_OF_MEMORY"] * 3, "FAILED", "COMPLETED"]
        with pytest.raises(JobFailed, match=rf"job 0 \(x=raised\) OUT_OF_MEMORY: {REASON}"):
            made.result(ids[0])
    attempt = read_sweep(tmp_path).jobs[0].attempts[0]
    assert (attempt.error_type, attempt.error_message) == ("torch.OutOfMemoryError", MESSAGE)


@pytest.mark.parametrize(("kinds", "attempts"), [(["out_of_memory"], 2), (["failed"], 1)])
def test_retry_on_knows_it_and_an_earlier_attempts_words_are_not_the_laters(
    tmp_path: Path, kinds: list[str], attempts: int
) -> None:
    command = ["sh", "-c", f'[ $HSM_ATTEMPT = 2 ] || echo "RuntimeError: {MESSAGE}" >&2; exit 1']
    with source(max_retries=1, retry_delay=0, retry_on=kinds) as made:
        made.submit_jobs(points(0), "s", tmp_path, command=command)
    job = read_sweep(tmp_path).jobs[0]
    assert [attempt.reason for attempt in job.attempts] == [REASON, None][:attempts]
    first = next(event for event in events_of(tmp_path, 0) if event["event"] != "start")
    assert first["state"] == "OUT_OF_MEMORY"
    assert {"slot", "gpus", "waited", "gpu_memory", "gpu_load"} & first.keys() == set()


def test_what_an_attempt_had_is_given_back_before_the_next_one_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which may be before the thread of the one before has come to its end."""
    recorder = Recorder()
    run, release = Supervisor.run, Admission.release

    def slow_run(self: Supervisor, handle: JobHandle) -> bool:
        runs_again = run(self, handle)
        if runs_again:
            wait_for(lambda: recorder.events.count(("started", 0)) == 2, "the second attempt")
        return runs_again

    def noted_release(self: Admission, handle: JobHandle) -> None:
        recorder.events.append(("released", handle.job.num))
        release(self, handle)

    monkeypatch.setattr(Supervisor, "run", slow_run)
    monkeypatch.setattr(Admission, "release", noted_release)
    command = ["sh", "-c", "[ $HSM_ATTEMPT = 2 ]"]
    with source(recorder, max_parallel_jobs=2, max_retries=1, retry_delay=0) as made:
        made.submit_jobs(points(0), "s", tmp_path, command=command)
        assert set(made.wait().values()) == {JobState.COMPLETED}
    events = [event for event, _ in recorder.events]
    assert events == ["started", "retried", "released", "started", "ended", "released"]
