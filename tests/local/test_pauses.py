"""What becomes of a paused job's processes on this machine, whatever they and others do."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from helpers.processes import PATIENCE, first_fast, is_running, wait_for
from helpers.reliability import points, source, start_driver, write_driver
from hsm.core.local import LocalComputeSource
from hsm.core.record.job import JobState
from hsm.core.record.sweep import read_sweep

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

#: In vfork(2), a process waits for its stopped child in the kernel.
_STILL = (psutil.STATUS_STOPPED, psutil.STATUS_DISK_SLEEP, psutil.STATUS_ZOMBIE)
#: Has a child that forks others without end.
RESTLESS = "(while :; do (sleep 0.05 &); (sleep 0.03 &); done) & echo ready > ready; wait"


def count(params: dict[str, Any]) -> None:
    with open("counted", "a", 1) as file:
        while not os.path.exists("go"):
            file.write("x")
            file.flush()
            time.sleep(0.01)


def keeper_of(made: LocalComputeSource, job_id: str) -> psutil.Process:
    attempts = wait_for(lambda: made.job(job_id).attempts, "its start")
    return psutil.Process(psutil.Process(attempts[0].pid).ppid())


def moving(keeper: psutil.Process) -> list[psutil.Process]:
    """What is below a keeper and does not stand still."""
    found = []
    for process in keeper.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # Its keeper has just reaped it.
            if process.status() not in _STILL:
                found.append(process)
    return found


def wait_until_still(keeper: psutil.Process) -> None:
    """Wait until nothing moves, and nothing comes that was just being forked."""
    looks = [0]

    def is_still() -> bool:
        looks[0] = 0 if moving(keeper) else looks[0] + 1
        return looks[0] == 10

    wait_for(is_still, "all of it to be stopped")


def test_a_job_that_forks_without_end_stands_still_as_a_whole(tmp_path: Path) -> None:
    with source(kill_grace=0.5) as made:
        (job_id,) = made.submit_jobs(points(0), "s", tmp_path / "s", command=["sh", "-c", RESTLESS])
        wait_for((tmp_path / "ready").exists, "the job")
        keeper = keeper_of(made, job_id)
        made.pause(running=True)
        wait_until_still(keeper)
        for _ in range(20):
            assert moving(keeper) == []
        made.unpause()
        wait_for(lambda: moving(keeper), "it to go on")
        made.pause(running=True)
        wait_until_still(keeper)
        assert made.cancel_job(job_id)
        assert made.wait(timeout=PATIENCE) == {job_id: JobState.CANCELLED}


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the jobs run."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("start_method", first_fast("fork", "spawn"))
def test_the_job_of_a_function_is_paused_like_a_command(tmp_path: Path, start_method: str) -> None:
    counted = tmp_path / "counted"
    with source(start_method=start_method) as made:
        (job_id,) = made.submit_jobs(points(0), "s", tmp_path / "s", function=count)
        wait_for(lambda: counted.exists() and counted.stat().st_size > 3, "its first steps")
        keeper = keeper_of(made, job_id)
        made.pause(running=True)
        wait_until_still(keeper)
        size = counted.stat().st_size
        later = time.monotonic() + 0.3
        wait_for(lambda: time.monotonic() > later, "thirty more steps")
        assert counted.stat().st_size == size
        made.unpause()
        wait_for(lambda: counted.stat().st_size > size, "it to go on")
        (tmp_path / "go").touch()
        assert made.wait(timeout=PATIENCE) == {job_id: JobState.COMPLETED}


def test_what_the_job_had_stopped_itself_remains_stopped(tmp_path: Path) -> None:
    script = "sleep 300 & kill -STOP $!; echo $! > child; until [ -e go ]; do sleep 0.02; done"
    with source() as made:
        (job_id,) = made.submit_jobs(points(0), "s", tmp_path / "s", command=["sh", "-c", script])
        noted = tmp_path / "child"
        wait_for(lambda: noted.exists() and noted.read_text().strip(), "its child")
        child, keeper = psutil.Process(int(noted.read_text())), keeper_of(made, job_id)
        wait_for(lambda: child.status() == psutil.STATUS_STOPPED, "its child to be stopped")
        made.pause(running=True)
        wait_until_still(keeper)
        made.unpause()
        wait_for(lambda: moving(keeper), "the job to go on")
        assert child.status() == psutil.STATUS_STOPPED
        (tmp_path / "go").touch()
        assert made.wait(timeout=PATIENCE) == {job_id: JobState.COMPLETED}
    assert not is_running(child.pid)


@pytest.mark.parametrize("victim", first_fast("keeper", "server"))
def test_a_paused_job_whose_keeper_or_server_is_killed_is_lost_and_gone(
    tmp_path: Path, victim: str
) -> None:
    with source() as made:
        (job_id,) = made.submit_jobs(points(0), "s", tmp_path / "s", command=["sh", "-c", RESTLESS])
        wait_for((tmp_path / "ready").exists, "the job")
        keeper = keeper_of(made, job_id)
        made.pause(running=True)
        wait_until_still(keeper)
        below = [process.pid for process in keeper.children(recursive=True)]
        os.kill(keeper.pid if victim == "keeper" else keeper.ppid(), signal.SIGKILL)
        assert made.wait(timeout=PATIENCE) == {job_id: JobState.FAILED}
        wait_for(lambda: not any(map(is_running, below)), "its processes to be gone")


def test_a_launcher_that_is_killed_during_a_pause_leaves_nothing_and_its_sweep_is_resumed(
    tmp_path: Path,
) -> None:
    write_driver(
        tmp_path,
        """
        import os

        def job(params):
            note(f"started-{params['x']}-{os.getpid()}")
            while not os.path.exists("go"):
                time.sleep(0.02)

        if __name__ == "__main__":
            with source() as made:
                ids = made.submit_jobs([{"x": x} for x in range(3)], "s", "sweep", function=job)
                if not os.path.exists("go"):
                    while len(made.running()) < 2:
                        time.sleep(0.02)
                    made.pause(running=True)
                    note("paused")
                made.wait()
        """,
    )
    settings = {"max_parallel_jobs": 2, "resume": True}
    with start_driver(tmp_path, settings) as running:
        running.wait_for_files("paused")
        running.process.kill()
        running.assert_all_gone()
    states = read_sweep(tmp_path / "sweep").jobs.by_state()
    assert states[JobState.CANCELLED] == 3
    (tmp_path / "go").touch()
    with start_driver(tmp_path, settings) as again:
        done = again.finish()
    assert done.code == 0, done.err
    jobs = read_sweep(tmp_path / "sweep").jobs
    assert [str(job.state) for job in jobs.values()] == ["COMPLETED"] * 3
