"""What a study's end says: its trials, the best one, or the Pareto front."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.written_studies import Study
from hsm.core.record.job import JobState
from hsm.core.record.sweep import read_sweep
from hsm.core.results.collect import ranked_results
from hsm.display.counts import Counts
from hsm.display.summary import Shown, summary

NAN = float("nan")


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.chdir(tmp_path)
    return Study(tmp_path / "demo", planned=100, metric="loss")


def lines(study: Study, reason: str = "finished") -> list[str]:
    """The summary but for where to look further."""
    study.finish(reason)
    sweep = read_sweep(study.paths.sweep_dir)
    counts = Counts()
    counts.read(sweep.jobs, 100.0)
    counts.to_come = sweep.to_come or 0
    told = summary(counts, study.paths, 103.0, Shown("demo"), sweep)
    assert len(told) <= 20
    end = next(at for at, line in enumerate(told) if line.startswith("table:"))
    return [told[0], *told[2:end]]


def run(study: Study, *objectives: float | list[float] | JobState) -> None:
    first = len(study.jobs)
    study.submit(*({"lr": first + num} for num in range(len(objectives))))
    for num, objective in enumerate(objectives, first):
        if isinstance(objective, JobState):
            study.end(num, objective, reason="so")
        else:
            study.end(num, objective=objective)


def test_the_states_of_jobs_tell_of_plain_trials(study: Study) -> None:
    run(study, 3.0, 2.0, JobState.PRUNED)
    assert lines(study) == [
        "demo: 3 jobs: 2 completed, 1 pruned",
        "best by loss (lowest of 2):",
        "  job  lr  loss",
        "    1   1     2",
        "    0   0     3",
    ]


def test_a_completed_job_that_failed_as_a_trial_is_told(study: Study) -> None:
    run(study, 3.0, NAN, JobState.PRUNED)
    assert lines(study)[:3] == [
        "demo: 3 jobs: 2 completed, 1 pruned",
        "3 trials: 1 succeeded, 1 failed, 1 pruned",
        "best by loss (lowest of 1; 1 has none):",
    ]


def test_nothing_is_to_come_after_an_early_end(study: Study) -> None:
    run(study, 3.0, 2.0)
    assert lines(study)[0] == "demo: 2 jobs: 2 completed"


def test_an_interrupted_study_has_trials_that_were_not_begun(study: Study) -> None:
    run(study, 3.0, 2.0)
    assert lines(study, "interrupted by SIGINT")[0] == "demo: 100 jobs: 2 completed, 98 not begun"


def test_all_trials_failed(study: Study) -> None:
    run(study, NAN, JobState.FAILED)
    assert lines(study) == [
        "demo: 2 jobs: 1 completed, 1 failed",
        "2 trials: 0 succeeded, 2 failed",
        "no completed job has a number for 'loss'; there is none at all",
        "job 1 FAILED: so",
    ]


def test_a_front_is_told_instead_of_a_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = Study(tmp_path / "demo", direction=["minimize", "maximize"])
    run(study, [1, 1], [2, 2], [2, 1], [1, NAN])
    assert lines(study)[1:] == [
        "4 trials: 3 succeeded, 1 failed",
        "2 of 3 jobs are on the Pareto front of 0 (lowest), 1 (highest):",
        "  job  lr  0  1",
        "    0   0  1  1",
        "    1   1  2  2",
    ]


@pytest.mark.slow
def test_a_study_of_thousands_is_summarized_in_seconds(study: Study) -> None:
    run(study, *(float(num) for num in range(5000)))
    assert lines(study)[1] == "best by loss (lowest of 5000):"
    assert ranked_results(read_sweep(study.paths.sweep_dir))[1].needs_files is False
