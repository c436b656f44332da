"""Whatever the place, a source takes points a few at a time, and none that it does not need."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from contract_support import Place, Recorder, journal_events
from hsm import read_sweep
from hsm.cli._requesting import carry_out, running_sweep
from hsm.core.engine.feeding import Feed
from hsm.core.engine.interrupts import Interrupts
from hsm.core.engine.sweep_source import SweepSource
from hsm.core.errors import SettingsError
from hsm.core.program.program import find_program
from hsm.core.record.controls import Add
from hsm.core.record.job import Job
from hsm.core.record.paths import SweepPaths
from hsm.core.space.definition import parse_overrides
from hsm.core.space.selection import Selection

pytestmark = pytest.mark.thorough

QUICK = ["true"]
#: Stays until there is the file "go".
UNTIL_GO = ["sh", "-c", "until [ -e go ]; do sleep 0.02; done"]
#: Jobs that wait at most, for up to 25 places.
AHEAD = 100


def numbered(count: int | None = None) -> Iterator[dict[str, Any]]:
    """The points x=0, x=1 and so on, of which nobody knows how many there are."""
    return ({"x": x} for x in (itertools.count() if count is None else range(count)))


def selected(count: int) -> Selection:
    """The same, but it is known how many there are."""
    return Selection(parse_overrides([f"x=range({count})"]))


def run(
    source: SweepSource,
    points: Any,
    command: Sequence[str] = QUICK,
    *,
    begun: Callable[[], object] = lambda: None,
    resume: bool | None = None,
) -> Feed[Any]:
    """Run a sweep to its end; `begun` is called when the first jobs were handed over."""
    feed = source.feed_jobs(points, "s", "s", find_program(None, command, None), resume=resume)
    with Interrupts().caught() as interrupts:
        feed.begin(interrupts)
        begun()
        feed.run(interrupts)
    return feed


def xs() -> list[Any]:
    """The values of x by the jobs' numbers."""
    return [job.params["x"] for _, job in sorted(read_sweep("s").jobs.items())]


def states() -> set[str]:
    return {str(job.state) for job in read_sweep("s").jobs.values()}


def in_a_thread(function: Callable[[], object]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


@pytest.mark.parametrize("points", [selected(250), list(numbered(250)), numbered(250)])
def test_all_points_run_in_their_order_with_their_places_as_numbers(
    place: Place, points: Any
) -> None:
    recorder = Recorder()
    is_known = not isinstance(points, Iterator)
    points = numbered(250) if not is_known else points  # each test has its own generator
    with place.source(recorder, max_parallel_jobs=1) as source:
        run(source, points, begun=lambda: source.jobs()[AHEAD - 1 if is_known else 0])
    started = [num for event, num in recorder.events if event == "started"]
    assert started == list(range(250))
    sweep = read_sweep("s")
    assert (xs(), states()) == (list(range(250)), {"COMPLETED"})
    assert (sweep.closed, sweep.planned) == ("finished", 250 if is_known else None)
    assert not sweep.to_come


@pytest.mark.parametrize("is_known", [True, False])
def test_never_more_wait_than_the_look_ahead(place: Place, is_known: bool) -> None:
    most, total = 0, 0

    def look(job: Job) -> None:
        nonlocal most, total
        jobs = source.jobs()
        total = max(total, len(jobs))
        most = max(most, sum(str(each.state) == "PENDING" for each in jobs))

    with place.source(Recorder(started=look), max_parallel_jobs=1) as source:
        run(source, selected(260) if is_known else numbered(260))
        assert len(source.jobs()) == 260
    assert most <= AHEAD + 1
    assert total > AHEAD


@pytest.mark.parametrize("count", [0, 1, 100, 101, 102, 103])
def test_any_number_of_points(place: Place, count: int) -> None:
    with place.source() as source:
        run(source, list(numbered(count)))
    sweep = read_sweep("s")
    assert (len(sweep.jobs), sweep.planned, sweep.closed) == (count, count, "finished")


def test_a_generator_that_raises_lets_what_runs_end(place: Place) -> None:
    def points() -> Iterator[dict[str, Any]]:
        yield from numbered(120)
        raise OSError("the tape is torn")

    with place.source() as source:
        with pytest.raises(OSError, match="the tape is torn"):
            run(source, points())
        assert len(source.jobs()) == 120
    assert (xs(), states()) == (list(range(120)), {"COMPLETED"})


def test_a_bad_point_of_a_list_starts_nothing(place: Place) -> None:
    bad = [*numbered(2000), {"x": object()}]
    with place.source() as source:
        with pytest.raises(SettingsError, match="combination 2000"):
            run(source, bad)
        assert not source.jobs()
    assert not Path("s/journal.jsonl").exists()


def test_a_bad_point_that_comes_first_starts_nothing(place: Place) -> None:
    with place.source() as source:
        with pytest.raises(SettingsError, match="combination 0"):
            run(source, itertools.chain([{"x": object()}], numbered(3)))
        assert not source.jobs()
    assert not Path("s/journal.jsonl").exists()


def test_a_generator_is_not_asked_for_what_has_no_room(place: Place) -> None:
    asked: list[int] = []

    def points() -> Iterator[dict[str, Any]]:
        for point in numbered(300):
            asked.append(point["x"])
            yield point

    with place.source() as source:
        feed = source.feed_jobs(points(), "s", "s", find_program(None, UNTIL_GO, None))
        assert asked == []
        with Interrupts().caught() as interrupts:
            feed.begin(interrupts)
            assert asked == [0]
            in_a_thread(source.cancel_pending)
            Path("go").touch()
            feed.run(interrupts)
    assert len(asked) <= AHEAD + 3


def test_a_bad_point_later_ends_the_sweep_after_those_before_it(place: Place) -> None:
    with place.source() as source, pytest.raises(SettingsError, match="combination 250"):
        run(source, itertools.chain(numbered(250), [{"x": object()}], numbered()))
    assert (xs(), states()) == (list(range(250)), {"COMPLETED"})


def test_nothing_more_is_handed_over_once_the_source_is_stopped(place: Place) -> None:
    with place.source(fail_fast=True) as source:
        run(source, numbered(), ["sh", "-c", "[ {x} != 130 ]"])
    sweep = read_sweep("s")
    assert sweep.jobs[130].state == "FAILED"
    assert len(sweep.jobs) <= 130 + 2 * AHEAD


def test_a_source_that_is_stopped_just_before_jobs_come_is_no_error(place: Place) -> None:
    with place.source() as source:
        feed = source.feed_jobs(selected(400), "s", "s", find_program(None, QUICK, None))
        give = feed._submit

        def stopped_before(items: Sequence[Any], first: int) -> Sequence[str]:
            if first:
                source.stop("enough")
            return give(items, first)

        feed._submit = stopped_before
        with Interrupts().caught() as interrupts:
            feed.begin(interrupts)
            feed.run(interrupts)
    sweep = read_sweep("s")
    assert (sweep.closed, sweep.planned) == ("enough", 400)
    assert sweep.to_come == 400 - len(sweep.jobs) > 0


def test_too_many_failures_end_an_endless_sweep(place: Place) -> None:
    with place.source(max_failures=3) as source:
        run(source, numbered(), ["false"])
    assert len(read_sweep("s").jobs) <= 2 * AHEAD


def test_a_sweep_of_a_million_is_cancelled_with_those_to_come(place: Place) -> None:
    recorder = Recorder()

    def cancel() -> None:
        in_a_thread(source.cancel_pending)
        Path("go").touch()

    with place.source(recorder) as source:
        run(source, selected(1_000_000), UNTIL_GO, begun=cancel)
    assert any("pending jobs cancelled" in text for text in recorder.messages)
    sweep = read_sweep("s")
    assert len(sweep.jobs) <= AHEAD + 2
    assert sweep.to_come == 1_000_000 - len(sweep.jobs)


def test_places_that_become_more_have_more_jobs_waiting(place: Place) -> None:
    most = 0

    def look(job: Job) -> None:
        nonlocal most
        most = max(most, sum(str(each.state) == "PENDING" for each in source.jobs()))

    def change() -> None:
        source.change(max_parallel_jobs=40)
        Path("go").touch()

    with place.source(Recorder(started=look)) as source:
        run(source, selected(500), UNTIL_GO, begun=change)
    assert AHEAD < most <= 4 * 40 + 40
    assert states() == {"COMPLETED"}


def test_added_jobs_take_numbers_after_the_planned_ones(place: Place) -> None:
    def add() -> None:
        lines = source.additions.add(SweepPaths("s"), Add(("x=1000",)), lambda _: None)
        assert lines[0] == "added job 150"
        Path("go").touch()

    with place.source() as source:
        run(source, selected(150), UNTIL_GO, begun=add)
    assert xs() == [*range(150), 1000]


def test_jobs_are_added_to_a_sweep_of_unknown_size(place: Place) -> None:
    def add() -> None:
        source.additions.add(SweepPaths("s"), Add(("x=1000",)), lambda _: None)
        Path("go").touch()

    with place.source() as source:
        run(source, numbered(250), UNTIL_GO, begun=add)
    assert sorted(xs()) == [*range(250), 1000]


def test_what_is_to_come_is_told(place: Place) -> None:
    told: list[int | None] = []

    class Counting(Recorder):
        def jobs_to_come(self, count: int | None) -> None:
            told.append(count)

    with place.source(Counting()) as source:
        run(source, selected(250))
    assert told[0] == 250 - AHEAD - 2
    assert told == sorted(told, reverse=True, key=int)  # type: ignore[arg-type]
    assert told[-1] == 0


def test_a_resumed_sweep_goes_on_as_if_undisturbed(place: Place) -> None:
    fails_at_7 = ["sh", "-c", "[ {x} != 7 ]"]
    with place.source() as source:
        run(source, selected(400), fails_at_7, begun=lambda: in_a_thread(source.cancel_pending))
    first = read_sweep("s")
    assert len(first.jobs) == AHEAD + 2
    assert first.to_come == 400 - AHEAD - 2
    with place.source() as source:
        run(source, selected(400), fails_at_7, resume=True)
    sweep = read_sweep("s")
    assert xs() == list(range(400))
    assert [num for num, job in sweep.jobs.items() if job.state != "COMPLETED"] == [7]
    assert (sweep.planned, sweep.to_come, sweep.closed) == (400, 0, "finished")
    with place.source(rerun="failed") as source:
        run(source, selected(400), fails_at_7, resume=True)
    assert len(read_sweep("s").jobs[7].attempts) >= 2
    events = [event["event"] for event in journal_events("s")]
    assert events.count("resume") == 2
    # What runs nothing again needs no record.
    assert all(event["jobs"] for event in journal_events("s") if event["event"] == "requeue")


def test_a_resumed_sweep_keeps_what_was_added(place: Place) -> None:
    def add() -> None:
        with running_sweep(SweepPaths("s")) as replay:
            carry_out(replay, Add(("x=1000",)))
        source.cancel_pending()
        Path("go").touch()

    with place.source() as source:
        run(source, selected(300), UNTIL_GO, begun=lambda: in_a_thread(add))
    with place.source() as source:
        run(source, selected(300), UNTIL_GO, resume=True)
    assert xs() == [*range(300), 1000]
    assert states() == {"COMPLETED"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "place", ["local", pytest.param("plain", marks=pytest.mark.long)], indirect=True
)
def test_functions_are_fed_as_well(place: Place) -> None:
    with place.source() as source:
        feed = source.feed_jobs(selected(220), "s", "s", find_program(double, None, None))
        with Interrupts().caught() as interrupts:
            feed.begin(interrupts)
            feed.run(interrupts)
    assert [job.value for _, job in sorted(read_sweep("s").jobs.items())] == [
        2 * x for x in range(220)
    ]


def double(params: dict[str, Any]) -> int:
    return 2 * int(params["x"])
