"""`hsm rm`: what a sweep has made goes, after a question, and nothing else does."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.cli import STAY, Project
from helpers.processes import PATIENCE, child_environment
from hsm.cli.rm import _agreed
from hsm.core.record.registry import known_sweeps, registry_file

pytestmark = pytest.mark.thorough

_WRITE = ("--", "sh", "-c", "echo {x} > {job_dir}/out")


def _sweep(project: Project, sweep_id: str = "s", *words: str, code: int = 0) -> Path:
    project.here("sweep", "x=1,2", "--sweep-id", sweep_id, *(words or _WRITE), code=code)
    return project.folder / "outputs" / sweep_id


def test_sweeps_are_removed_with_all_that_they_made(project: Project) -> None:
    for name in ("s", "t", "u"):
        _sweep(project, name)
    out = project.here("rm", "s", "outputs/t", "--yes").out
    assert out.startswith("s: 2 jobs (2 completed), ")
    assert out.endswith("removed s\nremoved t\n")
    assert os.listdir(project.folder / "outputs") == ["u"]
    assert [sweep.sweep_id for sweep in known_sweeps()] == ["u"]
    assert str(project.folder / "outputs/s") not in registry_file().read_text()


def test_records_of_earlier_sweeps_in_the_same_directory_go_and_are_told(project: Project) -> None:
    directory = _sweep(project)
    (directory / ".hsm.1").mkdir()  # what a new sweep in this directory makes of an old record
    out = project.here("rm", "s", "--yes").out
    assert out.startswith("s: 2 jobs (2 completed), ")
    assert "in outputs/s, and the records of 1 that were there before\n" in out
    assert not directory.exists()


def test_without_a_terminal_nobody_is_asked(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = _sweep(project)
    with open(os.devnull) as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        ran = project.here("rm", "s", code=2)
    assert ran.out.startswith("s: 2 jobs (2 completed), ")
    assert "there is no terminal to ask on; --yes does not ask" in ran.err
    assert (directory / "1/out").exists()


@pytest.mark.parametrize(("answer", "agreed"), [("y", True), ("", False), ("n", False)])
def test_the_default_answer_is_no(
    monkeypatch: pytest.MonkeyPatch, answer: str, agreed: bool
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: answer)
    assert _agreed(1) is agreed


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"\n", 1), (b"\x04", 1)])
def test_on_a_terminal_the_question_is_asked(project: Project, answer: bytes, code: int) -> None:
    directory = _sweep(project)
    ours, theirs = pty.openpty()
    try:
        os.write(ours, answer)
        done = subprocess.run(
            [sys.executable, "-m", "hsm.cli.main", "rm", "s"],
            cwd=project.folder,
            env=child_environment(),
            stdin=theirs,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert b"Remove it? [y/N] " in done.stdout
    assert done.returncode == code
    assert directory.exists() is bool(code)


def test_what_else_is_in_the_directory_stays(project: Project) -> None:
    """A sweep in the project's own directory: hydra.sweep.dir=., say."""
    project.write("7/mine", "")
    project.write("src/code.py", "")
    project.here("sweep", "x=1,2", "--sweep-dir", ".", "--sweep-id", "s", *_WRITE)
    out = project.here("rm", "s", "--yes").out
    assert out.endswith("removed s\n  . stays, with 7, src\n")
    assert sorted(os.listdir(project.folder)) == ["7", "src"]


def test_a_job_that_never_started_has_made_nothing(project: Project) -> None:
    project.write("1/mine", "")
    words = ("--parallel-jobs", "1", "--fail-fast", "--sweep-dir", ".", "--", "false")
    project.here("sweep", "x=1,2", "--sweep-id", "s", *words, code=1)
    project.here("rm", "s", "--yes")
    assert os.listdir(project.folder) == ["1"]


def test_no_link_is_followed(project: Project) -> None:
    directory = _sweep(project)
    mine = project.write("mine/file", "")
    (directory / "0/link").symlink_to(mine.parent)
    (directory / "1").rename(directory / "moved")
    (directory / "1").symlink_to(mine.parent)
    project.here("rm", "s", "--yes")
    assert mine.exists()
    assert os.listdir(directory) == ["moved"]


def test_what_cannot_be_removed_leaves_the_record(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = _sweep(project)
    refuse = PermissionError(1, "Operation not permitted", "there")
    monkeypatch.setattr("hsm.core.record.sweep_contents.remove_tree", lambda _: refuse)
    assert (
        "cannot remove there: Operation not permitted"
        in project.here("rm", "s", "--yes", code=2).err
    )
    assert project.states("s") == ["COMPLETED"] * 2
    monkeypatch.undo()
    (directory / "0").chmod(0o500)  # what jobs have made read-only goes, too
    project.here("rm", "s", "--yes")
    assert not directory.exists()


@pytest.mark.slow
def test_a_running_sweep_is_refused(project: Project) -> None:
    with project.detached("x=1,2", "--", "sh", "-c", STAY) as sweep:
        line = project.refused("rm", "bg", "--yes")
        assert line == "hsm: bg: it is still running: hsm cancel bg ends it\n"
        project.here("sweep", "x=1", "--sweep-id", "outer", "--", "mkdir", "{job_dir}/in")
        inner = project.folder / "outputs/outer/0/in"
        inner.rmdir()
        # Its launcher would soon notice, and begin its record anew where it was.
        os.kill(sweep.header["pid"], signal.SIGSTOP)
        try:
            (project.folder / "outputs/bg").rename(inner)  # as if a job of outer had started it
            line = project.refused("rm", "outer", "--yes")
            inner.rename(project.folder / "outputs/bg")
        finally:
            os.kill(sweep.header["pid"], signal.SIGCONT)
        assert f"a sweep in {inner}, in it, is still running: hsm cancel {inner} ends it" in line


def test_what_is_refused(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = _sweep(project)
    (project.folder / "link").symlink_to(directory)
    assert "is a link: give the directory itself, " in project.refused("rm", "./link", "--yes")
    assert "there is no sweep in " in project.refused("rm", "./outputs", "--yes")
    assert "Missing argument" in project.refused("rm", "--yes")
    inside = Project(directory / "0")
    assert "the current directory is in " in inside.refused("rm", str(directory), "--yes")
    mounts = [directory / "0/data"]
    monkeypatch.setattr("hsm.core.record.sweep_contents.mounts_below", lambda _: mounts)
    assert "outputs/s/0/data is a mount point: unmount it" in project.refused("rm", "s", "--yes")


def test_a_folder_of_the_project_is_no_output_of_a_job(project: Project) -> None:
    """hydra.sweep.subdir may name any folder."""
    directory = _sweep(project, "s", "--", "mkdir", "{job_dir}/.hydra")
    journal = directory / ".hsm/journal.jsonl"
    text = journal.read_text()
    for num, name in enumerate(("lr=1", "src")):
        (directory / str(num)).rename(directory / name)
        old = f'"event":"end","job":{num}'
        assert old in text, text
        text = text.replace(old, f'{old},"job_dir":"{directory / name}"')
    journal.write_text(text)
    (directory / "src/.git").mkdir()
    out = project.here("rm", "s", "--yes").out
    assert "  outputs/s/src stays: it may hold more than a job's output\n" in out
    assert out.endswith("  outputs/s stays, with src\n")
    assert os.listdir(directory) == ["src"]
