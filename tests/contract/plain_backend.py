"""A backend of plain subprocesses; it does not look after what leaves a job's process group."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import Any

import psutil

from hsm.core.engine.backend import Attempt, Backend, Ended, Launch, Started, Work
from hsm.core.engine.obstacles import obstacle
from hsm.core.program.payload import Payload
from hsm.core.record.signal_names import signal_name

_WATCHDOG = ("sh", "-c", 'read -r line || kill -9 "-$0"')  # no line: the launcher is gone
_NEVER = float("inf")


class PlainBackend(Backend):
    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="plain-"))
        self._payloads: dict[Work, Any] = {}
        self._attempts: list[PlainAttempt] = []

    def prepare(self, function: Callable[[Any], Any] | None, script: object = None) -> Work:
        work = next((one for one in self._payloads if one.function is function), Work(function))
        if work not in self._payloads:
            self._payloads[work] = function and Payload(function, self._folder / f"{id(function)}")
        return work

    def get_ready(self, is_wanted: Callable[[], bool], notice: Callable[[str], None]) -> None:
        """It always is."""

    def allow(self, jobs: int | str) -> int:
        return int(jobs)

    def attempt(self, work: Work, launch: Launch) -> PlainAttempt:
        self._attempts.append(made := PlainAttempt(launch, self._payloads.get(work), self._folder))
        return made

    def close(self) -> None:
        for attempt in self._attempts:
            attempt.close()
        for payload in filter(None, self._payloads.values()):
            payload.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class PlainAttempt(Attempt):
    def __init__(self, launch: Launch, payload: Any, folder: Path) -> None:
        self._launch, self._payload = launch, payload
        self._folder = folder / f"{launch.num}-{time.monotonic_ns()}"
        self._mutex = threading.Lock()  # guards all below
        self._jobs: list[Popen[bytes]] = []  # its process, and the watchdog
        self._ended: Ended | None = None
        self._asked = False
        self._kill_at = _NEVER  # a time once what is left has got its SIGTERM

    def start(self) -> None:
        """A process is made by `started`: that takes a while."""

    def started(self) -> Started:
        launch = self._launch
        try:
            with open(launch.stdout, "a+b", 0) as out, open(launch.stderr, "a+b", 0) as err:
                sizes = _begin(out, launch.header), _begin(err, launch.header)
                with self._mutex:
                    pid = self._spawn(stdout=out, stderr=err)
                    if launch.grant is not None:
                        launch.grant.root = pid
                    return Started(pid, sizes)
        except OSError as error:
            raise obstacle(error, f"start job {launch.num}", launch.root) from error

    def _spawn(self, **options: Any) -> int | None:
        launch, argument = self._launch, self._folder / "argument"
        self._folder.mkdir()
        argument.write_bytes(launch.argument or b"")
        command = launch.command or self._payload.command(argument, Path(launch.result))
        if launch.script is not None:
            command = launch.script.command(command, self._folder)
        env = {**os.environ, **launch.env, "TMPDIR": str(self._folder)}
        options.update(env=env, cwd=launch.cwd, start_new_session=True)
        try:
            self._jobs.append(job := Popen(command, stdin=DEVNULL, **options))
        except OSError as error:
            if error.filename != command[0]:
                raise
            options["stderr"].write(f"hsm: {command[0]}: {error.strerror}\n".encode())
            self._ended = Ended(126 if isinstance(error, PermissionError) else 127)  # as a shell
            return None
        self._jobs.append(Popen((*_WATCHDOG, str(job.pid)), stdin=PIPE, **options))
        if self._asked:
            os.killpg(job.pid, signal.SIGTERM)
        return job.pid

    def ended(self, deadline: float | None) -> Ended | None:
        while (ended := self._look()) is None and (deadline is None or time.monotonic() < deadline):
            time.sleep(0.01)
        return ended

    def end(self, grace: float) -> None:
        with self._mutex:
            if self._ended is None:
                pid = self._jobs[0].pid if self._jobs else None
                self._asked = self._asked or pid is None or pid in _live(pid)
                if self._kill_at == _NEVER and pid is not None:
                    os.killpg(pid, signal.SIGTERM)
                    os.killpg(pid, signal.SIGCONT)  # it may be paused
                self._kill_at = min(self._kill_at, time.monotonic() + grace)
        self._look()

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def unpause(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, signum: signal.Signals) -> None:
        with self._mutex, suppress(ProcessLookupError):
            if self._jobs and self._ended is None:
                os.killpg(self._jobs[0].pid, signum)

    def close(self) -> None:
        if self._jobs:
            self.end(0.0)
            self.ended(None)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _look(self) -> Ended | None:
        """Do what is due; how the job ended, once nothing of it is left."""
        with self._mutex:
            if self._ended is None and self._jobs:
                pid, now, live = self._jobs[0].pid, time.monotonic(), _live(self._jobs[0].pid)
                if live and pid not in live and self._kill_at == _NEVER:
                    os.killpg(pid, signal.SIGTERM)
                    self._kill_at = now + self._launch.grace
                if not live or now >= self._kill_at:
                    os.killpg(pid, signal.SIGKILL)
                if not live or now >= self._kill_at + 10.0:  # as long as the kernel may take
                    self._jobs[-1].communicate(b"\n")  # first: the group's number is then free
                    code = self._jobs[0].poll()
                    name = "SIGKILL" if code is None else signal_name(-code) if code < 0 else None
                    self._ended = Ended(None if name else code, name, self._asked)
            return self._ended


def _live(group: int) -> set[int]:
    """The processes of a group, but no zombies, such as its first one until `poll` reaps it."""
    found = set()
    for pid in psutil.pids():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(pid) == group and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.add(pid)
    return found


def _begin(file: Any, header: str | None) -> int:  # where the attempt's own part begins
    file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
    gap = b"\n" if header is not None and file.read() not in (b"", b"\n") else b""
    size: int = file.seek(0, os.SEEK_END) + file.write(gap)
    file.write(b"" if header is None else f"{header}\n".encode())
    return size
