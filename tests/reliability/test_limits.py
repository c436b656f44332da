"""What a job may use: memory of its process tree, and time as a multiple of what others took."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from reliability_support import Recorder, points, source, start_driver, write_driver

from hsm.core.job import Job, JobState
from hsm.core.journal import read_sweep
from hsm.core.local import limits
from support import App, wait_until

MB = 1_000_000


def eat(megabytes: int) -> bytearray:
    """Memory that is really there: every page of it is written."""
    return bytearray(b"\1") * (megabytes * MB)


def hold(params: dict[str, Any]) -> str:
    """Take so many megabytes in each of so many processes, and stay a while."""
    for _ in range(params.get("children", 0)):
        if os.fork() == 0:
            _eaten = eat(params["x"])
            time.sleep(60)
            os._exit(0)
    _ballast = eat(0 if params.get("children") else params["x"])
    time.sleep(params.get("seconds", 60))
    return "done"


def used(job: Job) -> int:
    """The megabytes that the reason for a job's end names; the limit was 250."""
    match = re.fullmatch(r"out of memory: it used (\d+) MB, memory_limit is 250 MB", job.ending())
    assert match is not None, job.ending()
    return int(match[1])


# --- memory of a job --------------------------------------------------------------------------


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_a_job_above_its_memory_limit_is_ended_with_the_figure(
    tmp_path: Path, start_method: str
) -> None:
    jobs = [{"x": 400}, {"x": 1, "seconds": 0}]
    with source(memory_limit="250MB", start_method=start_method) as made:
        made.submit_jobs(jobs, "s", tmp_path, function=hold)
        made.wait()
    greedy, modest = read_sweep(tmp_path).jobs.values()
    assert [str(greedy.state), str(modest.state)] == ["OUT_OF_MEMORY", "COMPLETED"]
    assert used(greedy) > 250
    assert greedy.attempts[0].signal == "SIGKILL"
    assert greedy.attempts[0].max_memory is not None
    assert greedy.attempts[0].max_memory > 250 * MB


def test_the_limit_is_for_all_of_a_jobs_processes_together(tmp_path: Path) -> None:
    """Each of four children is below the limit by far."""
    with source(memory_limit="250MB", start_method="spawn") as made:
        made.submit_jobs([{"x": 80, "children": 4}], "s", tmp_path, function=hold)
        made.wait()
    job = read_sweep(tmp_path).jobs[0]
    assert str(job.state) == "OUT_OF_MEMORY"
    assert used(job) > 250
    assert job.attempts[0].max_memory is not None
    assert job.attempts[0].max_memory < 250 * MB  # of the largest process


def test_memory_that_a_job_shares_with_the_launcher_is_not_all_its_own(tmp_path: Path) -> None:
    """The launcher holds 400 MB, and every fork maps them: its resident size is above the limit."""
    write_driver(
        tmp_path,
        """
        ballast = bytearray(b"1") * 400_000_000

        def job(params):
            wait_for(f"go-{os.getpid()}")
            return ballast[7]

        with source(memory_limit="300MB", start_method="fork") as made:
            ids = made.submit_jobs([{"x": 0}], "s", "sweep", function=job)
            print(made.result(ids[0]))
        """,
    )
    with start_driver(tmp_path) as sweep:
        journal = tmp_path / "sweep/.hsm/journal.jsonl"
        # It is there, and empty, for as long as git takes to tell what the first line will say.
        wait_until(lambda: journal.exists() and journal.stat().st_size, 60, "the journal")
        wait_until(lambda: sweep.read().jobs and sweep.read().jobs[0].attempts, 60, "its start")
        attempt = sweep.read().jobs[0].attempts[0]
        assert attempt.pid is not None
        process = psutil.Process(attempt.pid)
        resident = process.memory_info().rss
        began = time.monotonic()
        wait_until(lambda: time.monotonic() > began + 1.5, 60, "six looks at its memory")
        (tmp_path / f"go-{attempt.pid}").touch()
        done = sweep.finish()
    assert resident > 400 * MB
    assert (done.states, done.out.strip()) == (["COMPLETED"], str(ord("1")))


def test_a_job_that_is_out_of_memory_is_retried_if_asked(tmp_path: Path) -> None:
    settings = {"memory_limit": "250MB", "max_retries": 1, "retry_delay": 0}
    with source(start_method="spawn", **settings) as made:
        made.submit_jobs(points(400), "s", tmp_path, function=hold)
        made.wait()
    states = [a.ending.state for a in read_sweep(tmp_path).jobs[0].attempts if a.ending]
    assert states == [JobState.OUT_OF_MEMORY] * 2


def test_memory_limit_under_hydra(tmp_path: Path) -> None:
    app = App(
        tmp_path,
        """
        def job(cfg):
            if cfg.job == 1:
                ballast = bytearray(b"1") * 500_000_000
                stay()
            return cfg.job
        """,
    )
    done = app.run("job=range(3)", memory_limit="350MB")
    assert (done.code, done.states) == (1, ["COMPLETED", "OUT_OF_MEMORY", "COMPLETED"])
    assert "memory_limit is 350 MB" in done.screen


# --- the kernel's OOM killer ------------------------------------------------------------------


def _memory_groups() -> Path | None:
    """Where control groups with a memory limit can be made, if that is possible here."""
    for root, limit in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max"),
    ):
        group = root / f"hsm-probe-{os.getpid()}"
        with suppress(OSError):
            group.mkdir()
            try:
                (group / limit).write_text(str(64 * MB))
                return root
            except OSError:
                continue
            finally:
                group.rmdir()
    return None


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group for 150 MB; a pid that is written into its cgroup.procs is moved there."""
    root = _memory_groups()
    if root is None:
        pytest.skip("no control group with a memory limit can be made here (needs root)")
    group = root / f"hsm-test-{os.getpid()}"
    group.mkdir()
    for name in ("memory.limit_in_bytes", "memory.max"):
        if (group / name).exists():
            (group / name).write_text(str(150 * MB))
    yield group
    wait_until(lambda: not (group / "cgroup.procs").read_text(), 10, "the group to be empty")
    group.rmdir()


def test_a_job_that_the_kernels_oom_killer_killed_is_named_so(
    tmp_path: Path, small_group: Path
) -> None:
    def starve(params: dict[str, Any]) -> str:
        if params["x"]:
            (small_group / "cgroup.procs").write_text(str(os.getpid()))
        _ballast = eat(300)
        return "done"

    with source(max_parallel_jobs=1) as made:
        made.submit_jobs(points(0, 1), "s", tmp_path, function=starve)
        made.wait()
    well_off, starved = read_sweep(tmp_path).jobs.values()
    assert (str(well_off.state), str(starved.state)) == ("COMPLETED", "OUT_OF_MEMORY")
    assert starved.ending() == "killed by the kernel's out-of-memory killer"
    assert starved.attempts[0].signal == "SIGKILL"


def test_a_sigkill_while_the_oom_killer_rests_is_just_that(tmp_path: Path) -> None:
    with source() as made:
        made.submit_jobs(points(9), "s", tmp_path, command=["sh", "-c", "kill -{x} $$"])
        made.wait()
    job = read_sweep(tmp_path).jobs[0]
    assert (str(job.state), job.ending()) == ("FAILED", "killed by SIGKILL")


def test_where_the_kernel_does_not_count_its_kills_none_is_assumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "Path", lambda _: tmp_path / "not there")
    assert limits.oom_kills() is None
    with source() as made:
        made.submit_jobs(points(9), "s", tmp_path, command=["sh", "-c", "kill -{x} $$"])
        made.wait()
    assert str(read_sweep(tmp_path).jobs[0].state) == "FAILED"


# --- free memory ------------------------------------------------------------------------------


def test_while_memory_is_short_nothing_starts_and_people_are_told_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [3 * 10**9]
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free[0]))
    recorder = Recorder()
    with source(recorder, min_free_memory="4GB") as made:
        ids = made.submit_jobs(points(0, 1, 2), "s", tmp_path, command=["true"])
        wait_until(lambda: recorder.messages, 30, "the message")
        assert recorder.messages == ["jobs wait: 3 GB of memory are free, min_free_memory is 4 GB"]
        assert made.wait(timeout=0.6) == dict.fromkeys(ids, JobState.PENDING)
        assert recorder.events == []
        free[0] = 5 * 10**9
        assert made.wait(timeout=30) == dict.fromkeys(ids, JobState.COMPLETED)
    assert len(recorder.messages) == 1


def test_a_job_that_waits_for_memory_can_be_cancelled(tmp_path: Path) -> None:
    with source(min_free_memory="1000TB", max_parallel_jobs=1) as made:
        ids = made.submit_jobs(points(0, 1), "s", tmp_path, command=["true"])
        assert all(made.cancel_job(job_id) for job_id in ids)
        assert made.wait(timeout=10) == dict.fromkeys(ids, JobState.CANCELLED)


def test_ctrl_c_while_jobs_wait_for_memory(tmp_path: Path) -> None:
    app = App(tmp_path, "def job(cfg): return 1")
    with app.start("job=range(3)", min_free_memory="1000TB") as sweep:
        screen = tmp_path / "screen.out"
        wait_until(lambda: "min_free_memory" in screen.read_text(), 60, "the message")
        sweep.process.send_signal(signal.SIGINT)
        done = sweep.finish(10)
    assert (done.code, done.states) == (130, ["CANCELLED"] * 3)


# --- time -------------------------------------------------------------------------------------


def test_a_job_that_takes_many_times_longer_than_the_others_is_ended(tmp_path: Path) -> None:
    """It started before there was a median."""
    sleeps = ["sleep", "{x}"]
    with source(timeout_factor=10, max_parallel_jobs=2, kill_grace=0.5) as made:
        made.submit_jobs(points(60, 0.1, 0.15, 0.2, 0.1), "s", tmp_path, command=sleeps)
        began = time.monotonic()
        states = list(made.wait(timeout=40).values())
        assert time.monotonic() - began < 30
    assert [str(state) for state in states] == ["TIMEOUT"] + ["COMPLETED"] * 4
    reason = read_sweep(tmp_path).jobs[0].ending()
    assert reason.startswith("timeout after ")
    assert reason.endswith(" s, 10 times the median")


def test_two_jobs_are_too_few_for_a_median(tmp_path: Path) -> None:
    with source(timeout_factor=1.5, max_parallel_jobs=3) as made:
        made.submit_jobs(points(0, 0, 1.2), "s", tmp_path, command=["sleep", "{x}"])
        assert set(made.wait().values()) == {JobState.COMPLETED}


def test_a_fixed_limit_holds_beside_the_multiple(tmp_path: Path) -> None:
    with source(timeout_factor=1000, timeout=0.5, kill_grace=0.5) as made:
        made.submit_jobs(points(0, 0, 0, 60), "s", tmp_path, command=["sleep", "{x}"])
        made.wait()
    assert read_sweep(tmp_path).jobs[3].ending() == "timeout after 0.5 s"


def test_a_job_has_kill_grace_to_save_its_work(tmp_path: Path) -> None:
    saves = [
        "sh",
        "-c",
        'trap "sleep 0.3; echo step 7 > $HSM_JOB_DIR/checkpoint; exit 0" TERM; '
        "echo ready; while :; do sleep 0.05; done",
    ]
    jobs: list[Job] = []
    with source(timeout=1.0, kill_grace=10) as made:
        (job_id,) = made.submit_jobs(points(0), "s", tmp_path, command=saves)
        began = time.monotonic()
        made.wait()
        assert time.monotonic() - began < 8  # it is not kept waiting for the whole grace
        jobs.append(made.job(job_id))
    assert (tmp_path / "0" / "checkpoint").read_text() == "step 7\n"
    assert str(jobs[0].state) == "TIMEOUT"
