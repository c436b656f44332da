"""A sweep that begins or goes on where somebody has laid something out writes nothing elsewhere."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.cli import Project
from helpers.processes import first_fast
from hsm import LocalComputeSource
from hsm.core.program import reports
from hsm.core.record.job import Ending, Job, JobState
from hsm.core.record.journal import Journal
from hsm.core.record.journal_header import JournalError
from hsm.core.record.paths import SweepPaths

pytestmark = pytest.mark.thorough

#: What a launcher writes: folders, and files.
_FOLDERS = (".hsm", ".hsm/logs", ".hsm/results", ".hsm/metrics", ".hsm/requests")
_FILES = (
    *(".hsm/journal.jsonl", ".hsm/lock", ".hsm/launched.json", ".hsm/launcher.log"),
    *(".hsm/logs/0.out", ".hsm/logs/0.err", ".hsm/metrics/0.jsonl"),
)


def _link(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


def _dangling(path: Path, outside: Path) -> None:
    path.symlink_to(outside.parent / "nowhere")


def _pipe(path: Path, outside: Path) -> None:
    os.mkfifo(path)


def _hard_link(path: Path, outside: Path) -> None:
    path.hardlink_to(outside)


_KINDS = [_link, _dangling, _pipe, _hard_link]


@pytest.fixture
def outside(project: Project) -> Path:
    """What is not the sweep's: a folder with files in it."""
    project.write("outside/folder/file", "theirs\n")
    return project.write("outside/file", "theirs\n").parent


def _contents(folder: Path) -> dict[str, str | None]:
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize("lay", _KINDS)
@pytest.mark.parametrize("place", [*_FOLDERS, *_FILES])
def test_a_new_sweep_is_refused_with_the_entry_that_leads_elsewhere(
    project: Project, outside: Path, place: str, lay: Callable[[Path, Path], None]
) -> None:
    if place in _FOLDERS and lay is _hard_link:
        pytest.skip("folders have no hard links")
    path = project.folder / "outputs/s" / place
    path.parent.mkdir(parents=True)
    lay(path, outside / ("folder" if place in _FOLDERS else "file"))
    before = _contents(outside)
    job = ["touch", "{job_dir}/ran"]
    ran = project.here("sweep", "n=1", "--sweep-id", "s", "--progress", "none", "--", *job, code=2)
    assert ran.err.startswith("hsm: ")
    assert ran.err.count("\n") == 1
    # With anything that has a journal's name there is a sweep already.
    assert place in ran.err or (place.endswith("journal.jsonl") and "is taken by" in ran.err)
    assert _contents(outside) == before
    assert not (project.folder / "outputs/s/0/ran").exists()


def test_a_job_gets_no_link_for_its_directory(project: Project, outside: Path) -> None:
    (project.folder / "outputs/s").mkdir(parents=True)
    (project.folder / "outputs/s/1").symlink_to(outside)
    command = ["--sweep-id", "s", "--progress", "none", "--", "touch", "{job_dir}/ran"]
    ran = project.here("sweep", "n=1,2", *command, code=2)
    assert "outputs/s/1: it is a link, not a folder" in ran.err
    assert sorted(os.listdir(outside)) == ["file", "folder"]


def test_a_detached_launcher_writes_its_log_through_no_link(
    project: Project, outside: Path
) -> None:
    path = project.folder / "outputs/s/.hsm/launcher.log"
    path.parent.mkdir(parents=True)
    path.symlink_to(outside / "file")
    ran = project.hsm("sweep", "n=1", "--sweep-id", "s", "--detach", "--", "true", code=2)
    assert "launcher.log: it is a link, not a regular file" in ran.err
    assert (outside / "file").read_text() == "theirs\n"


@pytest.mark.parametrize("name", ["git.diff", "launched.json"])
def test_what_is_kept_beside_the_journal_goes_through_no_link(
    project: Project, outside: Path, name: str
) -> None:
    paths = SweepPaths(project.folder / "s")
    paths.create()
    (paths.hsm_dir / name).symlink_to(outside / "nowhere")
    if name == "git.diff":
        assert paths.new_git_diff().name == "git.1.diff"
    else:
        with pytest.raises(JournalError, match=f"{name}: it is a link"):
            Journal(paths, "s", {})
    assert sorted(os.listdir(outside)) == ["file", "folder"]


@pytest.mark.parametrize("lay", [_link, _pipe, _hard_link])
@pytest.mark.parametrize("place", [".hsm/lock", ".hsm/launched.json", ".hsm/logs/0.out"])
def test_a_sweep_goes_on_through_no_link_either(
    project: Project, outside: Path, place: str, lay: Callable[[Path, Path], None]
) -> None:
    project.here("sweep", "n=1", "--sweep-id", "s", "--progress", "none", "--", "false", code=1)
    path = project.folder / "outputs/s" / place
    path.unlink(missing_ok=True)
    lay(path, outside / "file")
    ran = project.here("sweep", "--resume", "s", "--progress", "none", code=2)
    assert f"cannot write {path}: it is a" in ran.err
    assert ran.err.count("\n") == 1
    assert (outside / "file").read_text() == "theirs\n"


class _Trap:
    """Runs code where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def _strangers(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to give a file away")
    os.chown(path, 12345, 12345)


def _writable(path: Path) -> None:
    path.chmod(0o666)


def _led_to(path: Path) -> None:
    path.rename(path.parent.parent / "moved")
    path.symlink_to(path.parent.parent / "moved")


def _folder_led_to(path: Path) -> None:
    path.parent.rename(path.parent.parent / "moved")
    path.parent.symlink_to(path.parent.parent / "moved")


@pytest.mark.parametrize("spoil", [_strangers, _writable, _led_to, _folder_led_to])
def test_a_resume_unpickles_nothing_that_another_may_have_written(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    paths = SweepPaths(tmp_path / "s")
    mark = tmp_path / "ran"
    journal = Journal(paths, "s", {}, program={"function": "f"})
    job = Job(0, "s_0", "", {"x": 1})
    journal.submit([job])
    job.start(1.0, 1)
    journal.start(job)
    job.end(2.0, Ending(JobState.COMPLETED, exit_code=0))
    journal.end(job)
    journal.close("finished")
    path = paths.result(0)
    path.write_bytes(pickle.dumps(_Trap(mark)) * 2 + (0).to_bytes(8, "big"))
    path.chmod(0o600)
    spoil(path)
    assert reports.read(path) is None
    with pytest.raises(OSError, match=r"another user may have written it|it is a link"):
        reports.read_value(path)
    assert not mark.exists()


def test_a_resumed_job_runs_in_its_own_directory_whatever_the_journal_says(
    tmp_path: Path,
) -> None:
    paths = SweepPaths(tmp_path / "s")
    journal = Journal(paths, "s", {})
    job = Job(0, "s_0", "", {"x": 1})
    journal.submit([job])
    job.start(1.0, 1)
    journal.start(job)
    outside = tmp_path / "outside"
    job.end(2.0, Ending(JobState.FAILED, exit_code=1, job_dir=str(outside)))
    journal.end(job)
    journal.close("finished")
    with LocalComputeSource(command=["touch", "{job_dir}/ran"], resume=True) as source:
        (job_id,) = source.submit_jobs([{"x": 1}], "s", paths.sweep_dir, command=["true"])
        assert source.result(job_id) is None
        assert source.job(job_id).job_dir == paths.job_dir(0)
    assert not outside.exists()


@pytest.mark.parametrize("place", first_fast(".hsm/lock", ".hsm", ".hsm/logs/0.out", "0"))
def test_a_hydra_sweep_is_refused_likewise(project: Project, outside: Path, place: str) -> None:
    project.write("app.py", _APP)
    path = project.folder / "swept" / place
    path.parent.mkdir(parents=True)
    path.symlink_to(outside / ("folder" if place in (".hsm", "0") else "file"))
    before = _contents(outside)
    words = ["app.py", "-m", "hydra/launcher=hsm_local", "+n=1", "hydra.sweep.dir=swept"]
    done = subprocess.run(
        [sys.executable, *words], cwd=project.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"swept/{place}: it is a link, not a " in done.stderr
    assert "Traceback" not in done.stderr
    assert _contents(outside) == before


_APP = """\
import hydra


@hydra.main(version_base=None, config_path=None)
def main(cfg):
    print(cfg.n)


main()
"""
