"""How sweeps end from outside: signals, `hsm cancel`, and launchers without a terminal."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

import psutil
import pytest

from helpers.cli import STAY, Project
from helpers.processes import PATIENCE, SOURCE, first_fast, wait_for
from hsm.core.record import requests as control
from hsm.core.record.lock import holder
from hsm.core.record.paths import SweepPaths

pytestmark = pytest.mark.thorough

BUSY = ("--kill-grace", "1", "--", "sh", "-c", STAY)


@pytest.mark.parametrize("signum", first_fast(signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
def test_a_signal_ends_the_sweep_and_is_its_exit_code(
    project: Project, signum: signal.Signals
) -> None:
    with project.start("sweep", "x=range(4)", "--sweep-id", "s", *BUSY) as sweep:
        project.wait_for("outputs/s/1/runs")
        sweep.send_signal(signum)
        out, err = sweep.communicate(timeout=PATIENCE)
    assert sweep.returncode == 128 + signum
    assert "4 jobs: 4 cancelled" in out
    assert f"Interrupted by {signum.name}: 0 of 4 jobs completed" in err
    assert project.sweep("s").closed == f"interrupted by {signum.name}"


@pytest.mark.slow
def test_the_command_to_resume_runs_without_a_path_and_from_any_directory(
    project: Project,
) -> None:
    """The words before `sweep` are those that started it: `python -m hsm.cli.main` here."""
    with project.start("sweep", "x=range(2)", "--sweep-id", "s", *BUSY) as sweep:
        project.wait_for("outputs/s/1/runs")
        sweep.send_signal(signal.SIGINT)
        _, err = sweep.communicate(timeout=PATIENCE)
    (line,) = [line for line in err.splitlines() if line.startswith("To resume: ")]
    for num in range(2):
        project.write(f"outputs/s/{num}/go", "")
    done = subprocess.run(
        ["/bin/sh", "-c", line.removeprefix("To resume: ")],
        cwd="/",
        # Another state directory, so that no registry knows the sweep's id.
        env={"PYTHONPATH": str(SOURCE), "XDG_STATE_HOME": str(project.folder / "state")},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert project.states("s") == ["COMPLETED"] * 2


def test_json_tells_of_the_interruption(project: Project) -> None:
    arguments = ("sweep", "x=range(4)", "--sweep-id", "s", "--json", *BUSY)
    with project.start(*arguments) as sweep:
        project.wait_for("outputs/s/1/runs")
        sweep.send_signal(signal.SIGINT)
        out, _ = sweep.communicate(timeout=PATIENCE)
    assert '"interrupted_by": "SIGINT"' in out


# --- cancel


@pytest.mark.slow
def test_cancel_ends_a_sweep(project: Project) -> None:
    with project.start("sweep", "x=range(4)", "--sweep-id", "s", *BUSY) as sweep:
        project.wait_for("outputs/s/1/runs")
        assert "s has ended: 4 cancelled" in project.here("cancel", "s").out
        _, err = sweep.communicate(timeout=PATIENCE)
    assert sweep.returncode == 143
    assert "Cancelled: 0 of 4 jobs completed" in err
    assert project.sweep("s").closed == "cancelled"
    assert project.states("s") == ["CANCELLED"] * 4
    assert not SweepPaths(project.folder / "outputs/s").requests.exists()


def test_cancel_ends_single_jobs(project: Project) -> None:
    with project.detached("x=range(4)", "--parallel-jobs", "2", "--", "sh", "-c", STAY):
        out = project.here("cancel", "bg", "1", "3").out
        assert out == "job 1: CANCELLED\njob 3: CANCELLED\n"
        project.wait_for("outputs/bg/2/runs")
        states = ["RUNNING", "CANCELLED", "RUNNING", "CANCELLED"]
        wait_for(lambda: project.states("bg") == states, "the record of job 2")
        assert "job 1: had already ended: CANCELLED" in project.here("cancel", "bg", "1").out


def test_cancel_of_what_has_ended_says_so(project: Project) -> None:
    project.here("sweep", "x=1", "--sweep-id", "s", "--", "true")
    assert project.here("cancel", "s").out == "s is not running: finished\n"
    assert project.here("cancel", "s", "0").out == "s is not running: finished\n"


@pytest.mark.slow
def test_cancel_checks_every_number_first(project: Project) -> None:
    with project.detached("x=range(2)", "--", "sh", "-c", STAY):
        assert "a number from 0 to 1" in project.here("cancel", "bg", "0", "2", code=2).err
        assert project.states("bg") == ["RUNNING", "RUNNING"]


@pytest.mark.slow
def test_cancel_of_a_launcher_that_does_not_react_is_a_signal(project: Project) -> None:
    """Stopped with Ctrl-Z, say: it cannot take requests."""
    with project.start("sweep", "x=range(2)", "--sweep-id", "s", *BUSY) as sweep:
        project.wait_for("outputs/s/1/runs")
        sweep.send_signal(signal.SIGSTOP)
        told = project.here("cancel", "s", "0", code=2)
        assert "does not respond; not cancelled: job 0;" in told.err
        assert "s has ended: 2 cancelled" in project.here("cancel", "s").out
        sweep.communicate(timeout=PATIENCE)
    assert sweep.returncode == 143


def test_cancel_does_not_end_the_program_that_runs_a_sweep(project: Project) -> None:
    """A notebook, say: its sweep ends, and it goes on."""
    program = project.write(
        "notebook.py",
        "from hsm import LocalComputeSource\n"
        "with LocalComputeSource(2, kill_grace=1) as source:\n"
        f"    command = ['sh', '-c', {STAY!r}]\n"
        "    source.submit_jobs([{'x': 1}, {'x': 2}], 'n', 'outputs/n', command=command)\n"
        "    print(sorted(map(str, source.wait().values())))\n"
        "print('goes on')\n",
    )
    with subprocess.Popen(
        [sys.executable, program.name],
        cwd=project.folder,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stdout=subprocess.PIPE,
        text=True,
    ) as notebook:
        project.wait_for("outputs/n/1/runs")
        project.here("cancel", "n")
        out, _ = notebook.communicate(timeout=PATIENCE)
    assert out == "['CANCELLED', 'CANCELLED']\ngoes on\n"
    assert notebook.returncode == 0


def test_requests_to_an_earlier_launcher_are_dropped(project: Project) -> None:
    arguments = ("sweep", "x=1", "--sweep-id", "s", "--", "sh", "-c", "test -e good")
    project.here(*arguments, code=1)
    control.ask(SweepPaths(project.folder / "outputs/s"), None)
    project.write("good", "")
    project.here("sweep", "--resume", "s")
    assert project.states("s") == ["COMPLETED"]


# --- detach


@pytest.mark.slow
def test_detach_returns_when_the_sweep_has_begun(project: Project) -> None:
    with project.detached("x=range(2)", "--", "sh", "-c", STAY) as sweep:
        launcher = psutil.Process(sweep.header["pid"])
        assert holder(sweep.paths.lock) == launcher.pid
        assert launcher.terminal() is None
        assert os.getsid(launcher.pid) not in (launcher.pid, os.getsid(0))
        for num in (0, 1):
            (project.folder / f"outputs/bg/{num}/go").touch()
        wait_for(lambda: project.sweep("bg").closed, "its end")
        assert project.states("bg") == ["COMPLETED", "COMPLETED"]
    log = sweep.paths.launcher_log.read_text()
    assert "job 1 COMPLETED" in log
    assert "bg: 2 jobs: 2 completed" in log


@pytest.mark.slow
def test_detach_says_how_to_go_on(project: Project) -> None:
    ran = project.hsm("sweep", "x=1", "--detach", "--sweep-id", "s", "--", "true")
    assert "s has started, in outputs/s" in ran.out
    assert "hsm monitor s" in ran.out
    assert "hsm cancel s" in ran.out
    told = project.hsm("sweep", "x=1", "--detach", "--json", "--sweep-id", "t", "--", "true").json
    assert told == {"sweep_id": "t", "sweep_dir": str(project.folder / "outputs/t")}
    for sweep_id in ("s", "t"):
        assert "1 completed" in project.hsm("monitor", sweep_id).out


def test_detach_survives_the_end_of_its_session(project: Project) -> None:
    """Closing a terminal kills with SIGHUP all that is in the terminal's session."""
    line = (
        f"exec {sys.executable} -m hsm.cli.main sweep x=1 --detach --sweep-id s -- sh -c '{STAY}'"
    )
    shell = subprocess.Popen(
        ["sh", "-c", f"({line}); exec sleep 60"],
        cwd=project.folder,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    with project.ending("s"), shell:
        project.wait_until_running("s", 0)
        for process in psutil.process_iter():
            try:
                in_session = os.getsid(process.pid) == shell.pid
            except ProcessLookupError:
                continue
            if in_session:
                process.send_signal(signal.SIGHUP)
        shell.wait(PATIENCE)
        (project.folder / "outputs/s/0/go").touch()
        assert "1 completed" in project.hsm("monitor", "s").out


def test_detach_refuses_what_cannot_start(project: Project) -> None:
    line = project.refused("sweep", "x=1", "--detach", "--sweep-dir", "/proc/none", "--", "true")
    assert "/proc/none" in line


@pytest.mark.parametrize("settings", [("--gpus", "1"), ("--parallel-jobs", "auto")])
def test_detach_finds_out_how_many_jobs_run_at_once(
    project: Project, settings: tuple[str, ...]
) -> None:
    words = ("sweep", *settings, "x=1,2", "--detach", "--sweep-id", "s", "--", "true")
    locks = str(project.folder / "locks")
    project.hsm(*words, CUDA_VISIBLE_DEVICES="3,5", HSM_GPU_LOCKS=locks)
    assert "2 completed" in project.hsm("monitor", "s").out


def test_detach_refuses_gpus_that_are_not_there(project: Project) -> None:
    words = ("--gpus", "3", "x=1,2", "--detach", "--", "true")
    ran = project.hsm("sweep", *words, code=2, CUDA_VISIBLE_DEVICES="3,5")
    assert ran.err.startswith("hsm: gpus=3: a job cannot have 3 GPUs: there are 2 for it")
    assert ran.err.count("\n") == 1


@pytest.mark.slow
def test_detach_keeps_nothing_that_it_was_given_open(project: Project) -> None:
    """A reader of what came with the command gets to its end while the sweep still runs."""
    line = ("sweep", "x=1", "--detach", "--sweep-id", "s", "--", "sh", "-c", STAY)
    ours, theirs = os.pipe()
    with open(ours, "rb") as reader:
        subprocess.run(
            [sys.executable, "-m", "hsm.cli.main", *line],
            cwd=project.folder,
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs],
            timeout=PATIENCE,
            check=True,
        )
        os.close(theirs)
        with project.ending("s"):
            project.wait_until_running("s", 0)
            assert select.select([reader], [], [], PATIENCE)[0]
            assert reader.read() == b""
            assert project.states("s") == ["RUNNING"]


@pytest.mark.slow
def test_detach_leaves_nobody_waiting(project: Project) -> None:
    """Whoever reads what `hsm sweep --detach` prints gets to the end of it."""
    shell = f'echo "$({sys.executable} -m hsm.cli.main sweep x=1 --detach --json -- sleep 0.1)"'
    done = subprocess.run(
        ["sh", "-c", shell],
        cwd=project.folder,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert '"sweep_id"' in done.stdout
    project.hsm("monitor")
