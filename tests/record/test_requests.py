"""Requests to a launcher, and who the launcher is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers.processes import PATIENCE, wait_for
from hsm.core.errors import HsmError
from hsm.core.record import requests as control
from hsm.core.record.controls import Cancel
from hsm.core.record.listener import Listener
from hsm.core.record.lock import LockFile, holder
from hsm.core.record.paths import SweepPaths


@pytest.fixture
def paths(tmp_path: Path) -> SweepPaths:
    paths = SweepPaths(tmp_path / "sweep")
    paths.create()
    return paths


class _Taken:
    """A listener, and the requests that it has taken."""

    def __init__(self) -> None:
        self.requests: list[tuple[Path, int | None]] = []
        self.listener = Listener(self._take, "listener")

    def _take(self, paths: SweepPaths, request: control.Request) -> None:
        assert isinstance(request.control, Cancel)
        self.requests.append((paths.sweep_dir, request.control.job))


@contextmanager
def _listening(*sweeps: SweepPaths) -> Iterator[_Taken]:
    taken = _Taken()
    for paths in sweeps:
        taken.listener.add(paths)
    yield taken
    taken.listener.stop()


def test_a_request_is_taken_once(paths: SweepPaths) -> None:
    with _listening(paths) as taken:
        for num in (3, 0, None):
            control.ask(paths, num)
        wait_for(lambda: len(taken.requests) >= 3, "the requests")
        assert not control.is_asked(paths, 3)
        assert not control.withdraw(paths, 3)
    assert sorted(taken.requests, key=str) == sorted(
        [(paths.sweep_dir, num) for num in (3, 0, None)], key=str
    )
    assert not paths.requests.exists()


def test_requests_go_to_the_sweep_that_they_are_for(tmp_path: Path) -> None:
    first, second = SweepPaths(tmp_path / "a"), SweepPaths(tmp_path / "b")
    for paths in (first, second):
        paths.create()
    with _listening(first, second) as taken:
        control.ask(second, 1)
        wait_for(lambda: taken.requests, "the request")
    assert taken.requests == [(second.sweep_dir, 1)]


def test_a_request_can_be_taken_back(paths: SweepPaths) -> None:
    control.ask(paths, 1)
    assert control.is_asked(paths, 1)
    assert control.withdraw(paths, 1)
    assert not control.is_asked(paths, 1)


def test_earlier_requests_and_strange_files_do_nothing(paths: SweepPaths) -> None:
    control.ask(paths, 1)
    control.drop_requests(paths)
    with _listening(paths) as taken:
        paths.requests.mkdir(exist_ok=True)
        for name in ("x", "-1", "1.tmp", "²"):
            (paths.requests / name).touch()
        control.ask(paths, 2)
        wait_for(lambda: taken.requests, "the request")
    assert taken.requests == [(paths.sweep_dir, 2)]


def test_a_listener_can_be_stopped_by_what_it_calls(paths: SweepPaths) -> None:
    stopped = threading.Event()
    listener: Listener

    def take(_: SweepPaths, __: control.Request) -> None:
        listener.stop()
        stopped.set()

    listener = Listener(take, "listener")
    listener.add(paths)
    control.ask(paths, None)
    assert stopped.wait(PATIENCE)
    listener.stop()
    assert "listener" not in [thread.name for thread in threading.enumerate()]


def test_a_listener_without_sweeps_has_no_thread() -> None:
    listener = Listener(lambda *_: None, "listener")
    assert "listener" not in [thread.name for thread in threading.enumerate()]
    listener.stop()


def test_a_directory_that_is_gone_cannot_be_asked(tmp_path: Path) -> None:
    with pytest.raises(HsmError, match="cannot ask the launcher: cannot write"):
        control.ask(SweepPaths(tmp_path / "none"), None)


_HOLDER = """\
import sys, time
from pathlib import Path
from hsm.core.record.lock import LockFile

lock = LockFile(Path(sys.argv[1]))
print("locked", flush=True)
time.sleep(60)
"""


@contextmanager
def _holder(paths: SweepPaths) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the sweep's lock."""
    command = [sys.executable, "-c", _HOLDER, str(paths.lock)]
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_the_launcher_is_who_holds_the_lock(paths: SweepPaths) -> None:
    assert holder(paths.lock) is None
    paths.lock.write_text("process 1 on elsewhere")  # what a crash has left
    assert holder(paths.lock) is None
    assert not control.signal_launcher(paths, signal.SIGTERM, 1)
    with _holder(paths) as process:
        assert holder(paths.lock) == process.pid
        assert control.signal_launcher(paths, signal.SIGTERM, process.pid)
        assert process.wait(PATIENCE) == -signal.SIGTERM
    assert holder(paths.lock) is None


def test_asking_who_holds_a_lock_of_ones_own_does_not_open_it(paths: SweepPaths) -> None:
    lock = LockFile(paths.lock)
    assert holder(paths.lock) == os.getpid()
    with pytest.raises(AssertionError), _holder(paths):
        pass
    lock.release()
    assert holder(paths.lock) is None
