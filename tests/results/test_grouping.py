"""`Results.group_by`: means, standard deviations and counts of groups of jobs."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from helpers.written_sweeps import Sweeps
from hsm.core.errors import SettingsError
from hsm.core.record.job import JobState
from hsm.core.results.grouping import with_deviation
from hsm.core.results.results_table import Results


@pytest.fixture
def results(sweep: Sweeps) -> Results:
    """Two models with three seeds: loss = seed + 10 for forest; forest's seed 2 failed."""
    points: list[dict[str, Any]] = [
        {"model": model, "seed": seed, "depth": 3}
        for model in ("svm", "forest")
        for seed in range(3)
    ]
    sweep.submit(*points)
    for num, point in enumerate(points):
        loss = point["seed"] + 10 * (point["model"] == "forest")
        if num == 5:
            sweep.end(num, JobState.FAILED, exit_code=1)
        else:
            sweep.end(num, exit_code=0, value={"loss": loss, "note": "text", "ok": True})
    return sweep.results()


def test_a_row_for_each_value_of_a_column(results: Results) -> None:
    table = results.group_by("seed")
    assert table.columns == ["seed", "value.loss", "value.loss_std", "n"]
    assert list(table) == [
        {"seed": 0, "value.loss": 5.0, "value.loss_std": math.sqrt(50), "n": 2},
        {"seed": 1, "value.loss": 6.0, "value.loss_std": math.sqrt(50), "n": 2},
        {"seed": 2, "value.loss": 2.0, "value.loss_std": None, "n": 1},
    ]


def test_a_row_for_each_combination_of_the_other_parameters(results: Results) -> None:
    table = results.group_by(over="seed")
    assert table.columns == ["model", "depth", "value.loss", "value.loss_std", "n"]
    assert list(table) == [
        {"model": "svm", "depth": 3, "value.loss": 1.0, "value.loss_std": 1.0, "n": 3},
        {
            "model": "forest",
            "depth": 3,
            "value.loss": 10.5,
            "value.loss_std": math.sqrt(0.5),
            "n": 2,
        },
    ]
    everything = results.group_by(over=["seed", "model", "depth"])
    assert [(row["value.loss"], row["n"]) for row in everything] == [(4.8, 5)]


def test_names_are_given_one_by_one_or_in_a_list(results: Results) -> None:
    pairs = [(row["model"], row["seed"]) for row in results.group_by("model", "seed")]
    assert pairs == [(model, seed) for model in ("svm", "forest") for seed in range(3)]
    assert list(results.group_by(["model", "seed"])) == list(results.group_by("model", "seed"))
    assert results.group_by(["model", "model"], "model").columns[0:2] == ["model", "value.loss"]


def test_a_group_in_which_no_job_completed_has_no_means(results: Results) -> None:
    by_state = results.group_by("state")
    assert [(row["state"], row["value.loss"], row["n"]) for row in by_state] == [
        ("COMPLETED", 4.8, 5),
        ("FAILED", None, 0),
    ]


def test_it_prints_sorts_selects_and_is_written_as_results_are(results: Results) -> None:
    table = results.group_by("model").sorted_by("value.loss", descending=True)
    assert str(table).splitlines() == [
        "model     value.loss  n",
        "forest  10.50 ± 0.71  2",
        "svm        1.0 ± 1.0  3",
    ]
    assert repr(table) == "<Groups of sweep demo: 2 groups, 4 columns>"
    assert "10.50 ± 0.71" in table._repr_html_()
    assert table.select(["model", "n"]).to_csv() == "model,n\nforest,2\nsvm,3\n"
    assert json.loads(table.to_json())[1] == dict(table[1])
    assert "1.0 ± 1.0" not in str(table.select(["model", "value.loss"]))
    assert str(table.select(["model", "value.loss_std"])).splitlines()[1].split() == [
        "forest",
        "0.707107",
    ]


def test_constant_parameters_are_said_once(results: Results) -> None:
    above, _, heading, *_ = str(results.group_by(over="seed")).splitlines()
    assert above == "the same for all groups: depth=3"
    assert heading.split() == ["model", "value.loss", "n"]


def test_a_metric_that_some_jobs_lack_has_a_count_of_its_own(sweep: Sweeps) -> None:
    sweep.submit({"x": 1}, {"x": 1}, {"x": 2})
    sweep.end(0, exit_code=0, value={"a": 1, "b": 2})
    sweep.end(1, exit_code=0, value={"a": 3, "b": math.nan})
    sweep.end(2, exit_code=0, value={"a": 5})
    table = sweep.results().group_by("x")
    assert table.columns == [
        *("x", "value.a", "value.a_std", "value.b", "value.b_std", "value.b_n", "n")
    ]
    assert [(row["value.b"], row["value.b_n"], row["n"]) for row in table] == [
        (2.0, 1, 2),
        (None, 0, 1),
    ]


def test_names_that_are_taken_get_a_prefix(sweep: Sweeps) -> None:
    sweep.submit({"n": 1}, {"n": 1})
    for num in range(2):
        sweep.end(num, exit_code=0)
        sweep.write(num, "metrics.json", {"loss": num, "loss_std": 7})
    table = sweep.results().group_by("n")
    assert table.columns == [
        *("n", "loss", "groups.loss_std", "loss_std", "loss_std_std", "groups.n")
    ]
    assert table[0]["loss"] == 0.5
    assert table[0]["groups.n"] == 2


@pytest.mark.parametrize(
    ("values", "mean", "deviation"),
    [
        ([1e308, 1e308], math.inf, None),
        ([math.inf, 1.0], math.inf, None),
        ([10**400, 1], 1.0, None),
        ([0.1] * 10, 0.1, 0.0),
        ([1e16, 1e16 + 2, 1e16 + 4], 1e16 + 2, 2.0),
    ],
)
def test_odd_numbers(
    sweep: Sweeps, values: list[float], mean: float, deviation: float | None
) -> None:
    sweep.submit(*[{"x": 1}] * len(values))
    for num, value in enumerate(values):
        sweep.end(num, exit_code=0, value=value)
    [row] = sweep.results().group_by("x")
    assert row["value"] == mean
    assert row["value_std"] == deviation


@pytest.mark.parametrize(
    ("mean", "deviation", "shown"),
    [
        (0.91349, 0.01234, "0.913 ± 0.012"),
        (12345.678, 321.4, "12346 ± 321"),
        (2.0, 0.0, "2 ± 0"),
        (1e-12, 2e-13, "1e-12 ± 2e-13"),
        (1e20, 1.5, "1e+20 ± 1.5"),
        (1e20, 1.5e19, "1e+20 ± 1.5e+19"),
        (-3.0, 12.0, "-3 ± 12"),
    ],
)
def test_a_mean_has_the_decimals_of_its_deviation(
    mean: float, deviation: float, shown: str
) -> None:
    assert with_deviation(mean, deviation) == shown


@pytest.mark.parametrize(
    ("columns", "over", "said"),
    [
        (["sed"], (), r"group_by: .*did you mean seed\?"),
        ([], "sed", r"group_by: parameter .*not 'sed'; did you mean seed\?"),
        ([], "state", "parameter must be one of model, seed, depth, not 'state'"),
        ([], (), r"give either columns or over=, such as group_by\(\"lr\"\)"),
        (["model"], "seed", "not both"),
        ([None], (), "column must be one of .*, not None"),
        ([["model", ["seed"]]], (), r"column must be one of .*, not \['seed'\]"),
        ([], 3, "parameter must be one of model, seed, depth, not 3"),
    ],
)
def test_what_makes_no_groups_is_refused(
    results: Results, columns: list[Any], over: Any, said: str
) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        results.group_by(*columns, over=over)
    assert "\n" not in str(caught.value)
