"""The best jobs are those of all that completed; which parameters vary is told of all jobs."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from helpers.written_sweeps import Sweeps
from hsm import read_sweep
from hsm.core.record.job import Ending, Job, JobState
from hsm.core.record.journal import Journal
from hsm.core.record.paths import SweepPaths
from hsm.core.results import collect
from hsm.core.results.collect import ranked_results, results_of
from hsm.core.results.goal import Goal
from hsm.core.results.job_files import wrote_files
from hsm.core.results.metric import Ranking
from hsm.core.settings.resolve import Direction


@pytest.mark.parametrize("seed", range(12))
def test_the_ranking_is_that_of_the_whole_table(tmp_path: Path, seed: int) -> None:
    chance, paths = random.Random(seed), SweepPaths(tmp_path)
    journal = Journal(paths, "s", {})
    jobs = [Job(num, f"s_{num}", "", _params(chance)) for num in range(chance.randrange(1, 9))]
    journal.submit(jobs)
    for job in jobs:
        if chance.random() < 0.3:
            continue
        job.start(1.5, 2)
        journal.start(job)
        state = chance.choice([*3 * [JobState.COMPLETED], JobState.FAILED])
        value = chance.choice([None, 1.5, 2, {"loss": chance.random()}, "x"])
        job.end(2.5, Ending(state, 0, None, None, None, None, 1.5, 0.5, 4096, value))
        journal.end(job)
        if chance.random() < 0.2:
            paths.job_dir(job.num).mkdir()
            (paths.job_dir(job.num) / "results.json").write_text('{"loss": 0.25}')
    journal.close("finished")
    for goal in (None, Goal("loss")):
        results, ranking = ranked_results(read_sweep(tmp_path), goal)
        whole = results_of(read_sweep(tmp_path), files=False)
        expected = whole.ranking(goal)
        if expected.needs_files:
            whole = results_of(read_sweep(tmp_path))
            expected = whole.ranking(goal)
        for name in ("metric", "values", "completed", "known", "problem", "missing"):
            assert list_of(ranking, name) == list_of(expected, name), name
        assert [row["job"] for row in ranking.rows] == [row["job"] for row in expected.rows]
        if ranking.metric is not None:
            assert results.varying == whole.varying


def list_of(ranking: Ranking, name: str) -> object:
    """An attribute of a ranking; any sequence as a list."""
    found = getattr(ranking, name)
    return list(found) if isinstance(found, (list, tuple)) else found


def _params(chance: random.Random) -> dict[str, object]:
    values = [1, "", "a", None, 1.5]
    return {name: chance.choice(values) for name in "abc" if chance.random() < 0.8}


def test_without_a_goal_files_of_some_jobs_are_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "_MOST_PLACES", 10)
    sweeps = Sweeps(tmp_path)
    sweeps.submit(*({"num": num} for num in range(45)))
    for num in range(45):
        sweeps.end(num)
    sweeps.journal.close("finished")
    sweeps.write(7, "results.json", {"loss": 0.5})
    assert not ranked_results(sweeps.read())[1].rows
    for goal in (Goal("loss"), Goal(direction=Direction.minimize)):
        assert [row["job"] for row in ranked_results(sweeps.read(), goal)[1].rows] == [7]
    sweeps.write(20, "metrics.json", {"loss": 0.25})
    assert len(ranked_results(sweeps.read())[1].rows) == 2


def test_places_are_looked_into_evenly_though_jobs_have_two(tmp_path: Path) -> None:
    sweeps, elsewhere = Sweeps(tmp_path / "sweep"), tmp_path / "elsewhere"
    sweeps.submit(*({"num": num} for num in range(20)))
    for num in range(20):
        (elsewhere / str(num)).mkdir(parents=True)
        sweeps.end(num, job_dir=str(elsewhere / str(num)))
    sweep = sweeps.read()
    assert list(sweep.jobs.values())  # made, so that each has both of its places in turn
    assert not wrote_files(sweep, 10)
    for num in range(20):
        (elsewhere / str(num) / "results.json").write_text("{}")
    assert wrote_files(sweep, 10)


def test_a_file_that_is_written_after_the_end_of_its_job_is_ranked(tmp_path: Path) -> None:
    sweeps, elsewhere = Sweeps(tmp_path / "sweep"), tmp_path / "elsewhere"
    sweeps.submit(*({"num": num} for num in range(3)))
    sweeps.end(0)
    sweeps.end(1, job_dir=str(elsewhere))
    sweeps.end(2)
    sweeps.journal.close("finished")
    assert not ranked_results(sweeps.read())[1].rows
    elsewhere.mkdir()
    (elsewhere / "metrics.json").write_text('{"loss": 0.5}')
    assert [row["job"] for row in ranked_results(sweeps.read())[1].rows] == [1]
    sweeps.write(2, "results.json", {"loss": 0.25})
    goal = Goal("loss", Direction.minimize)
    assert [row["job"] for row in ranked_results(sweeps.read(), goal)[1].rows] == [2, 1]
