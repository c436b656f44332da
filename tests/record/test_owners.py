"""Results, logs and records belong to their owner, or to a group that shares them."""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from helpers.processes import wait_for
from helpers.reliability import points, source
from hsm.core.record import requests as control
from hsm.core.record.job import Job, JobState
from hsm.core.record.journal import Journal, SweepInUse
from hsm.core.record.lock import Locked, LockFile, is_locked
from hsm.core.record.paths import SweepPaths
from hsm.core.record.registry import register
from hsm.core.record.resume import open_sweep
from hsm.core.record.sweep import read_sweep

pytestmark = pytest.mark.thorough

_OWNER, _MEMBER, _STRANGER = 60001, 60002, 60003
_GROUP, _OTHER_GROUP = 60010, 60011

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="root alone can become other users")


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def _modes(folder: Path) -> dict[str, str]:
    """The modes of a folder and of all that is below, in octal digits."""
    found = {path.relative_to(folder).as_posix(): path for path in [folder, *folder.rglob("*")]}
    return {name: f"{stat.S_IMODE(path.stat().st_mode):o}" for name, path in found.items()}


def _job(params: dict[str, Any]) -> Any:
    print("printed")
    if params["x"] == 2 and os.environ["HSM_ATTEMPT"] == "1":
        raise ValueError("not today")
    (Path(os.environ["HSM_JOB_DIR"]) / "own").touch()
    return {params["x"]}


def _sweep(folder: Path, **settings: Any) -> SweepPaths:
    """Functions, commands, a retry, and a request."""
    paths = SweepPaths(folder)
    with source(max_retries=1, retry_delay=0, **settings) as made:
        made.wait(made.submit_jobs(points(1, 2), "s", folder, function=_job))
        made.submit_jobs(points(3), "s", folder, command=["sh", "-c", "echo; sleep 60"])
        wait_for(paths.stdout(2).exists, "the start of job 2")
        control.ask(paths, 2)
        made.wait()
        assert [str(job.state) for job in made.jobs()] == ["COMPLETED", "COMPLETED", "CANCELLED"]
    return paths


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_all_that_is_below_is_the_owners_alone(tmp_path: Path, mask: int) -> None:
    with _umask(mask):
        paths = _sweep(tmp_path / "sweep")
    modes = _modes(paths.hsm_dir)
    folders = {name for name in modes if (paths.hsm_dir / name).is_dir()}
    assert folders >= {".", "logs", "results"}
    for name, mode in modes.items():
        assert mode == ("700" if name in folders else "600"), name
    # Those of jobs are the app's own.
    own = paths.job_dir(0) / "own"
    assert stat.S_IMODE(own.stat().st_mode) == 0o666 & ~mask
    assert stat.S_IMODE(own.parent.stat().st_mode) == 0o777 & ~mask


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_group_shares_all_of_it(tmp_path: Path, mask: int) -> None:
    with _umask(mask):
        paths = _sweep(tmp_path / "sweep", share_with_group=True)
    modes = _modes(paths.hsm_dir)
    for name, mode in modes.items():
        if (paths.hsm_dir / name).is_dir():
            assert mode == "2770", name
        elif name.startswith("results/"):
            assert mode == "640", name  # What is unpickled nobody else may write.
        else:
            assert mode == "660", name
    assert {"journal.jsonl", "lock", "logs/0.out", "logs/2.out", "results/0.pkl"} <= modes.keys()


def test_a_record_of_an_earlier_version_keeps_its_modes(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path / "sweep")
    for folder in (paths.hsm_dir, paths.logs, paths.results):
        folder.mkdir(parents=True)
    with _umask(0o022):
        Journal(paths, "s", {}).close("finished")
        before = _modes(paths.hsm_dir)
        assert before["."] == before["logs"] == "755"
        assert before["journal.jsonl"] == "644"
        with source(resume=True, share_with_group=True) as made:
            made.wait(made.submit_jobs(points(1), "s", paths.sweep_dir, function=_job))
    after = _modes(paths.hsm_dir)
    assert after.items() >= before.items()
    assert after["logs/0.out"] == "644"


def test_the_list_of_sweeps_is_the_users_own(tmp_path: Path) -> None:
    with _umask(0):
        register("s", tmp_path / "sweep")
    assert set(_modes(tmp_path / "state").values()) == {"700", "600"}


# --- other users
# -------------------------------------------------------------------------------------------------


def _as(user: int, group: int, act: Callable[[], object]) -> None:
    """Have a process of that user do it."""
    importlib.metadata.version("hydra-core")  # This imports what that user may not be able to read.
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(group)
            os.setuid(user)
            act()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of the owner's and the group's, to which everybody can get."""
    folder = Path(tempfile.mkdtemp(prefix="hsm-owners-"))
    os.chown(folder, _OWNER, _GROUP)
    folder.chmod(0o775)
    yield folder
    shutil.rmtree(folder)


def _begin(paths: SweepPaths, *, shared: bool) -> None:
    paths.create(shared=shared)
    journal = Journal(paths, "s", {})
    journal.submit([Job(0, "s_0")])
    journal.close("finished")


def _is_refused(act: Callable[[], object]) -> None:
    with pytest.raises(PermissionError):
        act()


@as_root
def test_nobody_else_sees_what_is_private(place: Path) -> None:
    paths = SweepPaths(place / "sweep")
    _as(_OWNER, _GROUP, lambda: _begin(paths, shared=False))
    for user, group in ((_MEMBER, _GROUP), (_STRANGER, _OTHER_GROUP)):
        _as(user, group, lambda: _is_refused(lambda: os.listdir(paths.hsm_dir)))
        _as(user, group, lambda: _is_refused(paths.journal.read_bytes))


@as_root
def test_a_launcher_may_work_where_it_may_not_look(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above its working directory is one that is closed to it: whether that has a repository."""
    inner = tmp_path / "closed" / "inner"
    inner.mkdir(parents=True)
    inner.parent.chmod(0o700)
    monkeypatch.chdir(inner)
    paths = SweepPaths(place / "sweep")
    _as(_OWNER, _GROUP, lambda: _begin(paths, shared=False))
    assert read_sweep(paths.sweep_dir).closed == "finished"


@as_root
def test_members_of_the_group_look_cancel_and_resume(place: Path) -> None:
    paths = SweepPaths(place / "sweep")

    def look_and_cancel() -> None:
        assert read_sweep(paths.sweep_dir).jobs[0].state is JobState.CANCELLED
        with _umask(0o077):
            control.ask(paths, 0)
            control.ask(paths, None)

    def take() -> None:
        assert control.is_asked(paths, 0)
        control.drop_requests(paths)
        assert not paths.requests.exists()

    def resume() -> None:
        with _umask(0o077):
            lock, _ = open_sweep(paths, "unfinished", {}, {}, accept_changes=False)
            journal = Journal(paths, "s", {}, lock=lock)
            journal.resume([])
            journal.close("finished")

    _as(_OWNER, _OTHER_GROUP, lambda: os.chmod(place, 0o2775))
    place.chmod(0o2775)
    _as(_OWNER, _GROUP, lambda: _begin(paths, shared=True))
    _as(_MEMBER, _GROUP, look_and_cancel)
    _as(_OWNER, _GROUP, take)
    _as(_MEMBER, _GROUP, resume)
    _as(_OWNER, _GROUP, resume)
    _as(_STRANGER, _OTHER_GROUP, lambda: _is_refused(lambda: os.listdir(paths.hsm_dir)))


# --- locks of others
# -------------------------------------------------------------------------------------------------

_READER = """
import fcntl, os, struct, sys
if sys.argv[3] != "-":
    os.setuid(int(sys.argv[3]))
file = open(sys.argv[1], "rb")
if sys.argv[2] == "ofd":
    fcntl.fcntl(file, 37, struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0))
else:
    fcntl.lockf(file, fcntl.LOCK_SH)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def _read_locked(path: Path, kind: str, user: str = "-") -> Iterator[None]:
    """Another process, perhaps another user's, holds a shared lock on all of the file."""
    command = [sys.executable, "-c", _READER, str(path), kind, user]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "held\n"
        yield
        reader.communicate()


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="locks of Linux")


@linux
@pytest.mark.parametrize("kind", ["ofd", "posix"])
def test_a_shared_lock_keeps_no_launcher_out(tmp_path: Path, kind: str) -> None:
    paths = SweepPaths(tmp_path / "sweep")
    _begin(paths, shared=False)
    paths.lock.chmod(0o644)
    with _read_locked(paths.lock, kind):
        assert not is_locked(paths.lock)
        lock, _ = open_sweep(paths, "unfinished", {}, {}, accept_changes=False)
        assert is_locked(paths.lock)
        with pytest.raises(SweepInUse):
            open_sweep(paths, "unfinished", {}, {}, accept_changes=False)
        journal = Journal(paths, "s", {}, lock=lock)
        journal.resume([])
        journal.close("finished")
        assert not is_locked(paths.lock)
    # The one that is there now is the owner's, as its directory is.
    assert stat.S_IMODE(paths.lock.stat().st_mode) == 0o600


@linux
@as_root
def test_a_shared_lock_of_another_users_keeps_no_launcher_out(place: Path) -> None:
    """In a sweep of an earlier version, whose files everybody may read."""
    paths = SweepPaths(place / "sweep")
    paths.hsm_dir.mkdir(parents=True)
    with _umask(0o022):
        _begin(paths, shared=False)
    with _read_locked(paths.lock, "ofd", str(_STRANGER)):
        lock = LockFile(paths.lock)
        lock.release()


@linux
def test_a_launchers_lock_counts_whoever_else_has_one(tmp_path: Path) -> None:
    """As a reader can have locked the other bytes of the file."""
    path = tmp_path / "folder" / "lock"
    path.parent.mkdir()
    lock = LockFile(path)
    with path.open("rb") as file:
        fcntl.lockf(file, fcntl.LOCK_SH, 1, 100)
        with pytest.raises(Locked):
            LockFile(path)
    assert lock.is_current()
    lock.release()
