"""Ctrl-Z, bg and fg on a terminal, with a shell; and what jobs do meanwhile."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import psutil
import pytest

from helpers.cli import STAY, Project
from helpers.processes import first_fast, wait_for
from helpers.terminal import Terminal, on_terminal
from hsm.core.program.isolation import LaunchState
from hsm.display.job_control import JobControl
from hsm.display.stream import SafeStream

pytestmark = pytest.mark.thorough

#: As little of a shell as does job control: it runs one command, and takes fg and bg.
SHELL = """
import os, signal, sys

signal.signal(signal.SIGTTOU, signal.SIG_IGN)
pid = os.fork()
if pid == 0:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpgrp())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.argv[1], sys.argv[1:])
print("pid", pid, end=";", flush=True)
while True:
    status = os.waitpid(pid, os.WUNTRACED)[1]
    os.tcsetpgrp(0, os.getpgrp())
    if not os.WIFSTOPPED(status):
        sys.exit(os.waitstatus_to_exitcode(status))
    print("it is stopped", flush=True)
    if input("$ ") == "bg":
        os.killpg(pid, signal.SIGCONT)
        input("$ ")
        os.tcsetpgrp(0, pid)  # It runs, so fg sends it no signal.
    else:
        os.tcsetpgrp(0, pid)
        os.killpg(pid, signal.SIGCONT)
"""
HSM = [sys.executable, "-m", "hsm.cli.main"]


@contextmanager
def in_shell(project: Project, command: Sequence[str]) -> Iterator[Terminal]:
    shell = [sys.executable, "-c", SHELL]
    with on_terminal([*shell, *command], project.folder) as terminal:
        terminal.wait_for("pid")
        terminal.wait_for(";")
        command_pid = int(terminal.shown.partition("pid")[2].partition(";")[0])
        try:
            yield terminal
        finally:
            for process in children(command_pid):
                with suppress(psutil.Error):
                    process.kill()


def children(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def sweep(*more: str, job: str = STAY, jobs: int = 3) -> list[str]:
    settings = ("--sweep-id", "s", "--parallel-jobs", "2", *more)
    return [*HSM, "sweep", f"x=range({jobs})", *settings, "--", "sh", "-c", job]


def has_cursor(terminal: Terminal) -> bool:
    return terminal.has_cursor


def let_end(project: Project, *nums: int) -> None:
    for num in nums:
        (project.folder / f"outputs/s/{num}/go").touch()


def wait_until_over(project: Project, num: int) -> None:
    """Wait until a job has ended, whether anybody knows or not."""
    pid = project.sweep("s").jobs[num].attempts[-1].pid
    assert pid is not None
    wait_for(lambda: not children(pid), f"the end of job {num}")


def test_ctrl_z_gives_the_terminal_back_and_fg_goes_on(project: Project) -> None:
    with in_shell(project, sweep()) as terminal:
        terminal.wait_for("2 running")
        assert not has_cursor(terminal)
        terminal.type("\x1a")
        terminal.wait_for("it is stopped\n$")
        assert has_cursor(terminal)
        assert "running" not in terminal.shown
        # The jobs go on, and no new ones start.
        let_end(project, 0)
        wait_until_over(project, 0)
        assert not (project.folder / "outputs/s/2/runs").exists()
        terminal.type("fg\n")
        terminal.wait_for("1 done")
        project.wait_for("outputs/s/2/runs")
        wait_for(lambda: not has_cursor(terminal), "the view")
        let_end(project, 1, 2)
        assert terminal.wait() == 0
        assert has_cursor(terminal)
    assert "it is stopped\n$ fg\n" in terminal.shown
    assert "s: 3 jobs: 3 completed" in terminal.shown


@pytest.mark.slow
def test_nothing_is_drawn_in_the_background(project: Project) -> None:
    with in_shell(project, sweep()) as terminal:
        terminal.wait_for("2 running")
        terminal.type("\x1a")
        terminal.wait_for("it is stopped\n$")
        terminal.type("bg\n")
        for num in (0, 1):
            let_end(project, num)
        project.wait_for("outputs/s/2/runs")  # The launcher goes on.
        wait_for(lambda: project.states("s")[:2] == ["COMPLETED"] * 2, "two jobs' ends")
        assert has_cursor(terminal)
        assert "done" not in terminal.shown
        terminal.type("fg\n")
        terminal.wait_for("1 running")
        assert not has_cursor(terminal)
        let_end(project, 2)
        assert terminal.wait() == 0
    assert "it is stopped\n$ bg\n$ fg\n" in terminal.shown


@pytest.mark.slow
def test_after_a_kill_stop_fg_goes_on(project: Project) -> None:
    with in_shell(project, sweep()) as terminal:
        terminal.wait_for("2 running")
        os.kill(project.sweep("s").header["pid"], signal.SIGSTOP)
        terminal.wait_for("it is stopped\n$")
        terminal.type("fg\n")
        let_end(project, 0)
        terminal.wait_for("1 done")
        let_end(project, 1, 2)
        assert terminal.wait() == 0
        assert has_cursor(terminal)


@pytest.mark.slow
def test_ctrl_z_in_a_hydra_app(project: Project) -> None:
    project.write(
        "app.py",
        "import hydra, time\n"
        "from pathlib import Path\n"
        "@hydra.main(version_base=None, config_path=None)\n"
        "def main(cfg):\n"
        "    while not Path('go').exists():\n"
        "        time.sleep(0.02)\n"
        "main()\n",
    )
    words = ["app.py", "-m", "hydra/launcher=hsm_local", "+x=1,2", "hydra.sweep.dir=sweep"]
    with in_shell(project, [sys.executable, *words]) as terminal:
        stop_and_go_on(terminal)
        project.write("go", "")
        assert terminal.wait() == 0
        assert has_cursor(terminal)
    assert "2 jobs: 2 completed" in terminal.shown


@pytest.mark.slow
def test_ctrl_z_in_a_monitor(project: Project) -> None:
    with (
        project.detached("x=1,2", "--", "sh", "-c", STAY),
        in_shell(project, [*HSM, "monitor", "bg"]) as terminal,
    ):
        stop_and_go_on(terminal)
        terminal.type("\x03")
        assert terminal.wait() == 130
        assert has_cursor(terminal)


def stop_and_go_on(terminal: Terminal) -> None:
    terminal.wait_for("2 running")
    terminal.type("\x1a")
    terminal.wait_for("it is stopped\n$")
    assert has_cursor(terminal)
    terminal.type("fg\n")
    terminal.wait_for("2 running")


@pytest.mark.slow
@pytest.mark.parametrize("progress", ["plain", "none"])
def test_ctrl_z_without_a_live_view_is_what_it_always_is(project: Project, progress: str) -> None:
    with in_shell(project, sweep("--progress", progress)) as terminal:
        project.wait_for("outputs/s/1/runs")
        terminal.type("\x1a")
        terminal.wait_for("it is stopped\n$")
        terminal.type("fg\n")
        let_end(project, 0, 1)
        project.wait_for("outputs/s/2/runs")
        let_end(project, 2)
        assert terminal.wait() == 0
    assert "\x1b" not in terminal.shown


@pytest.mark.slow
def test_limits_hold_again_after_fg(project: Project) -> None:
    """A job that is over its limit by then is ended; one that has ended by itself keeps its end."""
    limit = 6.0  # seconds, in which the launcher must have been stopped
    settings = ("--timeout", str(limit), "--kill-grace", "1")
    with in_shell(project, sweep(*settings, jobs=2)) as terminal:
        terminal.wait_for("2 running")
        began = time.monotonic()
        terminal.type("\x1a")
        terminal.wait_for("it is stopped\n$")
        time.sleep(max(0.0, began + limit - time.monotonic()))
        let_end(project, 0)
        wait_until_over(project, 0)
        pid = project.sweep("s").jobs[1].attempts[-1].pid
        assert pid is not None
        assert children(pid)
        terminal.type("fg\n")
        assert terminal.wait() == 1
    assert project.states("s") == ["COMPLETED", "TIMEOUT"]


# --- the signal handlers ----------------------------------------------------------------------


@pytest.fixture
def control() -> Iterator[JobControl]:
    made = JobControl(SafeStream(None), lambda: None)
    made.start()
    yield made
    made.stop()
    assert signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGCONT) is signal.SIG_DFL


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_jobs_and_other_children_do_not_get_the_handlers(control: JobControl) -> None:
    assert signal.getsignal(signal.SIGTSTP) is not signal.SIG_DFL
    pid = os.fork()
    if pid == 0:
        is_default = signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL
        os._exit(0 if is_default else 1)
    assert os.waitpid(pid, 0)[1] == 0
    state = LaunchState.take()
    assert state.signals[signal.SIGTSTP] == signal.SIG_DFL
    assert state.signals[signal.SIGCONT] == signal.SIG_DFL


@pytest.fixture
def apps_handler() -> Iterator[list[str]]:
    """A handler of the app's own, which notes that it is called."""
    called: list[str] = []
    before = signal.signal(signal.SIGTSTP, lambda *_: called.append("the app's"))
    yield called
    signal.signal(signal.SIGTSTP, before)


def test_a_handler_of_the_apps_own_is_called_once_the_view_is_hidden(
    apps_handler: list[str],
) -> None:
    control = JobControl(SafeStream(None), lambda: apps_handler.append("hidden"))
    control.start()
    signal.raise_signal(signal.SIGTSTP)
    control.stop()
    assert apps_handler == ["hidden", "the app's"]


def test_a_display_that_is_stuck_does_not_keep_the_process_from_stopping(
    apps_handler: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hsm.display.job_control._PATIENCE", 0.1)
    go_on = threading.Event()

    def stuck() -> None:
        go_on.wait()

    control = JobControl(SafeStream(None), stuck)
    control.start()
    signal.raise_signal(signal.SIGTSTP)
    go_on.set()
    control.stop()
    assert apps_handler == ["the app's"]


@pytest.mark.parametrize("stop", first_fast("here", "in another thread"))
def test_after_the_display_a_signal_has_its_earlier_effect(
    apps_handler: list[str], stop: str
) -> None:
    control = JobControl(SafeStream(None), lambda: apps_handler.append("hidden"))
    control.start()
    if stop == "here":
        control.stop()
    else:
        thread = threading.Thread(target=control.stop)
        thread.start()
        thread.join()
    signal.raise_signal(signal.SIGTSTP)
    assert apps_handler == ["the app's"]
