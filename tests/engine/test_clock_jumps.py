"""Clocks are set while sweeps run: by NTP, after a virtual machine was asleep, by a person."""

from __future__ import annotations

import io
import json
import time
from functools import partial
from pathlib import Path

import pytest

from helpers.cli import Project
from helpers.displays import ended, pending
from helpers.processes import PATIENCE, wait_for
from helpers.reliability import journal_events, points, source
from hsm import LocalComputeSource, collect_results
from hsm.core.record.job import Ending, JobState
from hsm.core.record.paths import SweepPaths
from hsm.core.record.sweep import read_sweep
from hsm.display.plain_display import PlainDisplay

JUMPS = pytest.mark.parametrize(
    "jump", [27 * 365 * 86400.0, -3600.0], ids=["27 years on", "an hour back"]
)


class Clock:
    """What `time.time` of this process returns; other processes see the true time."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self._true = time.time

    def __call__(self) -> float:
        return self._true() + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time, "time", made)
    return made


def _has_started(sweep: LocalComputeSource, job_id: str) -> bool:
    return bool(sweep.job(job_id).attempts)


WAITS = ["sh", "-c", "while [ ! -e go-{x} ]; do sleep 0.02; done; [ {x} != 1 ]"]


@JUMPS
def test_a_clock_that_jumps_changes_no_duration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock, jump: float
) -> None:
    monkeypatch.chdir(tmp_path)
    project = Project(tmp_path)
    began = time.monotonic()
    with source(max_retries=1, retry_delay=0) as made:
        made.submit_jobs(points(0, 1), "s", "s", command=WAITS)
        # Later than the source, its journal tells of them.
        started = [JobState.RUNNING] * 2
        wait_for(lambda: [job.state for job in read_sweep("s").jobs.values()] == started, "both")
        clock.ahead += jump
        watched = project.here("monitor", "s", "--json").json["running"]
        elapsed = [*(job.elapsed for job in made.running()), *(job["elapsed"] for job in watched)]
        for num in range(2):
            Path(f"go-{num}").touch()
        made.wait(timeout=PATIENCE)
    took = time.monotonic() - began
    assert len(elapsed) == 4
    assert all(0 <= seconds < took for seconds in elapsed)
    jobs = read_sweep("s").jobs.values()
    assert [str(job.state) for job in jobs] == ["COMPLETED", "FAILED"]
    durations = [attempt.duration or 0.0 for job in jobs for attempt in job.attempts]
    assert len(durations) == 3
    assert all(0 < seconds < took for seconds in durations)
    assert [row["duration"] for row in collect_results("s")] == [durations[0], durations[2]]
    shown = project.here("show", "s", "1", "--json").json["attempts"]
    assert [attempt["duration"] for attempt in shown] == durations[1:]
    assert 0 < project.here("monitor", "s", "--json").json["wall_seconds"] < took


@pytest.mark.slow
@JUMPS
def test_timeout_factor_of_a_resumed_sweep_goes_by_what_jobs_really_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock, jump: float
) -> None:
    """The clock was set while each of the jobs before ran."""
    monkeypatch.chdir(tmp_path)
    with source(max_parallel_jobs=1) as made:
        ids = made.submit_jobs(points(0, 2, 3), "s", "s", command=WAITS)
        for job_id, num in zip(ids, (0, 2, 3), strict=True):
            wait_for(partial(_has_started, made, job_id), "its start")
            clock.ahead += jump
            time.sleep(0.1)  # so long they take
            Path(f"go-{num}").touch()
            made.wait([job_id], timeout=PATIENCE)
    with source(timeout_factor=3, kill_grace=0.5, resume=True) as made:
        made.submit_jobs(points(0, 2, 3, 4), "s", "s", command=WAITS, resume=True)
        wait_for(lambda: read_sweep("s").jobs[3].attempts, "the start of the last one")
        states = list(made.wait(timeout=PATIENCE).values())
        Path("go-4").touch()
    assert [str(state) for state in states] == ["COMPLETED"] * 3 + ["TIMEOUT"]
    assert read_sweep("s").jobs[3].ending().endswith(", 3 times the median")


@JUMPS
def test_a_display_of_a_sweep_tells_how_long_it_really_took(
    tmp_path: Path, clock: Clock, jump: float
) -> None:
    screen = io.StringIO()
    display = PlainDisplay(SweepPaths(tmp_path), list, title="s", stream=screen)
    job = pending(0)
    with display:
        display.jobs_submitted([job])
        job.start(time.time(), 1)
        display.job_started(job)
        clock.ahead += jump
        job.end(time.time(), Ending(JobState.COMPLETED, exit_code=0, seconds=0.25))
        display.job_ended(job)
    display.summary()
    assert "job 0 COMPLETED after 0.25 s" in screen.getvalue()
    assert "wall time 0." in screen.getvalue()
    assert "sum of job times 0.25 s" in screen.getvalue()


def test_the_times_of_an_older_journal_give_no_negative_duration(tmp_path: Path) -> None:
    with source() as made:
        made.submit_jobs(points(0), "s", tmp_path, command=["true"])
        made.wait(timeout=PATIENCE)
    lines = journal_events(tmp_path)
    for record in lines:
        record.pop("seconds", None)
        if record["event"] == "end":
            record["time"] -= 3600
    text = "".join(json.dumps(record) + "\n" for record in lines)
    (tmp_path / ".hsm" / "journal.jsonl").write_text(text)
    sweep = read_sweep(tmp_path)
    assert (sweep.jobs[0].duration, sweep.seconds) == (0.0, None)
    assert ended(0, seconds=12).duration == 12
