"""`hsm sweep` hands its jobs over a few at a time: what is shown, changed and resumed meanwhile."""

from __future__ import annotations

import os
import signal

import pytest

from helpers.cli import STAY, Project
from helpers.processes import is_running, wait_for
from hsm.core.record.sweep import Sweep

pytestmark = pytest.mark.thorough

#: A hundred or so ahead of the two that run: see `hsm.core.engine.feeding`.
POINTS = "x=range(5000)"


def launcher(sweep: Sweep) -> int:
    return int(sweep.header["pid"])


def test_jobs_to_come_are_counted_and_named(project: Project) -> None:
    with project.detached(POINTS, "--parallel-jobs", "2", "--", "sh", "-c", STAY):
        sweep = project.sweep("bg")
        queued = len(sweep.jobs)
        assert 100 <= queued <= 110
        assert (sweep.planned, sweep.to_come) == (5000, 5000 - queued)
        (listed,) = project.here("list", "--json").json
        assert (listed["jobs"], listed["to_come"]) == (queued, 5000 - queued)
        assert f"{5000 - queued} to come" in project.here("monitor", "bg", "--once").out
        refused = project.here("explain", "bg", "4000", code=2).err
        assert f"job 4000 of bg is still to come: give a number from 0 to {queued - 1}" in refused
        assert "has no job 5000" in project.here("explain", "bg", "5000", code=2).err
        assert project.here("add", "bg", "x=-1").out == "bg: added job 5000\n"
    ended = project.sweep("bg")
    assert ended.to_come == 5000 - queued
    assert f"{5000 - queued} not begun" in project.here("monitor", "bg", "--once").out


def test_those_to_come_are_cancelled_with_those_that_wait(project: Project) -> None:
    with project.detached(POINTS, "--parallel-jobs", "2", "--", "sh", "-c", STAY):
        assert project.here("cancel", "bg", "--pending").out == "bg: 4998 pending jobs cancelled\n"
        for num in (0, 1):
            project.here("cancel", "bg", str(num))
        wait_for(lambda: project.sweep("bg").closed, "the end of the sweep")
    assert project.sweep("bg").to_come == 5000 - len(project.sweep("bg").jobs)


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), ("--shuffle",), ("--method", "random", "--n-trials", "400")])
def test_a_killed_launcher_leaves_the_rest_to_the_resume(
    project: Project, words: tuple[str, ...]
) -> None:
    """Its points were never on record; nor was a seed given."""
    command = ("--", "sh", "-c", "echo {x} >> ran")
    points = "x=interval(0, 1)" if "--method" in words else "x=range(400)"
    with project.start("sweep", points, *words, "--sweep-id", "s", *command) as process:
        ran = project.folder / "ran"
        wait_for(lambda: ran.exists() and ran.read_text().count("\n") > 120, "a quarter of them")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    wait_for(lambda: not project.sweep("s").alive, "the launcher's end")
    before = project.sweep("s")
    assert 120 < len(before.jobs) < 400
    project.hsm("sweep", "--resume", "s")
    sweep = project.sweep("s")
    assert project.states("s") == ["COMPLETED"] * 400
    assert {num: sweep.jobs[num].params for num in before.jobs} == {
        num: job.params for num, job in before.jobs.items()
    }
    lines = set(ran.read_text().split())
    assert lines == {str(job.params["x"]) for job in sweep.jobs.values()}
    assert len(lines) == 400
    if not words:
        assert [job.params["x"] for _, job in sorted(sweep.jobs.items())] == list(range(400))


@pytest.mark.long
def test_a_million_points_end_at_once_when_cancelled(project: Project) -> None:
    with project.detached("x=range(1000000)", "--", "sh", "-c", STAY) as sweep:
        pid = launcher(sweep)
    assert len(project.sweep("bg").jobs) < 200
    wait_for(lambda: not is_running(pid), "the launcher's end")
