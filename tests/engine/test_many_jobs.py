"""What a sweep of very many jobs must not do, told by counts: nothing here is timed."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pytest

from helpers.processes import wait_for
from hsm import LocalComputeSource, read_sweep
from hsm.core.engine.compute_source import SweepObserver
from hsm.core.engine.ledger import JobHandle
from hsm.core.record.job import Job, JobState
from hsm.core.space.definition import parse_overrides

#: Bytes that a waiting command may take, objects of the caller's own included.
MOST_BYTES = 2000
MANY = 1000


class Heard(SweepObserver):
    """Counts the events of ends."""

    def __init__(self) -> None:
        self.single: list[int] = []
        self.together: list[int] = []

    def job_ended(self, job: Job) -> None:
        self.single.append(job.num)

    def jobs_ended(self, jobs: Sequence[Job]) -> None:
        self.together.append(len(jobs))


def test_jobs_that_never_start_end_together_and_leave_one_line(tmp_path: Path) -> None:
    heard = Heard()
    points = [{"n": n} for n in range(MANY)]
    with LocalComputeSource(max_parallel_jobs=2, observers=[heard]) as source:
        source.submit_jobs(points, "s", tmp_path, command=["sleep", "60"])
        wait_for(lambda: len(source.running()) == 2, "two running jobs")
        source.stop("enough", grace=0)
        states = source.wait()
    assert set(states.values()) == {JobState.CANCELLED}
    assert (sorted(heard.single), sum(heard.together)) == ([0, 1], MANY - 2)
    assert len(heard.together) <= 2  # once by each slot's thread
    journal = (tmp_path / ".hsm" / "journal.jsonl").read_text()
    assert journal.count('"event":"end"') == 2
    sweep = read_sweep(tmp_path)
    assert {job.ending() for job in sweep.jobs.values()} == {"enough", "never started: enough"}


def test_an_observer_that_knows_no_groups_hears_of_each_job() -> None:
    heard: list[int] = []

    class Observer(SweepObserver):
        def job_ended(self, job: Job) -> None:
            heard.append(job.num)

    Observer().jobs_ended([Job(num, f"s_{num}") for num in range(3)])
    assert heard == [0, 1, 2]


def test_a_sweep_has_no_more_threads_than_slots_however_many_jobs(tmp_path: Path) -> None:
    before = threading.active_count()
    with LocalComputeSource(max_parallel_jobs=2) as source:
        source.submit_jobs([{"n": n} for n in range(30)], "s", tmp_path, command=["true"])
        most = threading.active_count()
        source.wait()
        later = source.submit_jobs([{"n": 99}], "s", tmp_path, command=["true"])
        assert source.wait(later) == {"s_30": JobState.COMPLETED}
    assert most <= before + 4  # two slots, the listener for requests, and one to spare


def test_a_waiting_command_takes_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LocalComputeSource(max_parallel_jobs=1) as source:
        run = source._scheduler.run
        held: list[JobHandle] = []
        monkeypatch.setattr(source._scheduler, "run", held.extend)
        source.submit_jobs([{"n": -1}], "s", tmp_path, command=["true"])  # imports what it needs
        gc.collect()
        tracemalloc.start()
        try:
            points = list(parse_overrides([f"n=range({MANY})"]))
            source.submit_jobs(points, "s", tmp_path, command=["true"])
            taken = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        source.stop("enough")
        run(held)
    assert taken / MANY < MOST_BYTES
