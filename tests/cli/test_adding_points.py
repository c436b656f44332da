"""`hsm add`: the words it takes, what it prints, and what other commands make of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.cli import Project
from helpers.processes import wait_for

#: Stays until there is the file "go"; fails with the rate 7.
JOB = ["sh", "-c", "touch began-{lr}; until [ -e go ]; do sleep 0.02; done; test {lr} != 7"]


@pytest.fixture
def week(project: Project) -> Iterator[Project]:
    """A project whose sweep ``week`` runs in the foreground until there is the file "go"."""
    words = ("lr=1,2", "model=svm", "--sweep-id", "week", "--parallel-jobs", "1", "--json")
    with project.start("sweep", *words, "--", *JOB) as process:
        project.wait_for("began-1")
        # A job may be further than its record.
        wait_for(
            lambda: project.states("week") == ["RUNNING", "PENDING"], "the record of its start"
        )
        yield project
        (project.folder / "go").touch()
        out, _ = process.communicate()
        (project.folder / "summary").write_text(out)
        (project.folder / "code").write_text(str(process.returncode))


def add_record(project: Project, overrides: list[str], params: dict[str, object]) -> None:
    """Have the sweep's launcher have been asked to add points, just before it died."""
    record = {"event": "control", "request": "add", "overrides": overrides, "params": params}
    with (project.folder / "outputs/week/.hsm/journal.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")


@pytest.mark.parametrize("named", [["week"], ["outputs/week"], ["last"], []])
def test_points_are_added_to_the_sweep_that_is_named(week: Project, named: list[str]) -> None:
    assert week.here("add", *named, "lr=3,2").out == (
        "week: added job 2\n"
        "week: with model=svm, as all its jobs\n"
        "week: already there: the point of job 1\n"
    )
    assert "3 jobs: 1 running, 2 pending" in week.here("monitor", "week", "--once").out


def test_the_sweep_waits_for_what_was_added_and_counts_it(project: Project) -> None:
    words = ("lr=1", "--sweep-id", "week", "--json", "--on-sweep-end", "touch ended")
    with project.start("sweep", *words, "--", *JOB) as process:
        project.wait_for("began-1")
        project.here("add", "lr=7,8")
        (project.folder / "go").touch()
        out, err = process.communicate()
    summary = json.loads(out)
    assert (summary["jobs"], summary["not_completed"], process.returncode) == (3, [1], 1)
    assert "added jobs 1-2" in err
    assert project.states("week") == ["COMPLETED", "FAILED", "COMPLETED"]
    assert (project.folder / "ended").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["week"], "nothing to add: give the points, as in hsm add SWEEP lr=0.3,0.5"),
        (["nope", "lr=3"], "no sweep 'nope'"),
        (["week", "lr=1"], "already there: the point of job 0"),
        (["week", "3"], "'3'"),
        (["week", "model=a"], "no parameter for {lr}"),
        (["week", "lr=range(1,1000001)"], "1000000 points are too many to add at once"),
        (["week", "lr=1", "lr=2"], "lr is given twice"),
    ],
)
def test_what_makes_no_points_is_refused(week: Project, words: list[str], reason: str) -> None:
    if reason.startswith("no parameter"):
        week.here("add", "lr=3", "model=b")  # from now on they share nothing
    assert reason in week.here("add", *words, code=2).err


def test_a_sweep_that_is_over_is_named_as_such(project: Project) -> None:
    project.here("sweep", "x=1", "--sweep-id", "week", "--", "true")
    assert "week is not running: finished" in project.refused("add", "week", "x=2")


def test_a_resume_has_what_was_added_unless_it_is_told_how_many(project: Project) -> None:
    project.here("sweep", "x=1,2", "m=a", "--sweep-id", "week", "--", "true")
    add_record(project, ["x=2,3"], {"m": "a"})
    planned = project.here("sweep", "--resume", "week", "--dry-run").out
    assert planned.splitlines() == ["job 2 in outputs/week/2: true"]
    assert project.here("sweep", "--resume", "week", "--count-only").out == "1\n"
    assert project.here("sweep", "--resume", "week", "--max-runs", "2", "--dry-run").out == ""
    project.here("sweep", "--resume", "week", "--max-runs", "2")
    assert project.states("week") == ["COMPLETED"] * 2
    project.here("sweep", "--resume", "week", "x=1,2", "m=a")
    assert project.states("week") == ["COMPLETED"] * 3
    assert project.sweep("week").jobs[2].params == {"m": "a", "x": 3}


def test_a_dry_run_shows_the_command_that_the_launcher_then_runs(project: Project) -> None:
    words = ("x=1,2", "m=a", "--sweep-id", "week", "--args-style", "hydra")
    project.here("sweep", *words, "--", "echo", "{args}")
    add_record(project, ["x=3"], {"m": "a"})
    planned = project.here("sweep", "--resume", "week", "--dry-run").out
    assert planned == "job 2 in outputs/week/2: echo x=3 m=a\n"
    project.here("sweep", "--resume", "week")
    assert (project.folder / "outputs/week/.hsm/logs/2.out").read_text() == "x=3 m=a\n"


def test_the_keys_of_a_hydra_script_are_checked_before_it_is_asked(project: Project) -> None:
    project.write("conf/config.yaml", "lr: 1\nmodel: svm\n")
    script = project.write(
        "train.py",
        "import os, time, hydra\n"
        "@hydra.main(version_base=None, config_path='conf', config_name='config')\n"
        "def main(cfg):\n"
        "    open('began', 'w').close()\n"
        "    while not os.path.exists('go'):\n"
        "        time.sleep(0.02)\n"
        "if __name__ == '__main__':\n"
        "    main()\n",
    )
    words = ("--script", Path(script).name, "lr=1,2", "--sweep-id", "week")
    with project.start("sweep", *words) as process:
        project.wait_for("began")
        assert "did you mean lr?" in project.here("add", "week", "lrr=3", code=2).err
        assert "added job 2" in project.here("add", "week", "lr=3").out
        (project.folder / "go").touch()
        process.communicate()
    assert project.states("week") == ["COMPLETED"] * 3
