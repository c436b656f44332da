"""Sweeps with ``hydra/sweeper=hsm_optuna``: real apps, jobs that end in all ways, resumes."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from helpers.cli import Project
from helpers.hydra import Finished, launcher_args, run_python, succeed, write_files
from helpers.processes import start_program, wait_for
from helpers.reliability import side_lines
from hsm.core.record.job import Job
from hsm.core.record.sweep import Sweep, read_sweep

pytestmark = pytest.mark.thorough

_TRAIN = """
    import json
    import math
    import os
    import signal
    import time

    import hydra

    import hsm


    @hydra.main(version_base=None, config_path="conf", config_name="config")
    def main(cfg):
        num = int(os.environ["HSM_JOB_NUM"])
        how = dict(way.split(":") for way in cfg.how.split()).get(str(num), "")
        if how == "nan":
            return math.nan
        if how == "raise":
            raise ValueError("as asked for")
        if how == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if how == "exit":
            os._exit(3)
        if how == "hang":
            time.sleep(600)
        if how == "memory":
            held = bytearray(300 << 20)
            time.sleep(600)
        if how == "prune":
            hsm.report(5.0, step=0)
            raise hsm.Pruned("as asked for")
        if how == "text":
            return "good"
        held = int(os.environ.get("HELD", 1000))
        while num >= held and not os.path.exists("go"):
            time.sleep(0.05)
        with open("side", "a") as file:
            file.write(json.dumps({"num": num, "x": cfg.x, "seed": cfg.seed}) + "\\n")
        loss = (cfg.x - 0.3) ** 2 + cfg.seed
        return {"loss": loss, "size": cfg.x} if cfg.named else loss


    if __name__ == "__main__":
        main()
"""
_CONFIG = """
    defaults:
      - model: small
      - override hydra/sweeper: hsm_optuna
      - _self_
    x: 0.5
    seed: 0
    named: false
    how: ""
    hydra:
      sweeper:
        seed: 3
        n_trials: 8
        params:
          x: interval(0, 1)
"""
_FILES = {
    "train.py": _TRAIN,
    "conf/config.yaml": _CONFIG,
    "conf/model/small.yaml": "width: 1\n",
    "conf/model/large.yaml": "width: 9\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_files(tmp_path, _FILES)
    return tmp_path


def words(*given: str, jobs: int = 2) -> list[str]:
    return ["-m", "hydra.sweep.dir=sweep", *launcher_args(jobs=jobs), *given]


def run(folder: Path, *given: str, jobs: int = 2) -> Finished:
    return run_python(folder, "train.py", *words(*given, jobs=jobs))


def ways(each: Sequence[str], first: int = 0) -> str:
    """The override by which jobs end in these ways, from this job on."""
    return f"how='{' '.join(f'{num}:{way}' for num, way in enumerate(each, first) if way)}'"


def read(folder: Path) -> Sweep:
    found = read_sweep(folder / "sweep")
    assert found.problems == []
    return found


def jobs_of(folder: Path) -> list[Job]:
    return [job for _, job in sorted(read(folder).jobs.items())]


def states(folder: Path) -> list[str]:
    return [str(job.state) for job in jobs_of(folder)]


def results(folder: Path) -> Any:
    return OmegaConf.to_container(OmegaConf.load(folder / "sweep" / "optimization_results.yaml"))


def best_of(jobs: Sequence[Job]) -> Job:
    return min((job for job in jobs if job.state == "COMPLETED"), key=lambda job: job.value)


def reason(job: Job) -> str:
    assert job.outcome is not None
    return str(job.outcome.reason)


# --- ways to end ---

_WAYS = ["nan", "raise", "crash", "exit", "hang", "memory", "prune", "text"]


@pytest.mark.slow
def test_trials_that_end_in_every_way_and_a_study_that_goes_on(folder: Path) -> None:
    given = [ways(_WAYS, 1), "hydra.sweeper.n_trials=14", "hydra.launcher.timeout=3"]
    limits = ["hydra.launcher.memory_limit=250MB", "hydra.launcher.kill_grace=0.5"]
    done = succeed(run(folder, *given, *limits))
    jobs = jobs_of(folder)
    assert [str(job.state) for job in jobs[3:8]] == [
        *("FAILED", "FAILED", "TIMEOUT", "OUT_OF_MEMORY", "PRUNED")
    ]
    assert str(jobs[2].state) == "FAILED"
    assert [job.state == "COMPLETED" for job in jobs[9:]] == [True] * 5
    # What is no number is the trial's failure, with the reason, and not the sweep's.
    assert "nan" in reason(jobs[1])
    assert "good" in reason(jobs[8])
    ended = [line for line in done.out.splitlines() if "job 1 " in line or "job 8 " in line]
    assert any("nan" in line for line in ended)
    good = best_of([job for num, job in enumerate(jobs) if num not in range(1, 9)])
    assert results(folder)["best_job"] == good.num
    assert results(folder)["best_value"] == good.value


@pytest.mark.thorough
@pytest.mark.slow
def test_all_fail_and_all_are_not_numbers(folder: Path) -> None:
    for way in ("raise", "nan"):
        done = run(folder, ways([way] * 8))
        assert done.code == 1
        assert done.text.count("no trial has succeeded") == 1
        assert not (folder / "sweep" / "optimization_results.yaml").exists()


def test_a_failure_is_no_exception_of_the_sweep(folder: Path) -> None:
    done = succeed(run(folder, ways(["raise"])))
    assert "Error executing job with overrides" not in done.text
    assert states(folder) == ["FAILED"] + ["COMPLETED"] * 7


# --- how jobs come ---


@pytest.mark.slow
def test_the_launcher_has_optuna_and_jobs_do_not(folder: Path) -> None:
    app = folder / "train.py"
    text = app.read_text().replace(
        "    num = int", "    import sys\n    print('optuna' in sys.modules)\n    num = int"
    )
    app.write_text(text)
    succeed(run(folder, "hydra.sweeper.n_trials=3"))
    logs = [(folder / "sweep" / ".hsm" / "logs" / f"{num}.out").read_text() for num in range(3)]
    assert logs == ["False\n"] * 3


@pytest.mark.slow
def test_no_more_than_n_jobs_run_at_once(folder: Path) -> None:
    succeed(run(folder, "hydra.sweeper.n_jobs=1", "hydra.sweeper.n_trials=5", jobs=4))
    ends = 0.0
    for job in jobs_of(folder):
        (attempt,) = job.attempts
        assert attempt.started is not None
        assert attempt.ended is not None
        assert attempt.started >= ends - 0.01
        ends = attempt.ended


@pytest.mark.thorough
@pytest.mark.slow
def test_one_place_and_a_seed_give_the_same_points(folder: Path) -> None:
    succeed(run(folder, jobs=1))
    first = [job.params for job in jobs_of(folder)]
    succeed(run(folder, jobs=1))
    assert [job.params for job in jobs_of(folder)] == first


@pytest.mark.slow
def test_callbacks_are_told_of_each_job(folder: Path) -> None:
    (folder / "noting.py").write_text(
        "from hydra.experimental.callback import Callback\n\n\n"
        "class Noting(Callback):\n"
        "    hsm_in_launcher = True\n\n"
        "    def on_job_end(self, config, job_return, **kwargs):\n"
        "        with open('told', 'a') as file:\n"
        "            file.write(f'{config.hydra.job.num} {job_return.status.name}\\n')\n"
    )
    given = ["+hydra.callbacks.noting._target_=noting.Noting", ways(["raise"], 1)]
    succeed(run(folder, *given, "hydra.sweeper.n_trials=3", "hydra.launcher.cleanup_on_exit=true"))
    told = (folder / "told").read_text().splitlines()
    assert {line for line in told if told.count(line) == 2} or set(told) >= {"1 FAILED"}
    assert {"0 COMPLETED", "1 FAILED", "2 COMPLETED"} <= set(told)


# --- what is said of the study ---


def test_points_to_try_first(folder: Path) -> None:
    given = ["hydra.sweeper.enqueue=[{x:0.25},{x:0.75}]", "hydra.sweeper.enqueue_default=true"]
    succeed(run(folder, *given, "model=small,large"))
    asked = [job.params for job in jobs_of(folder)]
    assert asked[0] == {"x": 0.5, "model": "small"}
    assert [each["x"] for each in asked[1:3]] == [0.25, 0.75]


@pytest.mark.thorough
@pytest.mark.slow
def test_repeats_are_told_as_their_mean(folder: Path) -> None:
    given = ["hydra.sweeper.repeat={seed:[0,1,2]}", "hydra.sweeper.n_trials=4"]
    succeed(run(folder, *given))
    jobs = jobs_of(folder)
    assert [job.params["seed"] for job in jobs] == [0, 1, 2] * 4
    assert all(len({job.params["x"] for job in jobs[at : at + 3]}) == 1 for at in range(0, 12, 3))
    means = [sum(job.value for job in jobs[at : at + 3]) / 3 for at in range(0, 12, 3)]
    assert results(folder)["best_value"] == pytest.approx(min(means))
    assert read(folder).planned == 12


@pytest.mark.thorough
@pytest.mark.slow
def test_several_objectives_by_name(folder: Path) -> None:
    given = ["named=true", "hydra.sweeper.objective=[loss,size]"]
    succeed(run(folder, *given, "hydra.sweeper.direction=[minimize,maximize]"))
    for each in results(folder)["solutions"]:
        x = each["params"]["x"]
        assert each["values"] == pytest.approx([(x - 0.3) ** 2, x])


@pytest.mark.slow
def test_the_launchers_goal_is_the_sweepers(folder: Path) -> None:
    given = ["named=true", "hydra.launcher.metric=size", "hydra.launcher.direction=maximize"]
    succeed(run(folder, *given))
    largest = max(job.params["x"] for job in jobs_of(folder))
    assert results(folder)["best_params"] == {"x": largest}
    assert read(folder).latest["chosen"]["metric"] == ["size"]


@pytest.mark.slow
def test_what_is_set_under_hsm_with_method_optuna(folder: Path) -> None:
    given = ["hydra/sweeper=hsm", "hydra.sweeper.method=optuna", "hydra.sweeper.sampler=random"]
    succeed(run(folder, *given, "hydra.sweeper.n_trials=3"))
    assert states(folder) == ["COMPLETED"] * 3
    assert (folder / "sweep" / "optimization_results.yaml").exists()


_ASKING = """
    class Halving:
        \"\"\"Halves what is left.\"\"\"

        def __init__(self, **options):
            self._next, self.told = 0, {}

        def ask(self):
            self._next += 1
            return self._next, {"x": 1 / 2**self._next}

        def tell(self, trial_id, outcome):
            self.told[trial_id] = outcome
"""


@pytest.mark.slow
def test_a_class_of_ones_own(folder: Path) -> None:
    write_files(folder, {"asking.py": _ASKING})
    given = ["hydra.sweeper.method=asking.Halving", "hydra.sweeper.n_trials=4"]
    succeed(run(folder, *given, "~hydra.sweeper.params.x"))
    assert [job.params["x"] for job in jobs_of(folder)] == [0.5, 0.25, 0.125, 0.0625]


def test_a_dry_run_lists_what_would_start_at_once(folder: Path) -> None:
    done = succeed(run(folder, "hydra.sweeper.n_trials=100", "hydra.sweeper.dry_run=true"))
    lines = done.out.splitlines()
    assert lines[-1] == (
        "2 jobs, and 98 more to be chosen, all of them compose; dry_run: nothing was run"
    )
    assert [line.partition(" (x=")[0] for line in lines[-3:-1]] == ["job 0", "job 1"]
    assert not (folder / "sweep").exists()


_BAD = [
    (["nope=1"], "Could not override 'nope'"),
    (["model=small,nope"], "Could not find 'model/nope'"),
    (["x=(1"], "Error parsing override 'x=(1'"),
    (["x=interval(1,0)"], "x"),
    (["hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials must be a whole number of at least 1"),
    (["hydra.sweeper.sampler=tpo"], "hydra.sweeper: sampler must be one of tpe, "),
    (["hydra.sweeper.sampler.nope=1"], "nope"),
    (["hydra.sweeper.sampler._target_=mine.Sampler"], "hydra.sweeper.sampler: mine.Sampler"),
    (["hydra.sweeper.pruner=nope"], "hydra.sweeper: pruner must be one of "),
    (["hydra.sweeper.direction=up"], "hydra.sweeper.direction must be"),
    (["hydra.sweeper.custom_search_space=nowhere.f"], "hydra.sweeper.custom_search_space"),
    (["hydra.sweeper.enqueue=[{y:1}]"], "y"),
    (["hydra.sweeper.enqueue=[{x:7}]"], "x"),
    (["hydra.sweeper.warm_start=[nowhere/at/all]"], "nowhere/at/all"),
    (["hydra.sweeper.max_failure_rate=2"], "hydra.sweeper.max_failure_rate"),
    (["hydra.sweeper.repeat={x:[1,2]}"], "x"),
    (["hydra.sweeper.nope=1"], "Key 'nope' not in 'HsmOptunaSweeperConf'"),
    (["hydra.sweeper.method=nope"], "hydra.sweeper.method"),
    (
        ["hydra/sweeper=hsm", "hydra.sweeper.n_trials=null", "hydra.sweeper.pruner=asha"],
        "hydra.sweeper.pruner: pruner is for a study",
    ),
    (
        ["hydra/sweeper=hsm", "hydra.sweeper.n_trials=null", "hydra.sweeper.direction=minimize"],
        "hydra.launcher.direction",
    ),
    (
        ["hydra/sweeper=hsm", "hydra.sweeper.method=optuna", "hydra.sweeper.shuffle=true"],
        "hydra.sweeper.shuffle",
    ),
]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        pytest.param(*each, marks=() if at % 5 == 0 else pytest.mark.slow)
        for at, each in enumerate(_BAD)
    ],
)
def test_what_is_wrong_starts_nothing(folder: Path, given: list[str], said: str) -> None:
    done = run(folder, *given)
    assert done.code == 1, done.text
    assert said in done.text
    assert "Traceback" not in done.text
    assert not (folder / "sweep").exists()
    assert not (folder / "side").exists()


# --- resumes ---


def has_run(folder: Path, num: int, *, ended: int) -> bool:
    """Whether job `num` runs, and so many have ended."""
    journal = folder / "sweep" / ".hsm" / "journal.jsonl"
    text = journal.read_text() if journal.exists() else ""
    return f'"event":"start","job":{num},' in text and text.count('"event":"end"') == ended


def test_the_same_command_twice_is_the_same_trials(folder: Path) -> None:
    given = [
        "hydra.launcher.resume=true",
        "hydra.sweeper.n_trials=20",
        ways(["raise", "", "prune"], 3),
    ]
    succeed(run(folder, *given))
    first = results(folder)
    done = succeed(run(folder, *given))
    assert "will not run again" in done.text
    jobs = jobs_of(folder)
    assert [job.num for job in jobs] == list(range(20))
    assert [len(job.attempts) for job in jobs] == [1] * 20
    assert results(folder) == first


@pytest.mark.thorough
@pytest.mark.slow
def test_a_resumed_study_goes_on(folder: Path) -> None:
    succeed(run(folder, "hydra.sweeper.n_trials=5", jobs=1))
    succeed(run(folder, "hydra.sweeper.n_trials=8", "hydra.launcher.resume=true", jobs=1))
    resumed = [job.params for job in jobs_of(folder)]
    succeed(run(folder, "hydra.sweeper.n_trials=8", "hydra.sweep.dir=whole", jobs=1))
    whole = read_sweep(folder / "whole").jobs
    assert resumed == [whole[num].params for num in range(8)]


@pytest.mark.thorough
@pytest.mark.slow
def test_another_space_is_refused(folder: Path) -> None:
    succeed(run(folder, "hydra.sweeper.n_trials=3"))
    done = run(folder, "hydra.launcher.resume=true", "x=interval(0,2)")
    assert done.code == 1
    assert "hydra.launcher.accept_changes=true" in done.text
    assert "interval from 0" in done.text
    done = succeed(
        run(
            *(folder, "hydra.launcher.resume=true", "x=interval(0,2)"),
            *("hydra.launcher.accept_changes=true", "hydra.sweeper.n_trials=5"),
        )
    )
    assert len(jobs_of(folder)) == 5


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize("space", ["x=interval(0,1)", "custom"])
def test_a_killed_study_goes_on(folder: Path, space: str) -> None:
    """What ran is run again with its parameters, and nothing that ended."""
    text = "def f(cfg, trial):\n    trial.suggest_float('+y', 0, 1)\n"
    write_files(folder, {"custom.py": text})
    given = ["hydra.sweeper.n_trials=12"]
    if space == "custom":
        given.append("hydra.sweeper.custom_search_space=custom.f")
    command = [sys.executable, "train.py", *words(*given)]
    with start_program(folder, command, env={"HELD": "5"}) as sweep:
        wait_for(lambda: has_run(folder, 6, ended=5), "jobs 5 and 6", 120)
        sweep.process.send_signal(signal.SIGKILL)
        sweep.assert_all_gone()
    before = {num: job.params for num, job in read_sweep(folder / "sweep").jobs.items()}
    assert len(before) >= 7
    succeed(run(folder, *given, "hydra.launcher.resume=true"))
    jobs = jobs_of(folder)
    assert [job.num for job in jobs] == list(range(12))
    assert {job.num: job.params for job in jobs if job.num in before} == before
    nums = [line["num"] for line in side_lines(folder)]
    assert sorted(nums) == list(range(12))
    assert all(("y" in job.params) == (space == "custom") for job in jobs)
    assert results(folder)["best_value"] == best_of(jobs).value


def test_ctrl_c_ends_it_with_what_is_there(folder: Path) -> None:
    command = [sys.executable, "train.py", *words()]
    with start_program(folder, command, env={"HELD": "3"}) as sweep:
        wait_for(lambda: has_run(folder, 3, ended=3), "job 3", 120)
        sweep.process.send_signal(signal.SIGINT)
        done = sweep.finish(60)
    assert done.code == 130
    assert "hydra.launcher.resume=true" in done.screen
    assert results(folder)["best_value"] == best_of(jobs_of(folder)).value


# --- while it runs ---


@pytest.mark.thorough
@pytest.mark.slow
def test_added_points_are_tried_next_and_once(folder: Path) -> None:
    project = Project(folder)
    command = [sys.executable, "train.py", *words("hydra.sweeper.n_trials=4", jobs=1)]
    with start_program(folder, command, env={"HELD": "1"}) as sweep:
        wait_for(lambda: has_run(folder, 1, ended=1), "job 1", 120)
        added = project.here("add", "./sweep", "x=0.125,0.25")
        assert "added 2 points to try next" in added.out
        assert "x=7" in project.here("add", "./sweep", "x=7", code=2).err
        sweep.process.send_signal(signal.SIGKILL)
        sweep.assert_all_gone()
    succeed(run(folder, "hydra.sweeper.n_trials=4", "hydra.launcher.resume=true", jobs=1))
    jobs = jobs_of(folder)
    assert [job.num for job in jobs] == list(range(6))
    asked = [job.params["x"] for job in jobs]
    assert asked.count(0.125) == asked.count(0.25) == 1


@pytest.mark.slow
def test_a_point_is_added_while_the_last_trial_runs(folder: Path) -> None:
    project = Project(folder)
    command = [sys.executable, "train.py", *words("hydra.sweeper.n_trials=2", jobs=1)]
    with start_program(folder, command, env={"HELD": "1"}) as sweep:
        wait_for(lambda: has_run(folder, 1, ended=1), "job 1", 120)
        project.here("add", "./sweep", "x=0.125")
        (folder / "go").touch()
        done = sweep.finish(60)
    assert done.code == 0, done.screen
    assert [job.params["x"] for job in jobs_of(folder)][2:] == [0.125]


@pytest.mark.slow
def test_it_can_be_cancelled(folder: Path) -> None:
    project = Project(folder)
    command = [sys.executable, "train.py", *words("hydra.sweeper.n_trials=30")]
    with start_program(folder, command, env={"HELD": "8"}) as sweep:
        wait_for(lambda: has_run(folder, 9, ended=8), "jobs 8 and 9", 120)
        assert "20" in project.here("cancel", "./sweep", "--pending").out
        (folder / "go").touch()
        done = sweep.finish(60)
    assert done.code == 0, done.screen
    assert len(jobs_of(folder)) in (10, 11)
    assert results(folder)["best_value"] == best_of(jobs_of(folder)).value


# --- pruning, earlier sweeps, single jobs again ---

_CURVES = """
    import os

    import hydra

    import hsm


    @hydra.main(version_base=None, config_path="conf", config_name="config")
    def main(cfg):
        for step in range(5):
            hsm.report(cfg.x + 1 / (step + 1), step=step)
            if hsm.should_prune():
                raise hsm.Pruned
        return cfg.x


    if __name__ == "__main__":
        main()
"""


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ask", "stop"])
def test_what_falls_behind_is_pruned(folder: Path, mode: str) -> None:
    write_files(folder, {"train.py": _CURVES})
    given = ["hydra/sweeper/pruner=threshold", "hydra.sweeper.pruner.upper=1.5"]
    points = ",".join(f"{{x:{x}}}" for x in (0.25, 0.75, 0.125, 0.875))
    given += [f"hydra.sweeper.enqueue=[{points}]", "hydra.sweeper.n_trials=4"]
    succeed(run(folder, *given, f"hydra.sweeper.prune={mode}", jobs=1))
    assert states(folder) == ["COMPLETED", "PRUNED"] * 2
    assert results(folder)["best_params"] == {"x": 0.125}


@pytest.mark.thorough
@pytest.mark.slow
def test_what_an_earlier_sweep_found_out_is_known(folder: Path) -> None:
    succeed(run(folder, "hydra.sweep.dir=before", "hydra.sweeper.n_trials=5"))
    given = ["hydra.sweeper.warm_start=[./before]", "hydra.sweeper.n_trials=3"]
    done = succeed(run(folder, *given))
    assert "warm start: 5 of 5 outcomes fit this study" in done.text
    assert len(jobs_of(folder)) == 3


@pytest.mark.thorough
@pytest.mark.slow
def test_single_jobs_run_again(folder: Path) -> None:
    succeed(run(folder, "hydra.sweeper.n_trials=4"))
    again = ["hydra.launcher.resume=true", "hydra.launcher.rerun=[1]", "hydra.sweeper.n_trials=9"]
    succeed(run(folder, *again))
    assert [len(job.attempts) for job in jobs_of(folder)] == [1, 2, 1, 1]
