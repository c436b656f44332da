"""What a resume knows of a sweep: which job a point is, what runs again, and what has changed."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.reliability import points
from helpers.sweeps import PROFILE
from hsm.core.errors import SettingsError
from hsm.core.plain_json import identity
from hsm.core.record.job import Ending, Job, JobState
from hsm.core.record.paths import SweepPaths
from hsm.core.record.resume import RERUN, Resumption, describe_changes, runs_again, save_files
from hsm.core.record.sweep import Sweep

pytestmark = pytest.mark.thorough

FINAL = [state for state in JobState if state.is_final]

# --- matching ---------------------------------------------------------------------------------

_KEYS = st.text("ab", min_size=1, max_size=2)
_SCALARS = st.none() | st.booleans() | st.integers(-2, 2) | st.floats() | st.text("ab1", max_size=2)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.integers(0, 12) | st.none() | st.booleans() | _KEYS, inner, max_size=3)
    ),
    max_leaves=5,
)
#: Few different ones, so that there are repetitions.
_POINTS = st.lists(st.fixed_dictionaries({"x": st.integers(0, 4)}), max_size=12)


def one_key_each(value: Any) -> bool:
    """Whether JSON, whose keys are texts, keeps a dict's keys apart: not 1 and "1"."""
    if isinstance(value, dict):
        return len(json.loads(json.dumps(value))) == len(value) and all(
            map(one_key_each, value.values())
        )
    return all(map(one_key_each, value)) if isinstance(value, (list, tuple)) else True


@PROFILE
@given(st.dictionaries(_KEYS, _VALUES, max_size=4), st.randoms(use_true_random=False))
def test_parameters_are_known_again_from_the_journal_whatever_their_order(
    params: dict[str, Any], chance: random.Random
) -> None:
    if not one_key_each(params):
        return
    items = list(params.items())
    chance.shuffle(items)
    assert identity(dict(items)) == identity(json.loads(json.dumps(params)))


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, 1.0), (1, True), (0, False), (1, "1"), (None, "null"), ([1], [1.0]), ("", None)],
)
def test_different_values_are_different_points(one: Any, other: Any) -> None:
    assert identity({"x": one}) != identity({"x": other})


def earlier_sweep(before: list[dict[str, Any]], states: list[JobState]) -> Sweep:
    sweep = Sweep("s", SweepPaths("/nowhere"), {})
    for num, params in enumerate(before):
        job = Job(num, f"s_{num}", "", params)
        job.start(1.0, 42)
        job.end(2.0, Ending(states[num % len(states)]))
        assert sweep.jobs.add(job)
    return sweep


@PROFILE
@given(
    _POINTS,
    st.lists(st.sampled_from(FINAL), min_size=12, max_size=12),
    _POINTS,
    st.sampled_from(sorted(RERUN)),
    st.integers(1, 5),
)
def test_each_point_gets_the_job_that_it_was_and_each_job_is_given_once(
    before: list[dict[str, Any]],
    states: list[JobState],
    now: list[dict[str, Any]],
    rerun: str,
    batch: int,
) -> None:
    sweep = earlier_sweep(before, states)
    matches = Resumption(sweep, rerun).match(now)
    by_batch = Resumption(sweep, rerun)
    assert matches == [
        match for i in range(0, len(now), batch) for match in by_batch.match(now[i : i + batch])
    ]
    assert len({match.num for match in matches}) == len(now)
    known = [match.job for match in matches if match.job is not None]
    in_both = Counter(map(identity, before)) & Counter(map(identity, now))
    assert Counter(identity(job.params) for job in known) == in_both
    for point, match in zip(now, matches, strict=True):
        if match.job is None:
            assert match.runs
            assert match.num >= len(before)
        else:
            assert match.num == match.job.num
            assert match.job.params == point
            assert match.runs == runs_again(match.job, rerun)


@PROFILE
@given(
    _POINTS,
    st.lists(st.sampled_from(FINAL), min_size=12, max_size=12),
    st.sampled_from(sorted(RERUN)),
)
def test_the_same_points_again_are_the_same_jobs(
    before: list[dict[str, Any]], states: list[JobState], rerun: str
) -> None:
    matches = Resumption(earlier_sweep(before, states), rerun).match(before)
    assert [match.num for match in matches] == list(range(len(before)))


@pytest.mark.parametrize(
    ("rerun", "again"),
    [
        ("unfinished", {"FAILED", "TIMEOUT", "OUT_OF_MEMORY", "CANCELLED"}),
        ("failed", {"FAILED", "OUT_OF_MEMORY", "CANCELLED"}),
        ("timeout", {"TIMEOUT", "CANCELLED"}),
        ("all", {"COMPLETED", "PRUNED", "FAILED", "TIMEOUT", "OUT_OF_MEMORY", "CANCELLED"}),
    ],
)
def test_rerun_chooses_and_what_was_cancelled_always_runs(rerun: str, again: set[str]) -> None:
    sweep = earlier_sweep(points(*range(len(FINAL))), FINAL)
    assert {str(job.state) for job in sweep.jobs.values() if runs_again(job, rerun)} == again


# --- what has changed -------------------------------------------------------------------------


def test_changes_are_told_line_by_line() -> None:
    before = {"train.py": "a\nlr = 1\nb\n", "gone.yaml": "x: 1\n", "same.yaml": "y: 1\n"}
    now = {"train.py": "a\nlr = 2\nb\n", "same.yaml": "y: 1\n", "new.yaml": "z: 1\n"}
    assert describe_changes(before, now) == [
        "train.py has changed:",
        "  -lr = 1",
        "  +lr = 2",
        "gone.yaml is gone",
    ]


def test_lines_that_look_like_a_diffs_own_are_told_as_well() -> None:
    assert describe_changes({"a.yaml": "-- x\n"}, {"a.yaml": "++ y\n"}) == [
        "a.yaml has changed:",
        "  --- x",
        "  +++ y",
    ]


def test_a_change_of_the_last_newline_alone_is_told() -> None:
    lines = describe_changes({"a.yaml": "x: 1\n"}, {"a.yaml": "x: 1"})
    assert lines == ["a.yaml has changed:", "  (line ends only)"]


def test_of_many_changes_the_first_are_told() -> None:
    lines = describe_changes({"a": "x\n" * 100}, {"a": ""})
    assert len(lines) == 21
    assert lines[-1] == "(and 81 more lines)"


def test_files_that_are_too_long_are_not_kept_and_the_others_are(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path)
    paths.create()
    save_files(paths, {"small.yaml": "a: 1", "large.py": "x" * (2 << 20), "last.yaml": "b: 1"})
    kept = json.loads(paths.launched.read_text())["files"]
    assert kept == {"small.yaml": "a: 1", "last.yaml": "b: 1"}


def test_files_that_are_known_later_are_added_and_the_first_texts_stay(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path)
    paths.create()
    save_files(paths, {"config.yaml": "a: 1"})
    save_files(paths, {"config.yaml": "a: 2", "model.yaml": "b: 1"})
    kept = json.loads(paths.launched.read_text())["files"]
    assert kept == {"config.yaml": "a: 1", "model.yaml": "b: 1"}
    assert list(paths.hsm_dir.glob("*.tmp")) == []


# --- numbers of jobs ----------------------------------------------------------------------------


def test_with_numbers_these_jobs_alone_run() -> None:
    before = [{"x": x} for x in range(4)]
    states = [JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED, JobState.COMPLETED]
    matches = Resumption(earlier_sweep(before, states), (0, 2)).match(before)
    assert [match.runs for match in matches] == [True, False, True, False]


def test_with_numbers_no_new_point_runs() -> None:
    resumption = Resumption(earlier_sweep([{"x": 0}], [JobState.FAILED]), (0,))
    with pytest.raises(SettingsError, match=r"points that no job of s has had, such as \{'x': 9\}"):
        resumption.match([{"x": 0}, {"x": 9}])


def test_numbers_of_jobs_that_are_not_there() -> None:
    with pytest.raises(SettingsError, match="sweep s has no job 5: give a number from 0 to 1"):
        Resumption(earlier_sweep([{"x": 0}, {"x": 1}], [JobState.FAILED]), (1, 5))
