"""On a terminal: the live view, drawn tables, and Ctrl-C from the keyboard."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from cli_support import STAY, Project
from support import PATIENCE, REPOSITORY

_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[()][A-Z0-9]")


class Terminal:
    """A process that leads a session on a terminal of its own, 100 columns wide.

    Attributes:
        pid: the process's.
        shown: all that it has written so far, without what moves the cursor.
    """

    def __init__(self, pid: int, fd: int) -> None:
        self.pid = pid
        self.shown = ""
        self._fd = fd

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def wait_for(self, text: str) -> None:
        """Read on until `text` is shown."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.shown:
            assert time.monotonic() < deadline, f"waited for {text!r} in vain:\n{self.shown}"
            assert self._read(0.1), f"it ended without {text!r}:\n{self.shown}"

    def wait(self) -> int:
        """Read to its end; returns its exit code."""
        deadline = time.monotonic() + PATIENCE
        while self._read(0.1):
            assert time.monotonic() < deadline, f"it does not end:\n{self.shown}"
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _read(self, seconds: float) -> bool:
        """Read what is there; False once the process has closed its terminal."""
        if select.select([self._fd], [], [], seconds)[0]:
            try:
                data = os.read(self._fd, 65536)
            except OSError:  # EIO: nobody has it open any more
                return False
            self.shown += _ESCAPES.sub("", data.decode(errors="replace")).replace("\r\n", "\n")
            return bool(data)
        return True


@contextmanager
def _terminal(project: Project, *arguments: str) -> Iterator[Terminal]:
    env = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "TERM": "xterm",
        "COLUMNS": "100",
        "LINES": "30",
    }
    command = [sys.executable, "-m", "hsm.cli.main", *arguments]
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(project.folder)
        os.execve(command[0], command, env)
    terminal = Terminal(pid, fd)
    try:
        yield terminal
    finally:
        with suppress(ProcessLookupError, ChildProcessError):
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        os.close(fd)


def test_the_live_view_of_a_sweep_and_of_its_monitor_are_one(project: Project) -> None:
    command = ("--", "sh", "-c", f"echo hello {{x}}; {STAY}")
    with _terminal(
        project, "sweep", "x=range(3)", "--parallel-jobs", "2", "--sweep-id", "s", *command
    ) as sweep:
        for text in ("2 running", "1 pending", "hello 1"):
            sweep.wait_for(text)
        with _terminal(project, "monitor", "s") as monitor:
            for text in ("2 running", "1 pending", "hello 1", "x=0", "last output"):
                monitor.wait_for(text)
            for num in (0, 1):
                (project.folder / f"outputs/s/{num}/go").touch()
            project.wait_for("outputs/s/2/runs")
            (project.folder / "outputs/s/2/go").touch()
            assert monitor.wait() == 0
        assert sweep.wait() == 0
    for shown in (sweep.shown, monitor.shown):
        assert "s: 3 jobs: 3 completed" in shown


def test_ctrl_c_on_the_keyboard(project: Project) -> None:
    with _terminal(
        project, "sweep", "x=range(3)", "--sweep-id", "s", "--", "sh", "-c", STAY
    ) as sweep:
        project.wait_for("outputs/s/1/runs")
        sweep.wait_for("running")
        sweep.type("\x03")
        assert sweep.wait() == 130
        assert "Interrupted by SIGINT: 0 of 3 jobs completed" in sweep.shown
    assert project.states("s") == ["CANCELLED"] * 3


def test_a_closed_terminal_ends_its_sweep(project: Project) -> None:
    with _terminal(
        project, "sweep", "x=range(3)", "--sweep-id", "s", "--", "sh", "-c", STAY
    ) as sweep:
        project.wait_for("outputs/s/1/runs")
        os.kill(sweep.pid, signal.SIGHUP)
        assert sweep.wait() == 129


def test_tables_are_drawn(project: Project) -> None:
    project.here("sweep", "x=1,2", "--sweep-id", "a-sweep-with-a-long-name", "--", "true")
    for arguments, text in (
        (["list"], "a-sweep-with-a-long-name"),
        (["collect-results", "last"], "COMPLETED"),
        (["config"], "local.max_parallel_jobs"),
    ):
        with _terminal(project, *arguments) as terminal:
            assert terminal.wait() == 0
        assert text in terminal.shown
        assert "───" in terminal.shown
        assert max(map(len, terminal.shown.splitlines())) <= 100
