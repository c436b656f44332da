"""Ctrl-C while a JobManager's jobs run, whether somebody waits for them or not."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.processes import PATIENCE, child_environment, first_fast, wait_for
from hsm import JobManager, JobState, LocalComputeSource, read_sweep
from hsm.core.record.paths import SweepPaths

INTERRUPTED = """
import time
from pathlib import Path
from hsm import JobManager, LocalComputeSource

def job(params):
    Path(f"started-{params['x']}").touch()
    time.sleep(600)

if __name__ == "__main__":
    manager, source = JobManager(), LocalComputeSource(max_parallel_jobs=2)
    job_ids = manager.submit_sweep([{"x": x} for x in range(50)], source, "s", "out", function=job)
    try:
        manager.monitor_jobs(job_ids, source)
    finally:
        print("leaving", {str(source.get_job_status(job_id)) for job_id in job_ids})
"""


def signalled(program: str, signum: signal.Signals, runs: Callable[[], bool]) -> int:
    """Run a program in a file and send it a signal once its jobs run; return its exit code."""
    Path("run.py").write_text(program)
    with open("screen", "wb") as screen:
        process = subprocess.Popen(
            [sys.executable, "run.py"],
            env=child_environment(),
            stdout=screen,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(runs, "two jobs")
        process.send_signal(signum)
        return process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()


def test_ctrl_c_when_nobody_waits_yet_ends_the_jobs_too() -> None:
    """Between `submit_sweep` and whatever waits: the interpreter's exit does not wait instead."""
    waits = "manager.monitor_jobs(job_ids, source)"
    assert waits in INTERRUPTED
    # Of a signal just before a long sleep, Python would know only after it.
    program = INTERRUPTED.replace(waits, "while True: time.sleep(0.05)")
    assert signalled(program, signal.SIGINT, Path("started-1").exists) == -signal.SIGINT
    sweep = read_sweep("out")
    assert sweep.closed == "interrupted by SIGINT"
    assert {job.state for job in sweep.jobs.values()} == {JobState.CANCELLED}


def test_ctrl_c_before_anything_is_shown_ends_the_jobs(project_dir: Path) -> None:
    """As during the display's imports, which take a while."""

    def interrupted(*_: object, **__: object) -> Any:
        raise KeyboardInterrupt

    with LocalComputeSource(2) as source:
        manager = JobManager(display=interrupted)
        points = [{"x": x} for x in range(3)]
        ids = manager.submit_sweep(points, source, "s", "out", command=["sleep", "600"])
        with pytest.raises(KeyboardInterrupt):
            manager.monitor_jobs(ids, source)
        assert {source.get_job_status(job_id) for job_id in ids} == {JobState.CANCELLED}


#: Ctrl-C at one of the steps of monitor_jobs before it waits.
STEPS = """
import os, signal, sys
from hsm.core.engine.compute_source import SweepDisplay

class Source(LocalComputeSource):
    def get_job_status(self, job_id):
        mark("status")
        return super().get_job_status(job_id)

    def paths(self, job_id):
        mark("paths")
        return super().paths(job_id)

    def when_ended(self, job_ids, callback):
        mark("when_ended")
        return super().when_ended(job_ids, callback)

def display(*args, **options):
    mark("display")
    return SweepDisplay()

def mark(step):
    if step == sys.argv[1]:
        sys.argv[1] = ""
        os.kill(os.getpid(), signal.SIGINT)

if __name__ == "__main__":
    with Source(max_parallel_jobs=2, kill_grace=600) as source:
        manager = JobManager(display=display)
        points = [{"x": x} for x in range(50)]
        job_ids = manager.submit_sweep(points, source, "s", "out", command=["sleep", "600"])
        try:
            manager.monitor_jobs(job_ids, source)
        except KeyboardInterrupt:
            print({str(source.job(job_id).state) for job_id in job_ids})
"""


@pytest.mark.parametrize("step", first_fast("status", "paths", "display", "when_ended"))
def test_ctrl_c_in_the_first_moments_of_monitoring_ends_the_jobs(
    project_dir: Path, step: str
) -> None:
    program = INTERRUPTED.partition("\nif __name__")[0] + STEPS
    (project_dir / "run.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "run.py", step],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "{'CANCELLED'}\n"), done.stderr
    assert read_sweep("out").closed == "interrupted by SIGINT"


SUBMITTED = """
import signal
from hsm import JobManager, LocalComputeSource, SweepObserver

class Interrupting(SweepObserver):
    def jobs_submitted(self, jobs):
        signal.raise_signal(signal.SIGINT)

source = LocalComputeSource(max_parallel_jobs=2, observers=[Interrupting()])
points = [{"x": x} for x in range(50)]
JobManager().submit_sweep(points, source, "s", "out", command=["sleep", "600"])
"""


def test_ctrl_c_while_jobs_are_submitted_ends_them_all(project_dir: Path) -> None:
    """At its exit the interpreter would wait for ever for one that is on record and in no queue."""
    (project_dir / "run.py").write_text(SUBMITTED)
    done = subprocess.run(
        [sys.executable, "run.py"],
        env=child_environment(),
        stderr=subprocess.DEVNULL,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == -signal.SIGINT
    sweep = read_sweep("out")
    assert sweep.closed == "interrupted by SIGINT"
    assert {job.state for job in sweep.jobs.values()} == {JobState.CANCELLED}


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_while_monitoring_end_the_jobs_too(signum: signal.Signals) -> None:
    assert signalled(INTERRUPTED, signum, Path("started-1").exists) == 128 + signum
    assert read_sweep("out").closed == f"interrupted by {signum.name}"


def test_ctrl_c_while_monitoring_ends_the_jobs(project_dir: Path) -> None:
    shown = project_dir / "screen"

    def runs() -> bool:
        return "job 1 started" in shown.read_text()

    assert signalled(INTERRUPTED, signal.SIGINT, runs) == -signal.SIGINT
    text = (project_dir / "screen").read_text()
    assert "leaving {'CANCELLED'}" in text
    assert "s: 50 jobs: 50 cancelled" in text
    assert not Path("started-2").exists()
    sweep = read_sweep("out")
    assert {job.state for job in sweep.jobs.values()} == {JobState.CANCELLED}
    assert sweep.closed is not None
    assert not SweepPaths("out").result(0).exists()
