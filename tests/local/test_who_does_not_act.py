"""A keeper or a fork server that is stopped, traced or stuck is continued, then killed."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from helpers.cli import Project
from helpers.processes import (
    PATIENCE,
    App,
    first_fast,
    first_row_fast,
    is_running,
    let_burst_pass,
    wait_for,
)
from hsm import LocalComputeSource
from hsm.core.engine.backend import Launch, Started
from hsm.core.local.processes import server_client as forkserver
from hsm.core.local.processes import slot
from hsm.core.local.processes.messages import Channel, Ready
from hsm.core.local.processes.process_tree import is_stopped
from hsm.core.local.processes.slot import KeeperStuck, Slot
from hsm.core.process_stat import is_exiting
from hsm.core.record.job import Job, JobState

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc"),
]

#: Sets `keeper` and `server`, notes all pids, does what the job's first argument says, and stays.
_SHELL = """
read -r stat < /proc/$PPID/stat
set -- "$1" ${stat##*) }
keeper=$PPID server=$3
echo $$ $keeper $server > pids.$$
mv pids.$$ pids.$HSM_JOB_NUM
eval "$1"
touch runs.$HSM_JOB_NUM
while :; do sleep 0.1; done
"""
_STOPS = {
    "keeper": "kill -STOP $keeper",
    "server": "kill -STOP $server",
    "both": "kill -STOP $keeper $server",
}


class Jobs:
    """A sweep of shell commands in this process; its jobs work in one directory."""

    def __init__(self, source: LocalComputeSource, folder: Path) -> None:
        self.source, self.folder = source, folder

    def submit(self, *whats: str) -> list[str]:
        points = [{"what": what} for what in whats]
        command = ["sh", "-c", f"cd {self.folder}\n{_braces(_SHELL)}", "sh", "{what}"]
        return self.source.submit_jobs(points, "s", self.folder / "s", command=command)

    def pids(self, num: int = 0) -> tuple[int, int, int]:
        """Of a job, its keeper and its server, once the job has done what it was to do."""
        return pids(self.folder, num)

    def running(self, num: int = 0) -> tuple[int, int, int]:
        """The same, once this process knows that the job runs: the job may be further."""
        found = self.pids(num)
        is_known = partial(is_known_to_run, self.source, f"s_{num}")
        wait_for(is_known, f"what is known of the start of job {num}")
        return found

    def ends(self, *job_ids: str) -> list[Job]:
        """The jobs, once they have ended."""
        self.source.wait(job_ids, timeout=PATIENCE)
        return [self.source.job(job_id) for job_id in job_ids]


def _braces(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def is_known_to_run(source: LocalComputeSource, job_id: str) -> bool:
    return source.get_job_status(job_id) is JobState.RUNNING


def pids(folder: Path, num: int = 0) -> tuple[int, int, int]:
    wait_for((folder / f"runs.{num}").exists, f"job {num}")
    job, keeper, server = map(int, (folder / f"pids.{num}").read_text().split())
    return job, keeper, server


def wait_until_gone(*numbers: int) -> None:
    wait_for(lambda: not any(map(is_running, numbers)), f"the end of {numbers}")


@contextmanager
def jobs_of(folder: Path, **settings: Any) -> Iterator[Jobs]:
    settings = {"max_parallel_jobs": 8, "kill_grace": 0.5, "show_output": False, **settings}
    with LocalComputeSource(**settings) as source:
        try:
            yield Jobs(source, folder)
        finally:
            source.stop("the test is over", grace=0)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks follow each other quickly; as many are needed."""
    for module in (slot, forkserver):
        monkeypatch.setattr(module, "LOOK_INTERVAL", 0.1)
    monkeypatch.setattr(slot, "_QUIET_INTERVAL", 0.1)
    monkeypatch.setattr(slot, "_SLACK", 0.1)


# --- stopped ------------------------------------------------------------------------------------


def test_stopped_keepers_and_servers_are_continued(tmp_path: Path) -> None:
    ends = {
        "kill -STOP $keeper": "timeout after 6 s",
        "kill -STOP $server": "timeout after 6 s",
        "kill -STOP $keeper $server": "timeout after 6 s",
        "kill -STOP $keeper; exit 0": "completed",
        "kill -STOP $keeper $server; exit 3": "exit code 3",
        "exit 0": "completed",
    }
    with jobs_of(tmp_path, timeout=6) as jobs:
        ids = jobs.submit(*ends)
        assert [job.ending() for job in jobs.ends(*ids)] == list(ends.values())
        (after,) = jobs.ends(*jobs.submit("exit 0"))
        assert after.state is JobState.COMPLETED


@pytest.mark.parametrize("who", _STOPS)
def test_a_cancelled_job_ends_and_the_others_go_on(tmp_path: Path, who: str) -> None:
    with jobs_of(tmp_path) as jobs:
        stopped, other = jobs.submit(_STOPS[who], ":")
        jobs.pids(0)
        jobs.running(1)
        jobs.source.cancel_job(stopped)
        assert jobs.ends(stopped)[0].state is JobState.CANCELLED
        assert jobs.source.get_job_status(other) is JobState.RUNNING


@pytest.mark.parametrize("who", _STOPS)
def test_closing_the_source_leaves_nobody(tmp_path: Path, who: str) -> None:
    with jobs_of(tmp_path) as jobs:
        (job_id,) = jobs.submit(_STOPS[who])
        all_three = jobs.pids()
        jobs.source.close(cancel=True)
        assert jobs.source.get_job_status(job_id) is JobState.CANCELLED
        wait_until_gone(*all_three)


@pytest.mark.parametrize(
    ("signals", "who"),
    first_row_fast(("INT INT", "both"), ("INT", "keeper"), ("TERM", "server"), ("KILL", "both")),
)
def test_a_signal_to_the_launcher_ends_all(project: Project, signals: str, who: str) -> None:
    first, *second = signals.split()
    grace = str(2 * PATIENCE) if second else "0.5"
    what = "trap 'touch told' TERM;" if second else ""
    command = ("--kill-grace", grace, "--progress", "none", "--", "sh", "-c", _braces(_SHELL), "sh")
    with project.start("sweep", "x=0", "--sweep-id", "s", *command, what + _STOPS[who]) as launcher:
        all_three = pids(project.folder)
        launcher.send_signal(getattr(signal, f"SIG{first}"))
        for name in second:
            project.wait_for("told")
            let_burst_pass()
            launcher.send_signal(getattr(signal, f"SIG{name}"))
        launcher.wait(PATIENCE)
        wait_until_gone(*all_three)
    assert project.states("s") == ["CANCELLED"]


@pytest.mark.slow
def test_hsm_cancel_ends_a_sweep_whose_keeper_is_stopped(project: Project) -> None:
    command = ("sh", "-c", _braces(_SHELL), "sh", _STOPS["both"])
    settings = ("--sweep-id", "s", "--kill-grace", "0.5", "--progress", "none")
    with project.start("sweep", "x=0", *settings, "--", *command) as launcher:
        all_three = pids(project.folder)
        project.hsm("cancel", "s")
        launcher.wait(PATIENCE)
        wait_until_gone(*all_three)
    assert project.states("s") == ["CANCELLED"]


@pytest.mark.slow
def test_a_hydra_job_that_stops_its_keeper_times_out(tmp_path: Path) -> None:
    body = """
        def job(cfg):
            if cfg.job == 0:
                os.kill(os.getppid(), signal.SIGSTOP)
                stay()
            return cfg.job
    """
    done = App(tmp_path, body).run("job=range(3)", timeout=5, kill_grace=0.5, start_method="fork")
    assert done.states == ["TIMEOUT", "COMPLETED", "COMPLETED"]


def test_a_stopped_job_can_save_its_work(tmp_path: Path) -> None:
    saves = "trap 'echo all > saved; exit 0' TERM; touch runs.0; kill -STOP $$"
    with jobs_of(tmp_path, kill_grace=PATIENCE) as jobs:
        (job_id,) = jobs.submit(saves)
        job, *_ = jobs.pids()
        wait_for(lambda: is_stopped(psutil.Process(job)), "the job to stop")
        jobs.source.cancel_job(job_id)
        assert jobs.ends(job_id)[0].state is JobState.CANCELLED
        assert (tmp_path / "saved").read_text() == "all\n"


def test_a_stopped_program_at_the_sweeps_end_can_end_by_itself(project: Project) -> None:
    program = "trap 'touch saved; exit' TERM; echo $$ > pid.tmp; mv pid.tmp pid; kill -STOP $$"
    settings = ("--sweep-id", "s", "--kill-grace", str(2 * PATIENCE), "--progress", "none")
    at_end = ("--on-sweep-end", shlex.join(["sh", "-c", program]))
    with project.start("sweep", "x=0", *settings, *at_end, "--", "true") as launcher:
        project.wait_for("pid")
        hook = psutil.Process(int((project.folder / "pid").read_text()))
        wait_for(lambda: is_stopped(hook), "the program to stop")
        launcher.send_signal(signal.SIGTERM)
        launcher.wait(PATIENCE)
    assert (project.folder / "saved").exists()


def test_an_idle_keeper_that_is_stopped_takes_the_next_job(tmp_path: Path) -> None:
    """An argument that no socket's buffer holds keeps nobody waiting either."""
    with LocalComputeSource(1, start_method="fork", show_output=False) as source:
        submit = partial(source.submit_jobs, sweep_id="s", sweep_dir=tmp_path, function=_parent)
        (first,) = submit([{"text": ""}])
        keeper = source.result(first)
        os.kill(keeper, signal.SIGSTOP)
        (second,) = submit([{"text": "x" * 3_000_000}])
        assert source.result(second) == keeper


def _parent(params: dict[str, Any]) -> int:
    return os.getppid()


@pytest.mark.usefixtures("impatient")
def test_a_job_that_stops_its_keeper_again_and_again_is_ended(tmp_path: Path) -> None:
    with jobs_of(tmp_path) as jobs:
        (job_id,) = jobs.submit("touch runs.0; while :; do kill -STOP $keeper; done")
        job, *_ = jobs.pids()
        jobs.source.cancel_job(job_id)
        assert jobs.ends(job_id)[0].state is JobState.CANCELLED
        wait_until_gone(job)


# --- traced, or stuck ---------------------------------------------------------------------------

_TRACER = """
import ctypes, os, sys, time
SEIZE, INTERRUPT = 0x4206, 0x4207  # sys/ptrace.h
ptrace = ctypes.CDLL(None, use_errno=True).ptrace
ptrace.argtypes = [ctypes.c_long] * 4
for pid in map(int, sys.argv[1:]):
    if ptrace(SEIZE, pid, 0, 0) or ptrace(INTERRUPT, pid, 0, 0):
        sys.exit(os.strerror(ctypes.get_errno()))
print("traced", flush=True)
time.sleep(1000)
"""


@contextmanager
def traced(*numbers: int) -> Iterator[None]:
    """Have these processes traced, and so standing still; skips where that is not allowed."""
    command = [sys.executable, "-c", _TRACER, *map(str, numbers)]
    tracer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert tracer.stdout is not None
    try:
        if tracer.stdout.readline() != "traced\n":
            pytest.skip(f"ptrace: {tracer.communicate()[1]}")
        for number in numbers:
            wait_for(lambda: is_stopped(psutil.Process(number)), "the trace")  # noqa: B023
        yield
    finally:
        tracer.kill()
        tracer.communicate()


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_a_traced_keeper_is_killed_and_the_others_go_on(tmp_path: Path) -> None:
    with jobs_of(tmp_path) as jobs:
        ids = jobs.submit("(setsid sleep 1000 & echo $! > daemon)", ":")
        job, keeper, server = jobs.running(0)
        jobs.running(1)
        with traced(keeper):
            jobs.source.cancel_job(ids[0])
            (ended,) = jobs.ends(ids[0])
            assert (ended.state, ended.ending()) == (JobState.CANCELLED, "cancelled")
            # The tracer has not let the keeper go yet: its death is not told to its parent.
            wait_until_gone(job, keeper, int((tmp_path / "daemon").read_text()))
            assert jobs.source.get_job_status(ids[1]) is JobState.RUNNING
            (after,) = jobs.ends(*jobs.submit("exit 0"))
            assert after.state is JobState.COMPLETED
            assert is_running(server)


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("code", first_fast(3, 0))
def test_the_end_of_a_job_is_known_though_its_keeper_is_traced(tmp_path: Path, code: int) -> None:
    with jobs_of(tmp_path) as jobs:
        (job_id,) = jobs.submit(f"touch runs.0; until test -e go; do sleep 0.02; done; exit {code}")
        _, keeper, _ = jobs.running()
        with traced(keeper):
            (tmp_path / "go").touch()
            (job,) = jobs.ends(job_id)
            assert job.ending() == (f"exit code {code}" if code else "completed")


@pytest.mark.usefixtures("impatient")
def test_a_traced_server_is_replaced_and_its_jobs_go_on(tmp_path: Path) -> None:
    with jobs_of(tmp_path) as jobs:
        (first,) = jobs.submit(":")
        _, _, server = jobs.running()
        with traced(server):
            (second,) = jobs.submit("exit 0")
            assert jobs.ends(second)[0].state is JobState.COMPLETED
            assert jobs.source.get_job_status(first) is JobState.RUNNING
            jobs.source.close(cancel=True)
            wait_until_gone(*jobs.pids())


def test_a_process_that_dies_is_told_from_one_that_stands_still() -> None:
    with subprocess.Popen(["sleep", "600"]) as process:
        assert not is_exiting(process.pid)
        process.send_signal(signal.SIGSTOP)
        wait_for(lambda: is_stopped(psutil.Process(process.pid)), "its stop")
        assert not is_exiting(process.pid)
        process.kill()
        wait_for(lambda: is_exiting(process.pid), "its end")
        assert process.returncode is None  # nobody has reaped it
    assert is_exiting(process.pid)


@pytest.mark.slow
def test_nobody_is_left_of_a_killed_launcher_whose_server_is_traced(project: Project) -> None:
    command = ("--progress", "none", "--", "sh", "-c", _braces(_SHELL), "sh", ":")
    with project.start("sweep", "x=0", "--sweep-id", "s", *command) as launcher:
        all_three = pids(project.folder)
        with traced(all_three[2]):
            launcher.kill()
            launcher.wait()
            wait_until_gone(*all_three)


@contextmanager
def mute_keeper(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Slot, Channel]]:
    """A slot whose keeper, a process of its own, runs and never says anything; the other end."""
    monkeypatch.setattr(slot, "_LOOKS_AT_START", 3)
    monkeypatch.setattr(slot, "_LOOKS_AT_END", 3)
    ours, theirs = socket.socketpair()
    keeper = subprocess.Popen(["sleep", "1000"], pass_fds=[theirs.fileno()])
    silent, channel = Slot(Channel(ours), lambda: None), Channel(theirs)
    try:
        channel.send(Ready(keeper.pid))
        silent.wait_for_keeper(lambda: True)
        yield silent, channel
        channel.forget()
    finally:
        silent.close()
        keeper.kill()
        keeper.wait()


@pytest.mark.usefixtures("impatient")
def test_a_keeper_that_runs_and_does_nothing_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    start = Launch(0, {}, "", "", "", "", ("true",), None, "", grace=0.0)
    with mute_keeper(monkeypatch) as (silent, channel):
        monkeypatch.setattr(slot, "_EXIT_TIMEOUT", 0.0)
        silent.start(start)
        with pytest.raises(KeeperStuck, match="its keeper did not start it, and was killed"):
            silent.started()
    with mute_keeper(monkeypatch) as (silent, channel):
        job = subprocess.Popen(["sleep", "1000"])
        silent.start(start)
        channel.send(Started(job.pid, (0, 0)))
        assert silent.started().pid == job.pid
        assert silent.ended(time.monotonic() + 1.0) is None  # It runs: there is no hurry.
        silent.end(0.0)
        ended = silent.ended(None)
        assert ended is not None
        assert (ended.status, ended.asked) == (signal.SIGKILL, True)
        job.kill()
        job.wait()


# --- who does not read --------------------------------------------------------------------------


def test_sending_to_who_does_not_read_keeps_nobody_waiting() -> None:
    first, second = socket.socketpair()
    ours, theirs = Channel(first), Channel(second)
    large = ["x" * 1_000_000] * 3
    for message in (large, "later"):
        ours.send(message)
    received: list[Any] = []
    reader = threading.Thread(target=lambda: received.extend([theirs.receive(), theirs.receive()]))
    reader.start()
    assert not ours.wait(time.monotonic() + 0.2)  # nothing came from there, and all was sent
    while reader.is_alive():
        ours.wait(time.monotonic() + 0.05)
    reader.join()
    assert received == [large, "later"]
    ours.close()
    theirs.close()


# --- keeper and server killed in one moment -------------------------------------------------------


def test_a_command_whose_keeper_and_server_are_killed_leaves_nothing(tmp_path: Path) -> None:
    with jobs_of(tmp_path) as jobs:
        (job_id,) = jobs.submit(
            "sleep 1000 & echo $! > child; setsid sleep 1000 & echo $! > daemon"
        )
        job, keeper, server = jobs.running()
        _kill_in_one_moment(keeper, server)
        assert jobs.ends(job_id)[0].state is JobState.FAILED
        left = [job, *(int((tmp_path / name).read_text()) for name in ("child", "daemon"))]
        assert not any(map(is_running, left))


def test_a_function_whose_keeper_and_server_are_killed_leaves_nothing(tmp_path: Path) -> None:
    def job(params: dict[str, Any]) -> None:
        numbers = [os.getppid(), os.getpid()]
        if (child := os.fork()) != 0:
            (tmp_path / "pids.tmp").write_text(" ".join(map(str, [*numbers, child])))
            (tmp_path / "pids.tmp").rename(tmp_path / "pids")
        time.sleep(1000)

    with LocalComputeSource(1, start_method="fork", show_output=False, function=job) as source:
        (job_id,) = source.submit_jobs([{"x": 0}], "s", tmp_path / "s")
        wait_for((tmp_path / "pids").exists, "the job")
        wait_for(partial(is_known_to_run, source, job_id), "what is known of its start")
        keeper, *left = map(int, (tmp_path / "pids").read_text().split())
        _kill_in_one_moment(keeper, psutil.Process(keeper).ppid())
        source.wait([job_id], timeout=PATIENCE)
        assert source.get_job_status(job_id) is JobState.FAILED
        assert not any(map(is_running, left))


def _kill_in_one_moment(keeper: int, server: int) -> None:
    for signum in (signal.SIGSTOP, signal.SIGKILL):
        for number in (server, keeper):
            os.kill(number, signum)
