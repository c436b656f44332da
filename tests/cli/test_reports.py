"""What jobs report, seen from another process: `hsm monitor` and `hsm show`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.cli import STAY, Project
from helpers.processes import wait_for

#: Appends three lines to what the job reports.
LINES = (
    'for step in 0 1 2; do echo "{{\\"step\\": $step, \\"loss\\": {x}}}" >> $HSM_METRICS; done; '
    'echo "{{\\"size\\": NaN, \\"name\\": \\"\\\\u001b[31m\\"}}" >> $HSM_METRICS'
)


def test_show_tells_what_a_job_has_reported(project: Project) -> None:
    project.here("sweep", "x=1,2", "--sweep-id", "s", "--", "sh", "-c", LINES)
    lines = project.here("show", "s", "1").out.splitlines()
    assert "reported     4 times, last: step 2  loss 2  size nan  name" in lines
    told = project.here("show", "s", "1", "--json").json
    values = {"loss": 2, "size": None, "name": "\x1b[31m"}
    assert told["reported"] == {"count": 4, "step": 2, "values": values}
    assert told["objective"] is None


def test_show_tells_of_the_latest_attempt_alone(project: Project) -> None:
    script = 'echo "{{\\"try$HSM_ATTEMPT\\": 1}}" >> $HSM_METRICS; test $HSM_ATTEMPT = 2'
    retry = ("--max-retries", "1", "--retry-delay", "0")
    project.here("sweep", "x=1", "--sweep-id", "s", *retry, "--", "sh", "-c", script)
    assert "reported     once, last: try2 1\n" in project.here("show", "s", "0").out


def test_show_of_a_job_that_has_reported_nothing(project: Project) -> None:
    project.here("sweep", "x=1", "--sweep-id", "s", "--", "true")
    assert "reported" not in project.here("show", "s", "0").out
    assert project.here("show", "s", "0", "--json").json["reported"] is None


def test_a_pruned_job_is_told_apart(project: Project) -> None:
    project.write("fit.py", "import hsm\nhsm.report(0.5, 7)\nraise hsm.Pruned\n")
    ran = project.here("sweep", "x=1,2", "--sweep-id", "s", "--script", "fit.py")
    assert "job 0 PRUNED" in ran.err + ran.out
    assert "pruned at step 7" in ran.err + ran.out
    assert "2 pruned" in ran.err + ran.out
    assert "s: 2 jobs: 2 pruned" in project.here("monitor", "s").out
    shown = project.here("show", "s", "0").out
    assert "PRUNED: pruned at step 7" in shown
    assert "Traceback" not in shown
    assert project.here("show", "s", "0", "--json").json["objective"] == 0.5
    resumed = project.here("sweep", "--resume", "s")
    assert "2 of 2 jobs are already done" in resumed.err + resumed.out


@pytest.mark.slow
def test_monitor_shows_what_running_jobs_report(project: Project) -> None:
    paths = project.folder / "outputs/bg/.hsm/metrics"
    with project.detached("x=1,2", "--parallel-jobs", "2", "--", "sh", "-c", f"{LINES}; {STAY}"):
        wait_for(lambda: _is_complete(paths), "the reports")
        told = project.here("monitor", "bg", "--json").json
        assert [(job["step"], job["reported"]["loss"]) for job in told["running"]] == [
            (2, 1),
            (2, 2),
        ]
        once = project.here("monitor", "bg", "--once").out
        assert "reported" in once
        assert "step 2  loss 1" in once


def _is_complete(folder: Path) -> bool:
    files = list(folder.glob("*.jsonl"))
    lines = [line for file in files for line in file.read_text().splitlines() if line]
    return len(files) == 2 and sum("size" in json.loads(line) for line in lines) == 2
