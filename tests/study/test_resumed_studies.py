"""A study that is interrupted anywhere goes on as if nothing had been."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.studies import SPACE, Died, Sweep, space_of, told
from hsm.core.record.job import Ending, JobState
from hsm.core.record.metrics import Measurement

pytestmark = pytest.mark.thorough

COUNT = 10
SAMPLERS: dict[str, Any] = {
    "tpe": {"name": "tpe", "n_startup_trials": 3},
    "random": "random",
    "cmaes": {"name": "cmaes", "popsize": 4, "n_startup_trials": 2},
    "nsgaii": {"name": "nsgaii", "population_size": 4},
    "nsgaiii": {"name": "nsgaiii", "population_size": 4},
    "qmc": {"name": "qmc", "scramble": True},
    "grid": "grid",
    "bruteforce": "bruteforce",
}
FAST = ("tpe", "random")
PLACES = ("asked", "submitted", "ended")


def options(sampler: Any, **more: Any) -> dict[str, Any]:
    return {"n_trials": COUNT, "sampler": sampler, "seed": 5, **more}


def sweep(folder: Path, name: str, **more: Any) -> Sweep:
    countable = name in ("grid", "bruteforce")
    space = space_of("x=range(-1, 1, 0.5)", *SPACE[1:]) if countable else space_of(*SPACE)
    return Sweep(folder, space, options(SAMPLERS[name], **more))


def dying(place: str, number: int) -> Callable[[str, int], bool]:
    return lambda at, num: (at, num) == (place, number)


def marks(count: int) -> list[str]:
    return [f"s1/{index}" for index in range(count)]


@pytest.mark.parametrize(
    "name",
    [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in SAMPLERS],
)
def test_a_study_that_was_killed_anywhere_proposes_the_same_points(
    tmp_path: Path, name: str
) -> None:
    whole = sweep(tmp_path / "whole", name)
    whole.run(whole.open())
    assert len(whole.jobs) == COUNT
    for place in PLACES:
        for number in range(COUNT):
            killed = sweep(tmp_path / f"{place}-{number}", name)
            with pytest.raises(Died):
                killed.run(killed.open(), dying(place, number))
            killed.restart()
            trials = killed.open()
            killed.run(trials)
            assert killed.points() == whole.points(), (place, number)
            assert told(trials) == [(mark, "COMPLETE") for mark in marks(COUNT)]
            trials.close()


@pytest.mark.parametrize("name", ["tpe", "cmaes", "qmc", "grid"])
def test_a_study_that_is_killed_at_every_trial_proposes_the_same_points(
    tmp_path: Path, name: str
) -> None:
    whole, killed = sweep(tmp_path / "whole", name), sweep(tmp_path / "killed", name)
    whole.run(whole.open())
    for number in range(COUNT):
        with pytest.raises(Died):
            killed.run(killed.open(), dying(PLACES[number % 3], number))
        killed.restart()
    killed.run(killed.open())
    assert killed.points() == whole.points()


@pytest.mark.parametrize("name", ["tpe", "random", "nsgaii", "qmc", "cmaes"])
def test_a_trial_that_was_cut_off_among_its_parameters_is_the_same(
    tmp_path: Path, name: str
) -> None:
    whole = sweep(tmp_path / "whole", name)
    whole.run(whole.open())
    for number in (1, 7):
        for lines in (1, 2, 3):
            killed = sweep(tmp_path / f"{number}-{lines}", name)
            with pytest.raises(Died):
                killed.run(killed.open(), dying("asked", number))
            killed.restart()
            kept = killed.paths.study.read_bytes().splitlines(keepends=True)[:-lines]
            killed.paths.study.write_bytes(b"".join(kept))
            trials = killed.open()
            killed.run(trials)
            assert killed.points() == whole.points(), (number, lines)
            assert told(trials) == [(mark, "COMPLETE") for mark in marks(COUNT)]
            trials.close()


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_study_whose_file_is_lost_goes_on_likewise(tmp_path: Path, name: str) -> None:
    whole, lost = sweep(tmp_path / "whole", name), sweep(tmp_path / "lost", name)
    whole.run(whole.open())
    with pytest.raises(Died):
        lost.run(lost.open(), dying("submitted", 5))
    lost.restart()
    lost.paths.study.unlink()
    trials = lost.open()
    lost.run(trials)
    assert [(m, s) for m, s in told(trials)] == [(mark, "COMPLETE") for mark in marks(COUNT)]
    if name != "cmaes":  # It keeps in the study what no journal has.
        assert lost.points() == whole.points()


def test_jobs_that_run_again_have_their_trials(tmp_path: Path) -> None:
    """Whatever Optuna makes of their values: 0.30000000000000004 of 0.3, and texts of lists."""
    space = space_of("x=range(0, 1, 0.1)", "y=[1,2],[3]", "z=nan,0.5,null,true,1", "n=0,1")
    killed = Sweep(tmp_path, space, {"n_trials": 12, "seed": 2, "sampler": "tpe"})
    for number in range(12):
        with pytest.raises(Died):
            killed.run(killed.open(), dying("submitted", number))
        killed.restart()
    trials = killed.open()
    killed.run(trials)
    assert told(trials) == [(f"s1/{index}", "COMPLETE") for index in range(12)]


def test_each_launch_without_a_seed_draws_one(tmp_path: Path) -> None:
    first, second = (
        Sweep(tmp_path / name, space_of(*SPACE), {"n_trials": 3, "sampler": "random"})
        for name in ("first", "second")
    )
    trials = first.open()
    first.run(trials)
    second.run(second.open())
    assert first.points() != second.points()
    seed = trials.record()["seed"]
    third = Sweep(
        tmp_path / "third", space_of(*SPACE), {"n_trials": 3, "sampler": "random", "seed": seed}
    )
    third.run(third.open())
    assert third.points() == first.points()


def test_a_torn_last_line_is_cut(tmp_path: Path) -> None:
    whole, torn = sweep(tmp_path / "whole", "tpe"), sweep(tmp_path / "torn", "tpe")
    whole.run(whole.open())
    with pytest.raises(Died):
        torn.run(torn.open(), dying("submitted", 6))
    torn.restart()
    data = torn.paths.study.read_bytes()
    torn.paths.study.write_bytes(data[:-7])
    trials = torn.open()
    torn.run(trials)
    assert torn.points() == whole.points()
    assert [state for _, state in told(trials)] == ["COMPLETE"] * COUNT


@pytest.mark.parametrize("lines", range(1, 40, 3))
def test_any_number_of_lines_that_are_lost_come_back(tmp_path: Path, lines: int) -> None:
    """A job's number and parameters stay as they are, however much the study has lost."""
    torn = sweep(tmp_path / "torn", "tpe")
    with pytest.raises(Died):
        torn.run(torn.open(), dying("submitted", 6))
    torn.restart()
    before = torn.points()
    kept = torn.paths.study.read_bytes().splitlines(keepends=True)[:-lines]
    torn.paths.study.write_bytes(b"".join(kept))
    trials = torn.open()
    torn.run(trials)
    assert torn.points()[:7] == before
    newest = dict(told(trials))
    assert newest == dict.fromkeys(marks(COUNT), "COMPLETE")


def test_a_damaged_file_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    damaged = sweep(tmp_path / "damaged", "tpe")
    with pytest.raises(Died):
        damaged.run(damaged.open(), dying("submitted", 6))
    damaged.restart()
    lines = damaged.paths.study.read_bytes().splitlines(keepends=True)
    lines[4] = b"%$&\n"
    damaged.paths.study.write_bytes(b"".join(lines))
    trials = damaged.open()
    damaged.run(trials)
    assert [state for _, state in told(trials)] == ["COMPLETE"] * COUNT
    assert damaged.paths.study.with_name("optuna.journal.1").exists()
    [record] = [each for each in caplog.records if "damaged" in each.getMessage()]
    assert "made again from the sweep's journal" in record.getMessage()


def test_a_launcher_that_died_before_its_first_job_has_asked_already(tmp_path: Path) -> None:
    whole, killed = sweep(tmp_path / "whole", "tpe"), sweep(tmp_path / "killed", "tpe")
    whole.run(whole.open())
    with pytest.raises(Died):
        killed.run(killed.open(), dying("asked", 0))
    trials = killed.open(earlier={})
    killed.run(trials)
    assert killed.points() == whole.points()
    assert told(trials) == [(mark, "COMPLETE") for mark in marks(COUNT)]


def test_a_lock_that_somebody_left_stops_nobody(tmp_path: Path) -> None:
    left = sweep(tmp_path / "left", "tpe")
    with pytest.raises(Died):
        left.run(left.open(), dying("submitted", 2))
    left.restart()
    left.paths.study.with_name("optuna.journal.lock").symlink_to(left.paths.study)
    left.run(left.open())
    assert len(left.jobs) == COUNT


def test_more_trials_go_on_from_those_that_there_are(tmp_path: Path) -> None:
    whole, parts = sweep(tmp_path / "whole", "tpe"), sweep(tmp_path / "parts", "tpe", n_trials=4)
    whole.run(whole.open())
    trials = parts.open()
    parts.run(trials)
    trials.close()
    assert len(parts.jobs) == 4
    parts.options["n_trials"] = COUNT
    parts.run(parts.open())
    assert parts.points() == whole.points()
    assert parts.open().ask() is None


@pytest.mark.slow
def test_hyperband_puts_trials_into_the_same_brackets(tmp_path: Path) -> None:
    """With it, what a sampler sees depends on the bracket, and so do its points."""

    def run(sweep: Sweep, stops: tuple[int, ...]) -> list[str | None]:
        reasons: list[str | None] = []
        trials = sweep.open()
        while (asked := trials.ask()) is not None:
            job = sweep.submit(asked)
            reason = None
            for step in range(1, 10):
                value = sweep.value(job.params) + 1 / step
                reason = reason or trials.measured(job, Measurement(step, {"value": value}))
            reasons.append(reason)
            state = JobState.PRUNED if reason else JobState.COMPLETED
            sweep.end(trials, job, Ending(state, value=sweep.value(job.params)))
            if job.num in stops:
                trials = sweep.open()
            else:
                trials.ended(job)
        return reasons

    pruner = {"name": "hyperband", "max_resource": 9, "min_resource": 1}
    whole, killed = (
        sweep(tmp_path / name, "tpe", pruner=pruner, n_trials=16) for name in ("whole", "killed")
    )
    pruned = run(whole, ())
    assert run(killed, (2, 5, 6, 11)) == pruned
    assert killed.points() == whole.points()
    assert any(pruned)


def test_gp_proposes_the_same_points(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    SAMPLERS["gp"] = {"name": "gp", "n_startup_trials": 3}
    whole, killed = sweep(tmp_path / "whole", "gp"), sweep(tmp_path / "killed", "gp")
    whole.run(whole.open())
    with pytest.raises(Died):
        killed.run(killed.open(), dying("submitted", 6))
    killed.restart()
    killed.run(killed.open())
    assert killed.points() == whole.points()
