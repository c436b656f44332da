"""One launcher of a sweep of chaos.py, and all that it has started."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil

import hsm
from _marked import VARIABLE, kill_marked, marked_processes, new_mark

HERE = Path(__file__).resolve().parent
VICTIMS = ("launcher", "fork server", "keeper", "job", "process group", "everything")
MODES = ("function", "command", "hydra")
#: Seconds: for processes to be gone once their launcher is, and for the journal to say what is so.
PATIENCE = 5.0
_NAMES = {"fork server": "hsm-server", "keeper": "hsm-keeper"}


class Violation(Exception):
    """Something was lost, left, or told wrongly."""


class Life:
    """One launcher of a sweep and all that it has started."""

    def __init__(self, folder: Path, mode: str, jobs: int) -> None:
        self.mark = new_mark()
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
        """The processes to kill; none if there is no such process now."""
        processes = self.processes()
        if victim == "everything":
            return processes
        candidates = [process for process in processes if _is(victim, process)]
        return [chance.choice(candidates)] if candidates else []

    def kill(self, victim: str, chance: random.Random) -> bool:
        """SIGKILL; False if there was nobody to hit."""
        if self.process.poll() is not None:
            return False
        if victim == "launcher":
            self.process.kill()
        elif victim == "process group":
            os.killpg(self.process.pid, signal.SIGKILL)
        elif victim == "everything":
            # Over and over: what is forked between a look and its kills has lost all who would end
            # it, which is the one thing that hsm does not promise to survive.
            while self.processes():
                kill_marked(self.mark)
        else:
            victims = self.find(victim, chance)
            for process in victims:
                with suppress(psutil.Error):
                    process.kill()
            return bool(victims)
        return True

    def wait_until_gone(self) -> float:
        """Seconds until nothing of it was left. Raises Violation."""
        began = time.monotonic()
        while (self.process.poll() is None) | bool(left := self.processes()):
            if time.monotonic() - began > PATIENCE:
                names = Counter(process.name() for process in left)
                raise Violation(f"left after the launcher's death: {dict(names)}")
            time.sleep(0.02)
        return time.monotonic() - began

    def end(self) -> None:
        """Kill whatever is left."""
        kill_marked(self.mark)
        self.process.wait()


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
        settings = ("max_parallel_jobs=3", "kill_grace=1", "resume=true", "progress=none")
        return [
            sys.executable,
            str(HERE / "apps" / "chaos_app.py"),
            "-m",
            "hydra/launcher=hsm_local",
            "hydra.sweep.dir=sweep",
            f"+x=range({jobs})",
            *(f"hydra.launcher.{setting}" for setting in settings),
        ]
    command = [sys.executable, str(HERE / "apps" / "chaos_job.py"), "--sweep", str(jobs)]
    return [*command, "--command"] if mode == "command" else command
