"""Sweepers that submit jobs one by one, and get a future of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.processes import wait_for
from helpers.sweepers import STAYING, Sweep, assert_is_one_sweep
from helpers.sweeps import HYDRA_14
from hsm.core.record.paths import SweepPaths


@pytest.mark.slow
def test_a_job_that_takes_long_holds_up_no_other(tmp_path: Path) -> None:
    """The first job ends after the sixth has: of batches of two it would wait for ever."""
    sweep = Sweep(
        tmp_path,
        """
        def job(cfg):
            note(f"started-{cfg.job}")
            if cfg.job == 0:
                wait_for("started-5")
            return cfg.job
        """,
    )
    done = sweep.run("ask_and_tell")
    assert_is_one_sweep(sweep, done, 7)
    assert done.values == list(range(7))
    returned = sweep.returned()
    assert sorted(returned) == [["COMPLETED", num, [f"job={num}"]] for num in range(7)]
    assert returned[0] != ["COMPLETED", 0, ["job=0"]]


@pytest.mark.slow
def test_a_future_tells_of_a_failure_and_raises_nothing(tmp_path: Path) -> None:
    (tmp_path / "fail-2").touch()
    sweep = Sweep(tmp_path)
    done = sweep.run("ask_and_tell")
    assert_is_one_sweep(sweep, done, 7, "6 completed, 1 failed")
    assert [value for status, value, _ in sweep.returned() if status == "FAILED"] == ["ValueError"]


@pytest.mark.slow
def test_futures_of_a_resumed_sweep_have_the_earlier_values(tmp_path: Path) -> None:
    (tmp_path / "fail-2").touch()
    sweep = Sweep(tmp_path)
    sweep.run("ask_and_tell")
    (tmp_path / "fail-2").unlink()
    done = sweep.run("ask_and_tell", resume="true")
    assert (done.code, done.states) == (0, ["COMPLETED"] * 7)
    assert [len(job.attempts) for _, job in sorted(done.jobs.items())] == [1, 1, 2, 1, 1, 1, 1]
    assert sorted(value[0] for _, value, _ in sweep.returned()) == [10 * num for num in range(7)]


@pytest.mark.slow
def test_an_event_loop_may_await_jobs(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    done = sweep.run("awaiting")
    assert_is_one_sweep(sweep, done, 3)
    assert [value for _, value, _ in sweep.returned()] == done.values


@pytest.mark.slow
def test_one_job_may_be_cancelled_while_the_others_go_on(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, STAYING)
    with sweep.start("asking") as running:
        running.wait_for_files("started-0", "started-1")
        sweep.cancel("1")
        running.touch("end-0")
        running.wait_for_files("started-2")
        running.touch("end-2")
        done = running.finish()
    assert_is_one_sweep(sweep, done, 3, "2 completed, 1 cancelled")
    assert [status for status, _, _ in sweep.returned()] == ["COMPLETED", "FAILED", "COMPLETED"]


_COLLECTED = pytest.param(
    "collected",
    marks=[
        pytest.mark.slow,
        pytest.mark.skipif(HYDRA_14, reason="there the sweep ends before its launcher goes"),
    ],
)


@pytest.mark.parametrize("kind", ["leaving", _COLLECTED])
def test_jobs_are_waited_for_when_their_sweeper_has_failed(tmp_path: Path, kind: str) -> None:
    """Also where a thread that the jobs need collects the launcher as garbage."""
    sweep = Sweep(tmp_path, STAYING)
    with sweep.start(kind) as running:
        running.wait_for_files("left")
        running.touch("end-0")
        done = running.finish()
    assert done.code == 1
    assert "the sweeper has failed" in done.err
    assert (done.states, done.values, done.sweep.closed) == (["COMPLETED"], [0], "finished")
    assert f"{done.sweep.sweep_id}: 1 job: 1 completed" in done.out
    assert kind == "leaving" or (tmp_path / "collected").read_text() == "True"


@pytest.mark.slow
def test_a_launcher_may_go_as_garbage_in_a_thread_that_its_jobs_need(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    with sweep.start("dropping") as running:
        running.wait_for_files("collected")
        journal = SweepPaths(running.sweep_dir).journal
        wait_for(lambda: '"event":"close"' in journal.read_text(), "the end of the record")
        running.touch("closed")
        done = running.finish()
    assert_is_one_sweep(sweep, done, 1)
    assert (tmp_path / "collected").read_text() == "True"
    assert done.values == [[0, "sweep/0"]]
