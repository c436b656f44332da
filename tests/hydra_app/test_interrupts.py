"""A signal, or the death of a process of hsm's own, in the middle of a sweep.

No process is left, no outcome lost, and the journal tells the truth.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from helpers.processes import (
    App,
    Finished,
    RunningSweep,
    both_methods,
    is_running,
    let_burst_pass,
    under_both_methods,
    wait_for,
)
from hsm.core.record.job import JobState

pytestmark = pytest.mark.thorough

KILL_GRACE = 1.0
#: Seconds, far above PATIENCE: what waits for the end of this grace fails its test.
LONG_GRACE = 600

# Jobs 0 and 1 complete; 2 and 3 stay, each with three processes, of which those of job 3 ignore
# SIGTERM; 4 and 5 wait for their turn.
BODY = """
    def heard(signum, frame):
        note(f"{signal.Signals(signum).name}.{JOB[0]}")


    JOB = []


    def job(cfg):
        JOB.append(cfg.job)
        if cfg.job in (2, 3):
            if cfg.job == 3:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            child(f"child.{cfg.job}")
            daemon(f"daemon.{cfg.job}")
            program = subprocess.Popen(["sleep", "1000"])
            note(f"program.{cfg.job}", program.pid)
            if cfg.job == 3:
                signal.signal(signal.SIGTERM, heard)
            note(f"self.{cfg.job}", os.getpid())
            wait_for("go")
        return 10 * cfg.job
"""
ROLES = ("self", "child", "daemon", "program")
FILES = tuple(f"{role}.{num}" for num in (2, 3) for role in ROLES)


@contextmanager
def in_the_middle(tmp_path: Path, **options: object) -> Iterator[RunningSweep]:
    """A sweep of which two jobs have completed, two run with all their processes, and two wait."""
    settings = {"kill_grace": KILL_GRACE, "own_group": True, **options}
    with App(tmp_path, BODY).start(**settings) as running:  # type: ignore[arg-type]
        running.wait_for_files(*FILES)
        running.wait_until_running(2, 3)
        yield running


def assert_truth_after_interruption(done: Finished, signal_name: str) -> None:
    """The journal and the screen tell what was, and what became of it."""
    assert done.sweep.closed == f"interrupted by {signal_name}"
    assert done.states == ["COMPLETED"] * 2 + ["CANCELLED"] * 4
    assert done.values == [0, 10, None, None, None, None]
    for num in (2, 3):
        assert signal_name in done.jobs[num].ending()
        assert done.jobs[num].duration is not None
    for num in (4, 5):
        assert "never started" in done.jobs[num].ending()
        assert signal_name in done.jobs[num].ending()
    told = [line for line in done.screen.splitlines() if f"Interrupted by {signal_name}" in line]
    assert len(told) == 1
    assert "2 of 6" in told[0]
    assert str(done.sweep_dir) in told[0]
    assert "hydra.launcher.resume=true" in done.screen  # how to go on
    assert "Traceback" not in done.screen


def interrupt_group(running: RunningSweep) -> None:
    os.killpg(running.process.pid, signal.SIGINT)


def interrupt_pid(running: RunningSweep) -> None:
    running.process.send_signal(signal.SIGINT)


def terminate(running: RunningSweep) -> None:
    running.process.send_signal(signal.SIGTERM)


def terminate_group(running: RunningSweep) -> None:
    os.killpg(running.process.pid, signal.SIGTERM)


def hang_up(running: RunningSweep) -> None:
    running.process.send_signal(signal.SIGHUP)


SENDERS = {
    "Ctrl-C to the group": (interrupt_group, signal.SIGINT, 130),
    "Ctrl-C to the pid alone": (interrupt_pid, signal.SIGINT, 130),
    "SIGTERM": (terminate, signal.SIGTERM, 143),
    "SIGTERM to the group": (terminate_group, signal.SIGTERM, 143),
    "SIGHUP": (hang_up, signal.SIGHUP, 129),
}
# The launcher does not tell one from another under spawn.
FAST = {("Ctrl-C to the group", "fork"), ("SIGTERM", "fork")}
ROWS = under_both_methods(SENDERS, FAST)


@pytest.mark.parametrize(("name", "start_method"), ROWS)
def test_a_signal_ends_the_sweep(tmp_path: Path, name: str, start_method: str) -> None:
    send, signum, code = SENDERS[name]
    with in_the_middle(tmp_path, start_method=start_method) as running:
        send(running)
        running.assert_all_gone()
        assert list(running.temporary.iterdir()) == []
        done = running.finish()
    assert done.code == code
    assert_truth_after_interruption(done, signum.name)
    # What reaches jobs is hsm's SIGTERM, and no signal of somebody else's.
    assert (tmp_path / "SIGTERM.3").exists()
    assert done.jobs[2].attempts[0].signal == "SIGTERM"
    assert done.jobs[3].attempts[0].signal == "SIGKILL"


@both_methods
def test_a_second_ctrl_c_kills_at_once(tmp_path: Path, start_method: str) -> None:
    with in_the_middle(tmp_path, start_method=start_method, kill_grace=LONG_GRACE) as running:
        interrupt_group(running)
        running.wait_for_files("SIGTERM.3")  # the first was dealt with; job 3 stays
        assert is_running(running.pid("self.3"))
        let_burst_pass()
        interrupt_group(running)
        running.assert_all_gone()
        assert list(running.temporary.iterdir()) == []
        done = running.finish()
    assert done.code == 130
    assert_truth_after_interruption(done, "SIGINT")


@pytest.mark.parametrize(
    ("signum", "start_method"),
    [
        (signal.SIGKILL, "fork"),
        pytest.param(signal.SIGKILL, "spawn", marks=pytest.mark.slow),
        pytest.param(signal.SIGQUIT, "fork", marks=pytest.mark.slow),
    ],
)
def test_the_launcher_is_killed(tmp_path: Path, signum: signal.Signals, start_method: str) -> None:
    with in_the_middle(tmp_path, start_method=start_method, kill_grace=LONG_GRACE) as running:
        running.process.send_signal(signum)
        running.assert_all_gone()
        assert list(running.temporary.iterdir()) == []
        done = running.finish()
    assert done.code == -signum
    assert_truth_after_death(done)


def assert_truth_after_death(done: Finished) -> None:
    """The journal has no last line; what it tells holds all the same."""
    assert done.sweep.closed is None
    assert done.states == ["COMPLETED"] * 2 + ["CANCELLED"] * 4
    assert done.values == [0, 10, None, None, None, None]
    assert {done.jobs[num].ending() for num in (2, 3, 4, 5)} == {"launcher died"}


@pytest.mark.slow
def test_the_launcher_and_the_fork_server_are_killed(tmp_path: Path) -> None:
    with in_the_middle(tmp_path, start_method="fork", kill_grace=LONG_GRACE) as running:
        server = running.fork_server()
        running.process.kill()
        server.kill()
        running.assert_all_gone()
        assert_truth_after_death(running.finish())


@pytest.mark.slow
@both_methods
def test_the_fork_server_is_killed(tmp_path: Path, start_method: str) -> None:
    with in_the_middle(tmp_path, start_method=start_method, kill_grace=LONG_GRACE) as running:
        server = running.fork_server()
        server.kill()
        _wait_for_end_of(running, 2)
        _wait_for_end_of(running, 3)
        done = running.finish()
        running.assert_all_gone(0)
        assert list(running.temporary.iterdir()) == []
    assert done.code == 1
    assert done.sweep.closed == "finished"
    assert done.states == ["COMPLETED", "COMPLETED", "FAILED", "FAILED", "COMPLETED", "COMPLETED"]
    assert done.values == [0, 10, None, None, 40, 50]
    for num in (2, 3):
        assert "fork server" in done.jobs[num].ending()
        assert done.jobs[num].ending() in done.screen


@pytest.mark.slow
@both_methods
def test_a_keeper_is_killed(tmp_path: Path, start_method: str) -> None:
    with in_the_middle(tmp_path, start_method=start_method, kill_grace=LONG_GRACE) as running:
        keeper = psutil.Process(running.pid("self.3")).parent()
        assert keeper is not None
        assert keeper.parent() == running.fork_server()
        keeper.kill()
        _wait_for_end_of(running, 3)
        assert all(is_running(running.pid(f"{role}.2")) for role in ROLES)
        running.touch("go")
        done = running.finish()
        running.assert_all_gone(0)
        assert list(running.temporary.iterdir()) == []
    assert done.code == 1
    assert done.states == ["COMPLETED"] * 3 + ["FAILED"] + ["COMPLETED"] * 2
    assert done.values == [0, 10, 20, None, 40, 50]
    assert "keeper" in done.jobs[3].ending()
    assert done.jobs[3].ending() in done.screen


def _wait_for_end_of(running: RunningSweep, num: int) -> None:
    """Wait until every process of job `num` is gone, and the journal tells."""
    pids = [running.pid(f"{role}.{num}") for role in ROLES]
    wait_for(lambda: not any(map(is_running, pids)), f"the end of job {num}'s processes")
    running.wait_until_ended(num)


@pytest.mark.slow
def test_a_signal_in_one_batch_ends_the_sweep(tmp_path: Path) -> None:
    """A sweep may come in several batches: after a signal, no more of them are launched."""
    with App(tmp_path, BODY).start(
        "hydra.sweeper.max_batch_size=2", kill_grace=KILL_GRACE
    ) as running:
        running.wait_for_files(*FILES)
        interrupt_pid(running)
        running.assert_all_gone()
        done = running.finish()
    assert done.code == 130
    assert done.states == ["COMPLETED"] * 2 + ["CANCELLED"] * 2
    assert done.values == [0, 10, None, None]
    assert "Traceback" not in done.screen


@pytest.mark.slow
@both_methods
def test_a_job_that_is_ended_with_the_sweep_can_save_its_work(
    tmp_path: Path, start_method: str
) -> None:
    body = """
        def save(signum, frame):
            time.sleep(0.3)
            note("saved", "all of it")
            sys.exit(0)


        def job(cfg):
            signal.signal(signal.SIGTERM, save)
            note(f"self.{cfg.job}", os.getpid())
            stay()
    """
    with App(tmp_path, body).start("job=7", start_method=start_method) as running:
        running.wait_for_files("self.7")
        interrupt_pid(running)
        done = running.finish()
    assert done.code == 130
    assert (tmp_path / "saved").read_text() == "all of it"
    (job,) = done.jobs.values()
    assert job.state is JobState.CANCELLED


@pytest.mark.slow
@pytest.mark.parametrize("ignored", ["HUP", pytest.param("INT", marks=pytest.mark.slow)])
def test_a_signal_that_is_ignored_at_the_start_stays_ignored(tmp_path: Path, ignored: str) -> None:
    """As under nohup, or as a script's background job."""
    with in_the_middle(tmp_path, ignoring=ignored) as running:
        running.process.send_signal(getattr(signal, f"SIG{ignored}"))
        running.touch("go")
        done = running.finish()
    assert done.code == 0
    assert done.states == ["COMPLETED"] * 6
    assert done.values == [0, 10, 20, 30, 40, 50]


@pytest.mark.slow
@both_methods
def test_jobs_ignore_what_the_launcher_does(tmp_path: Path, start_method: str) -> None:
    body = """
        def job(cfg):
            numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGTSTP)
            return [signal.getsignal(n) is signal.SIG_IGN for n in numbers]
    """
    done = App(tmp_path, body).run("job=0", start_method=start_method, ignoring="HUP")
    assert done.values == [[True, False, False, False, False]]


@both_methods
def test_a_ctrl_c_before_the_first_job_leaves_nothing(tmp_path: Path, start_method: str) -> None:
    """It comes as soon as there is a process to lose, at whatever point the launcher is then."""
    with App(tmp_path, BODY).start(own_group=True, start_method=start_method) as running:
        wait_for(lambda: len(running.processes()) > 1, "the fork server")
        interrupt_group(running)
        running.assert_all_gone()
        done = running.finish()
    assert done.code in (130, -signal.SIGINT)
    assert done.values.count(None) == 6
