"""`hsm rerun` and `--rerun 3,7`: these jobs run again, and no other ones."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from helpers.cli import STAY, Project
from helpers.hydra import run_python, write_files
from hsm import LocalManager
from hsm.core.errors import SettingsError
from hsm.core.record.sweep import read_sweep

pytestmark = pytest.mark.thorough

#: Fails until there is a file `fixed`.
_JOB = "echo {x}; test {x} = 0 || test -e fixed"


def _attempts(project: Project, sweep_id: str = "s") -> list[int]:
    return [len(job.attempts) for _, job in sorted(project.sweep(sweep_id).jobs.items())]


@pytest.fixture
def failed(project: Project) -> Project:
    """A sweep s of four jobs, of which job 0 alone has completed."""
    project.here("sweep", "x=range(4)", "--sweep-id", "s", "--", "sh", "-c", _JOB, code=1)
    project.write("fixed", "")
    return project


def test_rerun_runs_these_jobs_and_no_others(failed: Project) -> None:
    ran = failed.hsm("rerun", "s", "0", "2-3", code=1)  # job 1 has still not completed
    shown, _, rest = ran.out.partition("\n")
    assert shown.endswith(f"sweep --resume {failed.folder}/outputs/s --rerun 0,2-3")
    assert rest.startswith("1 of 4 jobs will not run again\n")
    assert "s: 3 jobs: 3 completed" in rest
    assert failed.states("s") == ["COMPLETED", "FAILED", "COMPLETED", "COMPLETED"]
    assert _attempts(failed) == [2, 1, 2, 2]


@pytest.mark.slow
def test_rerun_of_a_job_that_never_started(project: Project) -> None:
    project.here(
        *("sweep", "x=1,0,2", "--sweep-id", "s", "--fail-fast", "--parallel-jobs", "1"),
        *("--", "sh", "-c", _JOB),
        code=1,
    )
    project.hsm("rerun", "1", code=1)
    assert project.states("s") == ["FAILED", "COMPLETED", "CANCELLED"]
    assert _attempts(project) == [1, 1, 0]


def test_rerun_only_shows_the_command_in_a_dry_run(failed: Project) -> None:
    out = failed.here("rerun", "3", "--dry-run").out
    assert out.endswith(f"sweep --resume {failed.folder}/outputs/s --rerun 3\n")
    assert _attempts(failed) == [1, 1, 1, 1]
    other = Project(failed.folder / "elsewhere")
    other.folder.mkdir()
    assert other.here("rerun", "3", "--dry-run").out.startswith(f"cd {failed.folder} && ")


@pytest.mark.slow
def test_rerun_after_a_script_has_changed(project: Project) -> None:
    project.write("job.py", "raise SystemExit(1)")
    project.hsm("sweep", "x=1,2", "--sweep-id", "s", "--script", "job.py", code=1)
    project.write("job.py", "")
    assert "--accept-changes resumes anyway" in project.hsm("rerun", "s", "1", code=2).err
    project.hsm("rerun", "s", "1", "--accept-changes", code=1)
    assert project.states("s") == ["FAILED", "COMPLETED"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("rerun",), "which job? hsm rerun 0 means job 0 of the newest sweep"),
        (("rerun", "s"), "which job?"),
        (("rerun", "s", "4"), "sweep s has no job 4: give a number from 0 to 3"),
        (("sweep", "--resume", "s", "--rerun", "1,9", "--dry-run"), "sweep s has no job 9"),
        (
            ("sweep", "--resume", "s", "--rerun", "3-1"),
            "--rerun must be one of unfinished, failed, timeout, all, or numbers of jobs, such as "
            "3,7 or 3-5, not '3-1'",
        ),
        (
            ("sweep", "--resume", "s", "--rerun", "1", "x=1,7"),
            "the sweep has points that no job of s has had, such as {'x': 7}: resume it without",
        ),
    ],
)
def test_what_cannot_run_again(failed: Project, words: tuple[str, ...], said: str) -> None:
    assert said in failed.hsm(*words, code=2).err
    assert _attempts(failed) == [1, 1, 1, 1]


@pytest.mark.slow
def test_a_running_sweep_is_left_alone(project: Project) -> None:
    with project.detached("x=1,2", "--", "sh", "-c", STAY):
        line = project.refused("rerun", "bg", "0")
        assert "bg is still running (process " in line
        assert "hsm cancel bg ends it" in line


def _fine(params: dict[str, object]) -> None:
    pass


def test_functions_are_run_by_their_own_program(project: Project) -> None:
    there = project.folder / "there"
    LocalManager(progress="none").run([{"x": 1}], function=_fine, sweep_dir=there)
    assert "start that program again with resume=True and rerun=[0]" in project.refused(
        *("rerun", "./there", "0")
    )


_APP = """
    import os

    import hydra

    @hydra.main(version_base=None, config_path=None)
    def main(cfg):
        print("x is", cfg.x)
        return 1 // int(cfg.x == 0 or os.path.exists("fixed"))

    if __name__ == "__main__":
        main()
"""


@pytest.mark.slow
def test_numbers_without_a_sweep_to_resume_start_no_new_one(tmp_path: Path) -> None:
    write_files(tmp_path, {"train.py": _APP})
    words = ("hydra/launcher=hsm_local", "+x=0", "hydra.sweep.dir=sweep")
    done = run_python(tmp_path, "train.py", "-m", *words, "hydra.launcher.rerun=[0,2]")
    assert (done.code, "Traceback" in done.err) == (1, False)
    said = "rerun=0,2 names jobs of an earlier sweep, and none is resumed in "
    assert f"{said}{tmp_path}/sweep: resume one, or leave rerun out" in done.err
    project = Project(tmp_path)
    before = sorted(tmp_path.iterdir())
    for more in ((), ("--dry-run",), ("--detach",)):
        line = project.refused("sweep", "x=1", "--rerun", "0,2", *more, "--", "true")
        assert said in line
    with pytest.raises(SettingsError, match="none is resumed"):
        LocalManager(progress="none", rerun=[3]).run([{}], command="true", sweep_dir=tmp_path / "a")
    assert sorted(tmp_path.iterdir()) == before
    assert not (tmp_path / "sweep").exists()


@pytest.mark.slow
def test_a_sweep_of_hydra_is_started_as_it_was(tmp_path: Path) -> None:
    write_files(tmp_path, {"train.py": _APP})
    words = ("hydra/launcher=hsm_local", "+x=range(3)", "hydra.sweep.dir=sweep")
    assert run_python(tmp_path, "train.py", "-m", *words).code == 1
    (tmp_path / "fixed").touch()
    done = run_python(tmp_path, "-m", "hsm.cli.main", "rerun", "sweep/", "2")
    assert done.out.splitlines()[0] == (
        f"{sys.executable} train.py -m hydra/launcher=hsm_local '+x=range(3)' "
        f"hydra.sweep.dir={tmp_path}/sweep hydra.launcher.resume=true 'hydra.launcher.rerun=[2]'"
    )
    jobs = read_sweep(tmp_path / "sweep").jobs
    assert [str(jobs[num].state) for num in range(3)] == ["COMPLETED", "FAILED", "COMPLETED"]
    assert [len(jobs[num].attempts) for num in range(3)] == [1, 1, 2]
    # What has been resumed with one job is resumed with another.
    done = run_python(tmp_path, "-m", "hsm.cli.main", "rerun", "sweep/", "1")
    assert done.code == 0, done.text
    assert done.out.splitlines()[0].endswith(
        "hydra.launcher.resume=true 'hydra.launcher.rerun=[1]'"
    )
