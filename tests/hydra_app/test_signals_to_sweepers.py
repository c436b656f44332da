"""Signals and requests while a sweeper does something else than wait in `launch`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from helpers.processes import Finished, first_fast, let_burst_pass, wait_for
from helpers.sweepers import DEAF, STAYING, Sweep
from hsm.core.record.paths import SweepPaths

_SIGNALS = pytest.mark.parametrize("name", first_fast("SIGINT", "SIGTERM", "SIGHUP"))


def assert_was_interrupted(done: Finished, name: str, completed: int, count: int) -> None:
    """Once the summary and then the words on how to go on, and nothing of Python's."""
    assert done.code == 128 + getattr(signal, name)
    assert done.sweep.closed == f"interrupted by {name}"
    jobs = "1 job" if count == 1 else f"{count} jobs"
    assert done.out.count(f"{done.sweep.sweep_id}: {jobs}: ") == 1
    assert done.err.count(f"Interrupted by {name}: {completed} of {count} jobs completed") == 1
    command = f"cd {done.sweep_dir.parent} && {sys.executable} train.py -m "
    assert done.err.count(f"To resume: {command}") == 1
    assert "Traceback" not in done.screen


@pytest.mark.slow
@_SIGNALS
def test_a_signal_between_batches_ends_the_sweep(tmp_path: Path, name: str) -> None:
    sweep = Sweep(tmp_path)
    with sweep.start("thinking") as running:
        running.wait_for_files("thinking")
        running.process.send_signal(getattr(signal, name))
        done = running.finish()
    assert_was_interrupted(done, name, 1, 1)


@_SIGNALS
@pytest.mark.parametrize("kind", first_fast("asking", "awaiting"))
def test_a_signal_in_a_sweepers_own_loop_ends_jobs_and_sweep(
    tmp_path: Path, kind: str, name: str
) -> None:
    sweep = Sweep(tmp_path, STAYING)
    with sweep.start(kind, own_group=True) as running:
        running.wait_for_files("started-0", "started-1")
        running.touch("end-0")
        running.wait_for_files("started-2")
        running.process.send_signal(getattr(signal, name))
        running.assert_all_gone()
        done = running.finish()
    assert_was_interrupted(done, name, 1, 3)
    assert done.states == ["COMPLETED", "CANCELLED", "CANCELLED"]


def test_ctrl_c_at_the_moment_when_the_sweep_closes_ends_jobs_and_sweep(tmp_path: Path) -> None:
    with Sweep(tmp_path, STAYING).start("interrupted") as running:
        running.assert_all_gone()
        done = running.finish()
    assert_was_interrupted(done, "SIGINT", 0, 1)


@pytest.mark.slow
def test_a_second_signal_there_kills_at_once(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, DEAF)
    with sweep.start("asking", kill_grace=600, max_parallel_jobs=1) as running:
        running.wait_for_files("started-0")
        running.process.send_signal(signal.SIGINT)
        running.wait_for_files("heard")
        let_burst_pass()
        running.process.send_signal(signal.SIGINT)
        running.assert_all_gone()
        done = running.finish()
    assert_was_interrupted(done, "SIGINT", 0, 3)


@pytest.mark.slow
@_SIGNALS
def test_a_signal_reaches_batches_of_other_threads(tmp_path: Path, name: str) -> None:
    sweep = Sweep(tmp_path, STAYING)
    with sweep.start("threads") as running:
        wait_for(lambda: len(list(tmp_path.glob("started-?"))) == 2, "two jobs")
        running.process.send_signal(getattr(signal, name))
        running.assert_all_gone()
        done = running.finish()
    assert_was_interrupted(done, name, 0, 3)
    assert done.states == ["CANCELLED"] * 3


def test_a_signal_before_the_first_job_is_none_of_hsms(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    with sweep.start("early") as running:
        running.wait_for_files("thinking")
        running.process.send_signal(signal.SIGTERM)
        done = running.finish()
    assert (done.code, done.out, sweep.events()) == (-signal.SIGTERM, "", [])
    assert "Interrupted" not in done.err


def test_a_cancel_between_batches_ends_the_sweep_before_the_next_one(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    with sweep.start("thinking") as running:
        running.wait_for_files("thinking")
        requests = SweepPaths(running.sweep_dir).requests
        requests.mkdir()
        (requests / "all").touch()
        wait_for(lambda: not requests.exists(), "the request to be taken")
        journal = SweepPaths(running.sweep_dir).journal
        wait_for(lambda: '"control"' in journal.read_text(), "the record of it")
        running.touch("go")
        done = running.finish()
    assert done.code == 143
    assert (done.sweep.closed, done.states) == ("cancelled", ["COMPLETED"])
    assert "Cancelled: 1 of 1 jobs completed" in done.err


@pytest.mark.slow
def test_a_cancel_ends_the_jobs_of_a_sweepers_own_loop(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, STAYING)
    with sweep.start("asking") as running:
        running.wait_for_files("started-0", "started-1")
        sweep.cancel()
        done = running.finish()
    assert done.code == 143
    assert (done.sweep.closed, done.states) == ("cancelled", ["CANCELLED"] * 3)
    assert [value for _, value, _ in sweep.returned()] == ["HydraJobFailed"] * 3
    assert done.err.count("Cancelled: 0 of 3 jobs completed") == 1
