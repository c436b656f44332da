"""`hsm show`, `monitor`, `collect-results` and `list` of a study."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from helpers.cli import Project
from helpers.processes import SOURCE
from helpers.written_studies import Study
from hsm.core.record.job import JobState
from hsm.core.record.registry import register


def study(project: Project, *objectives: Any, **chosen: Any) -> Study:
    written = Study(project.folder / "study", planned=100, **chosen)
    written.submit(*({"lr": num, "model": "svm"} for num in range(len(objectives))))
    for num, objective in enumerate(objectives):
        if isinstance(objective, JobState):
            written.end(num, objective)
        else:
            written.end(num, objective=objective)
    written.finish()
    return written


def test_show_tells_how_a_study_chooses_and_its_best(project: Project) -> None:
    options = {"sampler": {"name": "tpe", "seed": 1}, "pruner": "median", "metric": ["loss"]}
    space = {"lr": "interval(0, 1)", "model": "svm,mlp"}
    study(project, 3.0, 0.123456789, JobState.PRUNED, **options, seed=7, space=space)
    shown = project.here("show", "study").out
    assert (
        "jobs         3: 2 completed, 1 pruned\n"
        "points       method optuna, n_trials 100, direction minimize, "
        'sampler {"name": "tpe", "seed": 1}, pruner median, metric loss, seed 7\n'
        "space        lr = interval(0, 1)\n"
        "             model = svm,mlp\n"
        "best         loss 0.123457 by job 1: lr=1 model=svm\n"
    ) in shown
    facts = project.here("show", "study", "--json").json
    assert facts["chosen"]["space"] == space
    assert facts["best"] == {
        "job": 1,
        "value": 0.123456789,
        "params": {"lr": 1, "model": "svm"},
    }


def test_show_tells_the_front(project: Project) -> None:
    ends = ["minimize", "maximize"]
    study(project, *([num, num] for num in range(12)), direction=ends, metric=["loss", "acc"])
    shown = project.here("show", "study").out
    assert "direction minimize, maximize, metric loss, acc\n" in shown
    assert (
        "pareto       loss 0, acc 0 by job 0: lr=0 model=svm\n"
        "             loss 1, acc 1 by job 1: lr=1 model=svm\n"
    ) in shown
    assert "             and 2 more\n" in shown
    facts = project.here("show", "study", "--json").json
    assert (facts["best"], len(facts["pareto"])) == (None, 12)


def test_a_study_without_results_has_no_best(project: Project) -> None:
    study(project, JobState.FAILED)
    shown = project.here("show", "study").out
    assert "\nbest " not in shown
    assert project.here("show", "study", "--json").json["best"] is None


def test_the_monitor_tells_the_front_and_may_rank_by_one_objective(project: Project) -> None:
    ends = ["minimize", "maximize"]
    study(project, [1, 5], [2, 7], [3, 6], direction=ends, metric=["loss", "acc"])
    told = project.here("monitor", "study", "--once").out
    assert "2 of 3 jobs are on the Pareto front of loss (lowest), acc (highest):\n" in told
    told = project.here("monitor", "study", "--once", "--metric", "acc").out
    assert "best by acc (highest of 3):\n  job  lr  acc\n    1   1    7\n" in told
    document = project.here("monitor", "study", "--json").json
    assert (document["to_come"], document["best"]) == (0, None)
    assert [each["job"] for each in document["pareto"]] == [0, 1]
    assert [each["values"] for each in document["pareto"]] == [
        {"loss": 1, "acc": 5},
        {"loss": 2, "acc": 7},
    ]


def test_a_finished_study_has_nothing_to_come_in_the_list(project: Project) -> None:
    study(project, 1.0)
    register("demo", project.folder / "study")
    (listed,) = project.here("list", "--json").json
    assert (listed["jobs"], listed["to_come"]) == (1, 0)
    assert "begun" not in project.here("list").out


def test_the_tables_of_a_study(project: Project) -> None:
    study(project, 3.0, float("nan"), JobState.PRUNED, metric="loss")
    out = project.here("collect-results", "study", "--columns", "job,pruned,objective,reason").out
    assert [line.split() for line in out.splitlines()] == [
        ["job", "pruned", "objective", "reason"],
        ["0", "false", "3"],
        ["1", "false", "nan", "its", "metric", "loss", "is", "nan"],
        ["2", "true"],
    ]
    rows = project.here("collect-results", "study", "--format", "json").json
    assert [row["objective"] for row in rows] == [3.0, None, None]
    out = project.here("collect-results", "study", "--only", "pruned", "--format", "csv").out
    assert len(out.splitlines()) == 2


@pytest.mark.slow
def test_scripts_that_only_report_are_ranked_by_what_they_report(project: Project) -> None:
    project.write(
        "train.py",
        "import sys\n"
        f"sys.path.insert(0, {str(SOURCE)!r})\n"
        "import hsm\n"
        "x = float(sys.argv[1])\n"
        "for step in range(3):\n"
        "    hsm.report(step=step, loss=(x - 2) ** 2 + 1 / (step + 1), acc=step)\n",
    )
    ran = project.hsm(
        *("sweep", "x=1,4,2", "--sweep-id", "s", "--metric", "loss", "--minimize"),
        *("--parallel-jobs", "1", "--progress", "plain", "--", sys.executable, "train.py", "{x}"),
    )
    assert [line for line in ran.out.splitlines() if line.startswith("best so far")] == [
        "best so far: loss 1.33333 by job 0: x=1",
        "best so far: loss 0.333333 by job 2: x=2",
    ]
    assert "best by loss (lowest of 3):\n  job  x    loss\n    2  2  0.3333\n" in ran.out
    rows = project.here("collect-results", "s", "--format", "json").json
    assert [row["acc"] for row in rows] == [2, 2, 2]
