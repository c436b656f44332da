"""Points that `hsm.choose_points` chooses, in sweeps that Python starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import hsm


def double(params: dict[str, Any]) -> float:
    return float(params["x"]) * 2


def test_a_manager_runs_what_was_chosen(tmp_path: Path) -> None:
    points = hsm.choose_points({"x": "interval(0, 1)"}, method="random", n_trials=3, seed=2)
    with hsm.LocalManager(max_parallel_jobs=2, progress="none") as manager:
        results = manager.run(points, function=double, sweep_dir=tmp_path / "s")
    assert [row["x"] for row in results] == [point["x"] for point in points]
    assert [row["value"] for row in results] == [point["x"] * 2 for point in points]
    chosen = {"method": "random", "n_trials": 3, "seed": 2}
    assert hsm.read_sweep(tmp_path / "s").chosen == chosen


def test_a_resumed_run_takes_more_of_the_same_points(tmp_path: Path) -> None:
    def points(n_trials: int) -> Any:
        return hsm.choose_points(
            {"x": "interval(0, 1)"}, method="random", n_trials=n_trials, seed=2
        )

    with hsm.LocalManager(max_parallel_jobs=2, progress="none") as manager:
        for n_trials in (2, 3):
            manager.run(points(n_trials), function=double, sweep_dir=tmp_path / "s", resume=True)
    sweep = hsm.read_sweep(tmp_path / "s")
    assert [len(job.attempts) for job in sweep.jobs.values()] == [1, 1, 1]
    assert sweep.chosen["n_trials"] == 3


def test_a_resumed_run_without_a_seed_has_the_one_on_record(tmp_path: Path) -> None:
    with hsm.LocalManager(progress="none") as manager:
        for n_trials in (2, 3):
            points = hsm.choose_points({"x": "interval(0, 1)"}, method="random", n_trials=n_trials)
            manager.run(points, function=double, sweep_dir=tmp_path / "s", resume=True)
    sweep = hsm.read_sweep(tmp_path / "s")
    assert len(sweep.jobs) == 3
    assert sweep.chosen == {**sweep.header["chosen"], "n_trials": 3}


def test_a_source_takes_what_was_chosen(tmp_path: Path) -> None:
    points = hsm.choose_points({"x": [1, 2]}, repeat={"seed": [0, 1]})
    with hsm.LocalComputeSource(max_parallel_jobs=2) as source:
        ids = source.submit_jobs(points, "s", tmp_path / "s", function=double)
        source.wait(ids)
    jobs = hsm.read_sweep(tmp_path / "s").jobs.values()
    assert [job.params for job in jobs] == list(points)
    assert len(ids) == points.count() == 4


def test_an_iterable_of_points_will_do(tmp_path: Path) -> None:
    with hsm.LocalManager(progress="none") as manager:
        points = ({"x": x} for x in (1, 2))
        assert len(manager.run(points, function=double, sweep_dir=tmp_path / "s")) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"params": {"x": []}}, "choose_points: x must be a list with at least one value"),
        ({"params": 3}, "choose_points: params: must be a mapping of parameters"),
        ({"params": []}, "choose_points: params: must be a mapping, or a list of mappings"),
        ({"params": {1: [2]}}, "expected a string as a key, got 1 (int)"),
        ({"params": {"x": [{1}]}}, "a set is none of these"),
        ({"params": {"x": "interval(0, 1)"}}, "an interval has no list of values"),
        ({"params": {"x": "rnage(3)"}}, "there is no rnage(), did you mean range?"),
        ({"params": {}, "zip": {"x": [1]}}, "choose_points: zip: must be a mapping of named"),
        ({"params": {}, "zip": {"g": {"x": [1], "y": [1, 2]}}}, "differ in length: x has 1, y has"),
        ({"params": {}, "points": 3}, "choose_points: points: must be a list of mappings"),
        ({"params": {}, "points": []}, "choose_points: points: must be a list of mappings"),
        ({"params": {}, "points": "no.csv"}, "no.csv': No such file"),
        ({"params": {"x": [1]}, "method": "rand"}, "argument method must be"),
        ({"params": {"x": [1]}, "method": "random"}, "n_trials"),
        ({"params": {"x": [1]}, "n_trials": 3}, "n_trials"),
        ({"params": {"x": [1]}, "seed": -1, "shuffle": True}, "argument seed must be"),
        ({"params": {"x": [1]}, "max_runs": 0}, "argument max_runs must be"),
        ({"params": {"x": [1]}, "repeat": {"x": [1]}}, "x"),
        ({"params": {"x": [1]}, "repeat": 3}, "argument repeat must be"),
    ],
)
def test_what_cannot_be_chosen_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(hsm.SettingsError) as caught:
        hsm.choose_points(**arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_seed_of_0_counts() -> None:
    def points(seed: int) -> list[dict[str, Any]]:
        return list(hsm.choose_points({"x": range(100)}, shuffle=True, seed=seed))

    assert points(0) == points(0) != points(1)


def test_values_that_hold_themselves_are_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(hsm.SettingsError, match="nested too deeply"):
        hsm.choose_points({"x": endless})


def test_values_of_numpy_and_paths_become_plain() -> None:
    numpy = pytest.importorskip("numpy")
    points = hsm.choose_points(
        {
            "x": numpy.linspace(0, 1, 3),
            "path": [Path("a/b")],
            "n": numpy.int64(3),
            "rows": [[1, 2], (3, 4)],
            "huge": range(10**12),
        },
        max_runs=1,
    )
    [point] = points
    assert point == {"x": 0.0, "path": "a/b", "n": 3, "rows": [1, 2], "huge": 0}
    assert type(point["n"]) is int
