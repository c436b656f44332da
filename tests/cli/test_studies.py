"""`hsm sweep --method optuna`: commands and scripts whose points are chosen from results so far."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

from helpers.cli import STAY, Project
from helpers.processes import wait_for
from hsm.core.record.job import JobState

# .ci/run runs these with the oldest Python and Optuna 4 as well.
pytestmark = pytest.mark.thorough

#: A job whose result is ten times its parameter x.
TEN_X = ("sh", "-c", 'echo "{{\\"loss\\": 1{x}0}}" > {job_dir}/metrics.json')
#: The same for x from 1 to 9, which are one digit each.
DIGITS = ("x=range(1,10)", "--method", "optuna", "--metric", "loss", "--seed", "1")
SPACE = ("lr=tag(log, interval(1e-5, 1e-1))", "n=range(1, 5)", "--method", "optuna")


def study(project: Project, *words: str, sweep_id: str = "s", code: int = 0) -> Any:
    """Run a study of `TEN_X`; returns its JSON summary."""
    line = ("sweep", *DIGITS, *words, "--sweep-id", sweep_id, "--json", "--progress", "none")
    return project.here(*line, "--", *TEN_X, code=code).json


def nums(project: Project, sweep_id: str = "s") -> list[int]:
    return sorted(project.sweep(sweep_id).jobs)


def attempts(project: Project, sweep_id: str = "s") -> list[int]:
    return [len(job.attempts) for _, job in sorted(project.sweep(sweep_id).jobs.items())]


# --- running ---


def test_a_study_of_a_command_finds_the_best_point(project: Project) -> None:
    summary = study(project, "--n-trials", "6", "--minimize")
    sweep = project.sweep("s")
    assert nums(project) == list(range(6))
    values = {num: int(f"1{job.params['x']}0") for num, job in sweep.jobs.items()}
    assert summary["best"]["value"] == min(values.values())
    assert values[summary["best"]["job"]] == min(values.values())
    assert sweep.chosen["method"] == "optuna"
    assert sweep.chosen["n_trials"] == 6
    assert sweep.planned == 6
    results = (project.folder / "outputs/s/optimization_results.yaml").read_text()
    assert f"best_value: {min(values.values())}" in results
    assert f"best_job: {summary['best']['job']}" in results


def test_direction_and_objective_are_other_words(project: Project) -> None:
    words = ("x=range(1,10)", "--method", "optuna", "--n-trials", "4", "--seed", "1")
    more = ("--objective", "loss", "--direction", "maximize", "--json", "--progress", "none")
    ran = project.here("sweep", *words, *more, "--sweep-id", "s", "--", *TEN_X)
    assert (ran.json["metric"], ran.json["direction"]) == ("loss", "maximize")
    assert ran.json["best"] == ran.json["highest"]
    settings = project.sweep("s").latest["settings"]
    assert (settings["metric"], settings["direction"]) == ("loss", "maximize")


def test_they_name_what_is_ranked_of_any_sweep(project: Project) -> None:
    words = ("x=1,2", "--objective", "loss", "--direction", "minimize")
    ran = project.here("sweep", *words, "--json", "--progress", "none", "--", *TEN_X)
    assert ran.json["best"]["value"] == 110


def test_several_objectives(project: Project) -> None:
    write = 'echo "{{\\"a\\": {x}, \\"b\\": {y}}}" > {job_dir}/metrics.json'
    words = ("x=1,2,3", "y=1,2,3", "--method", "optuna", "--n-trials", "5", "--seed", "0")
    goals = ("--objective", "a,b", "--direction", "minimize,maximize")
    shown = ("--sweep-id", "s", "--json", "--progress", "none")
    ran = project.here("sweep", *words, *goals, *shown, "--", "sh", "-c", write)
    assert ran.json["direction"] is None
    jobs = project.sweep("s").jobs
    for found in ran.json["pareto"]:
        params = jobs[found["job"]].params
        assert found["values"] == {"a": params["x"], "b": params["y"]}


def test_a_script_gets_its_parameters_as_arguments(project: Project) -> None:
    project.write(
        "fit.py",
        "import argparse, json, os\n"
        "parser = argparse.ArgumentParser()\n"
        "parser.add_argument('--lr', type=float)\n"
        "parser.add_argument('--n', type=int)\n"
        "given = parser.parse_args()\n"
        "with open(os.path.join(os.environ['HSM_JOB_DIR'], 'metrics.json'), 'w') as file:\n"
        "    json.dump({'loss': given.lr + given.n}, file)\n",
    )
    words = (*SPACE, "--n-trials", "3", "--metric", "loss", "--sampler", "random")
    project.here("sweep", *words, "--sweep-id", "s", "--script", "fit.py")
    assert project.states("s") == ["COMPLETED"] * 3


def test_a_sweep_file_says_it_all_and_the_line_wins(project: Project) -> None:
    project.write(
        "s.yaml",
        "sweep:\n"
        "  params: {x: 'range(1,10)'}\n"
        "  method: optuna\n"
        "  n_trials: 3\n"
        "  metric: loss\n"
        "  sampler: {name: tpe, multivariate: true, n_startup_trials: 2}\n"
        "  enqueue: [{x: 7}]\n",
    )
    line = ("sweep", "--config", "s.yaml", "--sweep-id", "s", "--progress", "none")
    assert project.here(*line[:3], "--count-only").out == "3\n"
    project.here(*line, "--n-trials", "4", "--enqueue", "x=2", "--", *TEN_X)
    jobs = project.sweep("s").jobs
    assert len(jobs) == 4
    assert jobs[0].params == {"x": 2}
    chosen = project.sweep("s").chosen
    assert chosen["sampler"] == {"name": "tpe", "multivariate": True, "n_startup_trials": 2}


def test_the_values_of_repeats_are_one_value(project: Project) -> None:
    summary = study(
        project, "--n-trials", "2", "--repeat", "seed=0,1", "--repeat-as", "worst", "--n-jobs", "1"
    )
    jobs = project.sweep("s").jobs
    assert [job.params["seed"] for job in jobs.values()] == [0, 1, 0, 1]
    assert summary["jobs"] == 4
    assert project.sweep("s").planned == 4


def test_another_sweeps_results_count(project: Project) -> None:
    study(project, "--n-trials", "4", sweep_id="first")
    study(project, "--n-trials", "2", "--warm-start", "first", "--duplicates", "reuse")
    assert nums(project) == [0, 1]


def test_a_class_of_ones_own_chooses(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write(
        "of_studies.py",
        "class Up:\n"
        "    def __init__(self):\n"
        "        self.next = 0\n"
        "    def ask(self):\n"
        "        self.next += 1\n"
        "        return (self.next, {'x': self.next}) if self.next < 4 else None\n"
        "    def tell(self, id, outcome):\n"
        "        pass\n",
    )
    monkeypatch.syspath_prepend(str(project.folder))
    words = ("k=5", "--method", "of_studies.Up", "--metric", "loss", "--n-trials", "10")
    project.here("sweep", *words, "--sweep-id", "s", "--progress", "none", "--", *TEN_X)
    assert [job.params for job in project.sweep("s").jobs.values()] == [
        {"x": x, "k": 5} for x in (1, 2, 3)
    ]


def test_a_function_may_suggest_values(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write(
        "suggesting.py",
        "def suggest(trial):\n"
        "    kind = trial.suggest_categorical('kind', ['a', 'b'])\n"
        "    trial.suggest_int(f'x_{kind}', 1, 9)\n",
    )
    monkeypatch.syspath_prepend(str(project.folder))
    words = ("k=5", "--method", "optuna", "--custom-search-space", "suggesting.suggest")
    line = (
        "sweep",
        *words,
        "--metric",
        "loss",
        "--n-trials",
        "4",
        "--sweep-id",
        "s",
        "--progress",
        "none",
    )
    project.here(*line, "--", "sh", "-c", 'echo "{{\\"loss\\": 1}}" > {job_dir}/metrics.json')
    for job in project.sweep("s").jobs.values():
        assert set(job.params) == {"k", "kind", f"x_{job.params['kind']}"}


# --- what is not run ---


def test_a_dry_run_shows_what_starts_first_and_writes_nothing(project: Project) -> None:
    line = ("sweep", *DIGITS, "--n-trials", "100", "--sampler", "random", "--parallel-jobs", "4")
    ran = project.here(*line, "--sweep-id", "s", "--dry-run", "--", "echo", "{x}")
    lines = ran.out.splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("job 0 in outputs/s/0: echo ")
    assert lines[-1] == "and 96 more to be chosen"
    assert not (project.folder / "outputs").exists()
    ran = project.here(*line, "--dry-run", "--json", "--", "echo", "{x}")
    assert [json.loads(text)["job"] for text in ran.out.splitlines()] == [0, 1, 2, 3]


def test_jobs_are_counted_without_optuna(project: Project) -> None:
    line = ("sweep", *DIGITS, "--n-trials", "7", "--repeat", "s=1,2,3", "--count-only")
    assert project.here(*line).out == "21\n"
    assert project.here("sweep", *DIGITS, "--count-only").out == "20\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sampler", "tpee"], "tpe"),
        (["--sampler", "{name: tpe, multivriate: true}"], "multivariate"),
        (["--sampler", "{name: tpe"], "--sampler, line 1 is not valid YAML"),
        (["--pruner", "ash"], "asha"),
        (["--prune", "kill"], "--prune must be one of ask, stop, not 'kill'"),
        (["--n-trials", "0"], "--n-trials must be a whole number of at least 1"),
        (["--n-jobs", "many"], "--n-jobs must be a whole number"),
        (["--direction", "down"], "--direction must be one of minimize, maximize"),
        (["--direction", "maximize", "--minimize"], "--minimize/--maximize says the same thing"),
        (["--objective", "acc"], "--objective 'acc': --metric says the same thing, and differs"),
        (["--max-time", "soon"], "--max-time must be a number of seconds above 0"),
        (["--max-failure-rate", "2"], "--max-failure-rate must be a number from 0 to 1"),
        (["--target", "low"], "--target must be a finite number"),
        (["--constraint", "memory"], "--constraint must be conditions such as memory <= 8"),
        (["--duplicates", "skip"], "--duplicates must be one of run, reuse"),
        (["--repeat-as", "best"], "--repeat-as must be one of mean, median, worst"),
        (["--repeat", "x=1,2"], "x is repeated and a parameter of the points as well"),
        (["--enqueue", "x=99"], "x=99"),
        (["--enqueue", "lr"], "--enqueue must be parameters such as lr=0.1 model=svm"),
        (["--warm-start", "nope"], "no sweep 'nope'"),
        (["--custom-search-space", "no.such"], "cannot import custom_search_space no.such"),
        (["--custom-search-space", "os.sep"], "custom_search_space must be a function"),
        (["--shuffle"], "--shuffle: shuffle does not go with a study"),
        (["--filter", "x > 1"], "--filter: filter does not go with a study"),
        (["--max-runs", "3"], "--max-runs: max_runs does not go with a study"),
        (["--also", "y=1"], "a study searches one space"),
        (["--direction", "minimize,maximize"], "as many metrics as directions"),
    ],
)
def test_what_a_study_cannot_be_is_refused_before_any_job(
    project: Project, words: list[str], message: str
) -> None:
    line = ("sweep", *DIGITS, *words, "--sweep-id", "s", "--progress", "none", "--", *TEN_X)
    refused = project.here(*line, code=2)
    assert message in refused.err
    assert refused.err.count("\n") == 1
    assert not (project.folder / "outputs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sampler", "tpe"], "--sampler: sampler is for a method that asks"),
        (["--method", "random", "--n-trials", "2", "--enqueue", "x=1"], "--enqueue: enqueue is"),
        (["--method", "optun"], "did you mean optuna?"),
        (["--direction", "down"], "--direction must be one of minimize"),
    ],
)
def test_options_of_studies_are_for_studies(
    project: Project, words: list[str], message: str
) -> None:
    refused = project.here("sweep", "x=1,2", *words, "--", "true", code=2)
    assert message in refused.err
    assert refused.err.count("\n") == 1


def test_a_command_must_have_the_parameters_that_it_names(project: Project) -> None:
    refused = project.here("sweep", *DIGITS, "--", "echo", "{y}", code=2)
    assert "{y}" in refused.err


# --- how it ends ---


def test_a_study_in_which_all_failed_exits_with_1(project: Project) -> None:
    line = ("sweep", *DIGITS, "--n-trials", "4", "--progress", "none", "--sweep-id", "s")
    project.here(*line, "--", "false", code=1)
    assert project.states("s") == ["FAILED"] * 4


def test_failed_trials_are_part_of_a_study(project: Project) -> None:
    command = f"test {{x}} -lt 5 && {TEN_X[2]}"
    line = ("sweep", *DIGITS, "--enqueue", "x=1", "--enqueue", "x=9", "--n-trials", "2")
    project.here(*line, "--sweep-id", "s", "--progress", "none", "--", "sh", "-c", command)
    assert project.states("s") == ["COMPLETED", "FAILED"]


def test_too_many_failures_stop_it(project: Project) -> None:
    line = ("sweep", *DIGITS, "--n-trials", "50", "--max-failure-rate", "0.5", "--n-jobs", "1")
    ran = project.here(*line, "--sweep-id", "s", "--", "false", code=1)
    assert "10 of 10 trials failed (max_failure_rate=0.5)" in ran.out + ran.err
    assert len(nums(project)) == 10


def test_a_metric_that_no_job_has_is_told_once(project: Project) -> None:
    line = ("sweep", "x=range(1,10)", "--method", "optuna", "--metric", "acc", "--n-trials", "6")
    ran = project.here(*line, "--sweep-id", "s", "--", *TEN_X, code=1)
    told = [line for line in (ran.out + ran.err).splitlines() if "it has no metric 'acc'" in line]
    assert len(told) == 1
    assert "there are: loss" in told[0]
    assert project.states("s") == ["COMPLETED"] * 6


def test_a_shell_script_that_appends_to_the_metrics_is_pruned(project: Project) -> None:
    script = (
        'for i in 1 2 3; do echo "{{\\"step\\": $i, \\"loss\\": {x}}}" >> $HSM_METRICS; done; '
        "test {x} -lt 5 || sleep 60"
    )
    first = [word for x in (1, 2, 9) for word in ("--enqueue", f"x={x}")]
    pruning = ("--pruner", "{name: median, n_startup_trials: 2}", "--prune", "stop")
    line = ("sweep", *DIGITS, *first, *pruning, "--n-trials", "3", "--n-jobs", "1")
    project.here(*line, "--sweep-id", "s", "--progress", "none", "--", "sh", "-c", script)
    assert project.states("s") == ["COMPLETED", "COMPLETED", "PRUNED"]


# --- going on ---


def test_the_same_command_again_runs_nothing_more(project: Project) -> None:
    words = ("sweep", *DIGITS, "--n-trials", "4", "--sweep-id", "s", "--progress", "none")
    project.hsm(*words, "--", *TEN_X)
    project.hsm(*words, "--", *TEN_X, HSM_LOCAL_RESUME="true")
    assert nums(project) == [0, 1, 2, 3]
    assert attempts(project) == [1] * 4


def test_a_resume_goes_on_with_the_study_on_record(project: Project) -> None:
    study(project, "--n-trials", "3", "--sampler", "{name: tpe, n_startup_trials: 2}")
    project.here("sweep", "--resume", "s", "--progress", "none")
    assert nums(project) == [0, 1, 2]
    project.here("sweep", "--resume", "s", "--n-trials", "5", "--progress", "none")
    assert nums(project) == [0, 1, 2, 3, 4]
    assert attempts(project) == [1] * 5
    chosen = project.sweep("s").chosen
    assert (chosen["n_trials"], chosen["seed"]) == (5, 1)
    assert chosen["sampler"] == {"name": "tpe", "n_startup_trials": 2}
    project.here("sweep", "--resume", "s", "--progress", "none")
    assert nums(project) == [0, 1, 2, 3, 4]
    assert project.here("sweep", "--resume", "s", "--n-trials", "9", "--count-only").out == "4\n"


def test_a_resumed_study_of_a_file_goes_on_without_the_file(project: Project) -> None:
    text = "sweep: {params: {x: 'range(1,10)'}, method: optuna, n_trials: 2, metric: loss}"
    file = project.write("s.yaml", text)
    project.here("sweep", "--config", "s.yaml", "--sweep-id", "s", "--", *TEN_X)
    file.unlink()
    project.here("sweep", "--resume", "s", "--n-trials", "3", "--progress", "none")
    assert nums(project) == [0, 1, 2]


def test_a_changed_space_is_refused_with_the_difference(project: Project) -> None:
    study(project, "--n-trials", "2")
    line = ("sweep", "--resume", "s", "x=range(1,20)", "--n-trials", "3", "--progress", "none")
    refused = project.here(*line, code=2)
    assert "(--accept-changes resumes anyway)" in refused.err
    assert "x: " in refused.err
    assert nums(project) == [0, 1]
    project.here(*line, "--accept-changes")
    assert nums(project) == [0, 1, 2]


def test_a_study_is_not_gone_on_with_as_a_grid_nor_a_grid_as_a_study(project: Project) -> None:
    study(project, "--n-trials", "2")
    project.here("sweep", "x=1,2", "--sweep-id", "grid", "--", "true")
    refused = project.here("sweep", "--resume", "s", "x=1,2", "--method", "grid", code=2)
    assert "cannot resume s with other points: it is a study (optuna)" in refused.err
    refused = project.here("sweep", "--resume", "grid", *DIGITS, code=2)
    assert "cannot resume grid with optuna: its points were a grid" in refused.err


def test_a_password_is_not_on_record_and_must_be_given_again(project: Project) -> None:
    study(project, "--n-trials", "1")
    journal = project.folder / "outputs/s/.hsm/journal.jsonl"
    text = journal.read_text()
    secret = '"storage":"mysql://me:***@host/db",'
    journal.write_text(text.replace('"chosen":{', '"chosen":{' + secret, 1))
    refused = project.here("sweep", "--resume", "s", code=2)
    assert "no record has the whole storage, 'mysql://me:***@host/db'" in refused.err
    assert "give it again with --storage" in refused.err


def test_a_job_may_be_run_again_by_its_number(project: Project) -> None:
    study(project, "--n-trials", "3")
    project.here("sweep", "--resume", "s", "--rerun", "1", "--progress", "none")
    assert attempts(project) == [1, 2, 1]


def test_failed_jobs_run_again_if_that_is_asked_for_with_their_points(project: Project) -> None:
    command = ("sh", "-c", f"test -e fixed && {TEN_X[2]}")
    line = ("sweep", *DIGITS, "--n-trials", "3", "--sweep-id", "s", "--progress", "none")
    project.here(*line, "--", *command, code=1)
    before = [job.params for job in project.sweep("s").jobs.values()]
    (project.folder / "fixed").touch()
    project.here("sweep", "--resume", "s", "--progress", "none", code=1)
    assert attempts(project) == [1] * 3
    project.here("sweep", "--resume", "s", "--rerun", "failed", "--progress", "none")
    assert [job.params for job in project.sweep("s").jobs.values()] == before
    assert project.states("s") == ["COMPLETED"] * 3
    assert attempts(project) == [2] * 3


def test_added_points_are_next(project: Project) -> None:
    line = (*DIGITS, "--n-trials", "2", "--", "sh", "-c", STAY)
    with project.detached(*line):
        out = project.here("add", "bg", "x=7").out
        assert "added 1 point to try next" in out
        refused = project.here("add", "bg", "x=70", code=2)
        assert "x=70" in refused.err
        (project.folder / "outputs/bg/0/go").touch()
        wait_for(lambda: 2 in project.sweep("bg").jobs, "the job of the added point")
        assert project.sweep("bg").jobs[2].params == {"x": 7}
        (project.folder / "outputs/bg/1/go").touch()
        project.wait_for("outputs/bg/2/runs")


def test_a_killed_launcher_loses_no_trial(project: Project) -> None:
    line = ("sweep", *DIGITS, "--n-trials", "4", "--sweep-id", "s", "--parallel-jobs", "2")
    command = f"touch {{job_dir}}/runs; test -e go || sleep 60; {TEN_X[2]}"
    with project.start(*line, "--", "sh", "-c", command) as launcher:
        project.wait_for("outputs/s/0/runs")
        project.wait_for("outputs/s/1/runs")
        jobs = project.sweep("s").jobs
        wait_for(
            lambda: all(project.sweep("s").jobs[num].state is JobState.RUNNING for num in (0, 1)),
            "the record of their starts",
        )
        os.kill(launcher.pid, signal.SIGKILL)
        launcher.wait()
    before = [jobs[num].params for num in (0, 1)]
    (project.folder / "go").touch()
    project.here("sweep", "--resume", "s", "--progress", "none")
    after = project.sweep("s").jobs
    assert [after[num].params for num in (0, 1)] == before
    assert project.states("s") == ["COMPLETED"] * 4
    assert attempts(project) == [2, 2, 1, 1]


def test_an_interrupted_study_goes_on(project: Project) -> None:
    line = ("sweep", *DIGITS, "--n-trials", "3", "--sweep-id", "s", "--parallel-jobs", "1")
    command = f"touch {{job_dir}}/runs; test -e go || sleep 60; {TEN_X[2]}"
    with project.start(*line, "--kill-grace", "1", "--", "sh", "-c", command) as launcher:
        project.wait_for("outputs/s/0/runs")
        os.kill(launcher.pid, signal.SIGINT)
        _, err = launcher.communicate()
        assert launcher.returncode == 130
        assert "hsm sweep --resume" in err or "sweep --resume" in err
    (project.folder / "go").touch()
    project.here("sweep", "--resume", "s", "--progress", "none")
    assert project.states("s") == ["COMPLETED"] * 3


def test_a_detached_study(project: Project) -> None:
    line = ("sweep", *DIGITS, "--n-trials", "3", "--sweep-id", "s", "--detach")
    assert "s has started" in project.hsm(*line, "--", *TEN_X).out
    wait_for(lambda: project.sweep("s").closed == "finished", "the end of the study")
    wait_for(lambda: not project.sweep("s").alive, "the launcher's end")
    assert project.states("s") == ["COMPLETED"] * 3
    bad = ("sweep", *DIGITS, "--sampler", "tpee", "--detach")
    assert "did you mean tpe?" in project.hsm(*bad, "--", *TEN_X, code=2).err
