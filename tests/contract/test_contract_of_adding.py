"""Whatever the place, a running sweep takes more points, and has them again when it is resumed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from contract_support import Place, Recorder, journal_events, states
from hsm import read_sweep
from hsm.cli._requesting import carry_out, running_sweep
from hsm.core.engine.adding import MOST_POINTS
from hsm.core.engine.sweep_source import SweepSource
from hsm.core.errors import HsmError
from hsm.core.record.controls import Add, record_of
from hsm.core.record.paths import SweepPaths

pytestmark = pytest.mark.thorough

#: Stays until there is the file "go".
UNTIL_GO = ["sh", "-c", "until [ -e go ]; do sleep 0.02; done; echo {x} {model}"]


def add(*overrides: str, sweep: str = "s") -> list[str]:
    """Ask as `hsm add` does; returns what it prints."""
    with running_sweep(SweepPaths(sweep)) as replay:
        return carry_out(replay, Add(overrides))


def refused(*overrides: str) -> str:
    with pytest.raises(HsmError) as error:
        add(*overrides)
    return str(error.value).removeprefix("s: ")


def params(sweep: str = "s") -> list[dict[str, Any]]:
    return [dict(job.params) for _, job in sorted(read_sweep(sweep).jobs.items())]


def submit(source: SweepSource, *xs: int, **more: Any) -> list[str]:
    given = [{"x": x, "model": "svm"} for x in xs]
    return source.submit_jobs(given, "s", "s", **{"command": UNTIL_GO, **more})


def test_points_are_added_with_what_all_jobs_share(place: Place) -> None:
    recorder = Recorder()
    with place.source(recorder, max_parallel_jobs=1) as source:
        submit(source, 1, 2)
        assert add("x=3,2,4") == [
            "added jobs 2-3",
            "with model=svm, as all its jobs",
            "already there: the point of job 1",
        ]
        assert add("model=rf,'a b'", "x=1") == ["added jobs 4-5"]
        Path("go").touch()
        source.wait()
        assert states(source, [f"s_{num}" for num in range(6)]) == ["COMPLETED"] * 6
    assert params() == [
        *({"x": x, "model": "svm"} for x in (1, 2, 3, 4)),
        *({"x": 1, "model": model} for model in ("rf", "a b")),
    ]
    labels = [job.label for _, job in sorted(read_sweep("s").jobs.items())]
    assert labels[2:] == ["x=3 model=svm", "x=4 model=svm", "x=1 model=rf", "x=1 model=a b"]
    logs = [SweepPaths("s").stdout(num).read_text() for num in range(6)]
    assert logs == ["1 svm\n", "2 svm\n", "3 svm\n", "4 svm\n", "1 rf\n", "1 a b\n"]
    assert recorder.messages[0].startswith("added jobs 2-3; with model=svm, as all its jobs; ")
    asked = [event for event in journal_events("s") if event["event"] in ("control", "submit")]
    assert [event["event"] for event in asked] == ["submit", *(2 * ("control", "submit"))]
    assert asked[1]["overrides"] == ["x=3,2,4"]
    assert asked[1]["params"] == {"model": "svm"}


def double(params: dict[str, Any]) -> Any:
    while not os.path.exists("go"):
        pass
    return 2 * params["x"], params.get("flag")


def test_functions_get_added_points_as_well(place: Place) -> None:
    with place.source(max_parallel_jobs=1) as source:
        given: list[dict[str, Any]] = [{"x": 1, "flag": [None, {"a": 1.5}]}]
        source.submit_jobs(given, "s", "s", function=double)
        assert add("x=2.5,true") == [
            "added jobs 1-2",
            "with flag=[None, {'a': 1.5}], as all its jobs",
        ]
        Path("go").touch()
        assert source.result("s_1") == (5.0, [None, {"a": 1.5}])
        assert source.result("s_2") == (2, [None, {"a": 1.5}])


def test_what_only_jobs_of_their_own_have_is_named(place: Place) -> None:
    command = ["sh", "-c", "until [ -e go ]; do sleep 0.02; done"]
    with place.source() as source:
        given = [{"x": x, "seed": seed} for x, seed in ((1, 1), (2, 2))]
        source.submit_jobs(given, "s", "s", command=command)
        assert add("x=3") == ["added job 2", "without seed, which all its other jobs set"]
        assert add("seed=3") == ["added job 3", "without x, which all its other jobs set"]
        assert add("lr=3") == ["added job 4"]  # by now, not all set x or seed
        Path("go").touch()
    assert params()[2:] == [{"x": 3}, {"seed": 3}, {"lr": 3}]


def test_needs_are_shared_and_may_be_given(place: Place) -> None:
    with place.source(resources={"gpu": 2}) as source:
        given = [{"x": 1, "model": "m", "_needs_": {"gpu": 2}}]
        source.submit_jobs(given, "s", "s", command=UNTIL_GO)
        assert add("x=2") == ["added job 1", "with model=m _needs_={'gpu': 2}, as all its jobs"]
        assert add("x=3", "_needs_={gpu: 1}") == ["added job 2", "with model=m, as all its jobs"]
        assert "gpu" in refused("x=4", "_needs_={gpu: 3}")
        Path("go").touch()
        source.wait()
    jobs = read_sweep("s").jobs
    assert [jobs.needs_of(num) for num in range(3)] == [{"gpu": 2}, {"gpu": 2}, {"gpu": 1}]
    assert params()[1] == {"x": 2, "model": "m"}


def test_gpus_of_points_are_shared_and_may_be_given(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with place.source(gpus=1) as source:
        given = [{"x": 1, "model": "m", "_needs_": {"gpus": 0.5}}]
        source.submit_jobs(given, "s", "s", command=UNTIL_GO)
        assert add("x=2") == ["added job 1", "with model=m _needs_={'gpus': 0.5}, as all its jobs"]
        assert add("x=3", "_needs_={gpus: 2}") == ["added job 2", "with model=m, as all its jobs"]
        assert "a share is of one GPU" in refused("x=4", "_needs_={gpus: 1.5}")
        Path("go").touch()
        source.wait()
    jobs = read_sweep("s").jobs
    assert [jobs.needs_of(num) for num in range(3)] == [{"gpus": 0.5}, {"gpus": 0.5}, {"gpus": 2}]


def test_what_cannot_run_is_refused_and_leaves_no_trace(place: Place) -> None:
    with place.source() as source:
        submit(source, 1, 2)
        assert refused("x=1,2") == "already there: the points of jobs 0-1"
        assert "it has no values" in refused("x=range(0)")
        assert refused(f"x=range({MOST_POINTS + 1})") == (
            f"{MOST_POINTS + 1} points are too many to add at once: at most {MOST_POINTS}"
        )
        assert "x=interval(0,1)" in refused("x=interval(0,1)")
        assert "x is given twice" in refused("x=1", "+x=2")
        assert "'x[=1'" in refused("x[=1")
        assert "too long for a command line" in refused(f"x={'a' * 200_000}")
        Path("go").touch()
    assert {event["event"] for event in journal_events("s")}.isdisjoint({"control"})
    assert len(params()) == 2


def test_a_placeholder_without_a_parameter_is_refused(place: Place) -> None:
    with place.source() as source:
        source.submit_jobs(
            [{"x": 1, "model": "a"}, {"x": 2, "model": "b"}], "s", "s", command=UNTIL_GO
        )
        assert "no parameter for {model}" in refused("x=3")
        Path("go").touch()
    assert len(params()) == 2


def test_a_sweep_that_ends_takes_no_more(place: Place) -> None:
    with place.source(kill_grace=30.0) as source:
        stubborn = ["sh", "-c", "trap '' TERM; touch up; until [ -e go ]; do sleep 0.02; done"]
        source.submit_jobs([{"x": 1}], "s", "s", command=stubborn)
        while not Path("up").exists():
            pass
        source.stop("enough")
        assert refused("x=2") == "this source takes no more jobs: enough"
        Path("go").touch()
    assert len(params()) == 1
    with pytest.raises(HsmError, match="s is not running: enough"):
        add("x=2")


def test_a_resumed_sweep_has_what_was_added(place: Place) -> None:
    with place.source(max_parallel_jobs=1) as source:
        submit(source, 1, 2)
        add("x=3,4,1")
        add("model=rf", "x=1")
        source.stop("the evening")
    with place.source(max_parallel_jobs=1) as source:  # the points as at first
        submit(source, 1, 2, resume=True)
        source.stop("later")
    Path("go").touch()
    with place.source(max_parallel_jobs=1) as source:  # and with one that was added
        submit(source, 1, 2, 3, resume=True)
    sweep = read_sweep("s")
    assert params() == [
        *({"x": x, "model": "svm"} for x in (1, 2, 3, 4)),
        {"x": 1, "model": "rf"},
    ]
    assert sweep.jobs.count_states() == {"COMPLETED": 5}
    assert len([record for record in sweep.asked.records if record["request"] == "add"]) == 2


def dies_before_adding(place: Place, override: str) -> None:
    """Leave a sweep whose request to add is in the journal, and its jobs are not."""
    with place.source() as source:
        Path("go").touch()
        submit(source, 1)
    record = {"event": "control", **record_of(Add((override,), {"model": "svm"}))}
    with SweepPaths("s").journal.open("a") as file:
        file.write(json.dumps(record) + "\n")


def test_what_was_asked_for_just_before_the_launcher_died_is_added_on_resume(place: Place) -> None:
    dies_before_adding(place, "x=1,2")
    with place.source() as source:
        submit(source, 1, resume=True)
    assert params() == [{"x": 1, "model": "svm"}, {"x": 2, "model": "svm"}]
    assert read_sweep("s").jobs.count_states() == {"COMPLETED": 2}


def test_what_cannot_be_added_again_is_told(place: Place) -> None:
    dies_before_adding(place, "y=1")
    recorder = Recorder()
    with place.source(recorder) as source:
        submit(source, 1, resume=True)
    assert any(text.startswith("not added again: added: y=1: ") for text in recorder.messages)
    assert len(params()) == 1
