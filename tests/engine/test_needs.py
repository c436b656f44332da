"""What jobs need: the sweep's `needs`, and those of single points."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.reliability import source
from hsm.core.engine.submission import JobSpec
from hsm.core.errors import SettingsError
from hsm.core.needs import NEEDS, NO_NEEDS, Needs
from hsm.core.record.sweep import read_sweep

_RESOURCES = {"licence": 2, "tokens": 5}


def _pass(params: dict[str, Any]) -> Any:
    return sorted(params)


def _submit(sweep_dir: Path, points: list[dict[str, Any]], **settings: Any) -> list[dict[str, int]]:
    """Run a sweep; returns what each job needed."""
    with source(resources=_RESOURCES, **settings) as made:
        ids = made.submit_jobs(points, "s", sweep_dir, function=_pass)
        made.wait()
        assert all(NEEDS not in made.job(job_id).params for job_id in ids)
        assert all(made.job(job_id).value in (None, ["x"]) for job_id in ids)
        return [dict(made._ledger[job_id].needs) for job_id in ids]


def _lines(sweep_dir: Path) -> list[dict[str, Any]]:
    text = (sweep_dir / ".hsm" / "journal.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_equal_needs_are_one_object() -> None:
    needs = Needs({"a": 1, "b": 0})
    assert needs.of(NO_NEEDS) == {"a": 1}
    assert needs.of(NO_NEEDS) is needs.of({})
    assert needs.of({"b": 2}) == {"a": 1, "b": 2}
    assert needs.of({"b": 2}) is needs.of({"b": 2})
    assert needs.of({"a": 0}) is NO_NEEDS
    assert needs.of({"gpus": 0.5, "gpu_memory": 1 << 30}) is needs.of({})
    assert Needs({}).of({}) is NO_NEEDS


def test_a_spec_needs_nothing_by_itself() -> None:
    assert JobSpec(0, {}, "", None).needs is NO_NEEDS


def test_a_points_own_needs_are_no_parameter_and_win_by_name(tmp_path: Path) -> None:
    points: list[dict[str, Any]] = [
        {"x": 0},
        {"x": 1, NEEDS: {"licence": 2}},
        {"x": 2, NEEDS: "tokens=3"},
        {"x": 3, NEEDS: {"licence": 0}},
        {"x": 4, NEEDS: None},
    ]
    assert _submit(tmp_path, points, needs={"licence": 1}) == [
        {"licence": 1},
        {"licence": 2},
        {"licence": 1, "tokens": 3},
        {},
        {"licence": 1},
    ]
    assert NEEDS in points[1]  # The caller's own is left as it is.
    sweep = read_sweep(tmp_path)
    assert [job.params for job in sweep.jobs.values()] == [{"x": x} for x in range(5)]
    assert [job.label for job in sweep.jobs.values()] == [f"x={x}" for x in range(5)]


def test_the_record_has_own_needs_only(tmp_path: Path) -> None:
    _submit(tmp_path, [{"x": 0}, {"x": 1, NEEDS: {"licence": 2}}], needs={"licence": 1})
    first, submit = _lines(tmp_path)[:2]
    assert first["settings"]["needs"] == {"licence": 1}
    assert first["settings"]["resources"] == _RESOURCES
    assert [entry.get("needs") for entry in submit["jobs"]] == [None, {"licence": 2}]
    jobs = read_sweep(tmp_path).jobs
    assert [jobs.needs_of(0), jobs.needs_of(1)] == [None, {"licence": 2}]
    assert jobs[1].needs == {"licence": 2}


def test_the_needs_of_very_many_names_are_read_from_their_file(tmp_path: Path) -> None:
    resources = {f"{'n' * 40}{number}": 1 for number in range(500)}
    with source(resources=resources) as made:
        made.submit_jobs([{"x": 0, NEEDS: resources}], "s", tmp_path, function=_pass)
    assert "needs" in _lines(tmp_path)[1]["jobs"][0]["large"]
    assert read_sweep(tmp_path).jobs[0].needs == resources


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        ({"licnce": 1}, "_needs_ of point 1: there is no resource 'licnce'; did you mean licence?"),
        ({"licence": 3}, "_needs_ of point 1: a job cannot need 3 of licence: there are 2"),
        ({"licence": -1}, "_needs_ of point 1: needs must be names with integers of at least 0"),
        (["licence"], "_needs_ of point 1: needs must be names with integers of at least 0"),
    ],
)
def test_what_can_never_be_met_is_refused_before_anything_is_written(
    tmp_path: Path, needs: Any, message: str
) -> None:
    sweep_dir = tmp_path / "sweep"
    with source(resources=_RESOURCES) as made, pytest.raises(SettingsError) as caught:
        made.submit_jobs([{"x": 0}, {"x": 1, NEEDS: needs}], "s", sweep_dir, function=_pass)
    assert str(caught.value).startswith(message)
    assert not sweep_dir.exists()


def test_when_a_sweep_is_resumed_the_needs_of_the_new_points_count(tmp_path: Path) -> None:
    _submit(tmp_path, [{"x": 0}, {"x": 1, NEEDS: {"licence": 2}}])
    again = _submit(tmp_path, [{"x": 1}, {"x": 0, NEEDS: {"tokens": 5}}], resume=True, rerun="all")
    assert again == [{}, {"tokens": 5}]
    assert [job.params for job in read_sweep(tmp_path).jobs.values()] == [{"x": 0}, {"x": 1}]


@pytest.mark.parametrize(
    "needs",
    [
        '{"a":-1}',
        '{"a":true}',
        '{"a":"1"}',
        "[1]",
        "3",
        '{"a":0.5}',
        '{"gpus":1.5}',
        '{"gpus":-1}',
        '{"gpu_memory":0.5}',
    ],
)
def test_damaged_needs_of_a_record_cost_only_that_job(tmp_path: Path, needs: str) -> None:
    _submit(tmp_path, [{"x": 0}, {"x": 1, NEEDS: {"licence": 2}}])
    journal = tmp_path / ".hsm" / "journal.jsonl"
    journal.write_text(journal.read_text().replace('{"licence":2}}]', f"{needs}}}]"))
    sweep = read_sweep(tmp_path)
    assert list(sweep.jobs) == [0]
    assert "needs is" in sweep.problems[0]
    assert "not numbers by name" in sweep.problems[0]
