"""`hsm cancel` in a directory that anybody may have written: no stranger is signalled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers.cli import Project
from helpers.processes import SOURCE, wait_for
from hsm.core.errors import HsmError
from hsm.core.record import requests as control
from hsm.core.record.controls import Cancel
from hsm.core.record.listener import Listener
from hsm.core.record.lock import holder, is_locked
from hsm.core.record.paths import SweepPaths

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells who holds a lock"),
]

#: Holds POSIX locks, as editors, mail programs and databases do.
_STRANGER = """\
import fcntl, os, sys, time
fd = os.open(sys.argv[1], os.O_RDWR)
for byte in (0, 1):
    fcntl.lockf(fd, fcntl.LOCK_EX, 1, byte)
print("locked", flush=True)
time.sleep(600)
"""
_LAUNCHER = """\
import sys, time
from pathlib import Path
from hsm.core.record.lock import LockFile
lock = LockFile(Path(sys.argv[1]))
print("locked", flush=True)
time.sleep(600)
"""


@contextmanager
def _running(program: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has locked the file at `path`."""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        try:
            yield process
        finally:
            process.kill()


def _sweep(project: Project, pid: int) -> SweepPaths:
    """A directory that says of itself that process `pid` runs a sweep in it."""
    paths = SweepPaths(project.folder / "outputs" / "s")
    paths.create()
    header = {"v": 1, "event": "sweep", "sweep_id": "s", "time": 1.0, "pid": pid, "host": "h"}
    job = {"job": 0, "id": "s_0", "label": "", "params": {}}
    records = [header, {"event": "submit", "jobs": [job], "time": 1.0}]
    paths.journal.write_text("".join(json.dumps(record) + "\n" for record in records))
    return paths


@pytest.mark.parametrize("how", ["symlink", "hard link", "moved", "folder"])
def test_a_stranger_that_has_locked_a_file_is_not_signalled(
    project: Project, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = project.write("mail/lock", "")
    with _running(_STRANGER, theirs) as stranger:
        paths = _sweep(project, stranger.pid)
        if how == "symlink":
            paths.lock.symlink_to(theirs)
        elif how == "hard link":
            paths.lock.hardlink_to(theirs)
        elif how == "moved":
            theirs.rename(paths.lock)
        else:
            paths.journal.rename(theirs.parent / paths.journal.name)
            for folder in (*paths.folders_of_jobs, paths.hsm_dir):
                folder.rmdir()
            paths.hsm_dir.symlink_to(theirs.parent)
        monkeypatch.setattr("hsm.cli.cancel._REQUEST_TIMEOUT", 0.2)
        project.here("cancel", "outputs/s", code=None)
        assert not control.signal_launcher(paths, signal.SIGTERM, stranger.pid)
        assert stranger.poll() is None


def test_a_launcher_is_signalled_only_through_its_own_sweep(project: Project) -> None:
    paths = _sweep(project, 1)
    with _running(_LAUNCHER, paths.lock) as launcher:
        assert is_locked(paths.lock)
        assert holder(paths.lock) == launcher.pid
        assert not control.signal_launcher(paths, signal.SIGTERM, os.getpid())
        assert not control.signal_launcher(paths, signal.SIGTERM, None)
        twin = project.folder / "twin"
        twin.hardlink_to(paths.lock)
        assert not control.signal_launcher(paths, signal.SIGTERM, launcher.pid)
        twin.unlink()
        assert control.signal_launcher(paths, signal.SIGTERM, launcher.pid)
        assert launcher.wait(60) == -signal.SIGTERM


@pytest.mark.parametrize("entry", [".hsm", ".hsm/requests", ".hsm/requests/all"])
def test_requests_are_written_and_removed_through_no_link(project: Project, entry: str) -> None:
    paths = _sweep(project, 1)
    outside = project.folder / "outside"
    (outside / "requests").mkdir(parents=True)
    for name in ("0", "all", "requests/0", "requests/all"):
        (outside / name).write_text("a stranger's")
    link = paths.sweep_dir / entry
    link.parent.mkdir(exist_ok=True)
    if entry == ".hsm":
        paths.hsm_dir.rename(project.folder / "earlier")
    link.symlink_to(outside if entry != ".hsm/requests/all" else outside / "all")
    with pytest.raises(HsmError, match=f"cannot write .*/{entry}: it is a link"):
        control.ask(paths, None)
    assert not control.is_asked(paths, None)
    assert not control.withdraw(paths, None)
    control.drop_requests(paths)
    found = {
        path.relative_to(outside): path.read_text() for path in outside.rglob("*") if path.is_file()
    }
    assert set(map(str, found)) == {"0", "all", "requests/0", "requests/all"}
    assert set(found.values()) == {"a stranger's"}


def _job_of(request: control.Request) -> int | None:
    assert isinstance(request.control, Cancel)
    return request.control.job


@pytest.mark.slow
def test_what_is_no_request_is_left_alone(project: Project) -> None:
    paths = _sweep(project, 1)
    (paths.requests / "all").mkdir(parents=True)
    os.mkfifo(paths.requests / "7")
    for name in ("x", "-1", "9" * 200, "1.5", *map(str, range(1000, 4000))):
        (paths.requests / name).touch()
    taken: list[int | None] = []
    listener = Listener(lambda _, asked: taken.append(_job_of(asked)), "listener")
    listener.add(paths)
    try:
        wait_for(lambda: len(taken) >= 3000, "the requests")
    finally:
        listener.stop()
    assert sorted(map(str, taken)) == sorted(map(str, range(1000, 4000)))
    assert sorted(os.listdir(paths.requests)) == sorted(["-1", "1.5", "7", "9" * 200, "all", "x"])
