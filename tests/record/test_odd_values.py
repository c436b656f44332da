"""What JSON cannot hold, or only just: nested deeply, not finite, no text."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from helpers.reliability import points, source
from hsm import LocalComputeSource, collect_results, read_sweep
from hsm.core.errors import SettingsError
from hsm.core.record.job import JobState

pytestmark = pytest.mark.thorough


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("depth", [101, 900, 5000])
def test_a_value_that_is_nested_too_deeply_stays_in_its_pickle(tmp_path: Path, depth: int) -> None:
    def make(params: Mapping[str, Any]) -> Any:
        sys.setrecursionlimit(100_000)
        return nested(depth if params["x"] else 100)

    with source(start_method="fork") as made:
        ids = made.submit_jobs(points(0, 1), "s", tmp_path, function=make)
        assert set(made.wait().values()) == {JobState.COMPLETED}
        assert made.result(ids[0]) == nested(100)
    found = read_sweep(tmp_path)
    assert (found.problems, found.jobs[0].value, found.jobs[1].value) == ([], nested(100), None)


@pytest.mark.parametrize("value", [nested(100), [10**5000], {"a": nested(300)}])
def test_parameters_that_cannot_be_recorded_are_refused(tmp_path: Path, value: Any) -> None:
    with LocalComputeSource(1) as made, pytest.raises(SettingsError, match="combination 0"):
        made.submit_jobs([{"x": value}], "s", tmp_path / "s", command=["true"])
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("value", [float("inf"), -(2**70), "\ud800\0", {"": [float("nan")]}])
def test_odd_values_come_back(tmp_path: Path, value: Any) -> None:
    with source(start_method="fork") as made:
        made.submit_jobs(points(value), "s", tmp_path, function=lambda params: params["x"])
    [job] = read_sweep(tmp_path).jobs.values()
    assert repr(job.value) == repr(job.params["x"]) == repr(value)
    assert len(collect_results(tmp_path)) == 1
