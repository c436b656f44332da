"""Resuming where something stands in the way: no sweep yet, another program, a damaged record."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.processes import App, wait_for
from helpers.reliability import Recorder, journal_events, points, source
from hsm.core.record.job import JobState
from hsm.core.record.journal import SweepInUse
from hsm.core.record.lock import LockFile, is_locked
from hsm.core.record.paths import SweepPaths
from hsm.core.record.resume import SweepChanged
from hsm.core.record.sweep import read_sweep

pytestmark = pytest.mark.thorough


def one(params: dict[str, Any]) -> int:
    return 1


def two(params: dict[str, Any]) -> int:
    return 2


# --- the lock ---------------------------------------------------------------------------------


def test_a_backup_made_by_the_launching_process_does_not_open_the_lock(tmp_path: Path) -> None:
    wait = ["sh", "-c", f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done"]
    paths = SweepPaths(tmp_path / "sweep")
    with source() as made:
        made.submit_jobs(points(0), "s", paths.sweep_dir, command=wait)
        # It reads and closes every file.
        shutil.copytree(paths.sweep_dir, tmp_path / "backup", symlinks=True)
        look = (
            "import sys; from hsm import read_sweep; "
            "sys.exit(0 if read_sweep(sys.argv[1]).alive else 1)"
        )
        subprocess.run([sys.executable, "-c", look, paths.sweep_dir], check=True)
        with source(resume=True) as other, pytest.raises(SweepInUse):
            other.submit_jobs(points(0), "s", paths.sweep_dir, command=wait)
        (tmp_path / "go").touch()
    assert not is_locked(paths.lock)


# --- no sweep yet -----------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [b"", b'{"v":1,"event":"sweep","swe'], ids=["empty", "torn"])
@pytest.mark.parametrize("resume", [True, False])
def test_a_journal_without_a_whole_first_line_is_no_sweep(
    tmp_path: Path, begun: bytes, resume: bool
) -> None:
    """As a launcher leaves it that is killed while it begins."""
    paths = SweepPaths(tmp_path)
    paths.create()
    paths.journal.write_bytes(begun)
    with source(resume=resume) as made:
        made.submit_jobs(points(0, 1), "s", tmp_path, function=one)
    sweep = read_sweep(tmp_path)
    assert ([str(job.state) for job in sweep.jobs.values()], sweep.problems) == (
        ["COMPLETED"] * 2,
        [],
    )


@pytest.mark.slow
def test_a_hydra_sweep_whose_journal_is_empty_begins_anew(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path / "sweep")
    paths.create()
    paths.journal.touch()
    done = App(tmp_path, "def job(cfg): return cfg.job").run("job=0,1", resume="true")
    assert (done.code, done.values) == (0, [0, 1])
    assert "to resume in " in done.screen


# --- another program --------------------------------------------------------------------------


def test_another_command_is_a_change(tmp_path: Path) -> None:
    with source() as made:
        made.submit_jobs(points(0), "s", tmp_path, command=["echo", "old", "{x}"])
    with source() as made, pytest.raises(SweepChanged) as caught:
        made.submit_jobs(points(0, 1), "s", tmp_path, command=["echo", "new", "{x}"], resume=True)
    assert caught.value.differences == [
        "it ran the command echo old '{x}', and would now run the command echo new '{x}'"
    ]
    for _ in range(2):  # what was accepted once is what the sweep is from then on
        with source(accept_changes=_ == 0) as made:
            made.submit_jobs(
                points(0, 1), "s", tmp_path, command=["echo", "new", "{x}"], resume=True
            )
    assert SweepPaths(tmp_path).stdout(1).read_text() == "new 1\n"
    assert read_sweep(tmp_path).latest["program"]["command"] == ["echo", "new", "{x}"]


def test_another_function_is_a_change(tmp_path: Path) -> None:
    with source() as made:
        made.submit_jobs(points(0), "s", tmp_path, function=one)
    with source() as made, pytest.raises(SweepChanged, match="the function two"):
        made.submit_jobs(points(0, 1), "s", tmp_path, function=two, resume=True)


def test_a_command_in_place_of_a_function_is_a_change(tmp_path: Path) -> None:
    with source() as made:
        made.submit_jobs(points(0), "s", tmp_path, function=one)
    with source() as made, pytest.raises(SweepChanged, match="would now run the command true"):
        made.submit_jobs(points(0), "s", tmp_path, command=["true"], resume=True)


@pytest.mark.slow
def test_another_primary_config_is_a_change(tmp_path: Path) -> None:
    app = App(tmp_path, "def job(cfg): return cfg.job")
    shutil.copy(tmp_path / "conf" / "config.yaml", tmp_path / "conf" / "other.yaml")
    assert app.run("job=0,1").code == 0
    done = app.run("job=0,1,2", "--config-name=other", resume="true")
    assert done.code == 1
    assert "with the config config, and would now run" in done.screen
    assert "hydra.launcher.accept_changes=true resumes anyway" in done.screen
    assert len(done.jobs) == 2


# --- what was there before --------------------------------------------------------------------


def test_jobs_that_were_to_run_again_and_did_not_are_what_they_were(tmp_path: Path) -> None:
    """`rerun=all`, stopped at once: nothing that had completed is lost."""
    with source() as made:
        made.submit_jobs(points(0, 1, 2), "s", tmp_path, function=one)
    recorder = Recorder()
    with source(recorder, resume=True, rerun="all", max_parallel_jobs=1) as made:
        waits = ["sleep", "60"]
        made.submit_jobs(points(7), "other", tmp_path / "other", command=waits)
        wait_for(lambda: recorder.has("started", 0), "a job that holds the slot")
        ids = made.submit_jobs(points(0, 1, 2), "s", tmp_path, function=one)
        made.stop("enough")
        assert set(made.wait(ids).values()) == {JobState.COMPLETED}
        assert [made.result(job_id) for job_id in ids] == [1, 1, 1]
    jobs = read_sweep(tmp_path).jobs.values()
    assert [(str(job.state), job.value, len(job.attempts)) for job in jobs] == [
        ("COMPLETED", 1, 1)
    ] * 3


def test_a_resume_records_who_went_on_and_with_what(tmp_path: Path) -> None:
    for timeout in (60, 70):
        with source(resume=True, timeout=timeout) as made:
            made.submit_jobs(points(timeout), "s", tmp_path, command=["true"])
    first, *_, resumed = [
        event for event in journal_events(tmp_path) if event["event"] in ("sweep", "resume")
    ]
    for name in ("argv", "cwd", "host", "hsm", "python", "hydra"):
        assert resumed[name] == first[name]
    sweep = read_sweep(tmp_path)
    assert (sweep.header["settings"]["timeout"], sweep.latest["settings"]["timeout"]) == (60, 70)


def test_lines_of_the_wrong_types_are_named_and_the_rest_is_used(tmp_path: Path) -> None:
    with source() as made:
        made.submit_jobs(points(0), "s", tmp_path, command=["true"])
    paths = SweepPaths(tmp_path)
    lines = paths.journal.read_text().splitlines()
    for text in (
        '{"event":"start","job":0,"attempt":2,"pid":"a","time":1}',
        '{"event":"start","job":0,"attempt":2,"pid":1,"time":"yy"}',
        '{"event":"end","job":0,"attempt":1,"state":"FAILED","max_memory":"x","time":1}',
        '{"event":"resume","jobs":7,"time":1}',
    ):
        paths.journal.write_text("\n".join([*lines, text]) + "\n")
        sweep = read_sweep(tmp_path)
        assert [problem.partition(":")[0] for problem in sweep.problems] == [
            f"line {len(lines) + 1}"
        ]
        assert str(sweep.jobs[0].state) == "COMPLETED"


# --- Hydra's directories ----------------------------------------------------------------------


@pytest.mark.slow
def test_a_sweep_beside_a_running_one_takes_a_new_directory(tmp_path: Path) -> None:
    """`sweep-2` holds something of somebody: it stays as it is."""
    (tmp_path / "sweep-2").mkdir()
    (tmp_path / "sweep-2" / "mine").write_text("mine")
    app = App(tmp_path, "def job(cfg):\n    note(f'in-{cfg.job}')\n    wait_for('go')")
    with app.start("job=1") as running:
        running.wait_for_files("in-1")
        with app.start("job=2") as second:
            second.wait_for_files("in-2")
            (tmp_path / "go").touch()
            assert second.finish().code == 0
        assert running.finish().code == 0
    assert [path.name for path in (tmp_path / "sweep-2").iterdir()] == ["mine"]
    assert [job.params for job in read_sweep(tmp_path / "sweep-3").jobs.values()] == [{"job": 2}]


def test_a_second_resume_before_the_first_has_begun_takes_no_other_directory(
    tmp_path: Path,
) -> None:
    app = App(tmp_path, "def job(cfg):\n    note(f'in-{cfg.job}')\n    wait_for('go')")
    paths = SweepPaths(tmp_path / "sweep")
    paths.create()
    lock = LockFile(paths.lock)
    done = app.run("job=1", resume="true")
    lock.release()
    assert done.code == 1
    assert f"{paths.sweep_dir} is in use by process" in done.screen
    assert sorted(path.name for path in tmp_path.glob("sweep*")) == ["sweep"]


@pytest.mark.slow
def test_deleting_a_key_is_another_point_than_setting_it_to_null(tmp_path: Path) -> None:
    app = App(tmp_path, "def job(cfg): return 'x' in cfg")
    (tmp_path / "conf" / "config.yaml").write_text(
        (tmp_path / "conf" / "config.yaml").read_text() + "\nx: 1\n"
    )
    assert app.run("job=0", "x=null").values == [True]
    done = app.run("job=0", "~x", resume="true", accept_changes="true")
    assert done.values == [True, False]
    assert json.dumps([job.params for job in done.jobs.values()]) == json.dumps(
        [{"job": 0, "x": None}, {"job": 0, "~x": None}]
    )
