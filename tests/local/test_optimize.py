"""`LocalManager.optimize`: a function, script or command whose points are chosen from results."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import pytest

import hsm
from hsm.core.errors import HsmError, SettingsError
from hsm.core.record.resume import SweepChanged

# .ci/run runs these with the oldest Python and Optuna 4 as well.
pytestmark = pytest.mark.thorough

SPACE = {"x": "interval(-1, 1)", "n": "range(1, 5)", "k": 3}


def square(params: dict[str, Any]) -> float:
    return float(params["x"]) ** 2 + float(params["n"])


def odd(params: dict[str, Any]) -> Any:
    """Succeeds, gives a NaN, or fails, by its number."""
    number = int(os.environ["HSM_JOB_NUM"]) % 3
    if number == 2:
        raise ValueError("two")
    return math.nan if number == 1 else {"loss": square(params), "size": params["n"]}


class Up:
    """Proposes 1, 2 and 3."""

    def __init__(self) -> None:
        self.next = 0

    def ask(self) -> tuple[int, list[str]] | None:
        self.next += 1
        return (self.next, [f"x={self.next}", "n=1"]) if self.next < 4 else None

    def tell(self, trial: int, outcome: object) -> None:
        assert outcome == trial**2 + 1


def optimize(sweep_dir: Path, space: Any = SPACE, **more: Any) -> Any:
    """The results of a study of `square`, of 4 trials with the seed 1."""
    given = {"function": square, "n_trials": 4, "seed": 1, **more}
    with hsm.LocalManager(max_parallel_jobs=2, progress="none") as manager:
        return manager.optimize(space, sweep_dir=sweep_dir, **given)


def test_the_best_point_of_a_function(tmp_path: Path) -> None:
    results = optimize(tmp_path / "s", direction="minimize")
    rows = list(results)
    assert len(rows) == 4
    assert all(-1 <= row["x"] <= 1 and row["n"] in (1, 2, 3, 4) and row["k"] == 3 for row in rows)
    assert all(row["value"] == square(row) for row in rows)
    chosen = hsm.read_sweep(tmp_path / "s").chosen
    assert (chosen["method"], chosen["n_trials"], chosen["seed"]) == ("optuna", 4, 1)
    assert results.goal.direction == "minimize"
    best = min(row["value"] for row in rows)
    assert f"best_value: {best}" in (tmp_path / "s/optimization_results.yaml").read_text()


def test_lists_ranges_and_numpy_make_a_space(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    space = {"x": [0.5, 1.5], "n": range(3, 9, 2), "m": {"a": numpy.array([1, 2])}}
    for row in optimize(tmp_path / "s", space):
        assert (row["x"] in (0.5, 1.5), row["n"] in (3, 5, 7), row["m.a"] in (1, 2)) == (True,) * 3


def test_what_fails_or_is_no_number_is_a_failed_trial(tmp_path: Path) -> None:
    results = optimize(tmp_path / "s", function=odd, n_trials=6, metric="loss", n_jobs=1)
    jobs = hsm.read_sweep(tmp_path / "s").jobs
    assert [str(job.state) for job in jobs.values()] == ["COMPLETED", "COMPLETED", "FAILED"] * 2
    objectives = [job.outcome.objective for job in jobs.values() if job.outcome is not None]
    assert [each is None or math.isnan(each) for each in objectives] == [False, True, True] * 2  # type: ignore[arg-type]
    assert results.goal.metric == "loss"


def test_several_objectives(tmp_path: Path) -> None:
    optimize(tmp_path / "s", function=odd, metric=["loss", "size"], direction=["minimize"] * 2)
    assert hsm.read_sweep(tmp_path / "s").chosen["metric"] == ["loss", "size"]


def test_a_command_and_a_script(tmp_path: Path) -> None:
    code = (
        "import os, sys; open(os.environ['HSM_JOB_DIR'] + '/metrics.json', 'w').write(sys.argv[1])"
    )
    command = [sys.executable, "-c", code, '{{"loss": {x}}}']
    results = optimize(tmp_path / "c", function=None, command=command, metric="loss")
    assert [row["loss"] for row in results] == [row["x"] for row in results]
    script = tmp_path / "fit.py"
    script.write_text(
        "import json, os\n"
        "params = json.loads(os.environ['HSM_PARAMS'])\n"
        "with open(os.environ['HSM_JOB_DIR'] + '/metrics.json', 'w') as file:\n"
        "    json.dump({'loss': params['n']}, file)\n"
    )
    results = optimize(tmp_path / "s", function=None, script=script, metric="loss")
    assert [row["loss"] for row in results] == [row["n"] for row in results]


def test_the_same_study_again_runs_nothing_and_more_trials_go_on(tmp_path: Path) -> None:
    first = [row["x"] for row in optimize(tmp_path / "s")]
    again = optimize(tmp_path / "s", resume=True)
    assert [row["x"] for row in again] == first
    more = optimize(tmp_path / "s", resume=True, n_trials=6)
    assert [row["x"] for row in more][:4] == first
    assert len(more) == 6
    jobs = hsm.read_sweep(tmp_path / "s").jobs.values()
    assert [len(job.attempts) for job in jobs] == [1] * 6


def test_another_space_is_refused(tmp_path: Path) -> None:
    optimize(tmp_path / "s")
    with pytest.raises(SweepChanged, match="x: "):
        optimize(tmp_path / "s", {**SPACE, "x": "interval(-2, 2)"}, resume=True)
    assert len(hsm.read_sweep(tmp_path / "s").jobs) == 4


def test_a_sweep_of_points_does_not_become_a_study(tmp_path: Path) -> None:
    with hsm.LocalManager(progress="none") as manager:
        manager.run([{"x": 1, "n": 2}], function=square, sweep_dir=tmp_path / "s")
    with pytest.raises(SettingsError, match="its points were chosen with method=grid"):
        optimize(tmp_path / "s", resume=True)


def test_a_study_does_not_become_a_sweep_of_points(tmp_path: Path) -> None:
    optimize(tmp_path / "s")
    with (
        hsm.LocalManager(progress="none") as manager,
        pytest.raises(SettingsError, match="is a study: LocalManager"),
    ):
        manager.run([{"x": 1, "n": 2}], function=square, sweep_dir=tmp_path / "s", resume=True)
    assert len(optimize(tmp_path / "s", resume=True)) == 4


def test_first_points_repeats_and_another_sweep(tmp_path: Path) -> None:
    optimize(tmp_path / "first")
    more = {"enqueue": [{"x": 0.25}], "repeat": {"seed": [0, 1]}, "n_trials": 2, "n_jobs": 1}
    optimize(tmp_path / "s", warm_start=[str(tmp_path / "first")], **more)
    jobs = hsm.read_sweep(tmp_path / "s").jobs
    assert [job.params["seed"] for job in jobs.values()] == [0, 1, 0, 1]
    assert [jobs[num].params["x"] for num in (0, 1)] == [0.25, 0.25]
    assert jobs[2].params["x"] == jobs[3].params["x"]


def test_a_sampler_as_an_object(tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    sampler = optuna.samplers.RandomSampler(seed=3)
    first = optimize(tmp_path / "a", sampler=sampler, n_jobs=1)
    sampler = optuna.samplers.RandomSampler(seed=3)
    second = optimize(tmp_path / "b", sampler=sampler, n_jobs=1)
    assert [row["x"] for row in first] == [row["x"] for row in second]


def test_a_class_of_ones_own(tmp_path: Path) -> None:
    method = f"{__name__}.Up"
    results = optimize(tmp_path / "s", {"k": 1}, method=method, n_trials=10)
    assert [row["x"] for row in results] == [1, 2, 3]


def test_a_job_may_be_pruned(tmp_path: Path) -> None:
    def curve(params: dict[str, Any]) -> float:
        for step in range(3):
            hsm.report(params["x"] + step, step=step)
            if hsm.should_prune():
                raise hsm.Pruned
        return float(params["x"])

    first = [{"x": x} for x in (0.0, 0.1, 1.0)]
    pruner = {"name": "median", "n_startup_trials": 2}
    optimize(tmp_path / "s", function=curve, enqueue=first, pruner=pruner, n_trials=3, n_jobs=1)
    jobs = hsm.read_sweep(tmp_path / "s").jobs
    assert [str(job.state) for job in jobs.values()] == ["COMPLETED", "COMPLETED", "PRUNED"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_trials": 0}, "argument n_trials must be a whole number of at least 1"),
        ({"direction": "down"}, "argument direction must be one of minimize, maximize"),
        ({"sampler": "tpee"}, "did you mean tpe?"),
        ({"pruner": "ash"}, "asha"),
        ({"max_runs": 3}, "argument max_runs: max_runs does not go with a study"),
        ({"n_trails": 3}, "did you mean n_trials?"),
        ({"space": {"x": []}}, "x must be a list with at least one value"),
        ({"space": 3}, "must be a mapping of parameters"),
        ({"space": {"x": "interval(2, 1)"}}, "it ends before it starts"),
        ({"repeat": {"x": [1]}}, "x is repeated and a parameter of the points as well"),
        ({"enqueue": [{"x": 7}]}, "x=7"),
        ({"warm_start": ["nope"]}, "no sweep 'nope'"),
        ({"space": {"x": 1}, "method": "no.such.Class"}, "cannot make no.such.Class"),
        ({"method": "randm"}, "optuna, or the dotted path of a class"),
        ({"function": None}, "nothing to run: pass script=, command= or function="),
        ({"function": None, "command": ["echo", "{y}"]}, "{y}"),
    ],
)
def test_what_it_cannot_do_is_refused_before_anything_is_there(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        optimize(tmp_path / "s", **arguments)
    assert message in str(refused.value)
    assert not (tmp_path / "s").exists()


def test_a_closed_manager_takes_no_study(tmp_path: Path) -> None:
    manager = hsm.LocalManager(progress="none")
    manager.close()
    with pytest.raises(HsmError, match="closed"):
        manager.optimize(SPACE, function=square, sweep_dir=tmp_path / "s")


def test_the_metric_and_direction_of_the_manager_hold(tmp_path: Path) -> None:
    with hsm.LocalManager(progress="none", metric="loss", direction="maximize") as manager:
        manager.optimize(SPACE, function=odd, n_trials=1, sweep_dir=tmp_path / "s")
    chosen = hsm.read_sweep(tmp_path / "s").chosen
    assert json.dumps([chosen["metric"], chosen["direction"]]) == '[["loss"], ["maximize"]]'
