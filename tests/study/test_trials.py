"""What a study asks for, and what it tells."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from helpers.studies import SPACE, Sweep, space_of, told
from hsm.core.errors import SettingsError
from hsm.core.record.job import Ending, Job, JobState
from hsm.core.record.metrics import Measurement
from hsm.core.record.resume import SweepChanged
from hsm.core.study.trials import Trials

pytestmark = pytest.mark.thorough


def sweep(folder: Path, *overrides: str, **options: Any) -> Sweep:
    given = {"n_trials": 6, "sampler": "random", "seed": 1, **options}
    return Sweep(folder, space_of(*(overrides or SPACE)), given)


def trials_of(trials: Trials) -> list[Any]:
    study = trials._proposer._study  # type: ignore[attr-defined]
    found: list[Any] = study.get_trials()
    return found


def failed(reason: str = "exit code 1") -> Ending:
    return Ending(JobState.FAILED, exit_code=1, reason=reason)


# --- how jobs end ---


@pytest.mark.parametrize(
    ("ending", "state", "reason"),
    [
        (Ending(JobState.COMPLETED, value=0.5), "COMPLETE", None),
        (Ending(JobState.COMPLETED, value=math.nan), "FAIL", "its metric is nan"),
        (Ending(JobState.COMPLETED, value=math.inf), "FAIL", "its metric is inf"),
        (Ending(JobState.COMPLETED, value="abc"), "FAIL", "it returned no number: 'abc'"),
        (Ending(JobState.COMPLETED), "FAIL", "it returned no number"),
        (Ending(JobState.FAILED, exit_code=3), "FAIL", "failed: exit code 3"),
        (
            Ending(JobState.TIMEOUT, reason="timeout after 2 s"),
            *("FAIL", "timeout: timeout after 2 s"),
        ),
        (Ending(JobState.OUT_OF_MEMORY), "FAIL", "out of memory"),
        (Ending(JobState.PRUNED, reason="pruned at step 3"), "PRUNED", "pruned at step 3"),
    ],
)
def test_each_end_is_told(tmp_path: Path, ending: Ending, state: str, reason: str | None) -> None:
    one = sweep(tmp_path)
    trials = one.open()
    asked = trials.ask()
    assert asked is not None
    job = one.submit(asked)
    one.end(trials, job, ending)
    trials.ended(job)
    trials.ended(job)  # A resume may tell of it once more.
    [trial] = trials_of(trials)
    assert trial.state.name == state
    assert trial.user_attrs.get("hsm_reason") == reason
    if state == "FAIL":
        assert not trials.best()


def test_the_objective_is_recorded_even_if_it_is_not_finite(tmp_path: Path) -> None:
    one = sweep(tmp_path)
    trials = one.open()
    job = Job(0, "s1_0")
    ending = trials.score(job, Ending(JobState.COMPLETED, value=math.nan), None)
    assert isinstance(ending.objective, float)
    assert math.isnan(ending.objective)
    assert trials.score(job, Ending(JobState.COMPLETED, value=2), None).objective == 2.0
    assert trials.score(job, failed(), None).objective is None
    pruned = trials.score(job, Ending(JobState.PRUNED), {"value": 0.25})
    assert pruned.objective == 0.25


def test_a_job_that_ended_early_has_its_last_report(tmp_path: Path) -> None:
    """Without a pruner too: a job may raise hsm.Pruned by itself."""
    one = sweep(tmp_path)
    trials = one.open()
    job = one.submit(trials.ask())  # type: ignore[arg-type]
    job.end(1.0, trials.score(job, Ending(JobState.PRUNED), {"value": 0.25}))
    trials.ended(job)
    [trial] = trials_of(trials)
    assert (trial.state.name, trial.value) == ("PRUNED", 0.25)
    one.paths.study.unlink()
    [trial] = trials_of(one.open())
    assert (trial.state.name, trial.value) == ("PRUNED", 0.25)


def test_if_all_jobs_fail_the_study_ends_without_a_best_trial(tmp_path: Path) -> None:
    one = sweep(tmp_path)
    one.value = lambda point: None
    trials = one.open()
    one.run(trials)
    assert trials.best() == []
    assert trials.optimization_results() == {
        "name": "optuna",
        "best_params": {},
        "best_value": None,
        "best_job": None,
    }


def test_results_are_written_as_hydra_optuna_sweeper_does(tmp_path: Path) -> None:
    one = sweep(tmp_path)
    trials = one.open()
    one.run(trials)
    [best] = trials.best()
    assert best.values[0] == min(job.value for job in one.jobs.values())
    results = trials.optimization_results()
    assert results["best_value"] == best.values[0]
    assert set(results["best_params"]) == {"x", "n", "kind"}
    assert one.jobs[results["best_job"]].value == best.values[0]


def test_of_several_objectives_there_is_a_front(tmp_path: Path) -> None:
    one = sweep(tmp_path, direction=["minimize", "maximize"], n_trials=12, sampler=None)
    one.value = lambda point: [float(point["x"]) ** 2, float(point["x"])]
    trials = one.open()
    one.run(trials)
    results = trials.optimization_results()
    front = [tuple(each["values"]) for each in results["solutions"]]
    study = trials._proposer._study  # type: ignore[attr-defined]
    assert sorted(front) == sorted(tuple(t.values) for t in study.best_trials)
    assert all(one.jobs[each["job"]].value == each["values"] for each in results["solutions"])


def test_a_list_of_another_length_fails(tmp_path: Path) -> None:
    one = sweep(tmp_path, direction=["minimize", "maximize"], sampler=None)
    one.value = lambda point: [1.0]
    trials = one.open()
    one.run(trials)
    reasons = {trial.user_attrs["hsm_reason"] for trial in trials_of(trials)}
    assert reasons == {"it returned 1 number, and there are 2 objectives"}


# --- how a study ends ---


def test_too_many_failures_end_the_sweep_once_ten_trials_have_ended(tmp_path: Path) -> None:
    one = sweep(tmp_path, n_trials=30, max_failure_rate=0.5)
    trials = one.open()
    reasons = []
    for number in range(12):
        asked = trials.ask()
        assert asked is not None
        job = one.submit(asked)
        one.end(trials, job, failed() if number != 4 else None)
        reasons.append(trials.ended(job))
    assert reasons[:9] == [None] * 9
    assert reasons[9] == "9 of 10 trials failed (max_failure_rate=0.5)"


def test_a_target_ends_the_study(tmp_path: Path) -> None:
    one = sweep(tmp_path, n_trials=100, target=0.5)
    trials = one.open()
    one.run(trials)
    assert len(one.jobs) < 100
    assert "has reached the target" in trials.why_over
    [best] = trials.best()
    assert best.values[0] <= 0.5


def test_time_ends_the_study(tmp_path: Path) -> None:
    one = sweep(tmp_path, n_trials=100, max_time=1e-6)
    trials = one.open()
    one.run(trials)
    assert one.jobs == {}
    assert trials.is_over
    assert "max_time" in trials.why_over


@pytest.mark.parametrize("sampler", ["grid", "bruteforce"])
def test_a_small_space_is_searched_once(tmp_path: Path, sampler: str) -> None:
    one = sweep(tmp_path, "a=1,2,3", "b=range(0,1,0.5)", sampler=sampler, n_trials=50)
    trials = one.open()
    assert trials.planned == 6
    one.run(trials)
    assert len({tuple(point.items()) for point in one.points()}) == 6
    assert trials.is_over
    trials.close()
    assert one.open().ask() is None


def test_a_custom_space_that_is_exhausted_ends(tmp_path: Path) -> None:
    one = sweep(tmp_path, "k=1", sampler="bruteforce", n_trials=50)
    one.options["custom_search_space"] = lambda trial: trial.suggest_categorical("c", ["a", "b"])
    trials = one.open()
    one.run(trials)
    assert sorted(point["c"] for point in one.points()) == ["a", "b"]
    assert trials.why_over == "there are no more points"


# --- cancelled jobs ---


def test_a_job_that_is_cancelled_while_the_sweep_goes_on_has_failed(tmp_path: Path) -> None:
    one = sweep(tmp_path, n_trials=2)
    trials = one.open()
    first = trials.ask()
    assert first is not None
    job = one.submit(first)
    one.end(trials, job, Ending(JobState.CANCELLED, reason="cancelled by hsm cancel"))
    trials.ended(job)
    assert [state for _, state in told(trials)] == ["RUNNING"]
    one.submit(trials.ask())  # type: ignore[arg-type]
    assert [state for _, state in told(trials)] == ["FAIL", "RUNNING"]


def test_cancelled_jobs_run_again_in_a_resume(tmp_path: Path) -> None:
    one = sweep(tmp_path, n_trials=3)
    trials = one.open()
    for _ in range(3):
        job = one.submit(trials.ask())  # type: ignore[arg-type]
        one.end(trials, job, Ending(JobState.CANCELLED))
        trials.ended(job)
    trials.close()
    before = one.points()
    for num, job in one.jobs.items():
        again = Job(num, job.job_id, params=job.params)
        again.start(0.0, 1)
        one.jobs[num] = again
    trials = one.open()
    one.run(trials)
    assert one.points() == before
    assert dict(told(trials)) == {f"s1/{index}": "COMPLETE" for index in range(3)}


def test_failed_jobs_that_run_again_are_told_anew(tmp_path: Path) -> None:
    one = sweep(tmp_path, n_trials=2)
    trials = one.open()
    for _ in range(2):
        job = one.submit(trials.ask())  # type: ignore[arg-type]
        one.end(trials, job, failed())
        trials.ended(job)
    trials.close()
    trials = one.open(rerun="unfinished")
    for asked in trials.earlier():
        job = Job(asked.num, f"s1_{asked.num}", params=dict(asked.point))
        job.start(0.0, 1)
        one.end(trials, job)
        trials.ended(job)
    assert trials.is_over
    assert told(trials) == [
        *(("s1/0", "FAIL"), ("s1/1", "FAIL"), ("s1/0", "COMPLETE"), ("s1/1", "COMPLETE")),
    ]
    [best] = trials.best()
    assert best.values[0] == min(one.value(point) for point in one.points())


def test_if_only_some_jobs_run_again_no_others_are_asked_for(tmp_path: Path) -> None:
    one = sweep(tmp_path, n_trials=2)
    trials = one.open()
    one.run(trials)
    trials.close()
    one.options["n_trials"] = 5
    trials = one.open(rerun=(1,))
    assert trials.ask() is None
    assert trials.is_over


# --- first points, other sweeps, duplicates ---


def test_first_points_come_first(tmp_path: Path) -> None:
    one = sweep(tmp_path, enqueue=[{"x": 0.5}, {"x": 0, "n": 3, "kind": "b", "k": 3}])
    one.options["enqueue_default"] = True
    trials = one.open(default_point={"x": 0.25, "n": 2, "kind": "a"})
    one.run(trials)
    assert len(one.jobs) == 6
    assert one.points()[0] == {"x": 0.25, "n": 2, "kind": "a", "k": 3}
    assert one.points()[1]["x"] == 0.5
    assert one.points()[2] == {"x": 0.0, "n": 3, "kind": "b", "k": 3}


def test_a_first_point_outside_is_refused_before_anything_starts(tmp_path: Path) -> None:
    one = sweep(tmp_path, enqueue=[{"x": 5}])
    with pytest.raises(SettingsError, match="cannot run x=5: it is not in the space"):
        one.open()
    assert not one.paths.study.exists()


@pytest.mark.parametrize("sampler", ["tpe", "grid"])
def test_points_are_added_while_it_runs(tmp_path: Path, sampler: str) -> None:
    one = sweep(tmp_path, "a=1,2,3", "b=1,2", sampler=sampler, n_trials=2)
    trials = one.open()
    one.submit(trials.ask())  # type: ignore[arg-type]
    one.submit(trials.ask())  # type: ignore[arg-type]
    assert trials.is_over
    trials.enqueue([{"a": 3, "b": 2}])
    assert trials.planned == 3
    assert one.submit(trials.ask()).params == {"a": 3, "b": 2}  # type: ignore[arg-type]
    assert trials.ask() is None
    with pytest.raises(SettingsError, match="a=9"):
        trials.enqueue([{"a": 9}])
    trials.close()
    one.restart()
    trials = one.open(added=1)
    assert trials.ask() is None
    assert trials.is_over


def test_a_point_that_has_run_is_not_run_again(tmp_path: Path) -> None:
    one = sweep(tmp_path, "a=1,2,3,4", duplicates="reuse", n_trials=20)
    one.value = lambda point: float(point["a"])
    trials = one.open()
    one.run(trials)
    assert sorted(point["a"] for point in one.points()) == [1, 2, 3, 4]
    assert "have all run already" in trials.why_over
    assert sorted(one.jobs) == [0, 1, 2, 3]
    trials.close()


# --- repeats ---


def test_a_trial_is_told_the_mean_of_its_repeats(tmp_path: Path) -> None:
    one = sweep(tmp_path, "x=interval(0, 1)", n_trials=3, repeat={"seed": [1, 2, 6]})
    one.value = lambda point: float(point["seed"])
    trials = one.open()
    assert trials.planned == 9
    one.run(trials)
    assert [point["seed"] for point in one.points()] == [1, 2, 6] * 3
    assert len({point["x"] for point in one.points()}) == 3
    assert [trial.value for trial in trials_of(trials)] == [3.0] * 3
    assert trials.best()[0].job in (0, 3, 6)


@pytest.mark.parametrize(
    ("repeat_as", "direction", "value"),
    [("median", "minimize", 2.0), ("worst", "minimize", 6.0), ("worst", "maximize", 1.0)],
)
def test_other_values_of_repeats(
    tmp_path: Path, repeat_as: str, direction: str, value: float
) -> None:
    one = sweep(
        tmp_path,
        *("x=interval(0, 1)",),
        n_trials=1,
        repeat={"seed": [1, 2, 6]},
        repeat_as=repeat_as,
        direction=direction,
    )
    one.value = lambda point: float(point["seed"])
    trials = one.open()
    one.run(trials)
    assert [trial.value for trial in trials_of(trials)] == [value]


@pytest.mark.parametrize(("failures", "state"), [(1, "COMPLETE"), (2, "COMPLETE"), (3, "FAIL")])
def test_half_of_the_repeats_are_enough(tmp_path: Path, failures: int, state: str) -> None:
    one = sweep(tmp_path, "x=interval(0, 1)", n_trials=1, repeat={"seed": [0, 1, 2, 3]})
    one.value = lambda point: None if point["seed"] < failures else 1.0
    trials = one.open()
    one.run(trials)
    [trial] = trials_of(trials)
    assert trial.state.name == state
    if state == "FAIL":
        reason = "3 of 4 repeats failed: it returned no number"
        assert trial.user_attrs["hsm_reason"] == reason


def test_repeats_that_were_not_asked_for_yet_come_in_a_resume(tmp_path: Path) -> None:
    one = sweep(tmp_path, "x=interval(0, 1)", n_trials=2, repeat={"seed": [0, 1, 2]})
    trials = one.open()
    for _ in range(2):
        job = one.submit(trials.ask())  # type: ignore[arg-type]
        one.end(trials, job)
        trials.ended(job)
    one.restart()
    trials = one.open()
    one.run(trials)
    assert sorted(one.jobs) == list(range(6))
    assert [point["seed"] for point in one.points()] == [0, 1, 2] * 2
    assert [state for _, state in told(trials)] == ["COMPLETE"] * 2


def test_a_repeated_parameter_is_not_one_of_the_space(tmp_path: Path) -> None:
    one = sweep(tmp_path, "seed=range(3)", repeat={"seed": [1, 2]})
    with pytest.raises(SettingsError, match="seed is repeated and a parameter"):
        one.open()


def test_wilcoxon_prunes_repeats(tmp_path: Path) -> None:
    one = sweep(tmp_path, "x=1,2,3", n_trials=3, sampler="grid", seed=1)
    one.options.update(
        repeat={"seed": list(range(8))}, pruner={"name": "wilcoxon", "n_startup_steps": 0}
    )
    one.value = lambda point: float(point["x"]) * 10 + float(point["seed"])
    trials = one.open()
    one.run(trials)
    states = [state for _, state in told(trials)]
    assert states.count("PRUNED") >= 1
    assert len(one.jobs) < 24
    numbers = {num // 8 for num in one.jobs}
    assert numbers == {0, 1, 2}
    trials.close()
    before = len(one.jobs)
    trials = one.open()
    one.run(trials)
    assert len(one.jobs) == before
    assert [state for _, state in told(trials)] == states


# --- pruning ---


def test_the_pruner_sees_the_metric_or_the_value(tmp_path: Path) -> None:
    one = sweep(tmp_path, pruner={"name": "threshold", "upper": 1.0}, metric="loss")
    trials = one.open()
    job = one.submit(trials.ask())  # type: ignore[arg-type]
    assert trials.measured(job, Measurement(0, {"loss": 0.5, "value": 9.0})) is None
    assert trials.measured(job, Measurement(None, {"loss": 9.0})) is None
    assert trials.measured(job, Measurement(1, {"other": 9.0})) is None
    assert trials.measured(job, Measurement(1, {"loss": "high"})) is None
    assert trials.measured(job, Measurement(0, {"loss": 9.0})) is None  # told already
    assert trials.measured(job, Measurement(2, {"value": 2.0})) == "pruned at step 2: value 2"
    one.end(trials, job, Ending(JobState.PRUNED))
    trials.ended(job)
    [trial] = trials_of(trials)
    assert (trial.state.name, trial.value) == ("PRUNED", 2.0)
    assert trial.intermediate_values == {0: 0.5, 2: 2.0}
    assert trials.measured(job, Measurement(3, {"loss": 9.0})) is None  # It has ended.


def test_a_step_that_another_attempt_has_measured_prunes_nobody(tmp_path: Path) -> None:
    one = sweep(tmp_path, pruner={"name": "threshold", "upper": 1.0})
    trials = one.open()
    job = one.submit(trials.ask())  # type: ignore[arg-type]
    assert trials.measured(job, Measurement(5, {"value": 0.5})) is None
    one.restart()
    trials = one.open()
    [asked] = trials.earlier()
    job = one.jobs[asked.num]
    assert trials.measured(job, Measurement(4, {"value": 9.0})) is None
    assert trials.measured(job, Measurement(6, {"value": 9.0})) is not None


def test_without_a_pruner_nothing_is_pruned(tmp_path: Path) -> None:
    one = sweep(tmp_path)
    trials = one.open()
    job = one.submit(trials.ask())  # type: ignore[arg-type]
    assert trials.measured(job, Measurement(0, {"value": 1e9})) is None


# --- resume ---


def test_a_changed_space_is_refused(tmp_path: Path) -> None:
    one = sweep(tmp_path)
    trials = one.open()
    one.run(trials)
    recorded = trials.record()
    trials.close()
    one.space = space_of("x=interval(-2, 1)", *SPACE[1:])
    with pytest.raises(SweepChanged) as error:
        one.open(recorded=recorded)
    [difference] = error.value.differences
    assert difference == "x: interval from -1.0 to 1.0 -> interval from -2.0 to 1.0"
    one.options["n_trials"] = 8
    trials = one.open(recorded=recorded, accept_changes=True)
    one.run(trials)
    assert len(one.jobs) == 8
    assert dict(told(trials)) == {f"s1/{index}": "COMPLETE" for index in range(8)}


@pytest.mark.parametrize(
    "overrides", [("x=interval(-1, 1)", "n=range(1, 9)"), ("kind=b,c", "z=1,2")]
)
def test_trials_that_do_not_fit_a_changed_space_stay(
    tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    one = sweep(tmp_path)
    trials = one.open()
    one.run(trials)
    recorded, before = trials.record(), one.points()
    trials.close()
    one.space = space_of(*overrides)
    one.options["n_trials"] = 8
    trials = one.open(recorded=recorded, accept_changes=True)
    one.run(trials)
    assert one.points()[:6] == before
    assert trials.best()


def test_another_number_of_repeats_is_refused(tmp_path: Path) -> None:
    one = sweep(tmp_path, repeat={"seed": [1, 2]})
    recorded = one.open().record()
    one.options["repeat"] = {"seed": [1, 2, 3]}
    with pytest.raises(SettingsError, match="cannot resume with other repeats"):
        one.open(recorded=recorded, accept_changes=True)
