"""`SweepSource.ask_jobs`: jobs of somebody who chooses each when it can start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from helpers.reliability import Recorder, source
from hsm.core.engine.begun_late import BegunLate
from hsm.core.engine.interrupts import Interrupts
from hsm.core.engine.sweep_source import SweepSource
from hsm.core.errors import HsmError, SettingsError
from hsm.core.program.program import Program
from hsm.core.record.job import Job, JobState
from hsm.core.record.resume import Resumption
from hsm.core.record.sweep import read_sweep


class Asked(NamedTuple):
    num: int
    point: dict[str, Any]


class Chooser:
    """Chooses points 0, 1, 2 … of a line, each twice, and notes what it is told.

    Args:
        count: how many jobs there are in all.
        fails_at: the number of the job for which it raises an error.
    """

    def __init__(self, count: int, fails_at: int | None = None) -> None:
        self.count, self.fails_at = count, fails_at
        self.next = 0
        self.before: dict[int, Job] = {}
        self.enqueued: list[Mapping[str, Any]] = []
        self.told: list[tuple[int, JobState]] = []

    def open(self, resumption: Resumption | None) -> Chooser:
        if resumption is not None:
            self.before = dict(resumption.jobs)
            self.next = max(self.before) + 1
        return self

    def earlier(self) -> Sequence[Asked]:
        return [Asked(num, dict(job.params)) for num, job in self.before.items()]

    def ask(self) -> Asked | None:
        if self.next == self.fails_at:
            raise HsmError("out of ideas")
        if self.is_over:
            return None
        self.next += 1
        if self.enqueued:
            return Asked(self.next - 1, dict(self.enqueued.pop(0)))
        return Asked(self.next - 1, {"x": (self.next - 1) // 2})

    @property
    def is_over(self) -> bool:
        return self.next >= self.count

    def enqueue(self, points: Sequence[Mapping[str, Any]]) -> None:
        self.enqueued += points
        self.count += len(points)

    def ended(self, job: Job) -> str | None:
        self.told.append((job.num, job.state))
        return None


def fails_at_two(params: dict[str, Any]) -> int:
    if params["x"] == 2:
        raise ValueError("two")
    return int(params["x"])


def run(made: SweepSource, jobs: BegunLate) -> None:
    with Interrupts().caught() as interrupts:
        jobs.begin(interrupts)
        jobs.run(interrupts)


def ran(sweep_dir: Path, chooser: Chooser) -> None:
    """Run the jobs of a new sweep."""
    with source(max_parallel_jobs=2) as made:
        jobs = made.ask_jobs(chooser.open, "s", sweep_dir, Program(function=fails_at_two))
        assert not sweep_dir.exists(), "nothing happens before it begins"
        run(made, jobs)
        assert jobs.job_ids == [f"s_{num}" for num in range(len(jobs.job_ids))]


def test_each_job_runs_though_it_has_the_point_of_another_one(tmp_path: Path) -> None:
    chooser = Chooser(6)
    ran(tmp_path / "s", chooser)
    jobs = read_sweep(tmp_path / "s").jobs
    assert [job.params["x"] for job in jobs.values()] == [0, 0, 1, 1, 2, 2]
    assert [str(job.state) for job in jobs.values()] == ["COMPLETED"] * 4 + ["FAILED"] * 2
    assert sorted(chooser.told) == [(num, jobs[num].state) for num in range(6)]


@pytest.mark.parametrize(
    ("rerun", "attempts"), [("unfinished", [1, 1, 1, 1, 2, 2, 1, 1]), ("timeout", [1] * 8)]
)
def test_a_resume_goes_on_by_number(tmp_path: Path, rerun: str, attempts: list[int]) -> None:
    ran(tmp_path / "s", Chooser(6))
    again = Chooser(8)
    with source(max_parallel_jobs=2, rerun=rerun) as made:
        program = Program(function=fails_at_two)
        run(made, made.ask_jobs(again.open, "s", tmp_path / "s", program, resume=True))
    jobs = read_sweep(tmp_path / "s").jobs
    assert [job.params["x"] for job in jobs.values()] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [len(job.attempts) for job in jobs.values()] == attempts
    assert {num for num, _ in again.told} == set(range(8))


def test_an_asker_that_cannot_be_found_leaves_no_sweep_and_no_lock(tmp_path: Path) -> None:
    def open_nothing(resumption: Resumption | None) -> Chooser:
        raise SettingsError("sampler", "x", "--sampler", "another one")

    with source(max_parallel_jobs=2) as made:
        program = Program(function=fails_at_two)
        with pytest.raises(SettingsError, match="--sampler must be another one"):
            run(made, made.ask_jobs(open_nothing, "s", tmp_path / "s", program))
        run(made, made.ask_jobs(Chooser(1).open, "s", tmp_path / "s", program))
    assert len(read_sweep(tmp_path / "s").jobs) == 1


@pytest.mark.parametrize(("fails_at", "jobs"), [(0, 0), (3, 3)])
def test_an_asker_that_fails_ends_the_sweep_after_the_jobs_before(
    tmp_path: Path, fails_at: int, jobs: int
) -> None:
    with source(max_parallel_jobs=2) as made:
        program = Program(function=fails_at_two)
        with pytest.raises(HsmError, match="out of ideas"):
            run(made, made.ask_jobs(Chooser(6, fails_at).open, "s", tmp_path / "s", program))
    if jobs:
        sweep = read_sweep(tmp_path / "s")
        assert [str(job.state) for job in sweep.jobs.values()] == ["COMPLETED"] * jobs
    else:
        assert not (tmp_path / "s").exists()


def test_a_sweep_without_any_job_is_a_sweep(tmp_path: Path) -> None:
    ran(tmp_path / "s", Chooser(0))
    assert not read_sweep(tmp_path / "s").jobs
    assert read_sweep(tmp_path / "s").closed == "finished"


def test_no_more_run_at_once_than_were_asked_for(tmp_path: Path) -> None:
    recorder = Recorder()
    with source(recorder, max_parallel_jobs=2) as made:
        program = Program(function=fails_at_two)
        run(made, made.ask_jobs(Chooser(4).open, "s", tmp_path / "s", program, n_jobs=1))
    events = [event for event in recorder.events if event[0] in ("started", "ended")]
    assert events == [(event, num) for num in range(4) for event in ("started", "ended")]
