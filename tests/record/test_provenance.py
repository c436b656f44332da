"""What a sweep's record says of what ran, and what it does not say."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import hsm
from helpers.processes import App
from helpers.reliability import journal_events, points, source
from hsm.core.record import repository as repository_module
from hsm.core.record.paths import SweepPaths
from hsm.core.record.sweep import read_sweep

pytestmark = pytest.mark.thorough

SECRET = "correct horse battery staple"


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org")
    return subprocess.run(
        ["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def repository(project_dir: Path) -> Path:
    """A repository with one commit, which is the working directory."""
    folder = project_dir
    (folder / "train.py").write_text("rate = 1\n")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "first")
    return folder


def header(sweep_dir: Path, **settings: Any) -> dict[str, Any]:
    with source(**settings) as made:
        made.submit_jobs(points(0), "s", sweep_dir, command=["true"])
    return journal_events(sweep_dir)[0]


def test_the_first_line_tells_what_ran_where(tmp_path: Path) -> None:
    first = header(tmp_path, timeout=60)
    assert first["event"] == "sweep"
    assert (first["hsm"], first["python"]) == (hsm.__version__, platform.python_version())
    assert (first["host"], first["pid"]) == (socket.gethostname(), os.getpid())
    assert (first["argv"], first["cwd"]) == (sys.argv, os.getcwd())
    assert abs(first["time"] - time.time()) < 60
    assert first["settings"]["timeout"] == 60
    assert first["program"]["command"] == ["true"]


@pytest.mark.slow
def test_hydras_version_is_there_under_hydra(tmp_path: Path) -> None:
    done = App(tmp_path, "def job(cfg): return 1").run("job=0")
    import hydra

    assert done.sweep.header["hydra"] == hydra.__version__
    assert done.sweep.header["argv"][0] == "train.py"


def test_a_clean_repository_is_told_by_its_commit(repository: Path) -> None:
    (repository / "untracked").touch()
    first = header(repository / "sweep")
    assert first["git"] == {"commit": git(repository, "rev-parse", "HEAD"), "dirty": False}
    assert not SweepPaths(repository / "sweep").git_diff.exists()


def test_what_is_not_committed_is_kept_beside_the_journal(repository: Path) -> None:
    (repository / "train.py").write_text("rate = 2\n")
    first = header(repository / "sweep")
    assert first["git"]["dirty"]
    kept = SweepPaths(repository / "sweep").git_diff
    assert "-rate = 1\n+rate = 2\n" in kept.read_text()
    git(repository, "checkout", "train.py")
    git(repository, "apply", str(kept))
    assert (repository / "train.py").read_text() == "rate = 2\n"


def test_what_is_staged_counts_as_not_committed(repository: Path) -> None:
    (repository / "new.py").write_text("x = 1\n")
    git(repository, "add", "new.py")
    assert header(repository / "sweep")["git"]["dirty"]
    assert "+x = 1\n" in SweepPaths(repository / "sweep").git_diff.read_text()


def test_a_subdirectory_of_a_repository_will_do(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / "deep" / "down").mkdir(parents=True)
    (repository / "train.py").write_text("rate = 3\n")
    monkeypatch.chdir(repository / "deep" / "down")
    assert header(repository / "sweep")["git"]["dirty"]
    assert "+rate = 3" in SweepPaths(repository / "sweep").git_diff.read_text()


def test_a_large_difference_is_cut(repository: Path) -> None:
    (repository / "train.py").write_text("x = 1  # a line\n" * 300_000)
    first = header(repository / "sweep")
    diff = SweepPaths(repository / "sweep").git_diff.read_bytes()
    assert diff[repository_module.MAX_DIFF :] == b"\n(cut here: the difference is longer)\n"
    assert first["git"]["incomplete"] == "the difference exceeds 1.0 MiB"


def test_a_repository_without_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init", "--quiet")
    monkeypatch.chdir(tmp_path)
    assert header(tmp_path / "sweep")["git"] == {"commit": None, "dirty": False}


def test_outside_a_repository_there_is_nothing_to_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "git" not in header(tmp_path / "sweep")


def test_without_git_a_sweep_runs_all_the_same(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = repository / "empty"
    empty.mkdir()
    (empty / "true").symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(empty))
    assert "git" not in header(repository / "sweep")


def test_a_git_that_hangs_holds_a_sweep_up_for_a_while_only(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = repository / "bin"
    slow.mkdir()
    (slow / "git").write_text("#!/bin/sh\nexec sleep 60\n")
    (slow / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow}:{os.environ['PATH']}")
    monkeypatch.setattr(repository_module, "_GIT_TIMEOUT", 0.3)
    first = header(repository / "sweep")
    assert first["git"] == {"incomplete": "git config did not end within 0.3 s"}


def test_the_environment_is_not_recorded(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TOKEN", SECRET)
    (repository / "train.py").write_text("rate = 2\n")
    header(repository / "sweep")
    for path in (repository / "sweep" / ".hsm").rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes()


def busy(params: dict[str, Any]) -> None:
    """Use CPU time and memory, also in a child that has ended."""
    if os.fork() == 0:
        _ballast = bytearray(b"1") * 300_000_000
        _burn(0.3)
        os._exit(0)
    _burn(0.3)
    os.wait()


def _burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_a_jobs_cpu_time_and_memory_are_the_kernels_figures(tmp_path: Path) -> None:
    with source(start_method="spawn") as made:
        made.submit_jobs(points(0), "s", tmp_path, function=busy)
    attempt = read_sweep(tmp_path).jobs[0].attempts[0]
    assert attempt.cpu_seconds is not None
    assert attempt.max_memory is not None
    assert 0.6 <= attempt.cpu_seconds <= 10
    assert 300_000_000 <= attempt.max_memory <= 600_000_000
    assert attempt.duration is not None
    assert attempt.duration > 0.3
