"""What a watch finds out about GPUs and the jobs on them. The driver and the clock are played."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from helpers.gpus import PlayedProbe, gpu, grant, reading
from helpers.processes import PATIENCE, wait_for
from hsm.core.gpu.device import Gpu
from hsm.core.gpu.gpu_view import GpuView
from hsm.core.gpu.grant import GpuGrant
from hsm.core.gpu.probe import GpuProcess, GpuReading, ProbeGone
from hsm.core.gpu.watch import GpuWatch
from hsm.core.local.fork_safety import start_method as fork_safety
from hsm.core.own_threads import OWN_THREADS

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

#: Processes that are there, and none of which is below this one.
COLLEAGUE, OTHER = 1, os.getppid()


class Watched:
    """Two GPUs, watched by hand: `now` is what its clock says."""

    def __init__(self, *, has_drivers_pids: bool = True) -> None:
        self.probe = PlayedProbe(reading(0), reading(1))
        self.notices: list[str] = []
        self.now = 100.0
        self.watch = GpuWatch(
            self.probe,
            self.notices.append,
            clock=lambda: self.now,
            has_drivers_pids=lambda: has_drivers_pids,
        )
        # These looks are all there are.
        self.watch._thread = threading.current_thread()

    def look(self, *readings: GpuReading, after: float = 1.0) -> GpuView:
        """Look `after` seconds, when the driver says this."""
        self.now += after
        self.probe.readings = readings
        view = self.watch.look()
        assert view is not None
        assert view is self.watch.latest
        return view

    def begin(self, job: GpuGrant) -> GpuGrant:
        self.watch.job_began(job)
        return job


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
def in_container() -> Watched:
    return Watched(has_drivers_pids=False)


@pytest.fixture
def pids() -> Iterator[list[int]]:
    """Two processes of this launcher."""
    with ExitStack() as stack:
        processes = [stack.enter_context(subprocess.Popen(["sleep", "60"])) for _ in range(2)]
        for process in processes:
            stack.callback(process.kill)
        yield [process.pid for process in processes]


def facts(job: GpuGrant) -> tuple[int | None, float | None, set[str]]:
    return job.peak_memory, job.mean_load, job.neighbours


def test_a_look_says_who_is_on_a_gpu(watched: Watched, pids: list[int]) -> None:
    assert watched.watch.latest is None
    job = watched.begin(grant(3, 0, root=pids[0]))
    processes = GpuProcess(COLLEAGUE, 7), GpuProcess(pids[0], 5), GpuProcess(os.getpid(), 2)
    view = watched.look(reading(0, used=14, processes=processes), reading(1))
    assert view.time == watched.now
    assert view.pids_are_ours
    assert view.foreign(gpu(0)) == (GpuProcess(COLLEAGUE, 7),)
    assert view.foreign(gpu(1)) == ()
    assert view.memory_of(job, gpu(0)) == 5
    assert view.memory_of(job, gpu(1)) == 0
    assert view.memory_of(job, gpu(2)) is None
    read = view.reading(gpu(0))
    assert read is not None
    assert read.used == 14
    assert watched.notices == []


def test_a_gpu_without_a_name_of_its_own_is_found_by_its_index(watched: Watched) -> None:
    view = watched.look(GpuReading(0, "", fault="GPU is lost"), reading(1))
    read = view.reading(Gpu("0", index=0))
    assert read is not None
    assert read.fault == "GPU is lost"


def test_a_jobs_peak_is_the_most_on_one_of_its_gpus(watched: Watched, pids: list[int]) -> None:
    job = watched.begin(grant(0, 0, 1, root=os.getpid()))
    first, second = pids
    for on_first, on_second in ((3, 4), (9, 2), (1, 1)):
        both = GpuProcess(first, on_first), GpuProcess(second, 1)
        watched.look(
            reading(0, used=100, processes=both),
            reading(1, used=100, processes=(GpuProcess(first, on_second),)),
        )
    assert job.peak_memory == 10
    watched.watch.job_ended(job)
    watched.look(reading(0, processes=(GpuProcess(first, 99),)), reading(1))
    assert job.peak_memory == 10


def test_load_is_the_mean_of_looks_after_the_first_second(watched: Watched) -> None:
    job = watched.begin(grant(0, 0, 1))
    watched.look(reading(0, load=99), reading(1, load=99), after=0.9)
    assert facts(job) == (None, None, set())
    watched.look(reading(0, load=50), reading(1, load=100), after=0.1)
    watched.look(reading(0, load=25), reading(1, load=None))
    watched.look(reading(0, load=None), reading(1, load=None))
    assert facts(job) == (None, 50.0, set())


def test_of_a_job_that_no_look_has_seen_nothing_is_known(watched: Watched) -> None:
    watched.look(reading(0, used=5, load=50), reading(1))
    job = watched.begin(grant(0, 0))
    watched.watch.job_ended(job)
    watched.look(reading(0, used=9, load=50), reading(1))
    assert facts(job) == (None, None, set())


def test_a_look_that_began_before_a_job_is_not_about_it(watched: Watched) -> None:
    class Slow(PlayedProbe):
        def look(self) -> tuple[GpuReading, ...]:
            watched.now += 5
            watched.begin(job)
            return super().look()

    job = grant(0, 0, root=os.getpid())
    watched.watch._probe = Slow(reading(0, processes=(GpuProcess(os.getpid(), 5),)))
    watched.watch.look()
    assert facts(job) == (None, None, set())


def test_jobs_on_one_gpu_have_their_own_memory_and_no_load(
    watched: Watched, pids: list[int]
) -> None:
    jobs = [watched.begin(grant(num, 0, root=pid)) for num, pid in enumerate(pids)]
    alone = watched.begin(grant(7, 1))
    processes = GpuProcess(pids[0], 5), GpuProcess(pids[1], 6)
    watched.look(reading(0, used=11, load=80, processes=processes), reading(1, load=40))
    watched.watch.job_ended(jobs[0])
    watched.look(reading(0, used=6, load=80, processes=processes[1:]), reading(1, load=40))
    assert [facts(job) for job in jobs] == [(5, None, {"job 1"}), (6, None, {"job 0"})]
    assert facts(alone) == (None, 40.0, set())


def test_a_colleague_is_a_neighbour(watched: Watched) -> None:
    job = watched.begin(grant(0, 0))
    watched.look(reading(0, load=50), reading(1), after=2)
    assert facts(job) == (None, 50.0, set())
    foreign = GpuProcess(OTHER, 7), GpuProcess(COLLEAGUE, None)
    watched.look(reading(0, load=50, processes=foreign), reading(1))
    watched.look(reading(0, load=50), reading(1))
    assert job.mean_load is None  # It was not alone all the time.
    assert {name.partition(" (")[0] for name in job.neighbours} == {
        f"pid {OTHER}",
        f"pid {COLLEAGUE}",
    }
    assert all(name.endswith(")") for name in job.neighbours)


def test_in_a_container_memory_is_what_was_not_used_before(in_container: Watched) -> None:
    processes = (GpuProcess(COLLEAGUE, 7), GpuProcess(os.getpid(), 5))
    view = in_container.look(reading(0, used=30, processes=processes), reading(1))
    assert not view.pids_are_ours
    assert view.foreign(gpu(0)) == ()
    job = in_container.begin(grant(0, 0, root=os.getpid()))
    for used in (20, 75, 40):
        in_container.look(reading(0, used=used, load=60), reading(1))
    assert facts(job) == (45, 60.0, set())
    assert in_container.notices == [
        "GPUs: in a container, the driver's process ids say nothing; "
        "whether one is free is told by its memory alone"
    ]


def test_in_a_container_it_is_not_guessed(in_container: Watched) -> None:
    free = reading(0, used=30), reading(1, used=30)
    used = reading(0, used=75), reading(1, used=75)
    first = in_container.begin(grant(0, 0))  # before any look
    in_container.look(*free)
    second = in_container.begin(grant(1, 0))  # beside another
    in_container.look(*used)
    for job in (first, second):
        in_container.watch.job_ended(job)
    third = in_container.begin(grant(2, 0))  # another's was in use at the last look
    in_container.look(*used)
    in_container.watch.job_ended(third)
    in_container.look(*free)
    in_container.now += 60.0
    fourth = in_container.begin(grant(3, 0))  # that look was long ago
    in_container.look(*used)
    assert [job.peak_memory for job in (first, second, third, fourth)] == [None] * 4
    in_container.watch.job_ended(fourth)
    in_container.look(*free)
    fifth = in_container.begin(grant(4, 0))
    in_container.look(*used)
    assert fifth.peak_memory == 45


def test_the_same_holds_where_the_driver_tells_no_memory_of_processes(
    watched: Watched, pids: list[int]
) -> None:
    watched.look(reading(0, used=30), reading(1))
    job = watched.begin(grant(0, 0, root=pids[0]))
    view = watched.look(reading(0, used=75, processes=(GpuProcess(pids[0], None),)), reading(1))
    assert view.memory_of(job, gpu(0)) is None
    assert job.peak_memory == 45
    assert watched.notices == []


def test_a_driver_that_tells_of_no_processes_is_taken_at_its_word_about_memory(
    watched: Watched,
) -> None:
    for _ in range(2):
        view = watched.look(reading(0, processes_known=False), reading(1))
        assert not view.pids_are_ours
    assert watched.notices == [
        "GPUs: the driver does not tell which processes are on them; "
        "whether one is free is told by its memory alone"
    ]


def test_pids_that_are_none_here_are_those_of_elsewhere(watched: Watched) -> None:
    read = reading(0, processes=(GpuProcess(1 << 30, 7),)), reading(1)
    assert watched.look(*read).pids_are_ours  # it may just have ended
    for _ in range(2):
        assert not watched.look(*read).pids_are_ours
    assert watched.notices == [
        "GPUs: there are no processes with the ids that the driver names; "
        "whether one is free is told by its memory alone"
    ]
    here = reading(0, processes=(GpuProcess(COLLEAGUE),)), reading(1)
    assert watched.look(*here).pids_are_ours


def test_what_an_ended_process_has_left_behind_is_foreign(watched: Watched) -> None:
    ended, colleague = GpuProcess(1 << 30, 7), GpuProcess(COLLEAGUE, 5)
    read = reading(0, processes=(ended,)), reading(1, processes=(colleague,))
    assert watched.look(*read).foreign(gpu(0)) == ()
    assert watched.look(*read).foreign(gpu(0)) == (ended,)
    assert watched.notices == []


def test_a_probe_that_is_gone_is_said_to_be_once(watched: Watched) -> None:
    watched.look(reading(0), reading(1))
    calls: list[str] = []
    watched.watch.changed = lambda: calls.append("changed")
    watched.probe.why_gone = "the GPU driver has given no answer for 10 s"
    for _ in range(2):
        assert watched.watch.look() is None
    assert watched.watch.latest is None
    assert watched.watch.gone == watched.probe.why_gone
    assert watched.probe.closed.is_set()
    assert (watched.probe.looks, calls) == (2, ["changed"])
    assert watched.notices == [
        "the GPU driver has given no answer for 10 s; "
        "hsm counts GPUs all the same, but cannot see what runs on them"
    ]
    jobs = [watched.begin(grant(num, 0)) for num in range(2)]
    watched.watch.job_ended(jobs[0])
    assert facts(jobs[0]) == (None, None, {"job 1"})


def own_threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name == f"{OWN_THREADS}gpus"]


@pytest.fixture
def looked() -> Iterator[tuple[GpuWatch, PlayedProbe, threading.Semaphore]]:
    """A watch with a thread, what it asks, and a look's end for each time it changes."""
    probe, looks = PlayedProbe(reading(0)), threading.Semaphore(0)
    watch = GpuWatch(probe, lambda text: None, changed=looks.release)
    yield watch, probe, looks
    watch.close()
    assert own_threads() == []
    assert watch.latest is None
    assert probe.closed.is_set()


def test_a_thread_looks_when_it_is_asked_and_while_jobs_have_gpus(
    looked: tuple[GpuWatch, PlayedProbe, threading.Semaphore],
) -> None:
    watch, probe, looks = looked
    assert own_threads() == []
    for count in range(1, 4):
        watch.ask()
        assert looks.acquire(timeout=PATIENCE)
        assert probe.looks == count
    watch.begin()
    assert len(own_threads()) == 1
    job = grant(0, 0)
    watch.job_began(job)
    for _ in range(2):
        assert looks.acquire(timeout=PATIENCE)
    watch.job_ended(job)


def test_its_thread_does_not_speak_against_a_fork(
    looked: tuple[GpuWatch, PlayedProbe, threading.Semaphore],
) -> None:
    watch, _, looks = looked
    found = fork_safety.look()
    watch.ask()
    assert looks.acquire(timeout=PATIENCE)
    assert len(own_threads()) == 1
    assert fork_safety.look() == found


def test_a_fault_in_a_look_does_not_end_the_thread(
    looked: tuple[GpuWatch, PlayedProbe, threading.Semaphore], caplog: pytest.LogCaptureFixture
) -> None:
    watch, probe, looks = looked

    class Faulty(PlayedProbe):
        def look(self) -> tuple[GpuReading, ...]:
            watch._probe = probe
            raise ValueError("a fault")

    watch._probe = Faulty()
    with caplog.at_level(logging.ERROR):
        watch.ask()
        wait_for(lambda: "a look at the GPUs failed" in caplog.text, "the fault")
        watch.ask()
        assert looks.acquire(timeout=PATIENCE)


def test_an_ask_during_a_look_has_another_one_follow() -> None:
    began, goes_on = threading.Semaphore(0), threading.Semaphore(0)

    class Slow(PlayedProbe):
        def look(self) -> tuple[GpuReading, ...]:
            began.release()
            assert goes_on.acquire(timeout=PATIENCE)
            return super().look()

    probe = Slow(reading(0))
    watch = GpuWatch(probe, lambda text: None)
    watch.ask()
    assert began.acquire(timeout=PATIENCE)
    watch.ask()
    goes_on.release()
    assert began.acquire(timeout=PATIENCE)
    goes_on.release()
    wait_for(lambda: probe.looks == 2, "the second look")
    watch.close()


def test_closing_says_nothing_about_a_look_that_it_cuts_short() -> None:
    notices: list[str] = []
    began = threading.Event()

    class Hanging(PlayedProbe):
        def look(self) -> tuple[GpuReading, ...]:
            began.set()
            assert self.closed.wait(PATIENCE)
            raise ProbeGone("closed")

    watch = GpuWatch(Hanging(), notices.append)
    watch.ask()
    assert began.wait(PATIENCE)
    watch.close()
    watch.close()
    watch.ask()
    assert own_threads() == []
    assert notices == []
