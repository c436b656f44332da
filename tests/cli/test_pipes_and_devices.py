"""Whatever has the name of a sweep's file, no command that reads waits for it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

from helpers.cli import Project
from helpers.processes import first_fast

pytestmark = pytest.mark.thorough

#: Seconds in which a command that opens a pipe would still wait.
_DEADLINE = 60

_COMMANDS = (
    *("list", "monitor D --once", "monitor D --progress plain", "show D 0", "logs D 0"),
    *("logs D 0 --follow", "logs D 0 --stderr --lines 3", "collect-results D", "cancel D"),
    *("cancel D 0", "sweep --resume D --dry-run"),
)
_FILES = (
    *(".hsm/journal.jsonl", ".hsm/lock", ".hsm/logs/0.out", ".hsm/logs/0.err"),
    *(".hsm/launched.json", ".hsm/requests", "0/results.json", "0/metrics.json"),
)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # A socket's whole path may have 107 bytes.
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _terminal(path: Path) -> None:
    path.symlink_to("/dev/tty")


def _linked_pipe(path: Path) -> None:
    os.mkfifo(path.parent / "pipe")
    path.symlink_to("pipe")


@pytest.fixture
def deadline() -> Iterator[None]:
    """Fail a test that hangs."""

    def end(signum: int, frame: FrameType | None) -> None:
        raise AssertionError(f"it hangs: {frame}")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(_DEADLINE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("deadline")
@pytest.mark.parametrize("lay", first_fast(_pipe, _socket, _device, _terminal, _linked_pipe))
def test_no_command_waits_for_a_pipe_a_socket_or_a_device(
    project: Project, lay: Callable[[Path], None]
) -> None:
    project.here("sweep", "n=1", "--sweep-id", "s", "--progress", "none", "--", "false", code=1)
    for name in _FILES:
        path = project.folder / "outputs/s" / name
        kept = path.read_bytes() if path.is_file() else None
        path.unlink(missing_ok=True)
        lay(path)
        for command in _COMMANDS:
            ran = project.here(*command.replace("D", "outputs/s").split(), code=None)
            assert ran.code in (0, 1, 2), (name, command)
            is_needed = name.endswith("journal.jsonl") and command != "list"
            if is_needed or (name, command) == (".hsm/logs/0.out", "logs D 0"):
                assert f"hsm: cannot read {path}: it is a" in ran.err
                assert (ran.code, ran.err.count("\n")) == (2, 1)
        path.unlink()
        (path.parent / "pipe").unlink(missing_ok=True)
        if kept is not None:
            path.write_bytes(kept)


@pytest.mark.slow
@pytest.mark.usefixtures("deadline")
def test_the_last_line_of_a_running_jobs_pipe_is_not_waited_for(project: Project) -> None:
    job = ["sh", "-c", "touch {job_dir}/runs; exec sleep 600"]
    with project.detached("n=1", "--", *job, runs=(0,)) as sweep:
        log = sweep.paths.stdout(0)
        log.unlink()
        os.mkfifo(log)
        ran = project.here("monitor", "bg", "--once")
        assert "1 running" in ran.out


def test_one_bad_sweep_never_breaks_the_list(project: Project) -> None:
    names = ["good", "deep", "pipe", "future", "empty", "gone", "odd"]
    for name in names:
        project.here("sweep", "n=1", "--sweep-id", name, "--progress", "none", "--", "true")
    journals = {name: project.folder / "outputs" / name / ".hsm/journal.jsonl" for name in names}
    with journals["deep"].open("a") as file:
        file.write('{"event":"x","a":' + "[" * 100_000 + "]" * 100_000 + "}\n")
    journals["pipe"].unlink()
    os.mkfifo(journals["pipe"])
    journals["future"].write_text('{"v": 99, "sweep_id": "future", "hsm": "9.9"}\n')
    journals["empty"].write_text("")
    journals["gone"].unlink()
    journals["odd"].write_text('{"v": 1, "sweep_id": 7, "time": 1}\n')
    listed = {line.split()[0]: line for line in project.here("list").out.splitlines()}
    assert listed.keys() == {"sweep", *names} - {"gone"}
    assert "finished" in listed["good"]
    assert "finished" in listed["deep"]
    assert "it is a pipe, not a regular file" in listed["pipe"]
    assert "written in format 99 by hsm 9.9" in listed["future"]
    assert "its journal is empty" in listed["empty"]
    assert "sweep_id is 7, not a name" in listed["odd"]
