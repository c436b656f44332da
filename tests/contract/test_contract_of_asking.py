"""Whatever the place, jobs are asked for as places fall free, with all earlier ends told."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from contract_support import Place
from helpers.processes import wait_for
from hsm import read_sweep
from hsm.core.engine.asking import AskedJob, Asking
from hsm.core.engine.interrupts import Interruption, Interrupts
from hsm.core.engine.submission import make_specs
from hsm.core.engine.sweep_source import SweepSource
from hsm.core.errors import HsmError
from hsm.core.program.program import find_program
from hsm.core.record.job import Job, JobState
from hsm.core.record.paths import SweepPaths

pytestmark = pytest.mark.thorough

#: Stays until there is a file of its number.
UNTIL_TOLD = "until [ -e go.$HSM_JOB_NUM ]; do sleep 0.02; done"


class Asked(NamedTuple):
    num: int
    point: Mapping[str, Any]


class Counting:
    """Asks for the jobs x=0, x=1 and so on; notes what it was told, and when."""

    def __init__(self, count: int) -> None:
        self.count, self.next = count, 0
        self.events: list[str] = []
        self.asks: Callable[[int], None] = lambda num: None
        self.stops_after: int | None = None

    def earlier(self) -> Sequence[AskedJob]:
        return []

    def ask(self) -> AskedJob | None:
        if self.is_over:
            return None
        self.asks(self.next)
        job = Asked(self.next, {"x": self.next})
        self.events.append(f"ask {self.next}")
        self.next += 1
        return job

    @property
    def is_over(self) -> bool:
        return self.next >= self.count

    def ended(self, job: Job) -> str | None:
        self.events.append(f"told {job.num} {job.state}")
        return "enough" if job.num == self.stops_after else None


def asking(source: SweepSource, asker: Any, script: str = "true", **options: Any) -> Asking:
    program, paths = find_program(None, ["sh", "-c", script], None), SweepPaths("s")

    def submit(jobs: Sequence[AskedJob]) -> Sequence[str]:
        ids: list[str] = []
        for job in jobs:
            specs = make_specs([dict(job.point)], [{}], program, paths, first=job.num)
            ids += source.submit(specs, "s", "s", program=program.record())
        return ids or source.submit([], "s", "s", program=program.record())

    return Asking(source, asker, submit, **options)


def run(feed: Asking, begun: Callable[[], object] = lambda: None) -> None:
    with Interrupts().caught() as interrupts:
        feed.begin(interrupts)
        begun()
        feed.run(interrupts)


def let_go(*nums: int) -> None:
    for num in nums:
        Path(f"go.{num}").touch()


def test_each_end_is_told_before_the_next_job_is_asked_for(place: Place) -> None:
    asker = Counting(6)
    with place.source(max_parallel_jobs=1) as source:
        run(asking(source, asker))
    expected = [text for num in range(6) for text in (f"ask {num}", f"told {num} COMPLETED")]
    assert asker.events == expected
    assert [job.params["x"] for job in read_sweep("s").jobs.values()] == list(range(6))


def test_no_place_waits_for_a_slow_job(place: Place) -> None:
    asker = Counting(7)

    def asks(num: int) -> None:
        if num > 0:
            let_go(num)

    asker.asks = asks
    with place.source(max_parallel_jobs=2) as source:
        feed = asking(source, asker, UNTIL_TOLD)
        thread = threading.Thread(target=lambda: run(feed))
        thread.start()
        # Job 0 is not let go, and yet all others are asked for.
        wait_for(lambda: asker.next == 7, "the last job")
        assert not any(event.startswith("told 0") for event in asker.events)
        let_go(0)
        thread.join()
    assert {str(job.state) for job in read_sweep("s").jobs.values()} == {"COMPLETED"}


def test_at_most_one_asked_job_waits(place: Place) -> None:
    asker, most = Counting(12), 0

    def asks(num: int) -> None:
        nonlocal most
        most = max(most, sum(job.state is JobState.PENDING for job in source.jobs()))

    asker.asks = asks
    with place.source(max_parallel_jobs=3, resources={"gate": 1}, needs={"gate": 1}) as source:
        run(asking(source, asker))
    assert most == 0  # each is asked for once the one before it has started


class Resumed(Counting):
    """Has two jobs of an earlier run, which run again."""

    def earlier(self) -> Sequence[AskedJob]:
        self.next = 2
        return [Asked(num, {"x": num}) for num in range(2)]


def test_jobs_that_run_again_come_before_the_first_new_one_is_asked_for(place: Place) -> None:
    asker = Resumed(4)
    with place.source(max_parallel_jobs=1) as source:
        run(asking(source, asker))
    told = [f"told {num} COMPLETED" for num in range(4)]
    assert asker.events == [*told[:2], "ask 2", told[2], "ask 3", told[3]]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_no_more_run_than_n_jobs(place: Place, n_jobs: int) -> None:
    asker, most = Counting(6), 0

    def asks(num: int) -> None:
        nonlocal most
        most = max(most, sum(not job.state.is_final for job in source.jobs()))

    asker.asks = asks
    with place.source(max_parallel_jobs=3) as source:
        run(asking(source, asker, n_jobs=n_jobs))
    assert most == n_jobs - 1


def test_more_places_are_used_at_once(place: Place) -> None:
    asker = Counting(3)
    with place.source(max_parallel_jobs=1) as source:
        thread = threading.Thread(target=lambda: run(asking(source, asker, UNTIL_TOLD)))
        thread.start()
        wait_for(lambda: len(source.running()) == 1, "a running job")
        assert asker.next == 1
        source.change(max_parallel_jobs=3)
        wait_for(lambda: len(source.running()) == 3, "three running jobs")
        let_go(0, 1, 2)
        thread.join()


def test_a_job_that_waits_for_a_retry_leaves_its_place(place: Place) -> None:
    asker = Counting(3)
    script = "if [ $HSM_JOB_NUM = 0 ] && [ ! -e go.0 ]; then exit 1; fi"
    with place.source(max_parallel_jobs=1, max_retries=1, retry_delay=3600) as source:
        thread = threading.Thread(target=lambda: run(asking(source, asker, script)))
        thread.start()
        wait_for(lambda: "told 2 COMPLETED" in asker.events, "the last job")
        assert "told 0" not in " ".join(asker.events)
        source.stop("enough")
        thread.join()


def test_the_asker_may_stop_the_sweep(place: Place) -> None:
    asker = Counting(100)
    asker.stops_after = 2
    with place.source(max_parallel_jobs=1) as source:
        run(asking(source, asker))
    assert asker.events[-1] == "told 2 COMPLETED"
    assert read_sweep("s").closed == "enough"


def test_jobs_that_end_with_the_sweep_are_not_told(place: Place) -> None:
    asker = Counting(100)
    with place.source(max_parallel_jobs=2) as source:

        def begun() -> None:
            wait_for(lambda: len(source.running()) == 1, "a running job")
            source.interrupt(Interruption(signum=signal.SIGTERM))

        run(asking(source, asker, UNTIL_TOLD), begun)
        source.interruption = None
    assert asker.events == ["ask 0"]
    assert str(read_sweep("s").jobs[0].state) == "CANCELLED"


def test_one_cancelled_job_is_told_and_the_others_go_on(place: Place) -> None:
    asker = Counting(2)
    with place.source(max_parallel_jobs=1) as source:
        script = f"[ $HSM_JOB_NUM = 1 ] || {UNTIL_TOLD}"

        def begun() -> None:
            wait_for(lambda: len(source.running()) == 1, "a running job")
            source.cancel_job("s_0")

        run(asking(source, asker, script), begun)
    assert asker.events == ["ask 0", "told 0 CANCELLED", "ask 1", "told 1 COMPLETED"]


class Broken(Counting):
    """Raises at the third question."""

    def ask(self) -> AskedJob | None:
        if self.next == 2:
            raise HsmError("the study is gone")
        return super().ask()


def test_what_the_asker_raises_comes_after_the_jobs_before_it(place: Place) -> None:
    asker = Broken(5)
    gone = pytest.raises(HsmError, match="the study is gone")
    with place.source(max_parallel_jobs=1) as source, gone:
        run(asking(source, asker))
    sweep = read_sweep("s")
    assert {num: str(job.state) for num, job in sweep.jobs.items()} == dict.fromkeys(
        range(2), "COMPLETED"
    )
    assert sweep.closed == "no further jobs: the study is gone"


class Silent(Counting):
    """Has a second job only once it knows of the first."""

    def ask(self) -> AskedJob | None:
        if self.next == 1 and not any(event.startswith("told") for event in self.events):
            return None
        return super().ask()


def test_none_now_is_asked_again_after_an_end(place: Place) -> None:
    asker = Silent(2)
    with place.source(max_parallel_jobs=4) as source:
        run(asking(source, asker))
    assert asker.events == ["ask 0", "told 0 COMPLETED", "ask 1", "told 1 COMPLETED"]


def test_nothing_to_ask_is_a_sweep_without_jobs(place: Place) -> None:
    with place.source() as source:
        run(asking(source, Counting(0)))
    sweep = read_sweep("s")
    assert (len(sweep.jobs), sweep.closed) == (0, "finished")


def test_an_asker_that_has_more_while_its_last_job_runs_is_asked_again(place: Place) -> None:
    asker = Counting(1)
    with place.source(max_parallel_jobs=2) as source:
        feed = asking(source, asker, UNTIL_TOLD)

        def begun() -> None:
            assert asker.is_over
            asker.count = 3
            assert feed.more()
            let_go(0, 1, 2)

        run(feed, begun)
        assert not feed.more()  # It is over for good.
    assert [job.params["x"] for job in read_sweep("s").jobs.values()] == [0, 1, 2]


def test_what_was_dropped_asks_for_no_more(place: Place) -> None:
    asker = Counting(5)
    with place.source(max_parallel_jobs=1) as source:
        feed = asking(source, asker, UNTIL_TOLD, planned=5)

        def begun() -> None:
            wait_for(lambda: len(source.running()) == 1, "job 0")
            assert source.cancel_pending() == 4
            assert not feed.more()
            let_go(0)

        run(feed, begun)
    assert len(read_sweep("s").jobs) == 1
