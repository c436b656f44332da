"""Which job gets which GPU, and what one waits for that gets none: each rule for itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.gpu_machines import GIB, FakeWatch, Machine, make_pool
from hsm.core.errors import SettingsError
from hsm.core.gpu.gpu_state import START_DELAY
from hsm.core.gpu.grant import GpuGrant
from hsm.core.gpu.need import GpuNeed
from hsm.core.gpu.turns import REST

ONE = GpuNeed()


def share(part: float) -> GpuNeed:
    return GpuNeed(share=part)


def memory(gib: float) -> GpuNeed:
    return GpuNeed(share=0.0, memory=int(gib * GIB))


class Sweep:
    """A pool, and a round for each job that asks."""

    def __init__(
        self,
        machine: Machine,
        folder: Path,
        *,
        sees: bool = True,
        pids_are_ours: bool = True,
        **settings: Any,
    ):
        self.machine = machine
        self.watch = FakeWatch(machine, pids_are_ours=pids_are_ours) if sees else None
        self.pool = make_pool(machine, folder, self.watch, **settings)
        self.next = 0

    def look(self) -> None:
        if self.watch is not None:
            self.machine.clock.now += 0.1
            self.watch.look()
            self.pool.look()

    def take(self, need: GpuNeed = ONE, *avoid: str, **more: Any) -> GpuGrant | None:
        self.pool.begin_round()
        grant = self.pool.take(self.next, need, avoid, **more)
        if grant is None:
            self.pool.end_round()
        else:
            self.next += 1
        return grant

    def start(self, need: GpuNeed = ONE, used: int = 0, *avoid: str) -> GpuGrant:
        """A job that must start; with so many bytes in use on each of its GPUs."""
        grant = self.take(need, *avoid)
        assert grant is not None, self.pool.lacking(need)
        for each in grant.gpus if used else ():
            self.machine.add(each.key, used, grant, self.watch)
        return grant

    def end(self, grant: GpuGrant) -> None:
        """A job ends with all its processes and memory."""
        for process in [each for each in self.machine.processes if each.grant is grant]:
            self.machine.end(process)
        self.pool.give_back(grant)

    def numbers(self, need: GpuNeed = ONE, most: int = 99) -> list[list[int | str]]:
        """The GPUs of jobs that start, as many as can."""
        found = list[list[int | str]]()
        while len(found) < most and (grant := self.take(need)) is not None:
            found.append([each.id for each in grant.gpus])
        return found


@pytest.fixture
def machine() -> Machine:
    return Machine(4)


@pytest.fixture
def blind(machine: Machine, tmp_path: Path) -> Sweep:
    """A sweep without a watch, which only counts."""
    return Sweep(machine, tmp_path / "locks", sees=False)


@pytest.fixture
def sweep(machine: Machine, tmp_path: Path) -> Sweep:
    made = Sweep(machine, tmp_path / "locks")
    assert made.take() is None  # Its watch begins with the first job that asks.
    made.look()
    return made


# --- counting ---------------------------------------------------------------------------------


def test_whole_gpus_are_one_jobs_each(blind: Sweep) -> None:
    assert blind.numbers() == [[0], [1], [2], [3]]
    assert blind.pool.lacking(ONE) == (
        "a GPU: GPU 0: taken by job 0; GPU 1: taken by job 1; GPU 2: taken by job 2; and 1 more"
    )
    assert not blind.pool.looks_again()


def test_several_are_taken_together_or_none_is(blind: Sweep) -> None:
    first = blind.start()
    assert blind.numbers(GpuNeed(count=2)) == [[1, 2]]
    assert blind.take(GpuNeed(count=2)) is None
    assert blind.pool.lacking(GpuNeed(count=2)) == (
        "2 GPUs (1 is free): GPU 0: taken by job 0; GPUs 1-2: taken by job 1"
    )
    blind.end(first)
    assert blind.numbers(GpuNeed(count=2)) == [[0, 3]]


@pytest.mark.parametrize(("part", "fit"), [(0.5, 2), (1 / 3, 3), (0.33, 3), (0.1, 10), (0.51, 1)])
def test_shares_of_a_gpu_are_no_more_than_all_of_it(
    part: float, fit: int, blind: Sweep, machine: Machine
) -> None:
    found = []
    for _ in range(4 * fit + 4):
        if (grant := blind.take(share(part))) is not None:
            found.append(grant.gpus[0].id)
        machine.clock.now += START_DELAY
    assert found == [number for number in range(4) for _ in range(fit)]


def test_the_best_fit_is_the_gpu_with_least_left(blind: Sweep, machine: Machine) -> None:
    blind.pool.restrict([0, 1])
    blind.start(share(0.25))
    blind.start(share(0.5))  # Beside the first one it would have to wait.
    machine.clock.now += START_DELAY
    assert blind.start(share(0.5)).gpus[0].id == 1
    assert blind.start(share(0.75)).gpus[0].id == 0


def test_memory_is_shared_as_far_as_it_goes(blind: Sweep) -> None:
    """Of 24 GiB half a GiB is left for the driver."""
    blind.pool.restrict([0])
    assert blind.numbers(memory(7.8)) == [[0]] * 3
    assert blind.pool.lacking(memory(7.8)) == (
        "a GPU with 7.8 GiB: GPU 0: only 102 MiB are left beside jobs 0-2"
    )
    assert blind.take(memory(0.2)) is None
    blind.start(memory(0.05))
    assert blind.pool.lacking(memory(24)).startswith("a GPU with 24 GiB: none is there")


def test_a_job_that_runs_alone_has_no_neighbours(blind: Sweep, machine: Machine) -> None:
    blind.pool.restrict([0])
    first = blind.start(share(0.25))
    machine.clock.now += START_DELAY
    alone = GpuNeed(share=0.25, alone=True)
    assert blind.take(alone) is None
    assert blind.pool.lacking(alone) == "a GPU without other jobs: GPU 0: taken by job 0"
    blind.end(first)
    blind.start(alone)
    machine.clock.now += START_DELAY
    assert blind.take(share(0.25)) is None


def test_whole_and_shared_jobs_do_not_mix(blind: Sweep, machine: Machine) -> None:
    blind.pool.restrict([0])
    whole = blind.start()
    for need in (share(0.5), memory(1), GpuNeed(memory=GIB)):
        assert blind.take(need) is None
    blind.end(whole)
    blind.start(memory(1))
    machine.clock.now += START_DELAY
    assert blind.take(ONE) is None
    assert blind.take(share(0.5)) is None  # Nobody knows how much it takes.


def test_jobs_avoid_gpus_while_there_are_others(blind: Sweep) -> None:
    blind.pool.restrict([0, 1])
    assert blind.start(ONE, 0, "0").gpus[0].id == 1
    assert blind.take(ONE, "0") is None
    assert blind.start(ONE, 0, "0", "1").gpus[0].id == 0


def test_two_starts_on_one_gpu_are_apart(blind: Sweep, machine: Machine) -> None:
    blind.pool.restrict([0])
    blind.start(share(0.5))
    assert blind.take(share(0.5)) is None
    assert blind.pool.looks_again()
    assert blind.pool.lacking(share(0.5)) == (
        "a GPU: GPU 0: job 0 has just started there, 5 s more"
    )
    machine.clock.now += START_DELAY
    blind.start(share(0.5))


def test_memory_needs_no_pause_between_starts(blind: Sweep) -> None:
    blind.pool.restrict([0])
    assert blind.numbers(memory(5)) == [[0]] * 4


# --- which GPUs -------------------------------------------------------------------------------


def test_other_gpus_may_be_named_at_any_time(blind: Sweep) -> None:
    first = blind.start()
    blind.pool.restrict([3])
    assert [each.id for each in blind.pool.allowed] == [3]
    assert blind.numbers() == [[3]]
    assert first in blind.pool.grants
    with pytest.raises(SettingsError):
        blind.pool.restrict([7])
    blind.pool.restrict(None)
    assert blind.numbers() == [[1], [2]]


def test_those_that_the_settings_name(machine: Machine, tmp_path: Path) -> None:
    made = Sweep(machine, tmp_path / "locks", sees=False, gpu_ids=[2])
    assert made.numbers() == [[2]]


def test_a_gpu_that_is_left_out_is_named_once(blind: Sweep, machine: Machine) -> None:
    blind.pool.leave_out(machine.gpus[1], "two jobs in a row failed there")
    blind.pool.leave_out(machine.gpus[1], "again")
    assert blind.pool.news() == ["GPU 1 is left out: two jobs in a row failed there"]
    assert blind.numbers() == [[0], [2], [3]]
    blind.pool.leave_out(machine.gpus[1], "")
    assert blind.pool.news() == ["GPU 1 is used again"]
    assert blind.numbers() == [[1]]


def test_a_gpu_that_the_driver_has_lost_is_left_out(sweep: Sweep, machine: Machine) -> None:
    machine.faults[machine.gpus[2].key] = "the driver has lost it"
    sweep.look()
    assert sweep.numbers() == [[0], [1], [3]]
    assert sweep.pool.news() == ["GPU 2 is left out: the driver has lost it"]


def test_when_none_is_left_the_sweep_ends(blind: Sweep, machine: Machine) -> None:
    for each in machine.gpus:
        assert blind.pool.gives_up() == ""
        blind.pool.leave_out(each, "lost")
    assert blind.take() is None
    assert blind.pool.gives_up().startswith("no GPU is left: GPU 0: lost; GPU 1: lost")


def test_a_job_that_needs_more_than_are_left_waits_for_no_other(
    blind: Sweep, machine: Machine
) -> None:
    running = blind.start()
    blind.pool.leave_out(machine.gpus[3], "lost")
    assert blind.take(GpuNeed(count=4)) is None
    assert blind.pool.gives_up() == ""  # Others run.
    blind.end(running)
    assert blind.take(GpuNeed(count=4)) is None
    expected = "4 GPUs: only 3 are there for it; GPU 3 is left out: lost"
    assert blind.pool.lacking(GpuNeed(count=4)) == expected
    assert blind.pool.gives_up() == f"jobs wait for {expected}"


# --- others on the machine --------------------------------------------------------------------


def test_a_gpu_on_which_others_compute_is_busy(sweep: Sweep, machine: Machine) -> None:
    theirs = machine.on(0)
    sweep.pool.restrict([0])
    sweep.look()
    assert sweep.take() is None
    assert sweep.pool.looks_again()
    assert sweep.pool.lacking(ONE) == f"a GPU: GPU 0, used by pid {theirs.pid} with 18 GiB"
    assert sweep.pool.others() == {machine.gpus[0].key: f"pid {theirs.pid} with 18 GiB"}
    machine.end(theirs)
    sweep.look()
    assert sweep.start().gpus[0].id == 0


def test_others_may_be_ignored(machine: Machine, tmp_path: Path) -> None:
    made = Sweep(machine, tmp_path / "locks", gpu_busy="ignore", gpu_ids=[0])
    machine.on(0)
    made.take()
    made.look()
    made.start()


def test_no_job_joins_others_who_came_later(sweep: Sweep, machine: Machine) -> None:
    sweep.pool.restrict([0])
    sweep.start(share(0.5), used=GIB)
    machine.on(0)
    machine.clock.now += START_DELAY
    sweep.look()
    assert sweep.take(share(0.5)) is None


def test_memory_of_others_counts(sweep: Sweep, machine: Machine) -> None:
    theirs = machine.on(0, 10 * GIB)
    sweep.pool.restrict([0])
    sweep.look()
    assert sweep.take(memory(14)) is None
    assert sweep.pool.lacking(memory(14)) == (
        "a GPU with 14 GiB: GPU 0: only 14 GiB are left beside others with 10 GiB"
    )
    sweep.start(memory(13), used=13 * GIB)
    assert sweep.take(memory(1)) is None
    machine.end(theirs)
    sweep.look()
    sweep.start(memory(9))


def test_by_memory_alone_where_pids_say_nothing(machine: Machine, tmp_path: Path) -> None:
    made = Sweep(machine, tmp_path / "locks", gpu_ids=[0], pids_are_ours=False)
    theirs = machine.on(0, GIB)
    made.take()
    made.look()
    assert made.take() is None
    assert made.pool.lacking(ONE) == "a GPU: GPU 0, on which 1.0 GiB are in use"
    machine.end(theirs)
    little = machine.on(0, 400 << 20)
    made.look()
    grant = made.start(share(0.5), used=20 * GIB)
    machine.clock.now += START_DELAY
    made.look()
    made.start(share(0.5))  # What is in use there may be the first one's.
    assert grant.gpus == (machine.gpus[0],)
    machine.end(little)


def test_who_looks_sees_the_gpu_just_before_a_start(sweep: Sweep, machine: Machine) -> None:
    machine.clock.now += 10
    assert sweep.watch is not None
    sweep.watch.is_asked = False
    assert sweep.take() is None
    assert sweep.watch.is_asked
    assert sweep.pool.looks_again()
    assert sweep.pool.lacking(ONE) == "a GPU: GPUs 0-3 to be looked at"
    sweep.look()
    sweep.start()


def test_without_looks_nobody_waits_for_one(sweep: Sweep, machine: Machine) -> None:
    first = sweep.start()
    assert sweep.watch is not None
    sweep.watch.lose()
    machine.clock.now += 10
    sweep.end(first)
    assert sweep.numbers() == [[0], [1], [2], [3]]


def test_a_first_look_that_does_not_come_is_not_waited_for_long(
    machine: Machine, tmp_path: Path
) -> None:
    made = Sweep(machine, tmp_path / "locks")
    assert made.take() is None
    machine.clock.now += 20
    assert made.numbers() == [[0], [1], [2], [3]]


# --- what a job leaves behind -----------------------------------------------------------------


def test_a_gpu_settles_before_the_next_job(sweep: Sweep, machine: Machine) -> None:
    sweep.pool.restrict([1])
    first = sweep.start(used=5 * GIB)
    sweep.look()
    (process,) = machine.processes
    process.has_ended = True  # Its memory is not back yet.
    sweep.pool.give_back(first)
    assert sweep.take() is None
    assert "what job 0 had is not yet back" in sweep.pool.lacking(ONE)
    sweep.look()
    assert sweep.take() is None
    assert sweep.pool.looks_again()
    assert sweep.pool.lacking(ONE) == (
        "a GPU: GPU 1's memory to come back: 5.0 GiB of job 0 are still there"
    )
    assert sweep.pool.news() == []
    machine.clock.now += 30
    sweep.look()
    expected = ["GPU 1 counts as busy: 5.0 GiB of job 0 are still there"]
    assert sweep.pool.news() == expected
    sweep.look()
    assert sweep.pool.news() == []
    process.memory = 290 * 10**6
    sweep.look()
    sweep.start()


def test_a_process_that_stays_keeps_its_gpu(sweep: Sweep, machine: Machine) -> None:
    first = sweep.start(used=GIB)
    sweep.look()
    (process,) = machine.processes
    process.grant = None
    sweep.pool.give_back(first)
    sweep.look()
    assert f"process {process.pid} of job 0 is still there" in sweep.pool.others().values()
    assert sweep.numbers() == [[1], [2], [3]]
    machine.end(process)
    sweep.look()
    assert sweep.numbers() == [[0]]


def test_memory_that_one_of_several_has_left_is_waited_for(sweep: Sweep, machine: Machine) -> None:
    sweep.pool.restrict([0])
    first = sweep.start(memory(8), 8 * GIB)
    sweep.start(memory(8), 8 * GIB)
    (process,) = [each for each in machine.processes if each.grant is first]
    process.has_ended = True
    sweep.pool.give_back(first)
    sweep.look()
    assert sweep.take(memory(4)) is None
    assert "8.0 GiB of job 0 are still there" in sweep.pool.lacking(memory(4))
    machine.end(process)
    sweep.look()
    sweep.start(memory(4))


def test_what_others_take_meanwhile_does_not_count_as_left_behind(
    sweep: Sweep, machine: Machine
) -> None:
    first = sweep.start(used=GIB)
    sweep.end(first)
    machine.on(0, 3 * GIB)
    sweep.look()
    sweep.pool.restrict([0])
    assert "used by pid" in sweep.pool.lacking(ONE)


def test_a_desktop_that_grows_meanwhile_is_not_left_behind(sweep: Sweep, machine: Machine) -> None:
    sweep.pool.restrict([0])
    machine.drawn[machine.gpus[0].key] = GIB
    sweep.look()
    first = sweep.start(used=GIB)
    machine.drawn[machine.gpus[0].key] = 3 * GIB
    sweep.end(first)
    sweep.look()
    sweep.start()


def test_what_a_desktop_has_is_no_job_s_memory(sweep: Sweep, machine: Machine) -> None:
    sweep.pool.restrict([0])
    machine.drawn[machine.gpus[0].key] = 3 * GIB
    sweep.look()
    assert sweep.take(memory(21)) is None
    assert "only 20 GiB are left beside others with 3.0 GiB" in sweep.pool.lacking(memory(21))
    sweep.start(memory(20))


def test_a_look_before_the_end_says_nothing_of_it(sweep: Sweep, machine: Machine) -> None:
    sweep.pool.restrict([0])
    first = sweep.start(used=5 * GIB)
    assert sweep.watch is not None
    view = sweep.watch.latest
    sweep.end(first)
    sweep.watch.latest = view
    assert sweep.take() is None
    assert sweep.watch.is_asked
    sweep.look()
    sweep.start()


# --- other sweeps -----------------------------------------------------------------------------


@pytest.fixture
def other(machine: Machine, tmp_path: Path) -> Sweep:
    return Sweep(machine, tmp_path / "locks", sees=False)


def test_another_sweeps_gpus_are_left_to_it(blind: Sweep, other: Sweep) -> None:
    blind.pool.restrict([0, 1])
    assert blind.numbers() == [[0], [1]]
    assert other.numbers() == [[2], [3]]
    other.pool.restrict([0])
    assert other.take() is None
    assert other.pool.looks_again()
    assert other.pool.lacking(ONE).startswith("a GPU: another sweep (pid ")
    assert other.pool.lacking(ONE).endswith(" has GPU 0")


def test_a_gpu_is_given_back_when_its_last_job_has_left(blind: Sweep, other: Sweep) -> None:
    blind.pool.restrict([0])
    other.pool.restrict([0])
    first = blind.start(share(0.5))
    blind.machine.clock.now += START_DELAY
    second = blind.start(share(0.5))
    blind.end(first)
    assert other.take() is None
    blind.end(second)
    other.start()


def test_a_gpu_that_settles_is_not_given_back(sweep: Sweep, other: Sweep) -> None:
    other.pool.restrict([0])
    first = sweep.start(used=GIB)
    sweep.end(first)
    assert other.take() is None
    sweep.look()
    other.start()


def test_sweeps_take_turns(blind: Sweep, other: Sweep, machine: Machine) -> None:
    """A sweep that could take its GPU again at once does not while the other one waits."""
    for each in (blind, other):
        each.pool.restrict([0])
    running, starts = [(blind, blind.start())], []
    for _ in range(8):
        assert other.take() is None or blind.take() is None
        sweep_, grant = running.pop()
        sweep_.end(grant)
        # The one that had it asks first.
        order = [sweep_, other if sweep_ is blind else blind]
        while not running:
            for each in order:
                if not running and (found := each.take()) is not None:
                    running.append((each, found))
                    starts.append("blind" if each is blind else "other")
            machine.clock.now += 0.25
        for each in order:  # Both look again while it runs.
            assert each.take() is None
    assert abs(starts.count("blind") - starts.count("other")) <= 1


def test_who_waits_for_processes_keeps_no_turn(sweep: Sweep, other: Sweep) -> None:
    machine = sweep.machine
    for number in range(4):
        machine.on(number)
    sweep.look()
    assert sweep.take() is None
    assert other.numbers() == [[0], [1], [2], [3]]  # It does not look.


def test_a_turn_hinders_nobody_elsewhere(blind: Sweep, other: Sweep) -> None:
    first = blind.start()
    other.pool.restrict([0])
    assert other.take() is None  # It waits for GPU 0, and no other.
    assert blind.numbers() == [[1], [2], [3]]
    blind.end(first)
    assert blind.take() is None
    assert blind.pool.lacking(ONE).startswith("a GPU: another sweep (pid ")
    assert " gets GPU 0 first" in blind.pool.lacking(ONE)
    other.start()


def test_several_take_their_turn_only_when_they_are_late(blind: Sweep, other: Sweep) -> None:
    other.start()
    running = [blind.start() for _ in range(3)]
    both = GpuNeed(count=2)
    assert other.take(both) is None
    blind.end(running.pop())
    running.append(blind.start())
    assert other.take(both, is_late=True) is None
    got = []
    for _ in range(2):
        blind.end(running.pop())
        assert blind.take() is None
        got.append(other.take(both, is_late=True))
    assert got[0] is None
    assert got[1] is not None


def test_who_has_none_takes_its_turn_for_several_at_once(blind: Sweep, other: Sweep) -> None:
    running = [blind.start() for _ in range(4)]
    both = GpuNeed(count=2)
    assert other.take(both) is None
    blind.end(running.pop())
    assert blind.take() is None
    assert other.take(both) is None
    blind.end(running.pop())
    assert blind.take() is None
    assert other.take(both) is not None


def test_who_waits_no_longer_gives_its_turn(blind: Sweep, other: Sweep) -> None:
    blind.pool.restrict([0])
    other.pool.restrict([0])
    first = blind.start()
    assert other.take() is None
    other.pool.stop_waiting()
    blind.end(first)
    blind.start()


def test_who_has_got_one_lets_others_have_their_turn(blind: Sweep, other: Sweep) -> None:
    blind.pool.restrict([0, 1])
    other.pool.restrict([0, 1])
    running = [blind.start(), blind.start()]
    assert other.take() is None
    blind.end(running.pop())
    other.start()
    assert other.take() is None  # another of its jobs
    blind.end(running.pop())
    blind.start()


def test_all_is_free_at_the_end(blind: Sweep, other: Sweep) -> None:
    blind.numbers()
    other.take()
    blind.pool.close()
    assert other.take() is not None
    other.machine.clock.now += REST  # for whom else waits
    assert len(other.numbers()) == 3


# --- what is kept, and what ends a sweep ------------------------------------------------------


def test_gpus_are_kept_that_will_be_free_first(blind: Sweep, machine: Machine) -> None:
    for _ in range(3):
        blind.start()
        machine.clock.now += 1
    keys = blind.pool.keep(GpuNeed(count=2), (), {})
    assert keys == {machine.gpus[3].key, machine.gpus[0].key}
    kept = dict.fromkeys(keys, "job 9")
    assert blind.take(ONE, kept=kept) is None
    assert "GPUs 0,3: kept for job 9" in blind.pool.lacking(ONE, kept=kept)
    assert blind.pool.keep(GpuNeed(count=3), (), kept) == frozenset()


def test_nothing_is_kept_for_who_waits_for_others(sweep: Sweep, machine: Machine) -> None:
    for number in range(3):
        machine.on(number)
    sweep.look()
    assert sweep.pool.keep(GpuNeed(count=2), (), {}) == frozenset()


@pytest.mark.parametrize("are_others_there", [False, True])
def test_whose_turn_is_next_hides_no_processes_of_others(
    sweep: Sweep, other: Sweep, machine: Machine, are_others_there: bool
) -> None:
    for each in (sweep, other):
        each.pool.restrict([0, 1])
    sweep.start()
    if are_others_there:
        machine.on(1)
    both = GpuNeed(count=2)
    assert other.take(both) is None
    sweep.look()
    assert sweep.take(both) is None
    assert " gets GPU 1 first" in sweep.pool.lacking(both)
    keys = {machine.gpus[0].key, machine.gpus[1].key}
    assert sweep.pool.keep(both, (), {}) == (frozenset() if are_others_there else keys)


def test_nothing_is_kept_for_who_waits_for_what_does_not_settle(
    sweep: Sweep, machine: Machine
) -> None:
    sweep.pool.restrict([0, 1])
    first = sweep.start(used=8 * GIB)
    machine.processes[0].has_ended = True
    sweep.pool.give_back(first)
    sweep.look()
    both = GpuNeed(count=2)
    assert sweep.pool.keep(both, (), {}) == {machine.gpus[0].key, machine.gpus[1].key}
    machine.clock.now += 30
    sweep.look()
    assert "still there" in sweep.pool.lacking(both)
    assert sweep.pool.keep(both, (), {}) == frozenset()


def test_a_sweep_ends_when_it_has_waited_too_long(machine: Machine, tmp_path: Path) -> None:
    made = Sweep(machine, tmp_path / "locks", gpu_wait=60, gpu_ids=[0])
    theirs = machine.on(0)
    made.take()
    for _ in range(10):
        assert made.pool.gives_up() == ""
        machine.clock.now += 6.0
        made.look()
        assert made.take() is None
    assert made.pool.gives_up() == (
        "no job has had a GPU for 1:00 (gpu_wait), waiting for "
        f"a GPU: GPU 0, used by pid {theirs.pid} with 18 GiB"
    )
    machine.end(theirs)
    made.look()
    made.start()
    assert made.pool.gives_up() == ""


def test_while_a_job_runs_there_is_no_end_to_waiting(machine: Machine, tmp_path: Path) -> None:
    made = Sweep(machine, tmp_path / "locks", gpu_wait=60, sees=False, gpu_ids=[0])
    made.start()
    for _ in range(3):
        machine.clock.now += 100
        assert made.take() is None
        assert made.pool.gives_up() == ""


def test_the_watch_is_begun_told_and_closed(machine: Machine, tmp_path: Path) -> None:
    made = Sweep(machine, tmp_path / "locks")
    watch, pool = made.watch, made.pool
    assert watch is not None
    seen = []
    pool.when_seen(lambda: seen.append(1))
    made.take()
    assert watch.has_begun
    watch.look()
    assert seen == [1]
    grant = made.start()
    assert watch.grants == [grant] == pool.grants
    pool.job_ended(grant)
    assert watch.grants == []
    pool.give_back(grant)
    pool.close()
    assert watch.is_closed


def test_trouble_with_locks_is_told_once(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "locks").write_text("")
    made = Sweep(machine, tmp_path / "locks", sees=False)
    assert made.numbers() == [[0], [1], [2], [3]]
    assert len(made.pool.news()) == 1
    assert made.pool.news() == []
