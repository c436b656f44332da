"""Asking git what runs: no program of the user's git is called, nothing is locked or left."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.processes import first_fast
from helpers.reliability import Recorder, journal_events, points, source
from hsm.core.record import repository as repository_module
from hsm.core.record.paths import SweepPaths
from hsm.core.record.repository import Repository

pytestmark = pytest.mark.thorough


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org")
    quiet = ("-c", "core.fsmonitor=", "-c", "protocol.file.allow=always")
    return subprocess.run(
        ["git", *identity, *quiet, *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def root(project_dir: Path) -> Path:
    """A repository with one commit, whose file data.nb has been changed since."""
    (project_dir / ".gitattributes").write_text("*.nb diff=nb filter=nb merge=nb\n")
    (project_dir / "data.nb").write_text("one\n")
    git(project_dir, "init", "--quiet")
    git(project_dir, "add", ".")
    git(project_dir, "commit", "--quiet", "-m", "first")
    (project_dir / "data.nb").write_text("two\n")
    return project_dir


def _helper(folder: Path) -> str:
    """A program that says that it was called, and stays."""
    path = folder / ".git" / "helper"
    path.write_text(f"#!/bin/sh\ntouch {folder}/.git/called\nsleep 61\n")
    path.chmod(0o755)
    return str(path)


def _hook(folder: Path, helper: str) -> None:
    (folder / ".git" / "hooks").mkdir(exist_ok=True)
    (folder / ".git" / "hooks" / "post-index-change").symlink_to(helper)


def _promisor(folder: Path, helper: str) -> None:
    """The blob of data.nb is missing, and would be fetched."""
    git(folder, "config", "extensions.partialClone", "origin")
    git(folder, "config", "remote.origin.url", f"ext::{helper}")
    git(folder, "config", "remote.origin.promisor", "true")
    git(folder, "config", "protocol.ext.allow", "always")
    blob = git(folder, "rev-parse", "HEAD:data.nb")
    (folder / ".git" / "objects" / blob[:2] / blob[2:]).unlink()


def _submodule(folder: Path, helper: str) -> None:
    inner = folder / "inner"
    inner.mkdir()
    git(inner, "init", "--quiet")
    (inner / "a").write_text("one")
    git(inner, "add", ".")
    git(inner, "commit", "--quiet", "-m", "inner")
    git(folder, "submodule", "--quiet", "add", "./inner", "inner")
    git(folder, "commit", "--quiet", "-m", "with inner", "--", "inner", ".gitmodules")
    (inner / "a").write_text("two")
    git(inner, "config", "core.fsmonitor", helper)


def _required_filter(folder: Path, helper: str) -> None:
    git(folder, "config", "filter.nb.process", helper)
    git(folder, "config", "filter.nb.required", "true")


def _setting(*names: str) -> Callable[[Path, str], None]:
    def set_them(folder: Path, helper: str) -> None:
        for name in names:
            git(folder, "config", name, helper)

    return set_them


_HELPERS = {
    "textconv": _setting("diff.nb.textconv"),
    "an external diff": _setting("diff.external"),
    "the driver of an attribute": _setting("diff.nb.command"),
    "fsmonitor": _setting("core.fsmonitor"),
    "clean filter": _setting("filter.nb.clean", "filter.nb.smudge"),
    "filter process": _required_filter,
    "pager": _setting("core.pager", "pager.status", "pager.diff-index"),
    "hook": _hook,
    "what a partial clone lacks": _promisor,
    "of a submodule": _submodule,
}


@pytest.mark.parametrize("kind", first_fast(*_HELPERS))
def test_no_helper_of_git_is_run_and_what_is_not_committed_is_kept(root: Path, kind: str) -> None:
    _HELPERS[kind](root, _helper(root))
    os.utime(root / ".gitattributes", (1, 1))  # git must look into it to see that it is the same
    index = root / ".git" / "index"
    before = index.stat().st_ino, index.stat().st_mtime_ns
    found = Repository(root)
    state = found.state(None)
    assert state is not None
    assert state["dirty"]
    changes = found.changes(state["commit"])
    if "partial" in kind:
        assert changes.diff == b""
        assert "git diff-index: " in changes.missing
    else:
        assert (b"-one\n+two\n" in changes.diff, changes.missing) == (True, "")
        assert b".gitattributes" not in changes.diff
    assert ("incomplete" in state) == ("filter" in kind)
    assert not (root / ".git" / "called").exists()
    assert (index.stat().st_ino, index.stat().st_mtime_ns) == before


@pytest.mark.slow
def test_a_helper_that_hangs_is_ended_with_what_it_has_started(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever git runs after all; the fixture `no_process_left` sees what is left."""
    program = root / ".git" / "bin" / "git"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nsleep 61 &\nsleep 62\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(repository_module, "_GIT_TIMEOUT", 0.2)
    late = "git config did not end within 0.2 s"
    assert Repository(root).state(None) == {"incomplete": late}
    recorder = Recorder()
    with source(recorder) as made:
        made.submit_jobs(points(0), "s", root / "sweep", command=["true"])
    assert f"the state of the repository is not fully on record: {late}" in recorder.messages
    assert journal_events(root / "sweep")[0]["git"] == {"incomplete": late}


@pytest.mark.parametrize(
    ("setting", "where"),
    [("GIT_DIR", ".git"), ("GIT_INDEX_FILE", ".git/index"), ("GIT_WORK_TREE", "")],
)
def test_a_sweep_started_by_a_git_hook_is_told_by_its_own_repository(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, where: str
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    git(other, "commit", "--quiet", "--allow-empty", "-m", "another")
    commit = git(root, "rev-parse", "HEAD")
    monkeypatch.setenv(setting, str(other / where))
    state = Repository(root).state(None)
    assert state == {"commit": commit, "dirty": True}
    assert b"+two" in Repository(root).changes(commit).diff


def test_before_the_first_commit_what_is_staged_is_kept(project_dir: Path) -> None:
    git(project_dir, "init", "--quiet")
    (project_dir / "fit.py").write_text("one\n")
    git(project_dir, "add", "fit.py")
    assert Repository(project_dir).state(None) == {"commit": None, "dirty": True}
    assert b"+one\n" in Repository(project_dir).changes(None).diff


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_repository_that_git_does_not_trust_is_told(root: Path) -> None:
    os.chown(root, 12345, 12345)
    os.chown(root / ".git", 12345, 12345)
    state = Repository(root).state(None)
    assert state is not None
    assert state["incomplete"].startswith("git status: detected dubious ownership in repository")


def test_a_worktree_has_its_own_changes(root: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    git(root, "worktree", "add", "--quiet", str(tree))
    (tree / "data.nb").write_text("three\n")
    found = Repository.holding(tree)
    assert found is not None
    assert b"+three" in found.changes("HEAD").diff


def test_files_that_a_filter_would_change_are_said_to_be_uncertain(root: Path) -> None:
    git(root, "config", "filter.nb.clean", _helper(root))
    with source() as made:
        made.submit_jobs(points(0), "s", root / "sweep", command=["true"])
    state = journal_events(root / "sweep")[0]["git"]
    assert state["incomplete"] == (
        "files with a git filter (nb) may be unchanged: hsm does not run it"
    )
    assert b"+two" in SweepPaths(root / "sweep").git_diff.read_bytes()
