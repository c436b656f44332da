"""A launcher that is killed as its sweep is changed: nothing is left, lost, or done twice."""

from __future__ import annotations

import sys
from collections import Counter

import pytest

from helpers.cli import Project
from helpers.processes import first_fast, start_program, wait_for
from hsm import read_sweep

#: Notes each attempt, stays until there is the file "go", and notes each end.
JOB = (
    'echo "$HSM_JOB_NUM" >> began; until [ -e go ]; do sleep 0.02; done; echo "$HSM_JOB_NUM" >> end'
)


def noted(project: Project, name: str) -> Counter[str]:
    path = project.folder / name
    return Counter(path.read_text().split()) if path.exists() else Counter()


@pytest.mark.parametrize(
    "asked",
    first_fast(
        "set ./sweep --parallel-jobs 1 --now",
        "set ./sweep --parallel-jobs 4",
        "set ./sweep 4-5 --priority 3",
        "pause ./sweep",
        "pause ./sweep --running",
        "cancel ./sweep --pending",
        "add ./sweep x=2,8",
    ),
)
def test_each_job_completes_once_after_a_resume(project: Project, asked: str) -> None:
    words = ["sweep", "x=range(6)", "--sweep-dir", "sweep", "--parallel-jobs", "2"]
    command = [sys.executable, "-m", "hsm.cli.main", *words, "--", "sh", "-c", JOB]
    with start_program(project.folder, command) as running:
        wait_for(lambda: len(noted(project, "began")) == 2, "two jobs")
        project.hsm(*asked.split())
        running.process.kill()
        running.assert_all_gone()
    before = read_sweep(project.folder / "sweep")
    assert before.problems == []
    jobs = 7 if asked.startswith("add") else 6
    assert before.jobs.count_states() == {"CANCELLED": jobs}
    (project.folder / "go").touch()
    project.hsm("sweep", "--resume", "./sweep")
    after = read_sweep(project.folder / "sweep")
    assert after.problems == []
    assert after.jobs.count_states() == {"COMPLETED": jobs}
    assert noted(project, "end") == Counter(map(str, range(jobs)))
    assert not after.paused
    assert after.asked.priorities == before.asked.priorities
    assert {**after.latest["settings"], **before.asked.changes} == after.latest["settings"]
