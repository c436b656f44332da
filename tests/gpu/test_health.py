"""A GPU on which jobs fail that do not fail elsewhere is left out, and no other."""

from __future__ import annotations

import random

import pytest

from hsm.core.gpu.device import Gpu
from hsm.core.gpu.health import SOON, Fate, GpuHealth, Run

GPUS = [Gpu(str(n), index=n) for n in range(4)]


class Watched:
    """A sweep whose jobs are numbered as they end, and what is left out of it."""

    def __init__(self) -> None:
        self.health = GpuHealth()
        self.running: list[Run] = []
        self.out: dict[int, str] = {}
        self.ever_out: set[int] = set()
        self.jobs = 0

    def runs(self, gpu: int, seconds: float) -> None:
        self.running.append(Run(1000 + gpu, (GPUS[gpu],), seconds))

    def ends(
        self,
        *gpus: int,
        fate: Fate = Fate.FAILED,
        seconds: float = 5.0,
        job: int | None = None,
        error: str = "",
    ) -> None:
        """A job ends on these GPUs."""
        run = Run(self.jobs if job is None else job, tuple(GPUS[n] for n in gpus), seconds)
        self.jobs += 1
        for gpu, why in self.health.ended(run, fate, self.running, error):
            assert gpu.index is not None
            assert bool(why) == (gpu.index not in self.out)
            if why:
                self.out[gpu.index] = why
                self.ever_out.add(gpu.index)
            else:
                del self.out[gpu.index]

    def completes(self, gpu: int, seconds: float = 5.0) -> None:
        self.ends(gpu, fate=Fate.COMPLETED, seconds=seconds)

    def is_killed(self, gpu: int, error: str = "ECC error", job: int | None = None) -> None:
        self.ends(gpu, fate=Fate.DRIVER_ERROR, error=error, job=job)


def test_two_jobs_in_a_row_that_fail_soon_where_others_do_not() -> None:
    sweep = Watched()
    sweep.completes(1)
    sweep.ends(0)
    assert not sweep.out
    sweep.ends(0)
    assert sweep.out == {
        0: "jobs 1-2 failed on it within 60 s of their start, while those on other GPUs do not"
    }
    sweep.ends(0)
    assert list(sweep.out) == [0]


def test_a_job_that_runs_for_a_minute_elsewhere_shows_that_it_can() -> None:
    sweep = Watched()
    sweep.runs(1, SOON - 1)
    for _ in range(9):
        sweep.ends(0)
    assert not sweep.out
    sweep.runs(2, SOON)
    sweep.ends(0)
    assert list(sweep.out) == [0]


def test_what_fails_on_all_gpus_is_the_programs_fault() -> None:
    sweep = Watched()
    for _ in range(20):
        for gpu in range(4):
            sweep.ends(gpu)
    assert not sweep.out


def test_nor_is_it_the_gpus_whose_jobs_merely_fail_first() -> None:
    """The data set vanishes: jobs fail from now on, on one GPU sooner than on the others."""
    sweep = Watched()
    for gpu in range(4):
        sweep.completes(gpu)
    for _ in range(20):
        sweep.ends(0, seconds=2)
        sweep.ends(1, seconds=3)
    assert not sweep.out


def test_a_single_gpu_is_never_left_out_for_failures() -> None:
    sweep = Watched()
    for _ in range(20):
        sweep.completes(0)
        for _ in range(5):
            sweep.ends(0)
    assert not sweep.out


def test_a_completed_job_clears_its_gpu() -> None:
    sweep = Watched()
    sweep.completes(1)
    for _ in range(5):
        sweep.ends(0)
        sweep.completes(0)
    sweep.ends(0, seconds=SOON)
    sweep.ends(0)
    assert not sweep.out


@pytest.mark.parametrize("fate", [Fate.OTHER, Fate.FAILED])
def test_only_failures_within_a_minute_count(fate: Fate) -> None:
    sweep = Watched()
    sweep.completes(1)
    for _ in range(5):
        sweep.ends(0, fate=fate, seconds=5 if fate is Fate.OTHER else SOON)
    assert not sweep.out


def test_one_job_that_is_retried_does_not_count_twice() -> None:
    sweep = Watched()
    sweep.completes(1)
    for _ in range(5):
        sweep.ends(0, job=7)
    assert not sweep.out
    sweep.ends(0)
    assert list(sweep.out) == [0]


def test_a_job_that_fails_on_several_gpus_is_bad_itself() -> None:
    sweep = Watched()
    for gpu in (1, 2, 3):
        sweep.completes(gpu)
    sweep.ends(0, job=7)
    sweep.ends(1, job=7)
    sweep.completes(1)
    sweep.ends(0, job=8)
    assert not sweep.out
    sweep.ends(0, job=9)
    assert list(sweep.out) == [0]


def test_the_more_jobs_fail_elsewhere_the_more_it_takes() -> None:
    sweep = Watched()
    sweep.ends(1)
    for _ in range(9):
        sweep.completes(1)  # one of ten fails
    for _ in range(3):
        sweep.ends(0)
    assert not sweep.out
    sweep.ends(0)
    assert list(sweep.out) == [0]


def test_a_gpu_is_taken_back_once_jobs_fail_elsewhere_too() -> None:
    sweep = Watched()
    sweep.completes(1)
    sweep.ends(0)
    sweep.ends(0)
    assert list(sweep.out) == [0]
    sweep.ends(1)
    assert not sweep.out
    for _ in range(10):
        sweep.ends(0)
    assert not sweep.out
    for _ in range(20):
        sweep.completes(1)
    assert list(sweep.out) == [0]


def test_a_gpu_is_taken_back_when_a_job_completes_that_it_still_had() -> None:
    sweep = Watched()
    sweep.completes(1)
    sweep.ends(0)
    sweep.ends(0)
    sweep.completes(0)
    assert (sweep.out, sweep.ever_out) == ({}, {0})


def test_jobs_that_fail_by_chance_leave_hardly_any_gpu_out() -> None:
    """Three of ten points fail at once; the others take long or short."""
    for seconds in (50, 5000):
        chance, out = random.Random(1), 0
        for _ in range(50):
            sweep = Watched()
            for _ in range(100):
                gpu = chance.randrange(4)
                if chance.random() < 0.3:
                    sweep.ends(gpu)
                else:
                    sweep.completes(gpu, seconds)
                out += len(sweep.out)
        assert out < 50 * 100 * 4 / 100


@pytest.mark.parametrize("rate", [0, 0.02, 0.1, 0.3])
def test_a_bad_gpu_is_found_whatever_happens_on_the_others(rate: float) -> None:
    """It fails each job in five seconds, while another one takes a minute or more."""
    chance, wasted = random.Random(2), []
    for _ in range(50):
        sweep = Watched()
        sweep.completes(1, 5000)
        failed = 0
        for _ in range(300):
            for _ in range(10):
                failed += 0 not in sweep.out
                if 0 not in sweep.out:
                    sweep.ends(0)
            gpu = chance.randrange(1, 4)
            sweep.ends(gpu) if chance.random() < rate else sweep.completes(gpu, 5000)
        assert list(sweep.out) == [0]
        wasted.append(failed)
    assert sum(wasted) / len(wasted) < 30


def test_gpus_of_one_job_are_left_out_together() -> None:
    sweep = Watched()
    sweep.ends(2, 3, fate=Fate.COMPLETED)
    sweep.ends(0, 1)
    sweep.ends(0, 1)
    assert list(sweep.out) == [0, 1]


# --- errors of drivers ------------------------------------------------------------------------


def test_two_jobs_that_a_drivers_error_killed() -> None:
    sweep = Watched()
    sweep.is_killed(0)
    assert not sweep.out
    sweep.is_killed(0, "CUDA error: uncorrectable ECC error encountered")
    assert sweep.out == {
        0: "driver errors killed jobs 0-1 on it (CUDA error: uncorrectable ECC error encountered)"
    }


def test_one_job_killed_twice_or_one_completed_in_between_is_no_proof() -> None:
    sweep = Watched()
    sweep.is_killed(0, job=3)
    sweep.is_killed(0, job=3)
    sweep.completes(0)
    sweep.is_killed(0)
    assert not sweep.out


def test_what_else_fails_meanwhile_changes_nothing_about_a_drivers_errors() -> None:
    sweep = Watched()
    sweep.is_killed(0)
    sweep.ends(0, fate=Fate.FAILED, seconds=5000)
    sweep.is_killed(1)
    sweep.is_killed(0)
    sweep.is_killed(1)
    assert list(sweep.out) == [0, 1]
