"""A job leads a process group, but no session: it may do what a process run from a shell may."""

from __future__ import annotations

import faulthandler
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from helpers.processes import PATIENCE, both_methods, wait_for
from helpers.reliability import points, source
from hsm.core.local.processes.process_tree import is_stopped
from hsm.core.record.job import Job
from hsm.core.record.sweep import read_sweep

#: The same for a command's job as `make_groups` and `lose_terminal` for a function's.
_COMMAND = f"""
import sys
sys.path[:] = {sys.path!r}
from local.test_process_groups import lose_terminal, make_groups
{{x}}({{{{}}}})
"""


def make_groups(_: dict[str, Any]) -> str:
    """Make groups and sessions as programs do that end all that they have started at once."""
    os.setpgrp()
    os.setpgid(0, 0)
    own = os.getpgid(0)
    with pytest.raises(PermissionError):
        os.setsid()  # as in any leader of a process group
    others = [
        subprocess.Popen(["sleep", "1000"], **options)
        for options in ({}, {"preexec_fn": os.setpgrp}, {"start_new_session": True})
    ]
    assert [os.getpgid(each.pid) for each in others] == [own, others[1].pid, others[2].pid]
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)
    assert others[0].wait(PATIENCE) == -signal.SIGTERM
    signal.signal(signal.SIGTERM, before)
    assert [each.poll() for each in others[1:]] == [None, None]
    for each in others[1:]:
        os.killpg(each.pid, signal.SIGKILL)
        each.wait(PATIENCE)
    return "done"


def lose_terminal(_: dict[str, Any]) -> str:
    """Open a terminal, as for a serial line; its other end hangs up."""
    master, slave = os.openpty()
    os.open(os.ttyname(slave), os.O_RDWR)
    with pytest.raises(OSError, match="No such device"):
        os.open("/dev/tty", os.O_RDWR)
    with pytest.raises(OSError, match="Inappropriate ioctl"):
        os.tcsetpgrp(slave, os.getpgid(0))
    os.close(master)
    assert pty.spawn(["true"]) == 0  # A child's terminal may control it.
    return "done"


@both_methods
@pytest.mark.parametrize("what", [make_groups, lose_terminal])
def test_a_job_makes_a_process_group_and_opens_a_terminal(
    tmp_path: Path, start_method: str, what: Any
) -> None:
    with source(start_method=start_method) as made:
        made.submit_jobs(points(0), "s", tmp_path / "f", function=what)
        made.wait()
    with source() as made:
        command = [sys.executable, "-c", _COMMAND]
        made.submit_jobs(points(what.__name__), "s", tmp_path / "c", command=command)
        made.wait()
    assert [_only_job(tmp_path / name).ending() for name in "fc"] == ["completed", "completed"]


@pytest.mark.slow
def test_shells_with_job_control_and_terminals_of_their_own(tmp_path: Path) -> None:
    commands = [
        "set -m; sleep 1000 & kill %1; wait",
        "script -qe /dev/null -c 'bash -i -c \"sleep 1000 & kill -STOP %1; kill -KILL %1\"'",
    ]
    with source() as made:
        made.submit_jobs(points(*commands), "s", tmp_path / "s", command=["bash", "-c", "{x}"])
        made.wait(timeout=PATIENCE)
    assert [job.ending() for job in read_sweep(tmp_path / "s").jobs.values()] == ["completed"] * 2


@both_methods
def test_a_signal_to_a_jobs_session_leaves_its_keeper(tmp_path: Path, start_method: str) -> None:
    """Such as `pkill -s 0`; a batch system signals the fork server, too."""

    def job(params: dict[str, Any]) -> str:
        for name in ("SIGUSR1", "SIGUSR2", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
            subprocess.run(["pkill", f"-{name[3:]}", "-s", "0"], check=True)
            os.kill(psutil.Process(os.getppid()).ppid(), getattr(signal, name))
        return "done"

    with source(start_method=start_method) as made:
        made.submit_jobs(points(0), "s", tmp_path / "s", function=job)
        made.wait()
    assert _only_job(tmp_path / "s").ending() == "completed"


def test_a_handler_in_c_stays_in_place(tmp_path: Path) -> None:
    def job(params: dict[str, Any]) -> None:
        # Alone at first: its keeper, which gets the other one too, writes into the same file.
        signal.raise_signal(signal.SIGUSR1)
        subprocess.run(["pkill", "-USR1", "-s", "0"], check=True)

    with (tmp_path / "stacks").open("w") as stacks, source(start_method="fork") as made:
        faulthandler.register(signal.SIGUSR1, stacks)
        try:
            made.submit_jobs(points(0), "s", tmp_path / "s", function=job)
            made.wait()
        finally:
            faulthandler.unregister(signal.SIGUSR1)
    assert _only_job(tmp_path / "s").ending() == "completed"
    assert "in job\n" in (tmp_path / "stacks").read_text()


def test_a_job_that_kills_its_session_kills_its_keeper(tmp_path: Path) -> None:
    commands = ["sleep 1000 & pkill -KILL -s 0", "exit 0"]
    with source(max_parallel_jobs=1) as made:
        made.submit_jobs(points(*commands), "s", tmp_path / "s", command=["bash", "-c", "{x}"])
        made.wait()
    reasons = [job.ending() for job in read_sweep(tmp_path / "s").jobs.values()]
    assert reasons == ["its keeper was killed, and the job with it", "completed"]


def test_a_job_that_suspends_itself_can_save_its_work(tmp_path: Path) -> None:
    """With SIGTSTP, as from a shell: the kernel would ignore that in a session's leader."""
    program = f"trap 'touch {tmp_path}/saved; exit' TERM; kill -TSTP $$; exit 7"
    with source(kill_grace=PATIENCE) as made:
        (job_id,) = made.submit_jobs(points(0), "s", tmp_path / "s", command=["sh", "-c", program])
        wait_for(lambda: _is_suspended(made.job(job_id)), "its suspension")
        made.cancel_job(job_id)
        made.wait(timeout=PATIENCE)
    assert (tmp_path / "saved").exists()


def _is_suspended(job: Job) -> bool:
    pid = job.attempts[-1].pid if job.attempts else None
    return pid is not None and is_stopped(psutil.Process(pid))


def _only_job(sweep_dir: Path) -> Job:
    (job,) = read_sweep(sweep_dir).jobs.values()
    return job
