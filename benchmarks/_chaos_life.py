"""One launcher of a sweep of chaos.py, and all that it has started."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

import hsm
from _marked import VARIABLE, kill_marked, marked_processes, new_mark

HERE = Path(__file__).resolve().parent
VICTIMS = ("launcher", "fork server", "keeper", "job", "process group", "everything")
STOPPED = ("launcher", "fork server", "keeper", "job")
MODES = ("function", "command", "hydra")
#: Seconds: for processes to be gone once their launcher is, and for the journal to say what is so.
PATIENCE = 5.0
#: The same where some of them have been stopped, and whoever ends them first has to notice.
LONG_PATIENCE = 20.0
_NAMES = {"fork server": "hsm-server", "keeper": "hsm-keeper"}


class Violation(Exception):
    """Something was lost, left, or told wrongly."""


@dataclass(frozen=True)
class Hit:
    """What was done to whom.

    Attributes:
        seconds: since the sweep began.
        deed: such as "SIGKILL" or "truncated".
        victim: the role of who was hit, or the name of a file.
        jobs: how many of the sweep's jobs were in each state, by its record.
        pid, command, parents: of the process, its parents from the nearest up; where several were
            hit, of the launcher, with their names in the place of its command. A file has none. Of
            one that had just gone by itself only the pid is known.
    """

    seconds: float
    deed: str
    victim: str
    jobs: Mapping[str, int]
    pid: int | None = None
    command: str = ""
    parents: tuple[str, ...] = ()

    def __str__(self) -> str:
        who = self.victim if self.pid is None else f"{self.victim} {self.pid} ({self.command})"
        below = f" below {' < '.join(self.parents)}" if self.parents else ""
        return f"{self.seconds:.2f} s: {self.deed} {who}{below}; jobs {dict(self.jobs)}"


class Life:
    """One launcher of a sweep and all that it has started.

    Attributes:
        process: the launcher.
        patience: seconds in which all of it is gone once the launcher is.
    """

    def __init__(self, folder: Path, mode: str, jobs: int) -> None:
        self.mark = new_mark()
        self.patience = PATIENCE
        path = os.pathsep.join([str(Path(hsm.__file__).parent.parent), str(HERE)])
        env = {k: v for k, v in os.environ.items() if not k.startswith(("HSM_", "HYDRA_"))}
        inherited = os.environ.get("PYTHONPATH")
        env |= {
            VARIABLE: self.mark,
            "CHAOS_SIDE": str(folder / "side"),
            "PYTHONPATH": path + (os.pathsep + inherited if inherited else ""),
            "HSM_STATE_DIR": str(folder / "state"),
            "TMPDIR": str(folder / "tmp"),
        }
        with (folder / "screen").open("ab") as screen:
            self.process = subprocess.Popen(
                _command(mode, jobs),
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=screen,
                stderr=screen,
                start_new_session=True,
            )

    def processes(self) -> list[psutil.Process]:
        """It and everything that it has started; no zombies."""
        return marked_processes(self.mark)

    def find(self, victim: str, chance: random.Random) -> list[psutil.Process]:
        """The processes to hit; none if there is no such process now."""
        if self.process.poll() is not None:
            return []
        if victim == "launcher":
            return [psutil.Process(self.process.pid)]
        processes = self.processes()
        if victim in ("everything", "process group"):
            return [each for each in processes if victim == "everything" or self._is_in_group(each)]
        candidates = [process for process in processes if _is(victim, process)]
        return [chance.choice(candidates)] if candidates else []

    def _is_in_group(self, process: psutil.Process) -> bool:
        with suppress(ProcessLookupError):
            return os.getpgid(process.pid) == self.process.pid
        return False

    def kill(self, victim: str, found: Sequence[psutil.Process]) -> None:
        """SIGKILL to those that were found."""
        if victim == "process group":
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        elif victim == "everything":
            # Over and over: what is forked between a look and its kills has lost all who would end
            # it, which is the one thing that hsm does not promise to survive.
            # And once more where there is nobody: who was not there yet when the look began may be
            # the child of one who was gone when it came to him.
            empty_looks = 0
            while empty_looks < 2:
                empty_looks = 0 if self.processes() else empty_looks + 1
                kill_marked(self.mark)
        else:
            send(signal.SIGKILL, found)

    def wait_until_gone(self) -> float:
        """Seconds until nothing of it was left. Raises Violation."""
        began = time.monotonic()
        while (self.process.poll() is None) | bool(left := self.processes()):
            if time.monotonic() - began > self.patience:
                told = [describe(process) for process in left]
                raise Violation(f"left after the launcher's death: {told}")
            time.sleep(0.02)
        return time.monotonic() - began

    def end(self) -> None:
        """Kill whatever is left."""
        kill_marked(self.mark)
        self.process.wait()


def send(signum: signal.Signals, processes: Sequence[psutil.Process]) -> None:
    """Send a signal to those that are still there."""
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(signum)


def describe(process: psutil.Process) -> str:
    """A process in words: what it is, how it is, below whom."""
    try:
        parents, status = " < ".join(parents_of(process)), process.status()
        return f"{name_of(process)} ({command_of(process)}) {status} below {parents}"
    except psutil.Error as error:
        return f"{process.pid}: {error}"


def command_of(process: psutil.Process) -> str:
    """The beginning of its command line; empty if it has gone."""
    with suppress(psutil.Error):
        return " ".join(process.cmdline())[:120]
    return ""


def name_of(process: psutil.Process) -> str:
    """Its name and number."""
    with suppress(psutil.Error):
        return f"{process.name()} {process.pid}"
    return f"gone {process.pid}"


def parents_of(process: psutil.Process) -> tuple[str, ...]:
    """Who is above it, from the nearest up to this program."""
    found = []
    with suppress(psutil.Error):
        for parent in process.parents():
            if parent.pid == os.getpid():
                break
            found.append(name_of(parent))
    return tuple(found)


def make_repository(folder: Path) -> bool:
    """Make `folder` a git repository with a change to be recorded; False where there is no git."""
    if shutil.which("git") is None:
        return False
    code = folder / "code.txt"
    code.write_text("committed\n" * 1000)
    settings = ("user.name=chaos", "user.email=chaos@localhost", "commit.gpgsign=false")
    who = [word for setting in settings for word in ("-c", setting)]
    for words in (("init", "--quiet"), ("add", code.name), ("commit", "--quiet", "-m", "all")):
        subprocess.run(["git", *who, *words], cwd=folder, check=True)
    code.write_text("changed\n" * 1000)
    return True


def _is(victim: str, process: psutil.Process) -> bool:
    try:
        if victim == "job":
            parent = process.parent()
            return parent is not None and parent.name() == _NAMES["keeper"]
        return bool(process.name() == _NAMES[victim])
    except psutil.Error:
        return False


def _command(mode: str, jobs: int) -> list[str]:
    if mode == "hydra":
        settings = ("max_parallel_jobs=3", "kill_grace=1", "timeout=8", "resume=true")
        return [
            sys.executable,
            str(HERE / "apps" / "chaos_app.py"),
            "-m",
            "hydra/launcher=hsm_local",
            "hydra.sweep.dir=sweep",
            f"+x=range({jobs})",
            *(f"hydra.launcher.{setting}" for setting in (*settings, "progress=none")),
        ]
    command = [sys.executable, str(HERE / "apps" / "chaos_job.py"), "--sweep", str(jobs)]
    return [*command, "--command"] if mode == "command" else command
