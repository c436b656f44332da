"""`hsm sweep --resume`: what is typed is meant where it is typed, and nothing is made up."""

from __future__ import annotations

import json
import socket

import pytest

from helpers.cli import STAY, Project
from helpers.processes import first_fast

pytestmark = pytest.mark.thorough

_MISSING_ONE = ("sh", "-c", "test -e fixed || test {x} != 1")


@pytest.fixture
def elsewhere(project: Project) -> Project:
    """Another directory, of somebody who uses the same list of sweeps."""
    folder = project.folder.parent / "elsewhere"
    folder.mkdir()
    return Project(folder)


def _without_submit(project: Project, sweep_id: str, *, with_definition: bool = False) -> None:
    """Damage the record of the sweep's points; take out how they were written, too."""
    journal = project.sweep(sweep_id).paths.journal
    first, *lines = journal.read_text().splitlines(keepends=True)
    launch = json.loads(first)
    if not with_definition:
        del launch["points"]
    damaged = [line[:40] + "\n" if '"event":"submit"' in line else line for line in lines]
    assert damaged != lines
    journal.write_text("".join([json.dumps(launch) + "\n", *damaged]))


@pytest.mark.slow
def test_a_sweep_that_runs_is_left_alone(project: Project) -> None:
    with project.detached("x=range(2)", "--", "sh", "-c", STAY) as sweep:
        before = sweep.paths.journal.read_bytes()
        ran = project.hsm("sweep", "--resume", "bg", code=2)
        launcher = f"process {sweep.header['pid']} on {socket.gethostname()}"
        assert ran.err.startswith(f"hsm: bg is still running ({launcher}): hsm monitor bg shows it")
        assert ran.err.count("\n") == 1
        assert sweep.paths.journal.read_bytes() == before


@pytest.mark.slow
def test_paths_are_those_of_the_directory_where_they_are_typed(
    project: Project, elsewhere: Project
) -> None:
    project.write("fit.py", "")
    project.here("sweep", "x=1", "--sweep-id", "s", "--script", "fit.py")
    elsewhere.write("points.csv", "x\n2\n")
    elsewhere.write("mine.yaml", "local: {timeout: 77}\n")
    elsewhere.write("other.py", "print('other')\n")
    ran = elsewhere.hsm(
        *("sweep", "--resume", "s", "--config", "points.csv", "--hsm-config", "mine.yaml"),
        *("--script", "other.py", "--accept-changes"),
    )
    assert "1 completed" in ran.out
    assert project.sweep("s").jobs[1].params == {"x": 2}
    assert project.hsm("logs", "s", "1").out == "other\n"


@pytest.mark.slow
def test_variables_keep_their_meaning(project: Project, elsewhere: Project) -> None:
    state = elsewhere.folder / "state"
    elsewhere.write("mine.yaml", "local: {timeout: 0}\n")
    project.hsm("sweep", "x=1", "--sweep-id", "s", "--", "true", HSM_STATE_DIR=str(state))
    resume = ("sweep", "--resume", "s")
    ran = elsewhere.hsm(*resume, code=2, HSM_STATE_DIR="state", HSM_CONFIG="mine.yaml")
    assert "mine.yaml" in ran.err
    assert ", line 1 must be a number of seconds" in ran.err
    elsewhere.write("mine.yaml", "local: {timeout: 9}\n")
    elsewhere.hsm(*resume, HSM_STATE_DIR="state", HSM_CONFIG="mine.yaml")
    assert not (project.folder / "state").exists()
    assert len((state / "sweeps.jsonl").read_text().splitlines()) == 2


def test_a_project_that_was_moved_goes_on_where_it_is(project: Project) -> None:
    project.here("sweep", "x=range(3)", "--sweep-id", "s", "--", *_MISSING_ONE, code=1)
    moved = Project(project.folder.rename(project.folder.parent / "moved"))
    moved.write("fixed", "")
    ran = moved.hsm("sweep", "--resume", "outputs/s")
    line = f"hsm: s was started in {project.folder}, which is gone: resuming it in {moved.folder}"
    assert ran.err.splitlines() == [line]
    assert moved.states("s") == ["COMPLETED"] * 3


def test_a_sweep_without_points_needs_them_again(project: Project) -> None:
    project.here("sweep", "x=1,2", "--sweep-id", "s", "--", "true")
    _without_submit(project, "s")
    journal = project.sweep("s").paths.journal
    before = journal.read_bytes()
    ran = project.hsm("sweep", "--resume", "s", code=2)
    assert ran.out == ""
    assert "hsm: the journal of s has no jobs: their points were never recorded" in ran.err
    assert journal.read_bytes() == before
    assert "2 completed" in project.hsm("sweep", "--resume", "s", "x=1,2").out


def test_a_sweep_whose_points_are_on_record_as_they_were_written(project: Project) -> None:
    project.here("sweep", "x=1,2", "--zip", "y=3,4 z=5,6", "--sweep-id", "s", "--", "true")
    _without_submit(project, "s", with_definition=True)
    assert "4 completed" in project.hsm("sweep", "--resume", "s").out
    params = [job.params for job in project.sweep("s").jobs.values()]
    assert params == [{"x": x, "y": y, "z": y + 2} for x in (1, 2) for y in (3, 4)]


def test_what_of_a_journal_cannot_be_used_is_told_by_all_who_read_it(project: Project) -> None:
    project.here("sweep", "x=1,2", "--sweep-id", "s", "--", "echo", "hi")
    journal = project.sweep("s").paths.journal
    with journal.open("a") as file:
        file.write("{}\n" * 9)
    for arguments in (
        *(["show", "s", "0"], ["monitor", "s", "--once"], ["monitor", "s", "--json"]),
        *(["sweep", "--resume", "s", "--dry-run"],),
    ):
        told = project.here(*arguments).err.splitlines()
        assert told[0].startswith(f"hsm: {journal}, line "), arguments
        assert told[-1] == f"hsm: {journal}: 9 damaged lines in all"
        assert len(told) == 4
    assert project.hsm("logs", "s", "0").err.count("\n") == 4
    assert project.here("monitor", "s").out.count(str(journal)) == 4


def test_the_jobs_that_would_run_are_counted_as_json_too(project: Project) -> None:
    project.here("sweep", "x=range(3)", "--sweep-id", "s", "--", *_MISSING_ONE, code=1)
    ran = project.here("sweep", "--resume", "s", "--count-only", "--json")
    assert json.loads(ran.out) == {"jobs": 1}


@pytest.mark.parametrize("more", first_fast((), ("--detach",)))
def test_a_script_that_has_changed_needs_an_option(project: Project, more: tuple[str, ...]) -> None:
    project.write("fit.py", "raise SystemExit(1)")
    project.here("sweep", "x=1", "--sweep-id", "s", "--script", "fit.py", code=1)
    project.write("fit.py", "pass")
    ran = project.hsm("sweep", "--resume", "s", *more, code=2)
    assert ran.err.splitlines() == [
        "hsm: cannot resume: the script or config has changed (--accept-changes resumes anyway):",
        "  fit.py has changed:",
        "    -raise SystemExit(1)",
        "    +pass",
    ]
    assert "1 completed" in project.hsm("sweep", "--resume", "s", "--accept-changes").out
