"""Requests to a running sweep: what they call, what is recorded, told, answered, taken over."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from helpers.controlled import Able, Bare, adds_nothing, control_records
from helpers.processes import wait_for
from helpers.reliability import Recorder, points, source
from hsm.core.engine.control import Controller
from hsm.core.engine.interrupts import Interruption
from hsm.core.engine.steering import Steering
from hsm.core.errors import HsmError
from hsm.core.local import LocalComputeSource, LocalManager
from hsm.core.record import own_requests
from hsm.core.record.controls import (
    Cancel,
    CancelPending,
    Change,
    Continue,
    Control,
    Explain,
    Pause,
    Prioritize,
)
from hsm.core.record.fitting import MAX_NUMBERS
from hsm.core.record.job import JobState
from hsm.core.record.journal import Journal
from hsm.core.record.listener import Listener
from hsm.core.record.own_requests import Answer
from hsm.core.record.paths import SweepPaths
from hsm.core.record.requests import Request, ask
from hsm.core.record.sweep import read_sweep
from hsm.core.settings.resolve import UNSET


class Asked:
    """A source with the sweep ``s`` and its journal, and what came of requests to it."""

    def __init__(self, folder: Path, source: Bare) -> None:
        self.source = source
        self.journal = Journal(SweepPaths(folder), "s", {})
        self.recorder = Recorder()
        self.controller = Controller(
            source,
            lambda: [self.journal],
            source.interruptions.append,
            self.recorder,
            adds_nothing,
        )

    def ask(self, control: Control) -> Answer:
        """Ask as another process does; returns the answer."""
        name = own_requests.send(self.journal.paths, control)
        [taken] = own_requests.take(self.journal.paths)
        assert taken.control is not None
        self.controller.take(self.journal.paths, Request(taken.control, name))
        answer = own_requests.read_answer(self.journal.paths, name)
        assert answer is not None
        return answer

    @property
    def told(self) -> list[str]:
        return self.recorder.messages

    def records(self) -> list[dict[str, Any]]:
        return control_records(self.journal.paths.sweep_dir)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[Bare], Asked]]:
    made: list[Asked] = []

    def make(source: Bare) -> Asked:
        made.append(Asked(tmp_path / "sweep", source))
        return made[-1]

    yield make
    for each in made:
        each.journal.close("finished")


Make = Callable[[Bare], Asked]


@pytest.mark.parametrize(
    ("control", "call", "record", "told"),
    [
        (
            Pause(),
            ("pause", False),
            {"request": "pause"},
            "paused: no job starts until hsm continue",
        ),
        (
            Pause(running=True),
            ("pause", True),
            {"request": "pause", "running": True},
            "paused: no job starts or goes on until hsm continue",
        ),
        (Continue(), "unpause", {"request": "continue"}, "continued"),
        (
            Change({"max_parallel_jobs": 8}),
            (8, UNSET, None, False),
            {"request": "set", "max_parallel_jobs": 8},
            "at most 8 jobs at once from now on",
        ),
        (
            Change({"max_parallel_jobs": 1, "timeout": None, "max_retries": 2}, now=True),
            (1, None, 2, True),
            {
                "request": "set",
                "max_parallel_jobs": 1,
                "timeout": None,
                "max_retries": 2,
                "now": True,
            },
            "at most 1 job at once, no time limit per job, 2 retries per job from now on",
        ),
        (
            Change({"max_parallel_jobs": "auto"}),
            ("auto", UNSET, None, False),
            {"request": "set", "max_parallel_jobs": "auto"},
            "as many jobs at once as there is room for from now on",
        ),
        (
            Change({"timeout": 90}),
            (None, 90.0, None, False),
            {"request": "set", "timeout": 90},
            "a time limit of 1:30 per job from now on",
        ),
        (
            Change({"gpu_ids": (0, 3), "max_retries": 0}),
            (None, UNSET, 0, (0, 3), False),
            {"request": "set", "gpu_ids": [0, 3], "max_retries": 0},
            "0 retries per job, GPUs 0, 3 for jobs that start from now on",
        ),
        (
            Change({"gpu_ids": ("MIG-1",)}),
            (None, UNSET, None, ("MIG-1",), False),
            {"request": "set", "gpu_ids": ["MIG-1"]},
            "GPU MIG-1 for jobs that start from now on",
        ),
        (
            Change({"gpu_ids": None}),
            (None, UNSET, None, None, False),
            {"request": "set", "gpu_ids": None},
            "all GPUs for jobs that start from now on",
        ),
        (
            Prioritize((0, 2), 5),
            (["s_0", "s_2"], 5),
            {"request": "priority", "jobs": [0, 2], "priority": 5},
            "priority 5 for job 0,2",
        ),
    ],
)
def test_a_request_is_carried_out_recorded_told_and_answered(
    make: Make, control: Control, call: Any, record: Mapping[str, Any], told: str
) -> None:
    asked = make(Able())
    assert asked.ask(control) == Answer([told])
    assert asked.source.calls == [call]
    assert asked.records() == [record]
    assert asked.told == [told]


def test_pending_jobs_are_cancelled_and_counted(make: Make) -> None:
    asked = make(Able(3))
    assert asked.ask(CancelPending()) == Answer(["3 pending jobs cancelled"])
    assert asked.records() == [{"request": "cancel", "which": "pending"}]


def test_explaining_leaves_no_trace(make: Make) -> None:
    asked = make(Able())
    assert asked.ask(Explain()) == Answer(["all waits for a place"])
    assert asked.ask(Explain(1)) == Answer(["s_1 waits for a place"])
    assert asked.ask(Explain(9)) == Answer([], "no job 9 in s")
    assert (asked.records(), asked.told) == ([], [])


def test_the_numbers_of_very_many_jobs_are_split_between_records(make: Make) -> None:
    asked = make(Able(MAX_NUMBERS + 1))
    asked.ask(Prioritize(tuple(range(MAX_NUMBERS + 1)), 1))
    assert [len(record["jobs"]) for record in asked.records()] == [MAX_NUMBERS, 1]
    lines = asked.journal.paths.journal.read_bytes().splitlines()
    assert max(map(len, lines)) < 64 << 10


def test_a_job_that_is_not_there_is_named_and_nothing_recorded(make: Make) -> None:
    asked = make(Able())
    assert asked.ask(Prioritize((1, 9), 5)) == Answer([], "no such job: s_9")
    assert (asked.records(), asked.told) == ([], [])


@pytest.mark.parametrize(
    ("control", "error"),
    [
        (Pause(), "this source cannot be paused"),
        (Continue(), "this source cannot be paused"),
        (Change({"max_retries": 1}), "this source cannot change its settings"),
        (Prioritize((0,), 1), "this source has no priorities"),
        (CancelPending(), "this source cannot cancel pending jobs only"),
        (Explain(), "this source cannot explain what its jobs wait for"),
    ],
)
def test_a_source_that_cannot_do_it_says_so(make: Make, control: Control, error: str) -> None:
    asked = make(Bare())
    assert asked.ask(control) == Answer([], error)
    assert (asked.records(), asked.told) == ([], [])


def test_a_value_that_is_not_allowed_is_answered(make: Make) -> None:
    asked = make(Able())
    answer = asked.ask(Change({"timeout": 1e12}))
    assert answer.error.startswith("a request: timeout must be a number of seconds above 0")
    assert asked.source.calls == []


def test_an_error_of_the_source_ends_no_thread(make: Make) -> None:
    class Broken(Able):
        def unpause(self) -> None:
            raise RuntimeError("no idea")

    asked = make(Broken())
    assert asked.ask(Continue()) == Answer([], "it failed: RuntimeError: 'no idea'")
    assert asked.ask(Pause()).error == ""


def test_cancels_are_recorded_if_they_mean_something(make: Make) -> None:
    asked = make(Able(3))
    asked.source.states["s_1"] = JobState.COMPLETED
    paths = asked.journal.paths
    for num in (0, 1, 99):
        asked.controller.take(paths, Request(Cancel(num)))
    assert asked.source.calls == [("cancel", "s_0")]
    assert asked.records() == [{"request": "cancel", "job": 0}]
    asked.controller.take(paths, Request(Cancel()))
    assert asked.source.interruptions == [Interruption()]
    assert asked.records()[1:] == [{"request": "cancel"}]


def test_a_request_to_a_sweep_that_is_not_this_sources_does_nothing(
    make: Make, tmp_path: Path
) -> None:
    asked = make(Able())
    asked.controller.take(SweepPaths(tmp_path / "other"), Request(Pause()))
    assert (asked.source.calls, asked.records()) == ([], [])


def test_a_listener_carries_requests_from_the_folder_to_the_source(make: Make) -> None:
    asked = make(Able())
    paths = asked.journal.paths
    listener = Listener(asked.controller.take, "listener")
    listener.add(paths)
    try:
        ask(paths, 1)
        names = [own_requests.send(paths, it) for it in (Pause(), Continue(), Explain(0))]
        wait_for(lambda: len([*paths.own_requests.glob("*.answer")]) == 3, "the answers")
        answers = [own_requests.read_answer(paths, name) for name in names]
    finally:
        listener.stop()
    assert asked.source.calls == [("cancel", "s_1"), ("pause", False), "unpause"]
    assert answers[-1] == Answer(["s_0 waits for a place"])
    assert [record["request"] for record in asked.records()] == ["cancel", "pause", "continue"]
    assert not paths.requests.exists()


# --- a sweep that is resumed -------------------------------------------------------------------


def changed_sweep(folder: Path, **values: Any) -> None:
    """A sweep of two jobs in which these settings were changed, and a priority set."""
    with source() as made:
        made.submit_jobs(points(0, 1), "s", folder, command=["false"])
    controls = [
        {"request": "set", **values},
        {"request": "priority", "jobs": [1], "priority": 7},
    ]
    with SweepPaths(folder).journal.open("a") as file:
        for control in controls:
            file.write(json.dumps({"event": "control", **control, "time": 1.0}) + "\n")


@contextmanager
def resumed(folder: Path, *observers: Recorder, **settings: Any) -> Iterator[LocalComputeSource]:
    with LocalComputeSource(observers=observers, resume=True, **settings) as made:
        made.submit_jobs(points(0, 1), "s", folder, command=["true"])
        yield made


def set_on_resume(folder: Path) -> dict[str, Any]:
    """What was set once the sweep had been resumed."""
    records = [record for record in control_records(folder) if record["request"] == "set"]
    return {name: value for name, value in records[-1].items() if name != "request"}


def test_a_resumed_sweep_takes_over_what_was_changed(tmp_path: Path) -> None:
    changed_sweep(tmp_path, max_parallel_jobs=7, timeout=60.0)
    recorder = Recorder()
    with resumed(tmp_path, recorder, accept_changes=True) as made:
        assert made.explain()[0].endswith("at most 7 run at once")
        assert [made._ledger[f"s_{num}"].priority for num in (0, 1)] == [0, 7]
    assert "at most 7 jobs at once, a time limit of 1:00 per job from now on" in recorder.messages
    assert set_on_resume(tmp_path) == {"max_parallel_jobs": 7, "timeout": 60.0}
    sweep = read_sweep(tmp_path)
    assert sweep.asked.changes == {"max_parallel_jobs": 7, "timeout": 60.0}
    assert sweep.asked.priorities == {1: 7}


def test_what_is_named_is_not_taken_over(tmp_path: Path) -> None:
    changed_sweep(tmp_path, max_parallel_jobs=7, timeout=60.0)
    with resumed(tmp_path, accept_changes=True, timeout=30):
        assert set_on_resume(tmp_path) == {"max_parallel_jobs": 7}


def test_nothing_is_changed_to_what_it_is(tmp_path: Path) -> None:
    changed_sweep(tmp_path, timeout=60.0)
    recorder = Recorder()
    with resumed(tmp_path, recorder, accept_changes=True, timeout=60):
        pass
    assert not any("from now on" in message for message in recorder.messages)


def test_a_source_that_cannot_change_says_so_and_runs(tmp_path: Path) -> None:
    changed_sweep(tmp_path, timeout=60.0)
    recorder = Recorder()
    manager = LocalManager(observers=[recorder], resume=True, accept_changes=True, progress="none")

    def refuse(self: object, **values: Any) -> None:
        raise HsmError("not here")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Steering, "change", refuse)
        results = manager.run(points(0, 1), command=["true"], sweep_dir=tmp_path)
    assert {row["state"] for row in results} == {"COMPLETED"}
    assert "not as it was changed before: not here" in recorder.messages
