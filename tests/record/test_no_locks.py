"""Sweeps on file systems that refuse every lock, as some mounts of Lustre and NFS do."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from helpers.cli import Project
from helpers.processes import PATIENCE, App, child_environment, wait_for
from helpers.reliability import start_driver, write_driver
from hsm.core.record.exclusive_file import ExclusiveFile, Maker, Taken, maker_of
from hsm.core.record.holder import is_launcher
from hsm.core.record.lock import holder, is_locked
from hsm.core.record.paths import SweepPaths
from hsm.core.record.sweep import read_sweep

#: Loaded by each Python process that is started, before anything else.
_SITE = """
import errno, fcntl

def refuse(*arguments):
    raise OSError(errno.{error}, "No locks available")

control = fcntl.fcntl

def fcntl_(fd, command, *arguments):
    if command in (5, 6, 7, 36, 37, 38):  # all that concern locks
        refuse()
    return control(fd, command, *arguments)

fcntl.fcntl, fcntl.flock, fcntl.lockf = fcntl_, refuse, refuse
"""
WARNING = "is on a file system without locks: .hsm.lock stands for the lock"


@pytest.fixture(autouse=True)
def no_locks(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python processes that are started from now on get no locks."""
    folder = tmp_path_factory.mktemp("site")
    error = getattr(request, "param", "ENOLCK")
    (folder / "sitecustomize.py").write_text(_SITE.replace("{error}", error))
    monkeypatch.setenv("PYTHONPATH", str(folder))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.mark.parametrize(
    "no_locks",
    ["ENOLCK", *(pytest.param(name, marks=pytest.mark.slow) for name in ("EOPNOTSUPP", "ENOSYS"))],
    indirect=True,
)
def test_a_sweep_runs_without_locks_and_says_so_once(project: Project) -> None:
    ran = project.hsm("sweep", "x=1,2", "--sweep-dir", "s", "--", "true")
    assert ran.err.count(WARNING) + ran.out.count(WARNING) == 1, ran
    sweep = read_sweep(project.folder / "s")
    assert [str(job.state) for job in sweep.jobs.values()] == ["COMPLETED"] * 2
    assert (sweep.closed, sweep.alive) == ("finished", False)
    assert not list((project.folder / "s").glob(".hsm.lock*"))


@pytest.mark.slow
def test_a_hydra_sweep_runs_without_locks_twice_in_one_directory(tmp_path: Path) -> None:
    app = App(tmp_path, "def job(cfg): return cfg.job")
    assert app.run("job=0,1").code == 0
    done = app.run("job=0,1")  # sets the first one aside
    assert (done.code, done.values) == (0, [0, 1]), done.screen
    assert not list(done.sweep_dir.glob(".hsm.lock*"))
    assert (done.sweep_dir / ".hsm.1").is_dir()


_WAITS = """
waits = ["sh", "-c", "until [ -e go ]; do sleep 0.02; done"]
with source() as made:
    made.submit_jobs([{"x": 0}], "s", "sweep", command=waits)
    made.wait()
"""


def test_readers_know_who_runs_the_sweep_and_can_cancel_it(tmp_path: Path) -> None:
    project, paths = Project(tmp_path), SweepPaths(tmp_path / "sweep")
    write_driver(tmp_path, _WAITS)
    with start_driver(tmp_path) as sweep:
        wait_for(lambda: paths.journal.exists() and _is_running(paths), "the job")
        pid = sweep.process.pid
        assert (is_locked(paths.lock), holder(paths.lock)) == (True, pid)
        assert is_launcher(pid, pid, paths.lock)
        assert not is_launcher(os.getpid(), os.getpid(), paths.lock)
        assert project.hsm("list", "--json").json[0]["status"] == "running"
        refused = project.hsm("sweep", "--resume", "sweep", code=None)
        assert f"is still running (process {pid} on " in refused.err
        project.hsm("cancel", "sweep")
        done = sweep.finish()
    assert done.states == ["CANCELLED"]
    assert (is_locked(paths.lock), holder(paths.lock)) == (False, None)


def _is_running(paths: SweepPaths) -> bool:
    return paths.journal.stat().st_size > 0 and '"start"' in paths.journal.read_text()


def test_what_a_killed_launcher_leaves_is_taken_over_on_its_machine(tmp_path: Path) -> None:
    project, paths = Project(tmp_path), SweepPaths(tmp_path / "sweep")
    write_driver(tmp_path, _WAITS)
    with start_driver(tmp_path) as sweep:
        wait_for(lambda: paths.journal.exists() and _is_running(paths), "the job")
        sweep.process.send_signal(signal.SIGKILL)
        sweep.process.wait(PATIENCE)
    assert (paths.sweep_dir / ".hsm.lock").exists()
    assert not read_sweep(paths.sweep_dir).alive
    (tmp_path / "go").touch()
    project.hsm("sweep", "--resume", "sweep")
    assert str(read_sweep(paths.sweep_dir).jobs[0].state) == "COMPLETED"
    assert not (paths.sweep_dir / ".hsm.lock").exists()


def _left_by(folder: Path, maker: Maker) -> Path:
    path = folder / ".hsm.lock"
    path.write_text(json.dumps(maker._asdict()))
    return path


def _ended() -> Maker:
    """A process of this machine that has ended."""
    with subprocess.Popen(["true"]) as process:
        pass
    return Maker.this()._replace(pid=process.pid, started="1")


ELSEWHERE = {
    "another machine": {"host": "elsewhere"},
    "a machine of the same name": {"machine": "0" * 32, "boot": "another"},
    "a container": {"pids": "pid:[1]"},
}
OVER = {
    "a process that has ended": {},
    "a process whose pid is another's by now": {"pid": os.getpid()},
    "the time before this machine started": {"boot": "another", "pids": "pid:[1]"},
}


@pytest.mark.parametrize("facts", ELSEWHERE.values(), ids=ELSEWHERE.keys())
def test_the_file_of_a_process_that_cannot_be_seen_stays(
    tmp_path: Path, facts: dict[str, str]
) -> None:
    path = _left_by(tmp_path, maker := _ended()._replace(**facts))  # type: ignore[arg-type]
    before = path.read_text()
    with pytest.raises(Taken, match=f"process {maker.pid} on {maker.host}; if that has ended"):
        ExclusiveFile(tmp_path)
    assert maker_of(tmp_path) == maker
    assert path.read_text() == before


@pytest.mark.slow
def test_a_launcher_that_this_machine_cannot_see_is_not_overtaken(
    project: Project,
) -> None:
    folder = project.folder / "s"
    folder.mkdir()
    path = _left_by(folder, maker := _ended()._replace(host="elsewhere"))
    words = ("sweep", "x=1", "--sweep-dir", "s", "--", "true")
    refused = project.hsm(*words, code=None)
    text = f"is in use by process {maker.pid} on {maker.host}; if that has ended, remove {path}"
    assert refused.code != 0
    assert text in refused.err
    assert "Traceback" not in refused.err
    path.unlink()
    project.hsm(*words)


@pytest.mark.parametrize("facts", OVER.values(), ids=OVER.keys())
def test_what_this_machine_knows_to_be_over_is_taken_over(
    tmp_path: Path, facts: dict[str, str]
) -> None:
    _left_by(tmp_path, _ended()._replace(**facts))  # type: ignore[arg-type]
    assert maker_of(tmp_path) is None
    made = ExclusiveFile(tmp_path)
    assert maker_of(tmp_path) == Maker.this()
    made.release()
    assert not list(tmp_path.glob(".hsm.lock*"))


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"pid": 1}', "process 1 on box"])
def test_a_file_that_names_nobody_is_not_taken_over(tmp_path: Path, content: str) -> None:
    path = tmp_path / ".hsm.lock"
    path.write_text(content)
    with pytest.raises(Taken, match="if nobody uses it any more, remove that file"):
        ExclusiveFile(tmp_path)
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(Taken):
        ExclusiveFile(tmp_path)


def test_where_there_are_no_hard_links_it_is_made_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    made = ExclusiveFile(tmp_path)
    with pytest.raises(Taken, match=f"process {os.getpid()} on "):
        ExclusiveFile(tmp_path)
    made.release()
    assert not list(tmp_path.glob(".hsm.lock*"))


_RACER = """
import sys, time
from pathlib import Path
from hsm.core.record.lock import Locked, LockFile

for number in range(10):
    folder = Path(sys.argv[1], str(number))
    Path(f"{folder}-{sys.argv[2]}").touch()
    while len(list(folder.parent.glob(f"{number}-*"))) < 4:
        time.sleep(0.001)
    try:
        lock = LockFile(folder / ".hsm" / "lock")
    except Locked:
        print("-", flush=True)
    else:
        print("got", flush=True)
        globals()[f"kept_{number}"] = lock
sys.stdin.read()
"""


@pytest.mark.parametrize(
    "left",
    [pytest.param(False, id="free", marks=pytest.mark.slow), pytest.param(True, id="stale")],
)
def test_of_launchers_that_race_for_a_directory_one_gets_it(tmp_path: Path, left: bool) -> None:
    for number in range(10):
        (tmp_path / str(number) / ".hsm").mkdir(parents=True)
        if left:
            _left_by(tmp_path / str(number), _ended())
    with ExitStack() as stack:
        racers = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", _RACER, tmp_path, str(number)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env=child_environment(),
                )
            )
            for number in range(4)
        ]
        lines = [_lines(racer) for racer in racers]
        for results in zip(*lines, strict=True):
            assert sorted(results) == ["-", "-", "-", "got"]


def _lines(racer: subprocess.Popen[str]) -> list[str]:
    assert racer.stdout is not None
    return [racer.stdout.readline().strip() for _ in range(10)]
