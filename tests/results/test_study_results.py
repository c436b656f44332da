"""The table of a study: what it was told, what its jobs reported, and which is best."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.written_studies import Study
from helpers.written_sweeps import Sweeps
from hsm import collect_results, read_sweep
from hsm.cli._outcome import outcome
from hsm.core.record.job import Ending, Job, JobState
from hsm.core.results.collect import ranked_results
from hsm.core.results.goal import Goal
from hsm.core.results.trial_counts import trial_counts
from hsm.core.settings.resolve import Direction
from hsm.display.best_jobs import best_jobs

LOWEST, HIGHEST = Direction.minimize, Direction.maximize
NAN = float("nan")


def test_what_a_study_was_told_is_a_column_and_ranks(tmp_path: Path) -> None:
    study = Study(tmp_path, metric="loss", direction="minimize")
    study.submit(*({"lr": num} for num in range(4)))
    study.end(0, value={"loss": 2.0}, objective=2.0)
    study.end(1, value=1, objective=1)  # told under the metric's name though it had none
    study.end(2, JobState.PRUNED, objective=0.5, reason="pruned at step 3")
    study.end(3, JobState.FAILED, exit_code=1)
    study.finish()
    table = collect_results(tmp_path)
    assert table.columns[:8] == [
        *("job", "state", "trial", "pruned", "lr", "objective", "value.loss", "value"),
    ]
    assert [row["objective"] for row in table] == [2.0, 1, 0.5, None]
    assert [row["pruned"] for row in table] == [False, False, True, False]
    assert [row["trial"] for row in table] == [0, 1, 2, 3]
    assert "trial" not in str(table)  # where it says what the job's number says
    assert [row["reason"] for row in table][2:] == ["pruned at step 3", "exit code 1"]
    assert table.best()["job"] == 1
    assert table.best(direction="maximize")["job"] == 0
    _, ranking = ranked_results(read_sweep(tmp_path))
    assert (ranking.metric, ranking.values) == ("loss", [1, 2.0])


def test_a_value_that_is_no_finite_number_is_told_and_not_ranked(tmp_path: Path) -> None:
    study = Study(tmp_path)
    study.submit(*({"lr": num} for num in range(5)))
    for num, objective in enumerate((NAN, float("inf"), 3.0, None)):
        study.end(num, value="x", objective=objective)
    study.end(4, reason="it returned no number: 'x'")
    table = collect_results(study.finish())
    assert [row["reason"] for row in table] == [
        "its metric is nan",
        "its metric is inf",
        None,
        "it has no metric",
        "it returned no number: 'x'",
    ]
    results, ranking = ranked_results(read_sweep(tmp_path))
    assert [row["job"] for row in ranking.rows] == [2]
    assert best_jobs(results, ranking, 80)[0] == "best by value (lowest of 1; 4 have none):"


def test_a_grid_has_none_of_these_columns(tmp_path: Path) -> None:
    sweep = Sweeps(tmp_path)
    sweep.submit({"lr": 1})
    sweep.end(0, value=1)
    table = sweep.results()
    assert not {"objective", "pruned", "pareto", "trial"} & set(table.columns)
    assert table[0]["reason"] is None


def test_parameters_of_these_names_keep_their_values(tmp_path: Path) -> None:
    study = Study(tmp_path)
    study.submit({"objective": "a", "pruned": "b"}, {"objective": "c", "pruned": "d"})
    study.end(0, value={"objective": 7}, objective=7)
    study.end(1, JobState.PRUNED)
    first, second = collect_results(study.finish())
    assert (first["objective"], first["params.objective"], first["value.objective"]) == (7, "a", 7)
    assert (second["pruned"], second["params.pruned"]) == (True, "d")


# --- what jobs report
# -------------------------------------------------------------------------------------------------


def test_jobs_that_only_report_are_ranked_by_their_last_reports(tmp_path: Path) -> None:
    study = Study(tmp_path)
    study.submit(*({"lr": num} for num in range(3)))
    for num in range(2):
        study.end(num)
        study.report(num, step=0, loss=9 - num, text="a")
        study.report(num, step=1, loss=num)
    study.end(2, JobState.FAILED, exit_code=1)
    study.report(2, loss=-1)
    study.journal.close("finished")
    table = collect_results(tmp_path)
    assert [row["loss"] for row in table] == [0, 1, -1]
    assert [row["text"] for row in table] == ["a", "a", None]
    assert table.metrics == ["loss", "text"]
    assert table.best(direction="minimize")["job"] == 0  # the only number that they have
    assert table.best("loss", "maximize")["job"] == 1
    _, ranking = ranked_results(read_sweep(tmp_path), Goal("loss", LOWEST))
    assert [row["job"] for row in ranking.rows] == [0, 1]


def test_reports_come_last_in_the_order_of_places(tmp_path: Path) -> None:
    study = Study(tmp_path)
    study.submit({}, {}, {}, {})
    study.end(0, value={"loss": 4})
    for num in range(1, 4):
        study.end(num)
    study.write(0, "results.json", {"loss": 9})
    study.write(1, "results.json", {"loss": 3})
    study.write(1, "metrics.json", {"loss": 9})
    study.write(2, "metrics.json", {"loss": 2})
    for num in range(4):
        study.report(num, loss=1)
    study.journal.close("finished")
    _, ranking = ranked_results(read_sweep(tmp_path), Goal("loss", HIGHEST))
    assert [(row["job"], row["reported.loss"]) for row in ranking.rows] == [
        *((0, 1), (1, 1), (2, 1), (3, 1)),
    ]
    assert ranking.values == [4, 3, 2, 1]


def test_a_retry_has_what_it_reported_itself(tmp_path: Path) -> None:
    study = Study(tmp_path)
    study.submit({})
    study.report(0, loss=1, only_before=True)
    start = (tmp_path / ".hsm/metrics/0.jsonl").stat().st_size
    study.jobs[0].start(1.0, 2)
    study.jobs[0].attempts[-1].metrics = start
    study.journal.start(study.jobs[0])
    study.report(0, loss=2)
    (row,) = study.results()
    assert row["loss"] == 2
    assert "only_before" not in row


@pytest.mark.parametrize("content", ["not JSON\n[1, 2]\n", "\x00" * 50, '{"loss": [1]}\n'])
def test_reports_that_make_no_sense_are_none(tmp_path: Path, content: str) -> None:
    study = Study(tmp_path)
    study.submit({})
    study.end(0)
    study.report(0)
    (tmp_path / ".hsm/metrics/0.jsonl").write_text(content)
    (tmp_path / ".hsm/metrics/nonsense.jsonl").write_text('{"loss": 1}\n')
    (tmp_path / ".hsm/metrics/7.jsonl").write_text('{"loss": 1}\n')  # there is no such job
    table = study.results()
    assert "loss" not in table.columns
    assert len(table) == 1


# --- trials
# -------------------------------------------------------------------------------------------------


def repeated(directory: Path, *objectives: float | JobState | None, **chosen: object) -> Path:
    """A study of lr with three seeds each."""
    study = Study(directory, planned=60, repeat={"seed": [0, 1, 2]}, **chosen)
    study.submit(*({"lr": num // 3, "seed": num % 3} for num in range(len(objectives))))
    for num, objective in enumerate(objectives):
        if isinstance(objective, JobState):
            study.end(num, objective)
        elif objective is not None:
            study.end(num, objective=objective)
    return study.finish()


def test_trials_are_ranked_as_the_study_says(tmp_path: Path) -> None:
    values = (1.0, 1.0, 9.0, 3.0, 3.0, 3.0)
    for how, lr, value in (("mean", 1, 3.0), ("median", 0, 1.0), ("worst", 1, 3.0)):
        folder = repeated(tmp_path / how, *values, repeat_as=how)
        results, ranking = ranked_results(read_sweep(folder))
        assert (ranking.rows[0]["lr"], ranking.values[0]) == (lr, value)
        title, _, first, second = best_jobs(results, ranking, 80)
        end = "lowest of their worst" if how == "worst" else f"lowest {how}"
        assert title == f"best by value ({end} of 2):"
        assert ("±" in first + second) == (how == "mean")
        assert outcome(read_sweep(folder))["best"]["value"] == value


def test_a_pruned_trial_is_never_the_best(tmp_path: Path) -> None:
    pruned = JobState.PRUNED
    repeated(tmp_path, 0.0, 0.0, pruned, 5.0, 5.0, 5.0)
    _, ranking = ranked_results(read_sweep(tmp_path))
    assert [trial.jobs for trial in ranking.trials] == [(3, 4, 5)]


def test_trials_that_have_ended_are_counted(tmp_path: Path) -> None:
    failed, pruned, cancelled = JobState.FAILED, JobState.PRUNED, JobState.CANCELLED
    trials = [
        *(1.0, 2.0, failed),  # told of the others
        *(1.0, failed, failed),
        *(1.0, NAN, NAN),
        *(1.0, 2.0, pruned),
        *(1.0, 2.0, cancelled),
        *(1.0, 2.0, None),  # still to run
    ]
    folder = repeated(tmp_path, *trials)
    assert trial_counts(read_sweep(folder)) == (1, 2, 1)


def test_trials_of_one_job_are_counted(tmp_path: Path) -> None:
    study = Study(tmp_path)
    study.submit(*({"lr": num} for num in range(5)))
    study.end(0, objective=1)
    study.end(1, objective=NAN)
    study.end(2, JobState.TIMEOUT)
    study.end(3, JobState.PRUNED, objective=3)
    assert trial_counts(read_sweep(study.finish())) == (1, 2, 1)


# --- constraints
# -------------------------------------------------------------------------------------------------


def test_a_trial_that_breaks_a_constraint_is_not_the_best(tmp_path: Path) -> None:
    study = Study(tmp_path, constraints=["memory <= 8"])
    study.submit(*({"lr": num} for num in range(4)))
    study.end(0, value={"memory": 9}, objective=0.0)
    study.end(1, objective=1.0)
    study.write(1, "metrics.json", {"memory": 8.5})
    study.end(2, objective=2.0)
    study.report(2, memory=8)
    study.end(3, objective=3.0)  # nobody knows
    study.finish()
    results, ranking = ranked_results(read_sweep(tmp_path))
    assert [row["job"] for row in ranking.rows] == [2, 3]
    assert best_jobs(results, ranking, 80)[0] == (
        "best by value (lowest of 2; 2 break a constraint):"
    )
    assert collect_results(tmp_path).best()["job"] == 2


def test_a_front_has_no_trial_that_breaks_a_constraint(tmp_path: Path) -> None:
    study = Study(tmp_path, constraints=["memory <= 8"], direction=["minimize", "minimize"])
    study.submit(*({"lr": num} for num in range(3)))
    for num, memory in enumerate((9, 8, 7)):
        study.end(num, value={"memory": memory}, objective=[num, num])
    study.finish()
    assert [row["pareto"] for row in collect_results(tmp_path)] == [False, True, False]
    _, ranking = ranked_results(read_sweep(tmp_path))
    assert ranking.front is not None
    assert (ranking.front.jobs, ranking.front.count) == ([(1,)], 2)


def test_a_trial_of_which_one_job_breaks_a_constraint_is_not_ranked(tmp_path: Path) -> None:
    study = Study(tmp_path, planned=4, repeat={"seed": [0, 1]}, constraints=["memory <= 8"])
    study.submit(*({"lr": num // 2, "seed": num % 2} for num in range(4)))
    for num, memory in enumerate((8, 9, 8, 8)):
        study.end(num, value={"memory": memory}, objective=float(num))
    study.finish()
    _, ranking = ranked_results(read_sweep(tmp_path))
    assert [trial.jobs for trial in ranking.trials] == [(2, 3)]


def test_repeats_that_were_left_out_are_a_trial_that_was_pruned(tmp_path: Path) -> None:
    study = Study(tmp_path, planned=6, repeat={"seed": [0, 1, 2]})
    study.submit({"lr": 0, "seed": 0}, {"lr": 0, "seed": 1})
    study.journal.submit([Job(num, f"demo_{num}", "", {"lr": 1, "seed": num}) for num in (3, 4, 5)])
    study.jobs += [Job(2, "none")]
    for num in (0, 1):
        study.end(num, objective=0.0)
    for num in (3, 4, 5):
        job = Job(num, f"demo_{num}")
        job.start(1.0, 2)
        study.journal.start(job)
        job.end(2.0, Ending(JobState.COMPLETED, objective=5.0))
        study.journal.end(job)
    study.finish()
    _, ranking = ranked_results(read_sweep(tmp_path))
    assert [trial.jobs for trial in ranking.trials] == [(3, 4, 5)]
    assert trial_counts(read_sweep(tmp_path)) == (1, 0, 1)
