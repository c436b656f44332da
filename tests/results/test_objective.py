"""The objective of a job, from all places that it may be in."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy
import pytest

from hsm.core.plain_json import json_value
from hsm.core.results.objective import JobOutput


def values(returned: Any, *metrics: str, count: int = 0, **latest: Any) -> tuple[float, ...] | None:
    found = JobOutput(returned, latest=latest).objective(
        metrics or None, count or len(metrics) or 1
    )
    assert (found.values is None) == bool(found.problem)
    return found.values


def problem(returned: Any, *metrics: str, count: int = 0, **latest: Any) -> str:
    output = JobOutput(returned, latest=latest)
    return output.objective(metrics or None, count or len(metrics) or 1).problem


def test_what_was_returned() -> None:
    assert values(2) == (2.0,)
    assert values([1, 2.5], count=2) == (1.0, 2.5)
    assert values([3.0], count=1) == (3.0,)


@pytest.mark.parametrize(
    "scalar", [numpy.float32(0.5), numpy.float64(0.5), numpy.array(0.5), numpy.int64(3)]
)
def test_scalars_of_numpy_count_as_they_are_recorded(scalar: Any) -> None:
    assert values(json_value(scalar)) == (float(scalar),)
    assert values(json_value({"loss": scalar}), "loss") == (float(scalar),)


def test_named_metrics_of_a_dict() -> None:
    assert values({"loss": 1, "acc": 0.5}, "acc") == (0.5,)
    assert values({"loss": 1, "acc": 0.5}, "acc", "loss") == (0.5, 1.0)
    assert values({"val": {"loss": 1}}, "val.loss") == (1.0,)
    assert values({"val.loss": 2}, "val.loss") == (2.0,)


def test_reports_come_last() -> None:
    assert values({"loss": 1}, "loss", loss=9) == (1.0,)
    assert values(None, "loss", loss=9) == (9.0,)
    assert values(None, value=0.5) == (0.5,)
    assert values(0.25, value=0.5) == (0.25,)


def test_without_a_name_the_only_number_counts() -> None:
    assert values({"loss": 1, "model": "svm"}) == (1.0,)
    assert values({"val": {"loss": 1}}) == (1.0,)
    assert values(None, loss=0.5, epoch="last") == (0.5,)
    assert values({"value": 1, "loss": 2}) == (1.0,)
    assert problem(None, loss=1, acc=2) == "it reports several values: name its metric (loss, acc)"
    assert problem({"model": "svm"}) == "it returned no number: {'model': 'svm'}"


def test_a_number_has_any_name_that_nothing_else_has() -> None:
    assert values(0.5, "loss") == (0.5,)
    assert values(0.5, "loss", loss=0.25) == (0.25,)
    assert values([1, 2], "loss", "time") == (1.0, 2.0)


@pytest.mark.parametrize(
    ("returned", "metrics", "count", "message"),
    [
        (None, (), 1, "it returned no number"),
        ("abc", (), 1, "it returned no number: 'abc'"),
        (True, (), 1, "it returned no number: True"),
        ([1, "a"], (), 2, "it returned no list of 2 numbers: [1, 'a']"),
        (1.0, (), 2, "it returned no list of 2 numbers: 1.0"),
        ([1.0], (), 2, "it returned 1 number, and there are 2 objectives"),
        ([1, 2], (), 1, "it returned 2 numbers, and there is 1 objective"),
        (math.nan, (), 1, "its metric is nan"),
        (-math.inf, (), 1, "its metric is -inf"),
        ([1.0, math.nan], (), 2, "its metric is nan"),
        (10**400, (), 1, "its metric is beyond all floats"),
        ({"loss": 1, "acc": 2}, (), 1, "it returned a dict: name its metric (loss, acc)"),
        ({"loss": 1}, ("lss",), 1, "it has no metric 'lss'; did you mean loss?"),
        ({"loss": 1}, ("time",), 1, "it has no metric 'time'; there are: loss"),
        ({}, ("loss",), 1, "it has no metric 'loss'"),
        ({"loss": None}, ("loss",), 1, "it has no metric 'loss'"),
        ({"loss": "low"}, ("loss",), 1, "its metric 'loss' is no number: 'low'"),
        ({"loss": math.nan}, ("loss",), 1, "its metric 'loss' is nan"),
        ({"loss": 1}, ("loss", "time"), 2, "it has no metric 'time'; there are: loss"),
    ],
)
def test_why_there_is_none(
    returned: Any, metrics: tuple[str, ...], count: int, message: str
) -> None:
    assert problem(returned, *metrics, count=count) == message


def test_what_is_not_finite_is_recorded() -> None:
    found = JobOutput([1.0, math.inf]).objective(None, 2)
    assert found.values is None
    assert found.recorded == [1.0, math.inf]


def test_files_come_after_what_was_returned(tmp_path: Path) -> None:
    job_dir = tmp_path / "0"
    job_dir.mkdir()
    (job_dir / "metrics.json").write_text(json.dumps({"val": {"loss": 3}, "time": 7}))
    (job_dir / "results.json").write_text(json.dumps({"val": {"loss": 2}}))

    def found(returned: Any, name: str) -> Any:
        return JobOutput(returned, job_dir, tmp_path, {"time": 8, "step": 1}).objective([name], 1)

    assert found({"val": {"loss": 1}}, "val.loss").values == (1.0,)
    assert found(None, "val.loss").values == (2.0,)
    assert found(None, "time").values == (7.0,)
    assert found(None, "step").values == (1.0,)
    (job_dir / "results.json").write_text("{")
    assert found(None, "val.loss").values == (3.0,)


def test_links_that_lead_elsewhere_are_not_followed(tmp_path: Path) -> None:
    job_dir, elsewhere = tmp_path / "sweep" / "0", tmp_path / "metrics.json"
    job_dir.mkdir(parents=True)
    elsewhere.write_text('{"loss": 1}')
    (job_dir / "metrics.json").symlink_to(elsewhere)
    output = JobOutput(None, job_dir, tmp_path / "sweep")
    assert output.objective(["loss"], 1).values is None
