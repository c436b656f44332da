"""Ctrl-C while a JobManager's jobs run, whether somebody waits for them or not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.processes import PATIENCE, SOURCE, wait_for
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


def test_ctrl_c_when_nobody_waits_yet_ends_the_jobs_too(project_dir: Path) -> None:
    """Between `submit_sweep` and whatever waits: the interpreter's exit does not wait instead."""
    waits = "manager.monitor_jobs(job_ids, source)"
    assert waits in INTERRUPTED
    (project_dir / "run.py").write_text(INTERRUPTED.replace(waits, "time.sleep(600)"))
    process = subprocess.Popen(
        [sys.executable, "run.py"],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: Path("started-1").exists(), "two jobs")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == -signal.SIGINT
    finally:
        process.kill()
        process.wait()
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


def test_ctrl_c_while_monitoring_ends_the_jobs(project_dir: Path) -> None:
    (project_dir / "run.py").write_text(INTERRUPTED)
    with (project_dir / "screen").open("wb") as screen:
        process = subprocess.Popen(
            [sys.executable, "run.py"],
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
            stdout=screen,
            stderr=subprocess.STDOUT,
        )
    try:
        shown = project_dir / "screen"
        wait_for(lambda: "job 1 started" in shown.read_text(), "two jobs")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == -signal.SIGINT
    finally:
        process.kill()
        process.wait()
    text = (project_dir / "screen").read_text()
    assert "leaving {'CANCELLED'}" in text
    assert "s: 50 jobs: 50 cancelled" in text
    assert not Path("started-2").exists()
    sweep = read_sweep("out")
    assert {job.state for job in sweep.jobs.values()} == {JobState.CANCELLED}
    assert sweep.closed is not None
    assert not SweepPaths("out").result(0).exists()
