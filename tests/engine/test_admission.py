"""Which job starts when, without any process: `hsm.core.engine.admission` on a clock of its own."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from hsm.core.engine.admission import PASSING, Admission
from hsm.core.engine.backend import Work
from hsm.core.engine.ledger import JobHandle
from hsm.core.engine.resources import Resources
from hsm.core.record.job import Ending, Job, JobState


def handle(num: int, needs: Mapping[str, int] | None = None, priority: int = 0) -> JobHandle:
    nothing: Any = None  # the admission does not look at it
    job = Job(num, f"s_{num}", f"x={num}", {"x": num})
    made = JobHandle(job, Work(command=("true",)), None, nothing, "/")
    made.needs, made.priority = needs or {}, priority
    return made


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def admission(limit: int = 2, clock: Clock | None = None, **given: Any) -> Admission:
    return Admission(limit, **{"resources": {}, "clock": clock or Clock(), **given})


def explained(made: Admission, each: JobHandle) -> str:
    return made.explain(each)[0]


def admitted(made: Admission) -> list[int]:
    """The numbers of the jobs that can start now."""
    found = []
    while (each := made.admit()) is not None:
        found.append(each.job.num)
    return found


# --- the order --------------------------------------------------------------------------------


def test_priority_comes_first_then_retries_then_age() -> None:
    made = admission(limit=9)
    retry, urgent_retry = handle(2), handle(3, priority=5)
    for each in (retry, urgent_retry):
        each.job.start(1.0, 7)
        each.job.retry(2.0, Ending(JobState.FAILED))
    made.add([handle(0), handle(1, priority=5), retry, urgent_retry, handle(4, priority=-1)])
    assert admitted(made) == [3, 1, 2, 0, 4]


def test_a_priority_that_changes_moves_a_job_and_keeps_its_age() -> None:
    made = admission(limit=1)
    jobs = [handle(num) for num in range(5)]
    made.add(jobs)
    made.prioritise(jobs[3], 2)
    made.prioritise(jobs[1], 2)
    made.prioritise(jobs[3], 0)
    assert [each.job.num for each in made.take_all()] == [1, 0, 2, 3, 4]


def test_a_job_that_is_removed_does_not_start_and_may_come_back() -> None:
    made = admission()
    jobs = [handle(num) for num in range(3)]
    made.add(jobs)
    assert made.remove(jobs[0])
    assert not made.remove(jobs[0])
    made.add([jobs[0]])
    assert len(made) == 3
    assert admitted(made) == [0, 1]
    assert len(made) == 1


# --- what a job needs -------------------------------------------------------------------------


def test_a_job_takes_all_that_it_needs_at_once_or_nothing() -> None:
    made = admission(limit=9, resources={"a": 2, "b": 1})
    jobs = [handle(0, {"b": 1}), handle(1, {"a": 2, "b": 1}), handle(2, {"a": 2})]
    made.add(jobs)
    assert admitted(made) == [0, 2]  # Job 1 holds no a while it waits for b.
    made.release(jobs[0])
    assert admitted(made) == []
    assert explained(made, jobs[1]) == "2 of a: 0 of 2 free, the others have jobs 2"
    made.release(jobs[2])
    made.release(jobs[2])
    assert admitted(made) == [1]


def test_who_has_a_resource_is_told_of_jobs_with_one_number_too() -> None:
    """A source may run several sweeps, each with a job 0."""
    made = admission(limit=9, resources={"a": 2})
    jobs = [handle(0, {"a": 1}), handle(0, {"a": 1}), handle(1, {"a": 2})]
    made.add(jobs)
    assert admitted(made) == [0, 0]
    made.release(jobs[0])
    assert explained(made, jobs[2]) == "2 of a: 1 of 2 free, the others have jobs 0"


def test_no_more_jobs_than_the_limit_and_it_may_change() -> None:
    made = admission(limit=1)
    jobs = [handle(num) for num in range(6)]
    made.add(jobs)
    assert admitted(made) == [0]
    assert explained(made, jobs[1]) == "a place: 1 place is taken (max_parallel_jobs)"
    assert made.explain(jobs[3]) == ("a place: 1 place is taken (max_parallel_jobs)", 2)
    made.limit = 3
    assert admitted(made) == [1, 2]
    made.limit = 1
    for each in jobs[:2]:
        made.release(each)
        assert admitted(made) == []
    made.release(jobs[2])
    assert admitted(made) == [3]
    assert explained(made, jobs[3]) == ""


def test_nothing_starts_during_a_pause() -> None:
    made = admission()
    jobs = [handle(0)]
    made.is_paused = True
    made.add(jobs)
    assert admitted(made) == []
    assert made.looks_again() is None
    assert "paused" in explained(made, jobs[0])
    made.is_paused = False
    assert admitted(made) == [0]


def test_looks_that_take_long_are_as_much_rarer() -> None:
    clock = Clock()

    def lack() -> str:
        clock.now += 0.125
        return "memory"

    made = admission(clock=clock, lack=lack)
    made.add([handle(0)])
    assert made.looks_again() == 0.25
    assert admitted(made) == []
    clock.now += 0.5
    assert made.looks_again() == 0.5
    clock.now += 60
    assert made.looks_again() == 0.25


def test_a_pause_is_what_a_job_waits_for_whatever_else_it_lacks() -> None:
    made = admission(resources={"licence": 1})
    jobs = [handle(0, {"licence": 1}), handle(1, {"licence": 1})]
    made.add(jobs)
    assert admitted(made) == [0]
    assert "licence" in explained(made, jobs[1])
    made.is_paused = True
    assert "paused" in explained(made, jobs[1])


def test_starts_are_as_far_apart_as_the_delay() -> None:
    clock = Clock()
    made = admission(limit=9, clock=clock, start_delay=10.0)
    jobs = [handle(num) for num in range(3)]
    made.add(jobs)
    assert admitted(made) == [0]
    clock.now += 20  # Its start takes a while.
    assert explained(made, jobs[1]) == "job 0 to start (start_delay)"
    assert made.looks_again() is None
    assert made.started(jobs[0])
    clock.now += 4
    assert admitted(made) == []
    assert explained(made, jobs[1]) == "the next start, in 6 s (start_delay)"
    assert made.looks_again() == 6.0
    clock.now += 6
    assert admitted(made) == [1]
    made.release(jobs[1])  # It was cancelled before it had a process.
    assert admitted(made) == [2]


def test_what_the_place_lacks_is_looked_at_again_and_told_once() -> None:
    lack, told = ["memory: 1 GiB free"], list[str]()
    made = admission(lack=lambda: lack[0], notice=told.append)
    made.add([handle(0), handle(1), handle(2)])
    assert admitted(made) == admitted(made) == []
    assert made.looks_again() == 0.25
    lack[0] = ""
    assert admitted(made) == [0, 1]
    assert made.looks_again() is None
    assert told == ["memory: 1 GiB free"]


def test_a_job_without_room_holds_nothing_and_is_the_first_to_try_again() -> None:
    clock, told = Clock(), list[str]()
    made = admission(limit=9, clock=clock, resources={"a": 1}, notice=told.append)
    jobs = [handle(0, {"a": 1}), handle(1, {"a": 1}), handle(2)]
    made.add(jobs)
    assert admitted(made) == [0, 2]
    assert made.put_back(jobs[0], "cannot fork", is_busy=True) is None
    assert admitted(made) == []
    assert explained(made, jobs[0]) == "room: cannot fork"
    clock.now += made.looks_again() or 0.0
    assert admitted(made) == [0]
    made.started(jobs[0])
    assert explained(made, jobs[1]).startswith("1 of a: 0 of 1 free")
    assert told == ["cannot fork"]


def test_a_large_job_is_passed_for_a_while_and_then_what_it_lacks_is_kept_for_it() -> None:
    clock = Clock()
    made = admission(limit=9, clock=clock, resources={"a": 2, "b": 1})
    small = [handle(num, {"a": 1}) for num in range(6)]
    large, other = handle(9, {"a": 2}), handle(10, {"b": 1})
    made.add([small[0], large, *small[1:]])
    assert admitted(made) == [0, 1]
    clock.now += PASSING - 1
    made.release(small[0])
    assert admitted(made) == [2]
    clock.now += 1
    made.release(small[1])
    made.add([other])
    assert admitted(made) == [10]  # It takes nothing that the large one lacks.
    assert explained(made, small[3]) == "a, kept for job 9, which has waited 10:00"
    made.release(small[2])
    assert admitted(made) == [9]


# --- any schedule -----------------------------------------------------------------------------


class Schedule:
    """A random sequence of events, and a slow and simple account of what must follow from each."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.clock = Clock()
        self.totals = {
            name: self.random.randint(1, 4) for name in "abc"[: self.random.randrange(4)]
        }
        self.delay = self.random.choice([0.0, 0.0, 1.0])
        self.limit = self.random.randint(1, 5)
        self.made = admission(self.limit, self.clock, resources=self.totals, start_delay=self.delay)
        self.waiting: list[JobHandle] = []
        self.running: list[JobHandle] = []
        self.passed: dict[JobHandle, float] = {}
        self.last_start = float("-inf")
        self.order: dict[JobHandle, int] = {}
        self.next_num = 0

    # what must be so

    def free(self) -> Counter[str]:
        free = Counter(self.totals)
        for each in self.running:
            free.subtract(each.needs)
        return free

    def turns(self) -> list[JobHandle]:
        return sorted(
            self.waiting, key=lambda each: (-each.priority, not each.has_run, self.order[each])
        )

    def expected(self) -> JobHandle | None:
        """The job that must start now."""
        delayed = self.clock.now < self.last_start + self.delay
        if self.made.is_paused or len(self.running) >= self.limit or delayed:
            return None
        free, kept = self.free(), set[str]()
        seen: set[tuple[Any, ...]] = set()
        for each in self.turns():
            lacks = {name for name, need in each.needs.items() if free[name] < need}
            if not lacks and not kept & each.needs.keys():
                return each
            alike = (each.priority, each.has_run, *sorted(each.needs.items()))
            if lacks and alike not in seen:  # of jobs alike, the first one waits for them all
                seen.add(alike)
                if self.clock.now - self.passed.setdefault(each, self.clock.now) >= PASSING:
                    kept |= lacks
        return None

    # what happens

    def submit(self) -> None:
        new = []
        for _ in range(self.random.randint(1, 6)):
            names = [name for name in self.totals if self.random.random() < 0.5]
            needs = {name: self.random.randint(0, self.totals[name]) for name in names}
            new.append(handle(self.next_num, needs, self.random.choice([0, 0, 0, 1])))
            self.order[new[-1]] = self.next_num
            self.next_num += 1
        self.made.add(new)
        self.waiting += new

    def end(self) -> None:
        if self.running:
            each = self.running.pop(self.random.randrange(len(self.running)))
            self.made.release(each)
            if self.random.random() < 0.3:
                each.job.start(1.0, 7)
                each.job.retry(2.0, Ending(JobState.FAILED))
                self.made.add([each])
                self.waiting.append(each)

    def cancel(self) -> None:
        if self.waiting:
            each = self.waiting.pop(self.random.randrange(len(self.waiting)))
            self.passed.pop(each, None)
            assert self.made.remove(each)

    def prioritise(self) -> None:
        if self.waiting:
            self.made.prioritise(self.random.choice(self.waiting), self.random.randint(-1, 2))

    def pause(self) -> None:
        self.made.is_paused = not self.made.is_paused

    def resize(self) -> None:
        self.limit = self.made.limit = self.random.randint(1, 5)

    def wait(self) -> None:
        self.clock.now += self.random.choice([0.3, 1.0, 60.0, PASSING])

    def step(self) -> None:
        events = [self.submit, self.end, self.end, self.cancel, self.prioritise, self.pause]
        self.random.choice([*events, self.resize, self.wait, self.wait])()
        self.settle()

    def settle(self) -> None:
        """Start all that can start: exactly what must, in that order, and nothing twice."""
        while True:
            expected, found = self.expected(), self.made.admit()
            assert found is expected
            if found is None:
                break
            self.waiting.remove(found)
            self.passed.pop(found, None)
            self.running.append(found)
            self.made.started(found)
            self.last_start = self.clock.now
            assert min(self.free().values(), default=0) >= 0
        assert len(self.made) == len(self.waiting)

    def finish(self) -> None:
        """Without any more events but time and ends, everybody's turn comes."""
        self.made.is_paused = False
        for _ in range(20 * self.next_num + 20):
            self.wait()
            self.settle()
            if self.running:
                self.made.release(self.running.pop(0))
            self.settle()
        assert not self.waiting


@pytest.mark.parametrize("part", range(4))
def test_in_any_schedule_what_can_start_starts_in_order_and_nobody_starves(part: int) -> None:
    for seed in range(250 * part, 250 * part + 250):
        schedule = Schedule(seed)
        for _ in range(60):
            schedule.step()
        schedule.finish()


def count_looks(jobs: Sequence[JobHandle], monkeypatch: pytest.MonkeyPatch) -> int:
    """How often it is asked what is free, until all jobs have run."""
    looks, lacking = [0], Resources.lacking

    def count(self: Resources, needs: Mapping[str, int]) -> list[str]:
        looks[0] += 1
        return lacking(self, needs)

    monkeypatch.setattr(Resources, "lacking", count)
    made, running = admission(limit=8, resources={"a": 8, "b": 4}), []
    made.add(jobs)
    while len(made):
        while (each := made.admit()) is not None:
            running.append(each)
        made.release(running.pop(0))
    monkeypatch.undo()
    return looks[0]


def test_the_work_grows_with_the_number_of_jobs_and_no_faster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def jobs(count: int) -> list[JobHandle]:
        chosen = random.Random(1)
        sizes = [{"a": chosen.randint(1, 8), "b": chosen.randint(0, 4)} for _ in range(count)]
        return [handle(num, needs) for num, needs in enumerate(sizes)]

    few, many = (count_looks(jobs(count), monkeypatch) for count in (1_000, 10_000))
    assert many < 11 * few
