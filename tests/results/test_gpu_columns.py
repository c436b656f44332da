"""What the table of results has of GPUs: only if hsm gave some to a job."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from helpers.written_sweeps import Sweeps
from hsm.core.record.job import JobState
from hsm.core.results.collect import ranked_results
from hsm.core.results.goal import Goal
from hsm.core.settings.resolve import Direction

GIB = 1 << 30
OURS = ["gpus", "gpu_memory", "gpu_load"]
BEFORE = ["attempts", "duration", "cpu_seconds", "max_memory"]
AFTER = ["exit_code", "signal", "reason"]


def test_a_job_with_gpus_adds_columns(sweep: Sweeps) -> None:
    sweep.submit({"lr": 1}, {"lr": 2}, {"lr": 3}, {"lr": 4})
    sweep.retry(0, [3], state=JobState.FAILED, gpu_memory=9 * GIB)
    sweep.end(0, gpus=[0, 1], value=0.5, gpu_memory=6 * GIB, gpu_load=83.25)
    sweep.end(1, JobState.FAILED, gpus=["MIG-1"], exit_code=1)
    sweep.end(2, exit_code=0)
    results = sweep.results()
    assert results.columns == ["job", "state", "lr", "value", *BEFORE, *OURS, *AFTER]
    assert [[row[name] for name in OURS] for row in results] == [
        ["0,1", 6 * GIB, 83.25],
        ["MIG-1", None, None],
        [None, None, None],
        [None, None, None],
    ]
    assert results.parameters == ["lr"]
    assert results.metrics == ["value"]


def test_without_gpus_the_table_is_as_ever(sweep: Sweeps) -> None:
    sweep.submit({"gpus": 1, "gpu_load": 2})
    sweep.end(0, exit_code=0, value={"gpu_memory": 5})
    results = sweep.results()
    assert results.columns == [
        *("job", "state", "gpus", "gpu_load", "value.gpu_memory"),
        *(*BEFORE, *AFTER),
    ]


def test_a_parameter_of_that_name_gives_way(sweep: Sweeps) -> None:
    sweep.submit({"gpus": 1}, {"gpus": 2})
    sweep.end(0, gpus=[0], value=0.5)
    sweep.end(1, gpus=[1], value=0.25)
    assert sweep.results().parameters == ["params.gpus"]
    # The best jobs are told by their parameters, under their own names.
    results, ranking = ranked_results(sweep.read(), Goal(direction=Direction.minimize))
    assert (results.varying, ranking.rows[0]["gpus"]) == (["gpus"], 2)


def test_a_text_table_shows_units(sweep: Sweeps) -> None:
    sweep.submit({"lr": 1}, {"lr": 2})
    sweep.end(0, gpus=[0], gpu_memory=6 * GIB, gpu_load=83.25)
    sweep.end(1, gpus=[0, 1])
    results = sweep.results()
    assert "6.0 GiB" in str(results)
    assert "83%" in str(results)
    assert results.select(["job", *OURS]).to_markdown().splitlines()[2:] == [
        "| 0 | 0 | 6442450944 | 83.25 |",
        "| 1 | 0,1 |  |  |",
    ]


def test_files_have_bytes_and_percent(sweep: Sweeps, tmp_path: Path) -> None:
    sweep.submit({"lr": 1}, {"lr": 2})
    sweep.end(0, gpus=[0], gpu_memory=6 * GIB, gpu_load=83.25)
    sweep.end(1, gpus=[0, 1])
    results = sweep.results()
    results.to_csv(tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = [[row[name] for name in OURS] for row in csv.DictReader(file)]
    assert rows == [["0", "6442450944", "83.25"], ["0,1", "", ""]]
    parquet = pytest.importorskip("pyarrow.parquet")
    results.to_parquet(tmp_path / "t.parquet")
    assert parquet.read_table(tmp_path / "t.parquet").select(OURS).to_pydict() == {
        "gpus": ["0", "0,1"],
        "gpu_memory": [6 * GIB, None],
        "gpu_load": [83.25, None],
    }
