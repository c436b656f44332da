"""Requests in the journal, and what readers make of them: paused, changed settings, priorities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hsm.core.record.controls import (
    Add,
    Cancel,
    CancelPending,
    Change,
    Continue,
    Control,
    Pause,
    Prioritize,
    control_of,
    record_of,
)
from hsm.core.record.journal import Journal
from hsm.core.record.lock import LockFile
from hsm.core.record.paths import SweepPaths
from hsm.core.record.replay import Replay
from hsm.core.record.sweep import Sweep, read_sweep

CONTROLS: list[Control] = [
    Cancel(),
    Cancel(0),
    CancelPending(),
    Pause(),
    Pause(running=True),
    Continue(),
    Change({"max_parallel_jobs": 3, "timeout": None, "max_retries": 0}, now=True),
    Change({"gpu_ids": (0, "GPU-8f1c")}),
    Change({"gpu_ids": None}),
    Prioritize((0, 5), -2),
    Add(("lr=0.3,0.5", "+seed=1")),
    Add(("lr=0.3",), {"model": "svm", "layers": [1, 2]}),
]


def append(paths: SweepPaths, *records: dict[str, Any]) -> None:
    with paths.journal.open("a") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


def sweep_of(folder: Path, *controls: Control | dict[str, Any], alive: bool = True) -> Sweep:
    """A sweep whose journal has these records."""
    paths = SweepPaths(folder)
    paths.create()
    append(paths, {"v": 2, "event": "sweep", "sweep_id": "s", "time": 1.0})
    for control in controls:
        record = control if isinstance(control, dict) else record_of(control)
        append(paths, {"event": "control", "time": 2.0, **record})
    return read_sweep(folder, alive=alive)


@pytest.mark.parametrize("control", CONTROLS)
def test_a_record_says_what_was_asked_for(control: Control) -> None:
    assert control_of(json.loads(json.dumps(record_of(control)))) == control


def test_the_journal_keeps_requests_in_their_order(tmp_path: Path) -> None:
    journal = Journal(SweepPaths(tmp_path), "s", {})
    for control in CONTROLS:
        journal.append("control", **record_of(control))
    journal.close("finished")
    sweep = read_sweep(tmp_path)
    assert sweep.problems == []
    assert [control_of(record) for record in sweep.asked.records] == CONTROLS


def test_a_record_is_as_documented(tmp_path: Path) -> None:
    journal = Journal(SweepPaths(tmp_path), "s", {})
    journal.append("control", **record_of(Change({"max_parallel_jobs": 8})))
    journal.close("finished")
    record = json.loads(journal.paths.journal.read_text().splitlines()[1])
    assert {name: record[name] for name in ("event", "request", "max_parallel_jobs")} == {
        "event": "control",
        "request": "set",
        "max_parallel_jobs": 8,
    }


@pytest.mark.parametrize(
    ("controls", "is_paused"),
    [
        ([], False),
        ([Pause()], True),
        ([Pause(), Pause(running=True)], True),
        ([Pause(), Continue()], False),
        ([Pause(), Continue(), Pause()], True),
        ([Pause(), Change({"max_retries": 1})], True),
    ],
)
def test_a_sweep_is_paused_until_it_is_continued(
    tmp_path: Path, controls: list[Control], is_paused: bool
) -> None:
    sweep = sweep_of(tmp_path, *controls)
    assert sweep.paused is is_paused
    assert sweep.status == ("paused" if is_paused else "running")


def test_a_pause_ends_with_its_launcher(tmp_path: Path) -> None:
    dead = sweep_of(tmp_path / "dead", Pause(), alive=False)
    assert (dead.paused, dead.status) == (False, "launcher died")
    sweep_of(tmp_path / "closed", Pause())
    append(SweepPaths(tmp_path / "closed"), {"event": "close", "reason": "cancelled", "time": 3.0})
    closed = read_sweep(tmp_path / "closed", alive=True)
    assert (closed.paused, closed.status) == (False, "cancelled")
    sweep_of(tmp_path / "resumed", Pause())
    append(SweepPaths(tmp_path / "resumed"), {"v": 2, "event": "resume", "jobs": [], "time": 3.0})
    resumed = read_sweep(tmp_path / "resumed", alive=True)
    assert (resumed.paused, resumed.status) == (False, "running")


def test_whoever_follows_a_journal_sees_the_pause_begin_and_end(tmp_path: Path) -> None:
    journal = Journal(SweepPaths(tmp_path), "s", {})
    with Replay(journal.paths) as replay:
        replay.advance()
        assert replay.sweep.status == "running"
        journal.append("control", **record_of(Pause()))
        assert [record["request"] for record in replay.advance()] == ["pause"]
        assert replay.sweep.status == "paused"
        journal.append("control", **record_of(Continue()))
        replay.catch_up()
        assert replay.sweep.status == "running"
        journal.append("control", **record_of(Pause()))
        journal.close("finished")
        replay.catch_up()
        assert replay.sweep.status == "finished"


def test_the_latest_value_of_a_setting_and_of_a_priority_holds(tmp_path: Path) -> None:
    sweep = sweep_of(
        tmp_path,
        Change({"max_parallel_jobs": 8, "timeout": 60.0}),
        Prioritize((1, 2), 5),
        Change({"timeout": None}),
        Prioritize((2, 3), 0),
    )
    assert sweep.asked.changes == {"max_parallel_jobs": 8, "timeout": None}
    assert sweep.asked.priorities == {1: 5, 2: 0, 3: 0}


def test_settings_of_a_resumed_sweep_are_those_of_its_new_launcher(tmp_path: Path) -> None:
    sweep_of(tmp_path, Change({"max_parallel_jobs": 8}), Prioritize((1,), 5))
    settings = {"max_parallel_jobs": 2}
    append(
        SweepPaths(tmp_path),
        {"v": 2, "event": "resume", "jobs": [], "settings": settings, "time": 3.0},
    )
    sweep = read_sweep(tmp_path, alive=True)
    assert (sweep.asked.changes, sweep.latest["settings"]) == ({}, settings)
    assert sweep.asked.priorities == {1: 5}


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ({"request": 3}, "request is 3, not a string"),
        ({"request": "pause", "running": "yes"}, "running is 'yes', not true or false"),
        ({"request": "set", "max_parallel_jobs": -1}, "max_parallel_jobs is -1, not an integer"),
        ({"request": "set", "timeout": "1h"}, "timeout is '1h', not a number of seconds above 0"),
        ({"request": "set", "gpu_ids": []}, "gpu_ids is [], not a list of numbers and ids of GPUs"),
        ({"request": "set", "gpu_ids": [-1]}, "gpu_ids is [-1], not a list of numbers and ids"),
        ({"request": "set", "gpu_ids": 0}, "gpu_ids is 0, not a list of numbers and ids"),
        ({"request": "priority", "jobs": 3, "priority": 1}, "jobs is 3, not a list"),
        ({"request": "add", "overrides": "lr=1"}, "overrides is 'lr=1', not a list of strings"),
        ({"request": "add", "overrides": [], "params": 1}, "params is 1, not an object"),
        ({"request": "priority", "jobs": [3], "priority": 1 << 40}, "priority is 1099511627776"),
    ],
)
def test_a_damaged_record_is_reported_and_passed_over(
    tmp_path: Path, record: dict[str, Any], problem: str
) -> None:
    sweep = sweep_of(tmp_path, record, Pause())
    assert len(sweep.problems) == 1
    assert sweep.problems[0].startswith(f"line 2: {problem}")
    assert (sweep.asked.changes, sweep.asked.priorities, len(sweep.asked.records)) == ({}, {}, 1)
    assert sweep.paused


def test_a_request_to_add_very_many_points_is_kept_whole(tmp_path: Path) -> None:
    asked = Add((f"x={','.join(map(str, range(40_000)))}",), {"text": "y" * 200_000})
    journal = Journal(SweepPaths(tmp_path), "s", {})
    journal.append("control", **record_of(asked))
    journal.close("finished")
    assert max(map(len, journal.paths.journal.read_bytes().splitlines())) < 64 << 10
    sweep = read_sweep(tmp_path)
    assert (sweep.problems, sweep.asked.added) == ([], [asked])


@pytest.mark.parametrize(
    "record",
    [
        {"set": {"max_parallel_jobs": 3}, "by": "hsm set"},
        {"request": "add", "points": [{"lr": 0.1}]},
        {"request": "priority", "jobs": ["a"], "priority": 1},
        {"request": "set", "gpu_busy": "ignore"},
        {},
    ],
)
def test_what_this_hsm_does_not_know_is_kept_and_means_nothing(
    tmp_path: Path, record: dict[str, Any]
) -> None:
    sweep = sweep_of(tmp_path, record)
    assert sweep.problems == []
    assert len(sweep.asked.records) == 1
    assert (sweep.paused, sweep.asked.changes, sweep.asked.priorities) == (False, {}, {})


def test_a_pause_needs_a_launcher_that_holds_the_lock(tmp_path: Path) -> None:
    sweep_of(tmp_path, Pause())
    assert not read_sweep(tmp_path).paused
    lock = LockFile(SweepPaths(tmp_path).lock)
    try:
        assert read_sweep(tmp_path).paused
    finally:
        lock.release()
