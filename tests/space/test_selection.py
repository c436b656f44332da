"""Which points of a definition become jobs, and in which order."""

from __future__ import annotations

import itertools
import math
import random
import sys
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsm import SettingsError
from hsm.core.space.axes import Axis, Listed, Rows, Shuffled, Values, Zipped, stepped
from hsm.core.space.choosing import KEYS, Choosing, Method, check_choosing
from hsm.core.space.definition import SweepDefinition, parse_overrides
from hsm.core.space.domains import Interval, LogSpaced
from hsm.core.space.selection import Selection

DRAWING = [Method.random, Method.lhs, Method.sobol, Method.halton]


def axis(key: str, *values: Any) -> Zipped:
    return Zipped({key: Listed(values)})


def space(**columns: Values) -> SweepDefinition:
    """One axis for each."""
    return SweepDefinition([[Zipped({key: values}) for key, values in columns.items()]])


def chosen(definition: SweepDefinition, **keys: Any) -> list[dict[str, Any]]:
    return list(Selection(definition, check_choosing(keys, "here")))


def refusal(definition: SweepDefinition, **keys: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        chosen(definition, **keys)
    return str(caught.value)


def needs_scipy(method: Method) -> None:
    if method in (Method.sobol, Method.halton):
        pytest.importorskip("scipy.stats")


GRID = parse_overrides(["a=1,2,3", "b=x,y"])


# --- grids --------------------------------------------------------------------------------------


def test_without_any_choice_all_points_come_in_their_order() -> None:
    selection = Selection(GRID)
    assert list(selection) == list(selection) == list(GRID)
    assert (selection.count(), selection.seed, selection.repeats) == (6, None, 1)
    assert selection.choosing.is_default


def test_max_runs_takes_the_first_ones() -> None:
    assert chosen(GRID, max_runs=2) == [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}]
    assert Selection(GRID, Choosing(max_runs=99)).count() == 6


def test_a_shuffle_is_another_order_of_the_same_points() -> None:
    found = chosen(GRID, shuffle=True, seed=1)
    assert found != list(GRID)
    assert sorted(found, key=str) == sorted(GRID, key=str)
    assert found == chosen(GRID, shuffle=True, seed=1)
    assert any(found != chosen(GRID, shuffle=True, seed=seed) for seed in range(2, 5))


@pytest.mark.parametrize(
    "keys", [{"shuffle": True, "max_runs": 9}, {"method": "random", "n_trials": 9}], ids=str
)
def test_shuffled_values_are_in_an_order_of_the_seed(keys: dict[str, Any]) -> None:
    """A resume reads the overrides again, in another process."""

    def found(seed: int) -> list[dict[str, Any]]:
        random.seed()
        return chosen(parse_overrides(["a=shuffle(range(999))", "b=1,2"]), seed=seed, **keys)

    assert found(1) == found(1) != found(2)
    order = parse_overrides(["a=shuffle(range(99))"])
    assert sorted(point["a"] for point in chosen(order, shuffle=True)) == list(range(99))
    other = Selection(order, Choosing(shuffle=True, seed=1)).with_seed(2)
    assert list(other) == chosen(order, shuffle=True, seed=2)


def test_shuffled_values_that_advance_together_stay_so_for_a_seed() -> None:
    def found() -> list[dict[str, Any]]:
        columns: dict[str, Values] = {
            "a": Shuffled(Listed("abcdefgh")),
            "b": Listed("ABCDEFGH"),
        }
        return chosen(SweepDefinition([[Zipped(columns)]]), shuffle=True, seed=1)

    assert found() == found()
    assert {point["a"] for point in found()} == set("abcdefgh")


def test_a_random_subset_of_a_grid_that_no_list_could_hold() -> None:
    keys = (f"x{number}=range(1000)" for number in range(7))
    selection = Selection(parse_overrides([*keys]), Choosing(shuffle=True, max_runs=500))
    found = list(selection)
    assert len({str(point) for point in found}) == selection.count() == 500
    assert len({point["x0"] for point in found}) > 300  # from everywhere
    assert selection.seed is not None
    assert list(selection) == found


@given(
    columns=st.lists(st.lists(st.integers(-3, 9), min_size=1, max_size=4), min_size=1, max_size=3),
    most=st.none() | st.integers(1, 9),
    shuffle=st.booleans(),
)
@settings(deadline=None)
def test_a_filter_keeps_what_a_comprehension_would(
    columns: list[list[int]], most: int | None, shuffle: bool
) -> None:
    names = [f"x{number}" for number in range(len(columns))]
    definition = space(
        **{name: Listed(values) for name, values in zip(names, columns, strict=True)}
    )
    total = " + ".join(names)
    kept = [point for point in definition if sum(point.values()) % 2 == 0]
    keys: dict[str, Any] = {"filter": f"({total}) % 2 == 0", "max_runs": most, "shuffle": shuffle}
    if not kept:
        assert "keeps none of the points" in refusal(definition, **keys)
        return
    found = chosen(definition, **keys)
    assert len(found) == Selection(definition, check_choosing(keys, "")).count()
    assert len(found) == min(len(kept), most or len(kept))
    if shuffle:
        assert not Counter(map(str, found)) - Counter(map(str, kept))
    else:
        assert found == kept[:most]


def test_very_many_filtered_points_are_not_counted() -> None:
    many = parse_overrides(["x=range(10000000)"])
    selection = Selection(many, Choosing(filter="x % 2 == 1"))
    assert selection.count() is None
    assert next(iter(selection)) == {"x": 1}
    assert Selection(many, Choosing(filter="x % 2 == 1", max_runs=100)).count() == 100
    assert Selection(many, Choosing(filter="x > 9999998")).count() is None


def test_a_filter_sees_the_points_of_all_blocks() -> None:
    definition = SweepDefinition(
        [[axis("m", "svm"), axis("C", 1, 10)], [axis("m", "forest"), axis("n", 5, 50)]]
    )
    assert chosen(definition, filter="C == 10 or n == 5") == [
        {"m": "svm", "C": 10},
        {"m": "forest", "n": 5},
    ]
    assert refusal(definition, filter="m != 'svm' and C < 3") == (
        "here: cannot filter by \"m != 'svm' and C < 3\": cannot compare null with 3, "
        "at m='forest' n=5"
    ).replace("here", "command line")


# --- repeats ------------------------------------------------------------------------------------


def test_the_repeats_of_a_point_follow_one_another() -> None:
    found = chosen(parse_overrides(["a=1,2"]), repeat={"seed": [0, 1], "fold": "range(2)"})
    assert found == [
        {"a": a, "seed": seed, "fold": fold}
        for a, seed, fold in itertools.product((1, 2), (0, 1), (0, 1))
    ]
    selection = Selection(GRID, Choosing(repeat={"seed": [0, 1]}, max_runs=2))
    assert (selection.count(), selection.repeats, len(list(selection))) == (4, 2, 4)
    assert selection.all_keys() == ["a", "b", "seed"]
    assert selection.shared_keys() == ["a", "b", "seed"]
    assert selection.values_of("seed", 1) == [0]


def test_changing_one_repeat_changes_no_other() -> None:
    jobs = chosen(parse_overrides(["a=[1]"]), repeat={"r": [[0], [1]]})
    jobs[0]["a"].append("changed")
    jobs[0]["r"].append("changed")
    assert jobs[1] == {"a": [1], "r": [1]}
    assert chosen(parse_overrides(["a=[1]"]), repeat={"r": [[0], [1]]})[0] == {"a": [1], "r": [0]}


@pytest.mark.parametrize(("key", "name"), [("a", "a"), ("+a", "+a"), ("_needs_", "_needs_")])
def test_a_parameter_is_repeated_or_swept(key: str, name: str) -> None:
    told = refusal(GRID, repeat={key: [1]})
    assert told.startswith(f"command line: {name} is ")


# --- methods that draw --------------------------------------------------------------------------


@pytest.mark.parametrize("method", DRAWING)
def test_drawn_points_are_in_the_space_and_the_seeds(method: Method) -> None:
    needs_scipy(method)
    definition = SweepDefinition(
        [
            [
                Zipped({"lr": Interval(1e-5, 1e-1, is_log=True)}),
                Zipped({"x": Interval(-1, 2.5)}),
                Zipped({"n": Interval(1, 3, is_int=True)}),
                axis("model", "svm", "mlp"),
                Zipped({"w": Listed([1, 2, 3]), "d": Listed([10, 20, 30])}, "size"),
                Zipped({"step": stepped(0, 100, 25)}),
                axis("fixed", "one"),
                Zipped({"still": Interval(2, 2)}),
            ]
        ]
    )
    keys: dict[str, Any] = {"method": str(method), "n_trials": 300}
    found = chosen(definition, seed=1, **keys)
    assert found == chosen(definition, seed=1, **keys) != chosen(definition, seed=2, **keys)
    assert len({str(point) for point in found}) == 300
    for point in found:
        assert [*point] == ["lr", "x", "n", "model", "w", "d", "step", "fixed", "still"]
        assert 1e-5 <= point["lr"] <= 1e-1
        assert -1 <= point["x"] <= 2.5
        assert point["d"] == 10 * point["w"]
        assert (point["fixed"], point["still"]) == ("one", 2.0)
    for key, values in {"n": [1, 2, 3], "step": [0, 25, 50, 75], "model": ["mlp", "svm"]}.items():
        counts = Counter(point[key] for point in found)
        assert sorted(counts) == values
        assert min(counts.values()) > 300 / len(values) * 0.6
    assert type(found[0]["n"]) is int
    assert type(found[0]["lr"]) is type(found[0]["x"]) is float
    decades = Counter(math.floor(math.log10(point["lr"])) for point in found)
    assert all(45 < decades[decade] < 110 for decade in (-5, -4, -3, -2))


@pytest.mark.parametrize("method", [Method.random, Method.sobol, Method.halton])
def test_more_trials_go_on_from_those_there_are(method: Method) -> None:
    needs_scipy(method)
    definition = space(x=Interval(0, 1), y=Interval(0, 1))
    few, many = (
        chosen(definition, method=str(method), n_trials=count, seed=3) for count in (10, 600)
    )
    assert many[:10] == few


@given(count=st.integers(1, 60), seed=st.integers(0, 99))
@settings(deadline=None)
def test_a_latin_hypercube_has_one_point_in_each_stratum(count: int, seed: int) -> None:
    found = chosen(
        space(x=Interval(0, 1), y=Interval(0, 1)), method="lhs", n_trials=count, seed=seed
    )
    for key in ("x", "y"):
        assert sorted(math.floor(point[key] * count) for point in found) == list(range(count))


@pytest.mark.parametrize("method", [Method.sobol, Method.halton])
def test_a_sequence_fills_a_square_evenly(method: Method) -> None:
    needs_scipy(method)
    found = chosen(
        space(x=Interval(0, 1), y=Interval(0, 1)), method=str(method), n_trials=256, seed=5
    )
    cells = Counter((math.floor(point["x"] * 4), math.floor(point["y"] * 4)) for point in found)
    assert len(cells) == 16
    assert all(10 <= count <= 22 for count in cells.values())  # 16 each, were it a grid


def test_repeats_filters_and_limits_go_with_drawn_points() -> None:
    keys: dict[str, Any] = {"method": "random", "n_trials": 50, "seed": 1}
    definition = space(x=Interval(0, 1))
    all_points = chosen(definition, **keys)
    kept = [point for point in all_points if point["x"] > 0.5]
    found = chosen(definition, filter="x > 0.5", max_runs=3, repeat={"seed": [0, 1]}, **keys)
    assert found == [{**point, "seed": seed} for point in kept[:3] for seed in (0, 1)]


def test_ends_of_intervals_of_whole_numbers_belong_to_them() -> None:
    for is_log in (False, True):
        values = Interval(1, 4, is_int=True, is_log=is_log)
        found = {values.draw(chance) for chance in (0.0, 0.2, 0.4, 0.6, 0.8, 1 - 2**-53)}
        assert found == {1, 2, 3, 4}
    huge = Interval(0, 10**30, is_int=True)
    assert huge.draw(0.0) == 0
    assert 0 < huge.draw(1 - 2**-53) <= 10**30
    assert Interval(-1.7e308, 1.7e308).draw(0.5) == 0.0


def test_a_logarithmic_range_gives_its_own_values() -> None:
    values = LogSpaced(stepped(1, 1001, 1))
    found = [values.draw(index / 1000) for index in range(1000)]
    assert set(found) <= set(range(1, 1001))
    assert sum(value < 32 for value in found) in range(480, 560)  # half of the decades
    assert LogSpaced(stepped(8, 0, -1)).draw(0.999) in (1, 2)
    assert LogSpaced(stepped(5, 6, 1)).draw(0.3) == 5
    assert LogSpaced(Listed([3])).count == 1
    definition = space(n=LogSpaced(stepped(0, 9, 1)))
    assert refusal(definition, method="random", n_trials=3) == (
        "command line: cannot draw n from its range: tag(log, …) needs numbers above 0"
    )


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (Interval(2, 1, text="x=interval(2, 1)"), "it ends before it starts"),
        (Interval(0, math.inf, text="x=interval(2, 1)"), "its ends must be finite"),
        (
            Interval(-1, 1, is_log=True, text="x=interval(2, 1)"),
            "tag(log, …) needs numbers above 0",
        ),
        (Interval(0.5, 3, is_int=True, text="x=interval(2, 1)"), "must be whole numbers"),
    ],
)
def test_an_interval_from_which_nothing_can_be_drawn(values: Interval, problem: str) -> None:
    told = refusal(space(x=values), method="random", n_trials=3)
    assert told.startswith("command line: cannot draw x from x=interval(2, 1): ")
    assert told.endswith(problem)


def test_an_interval_cannot_be_listed() -> None:
    definition = space(lr=Interval(0, 1, text="lr=interval(0, 1)"))
    assert refusal(definition) == (
        "command line: cannot sweep over 'lr=interval(0, 1)': an interval has no list of values: "
        "write lr=0.1,0.5, or draw from it with --method random --n-trials 20"
    )
    zipped: list[list[Axis]] = [[Zipped({"a": Interval(0, 1), "b": Listed([1])})]]
    told = refusal(SweepDefinition(zipped), method="random", n_trials=3)
    assert told.endswith("values that advance together must be listed")


def test_a_union_is_no_space_to_draw_from() -> None:
    definition = SweepDefinition([[axis("a", 1)], [Rows([{"b": 1}])]])
    assert refusal(definition, method="lhs", n_trials=3) == (
        "command line: method=lhs draws from one space, and this is a union of 2: "
        "use method=grid with shuffle and max_runs"
    )


@pytest.mark.parametrize("method", ["sobol", "halton"])
def test_without_scipy_it_is_said_what_to_install(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    assert refusal(space(x=Interval(0, 1)), method=method, n_trials=3) == (
        f"command line: method={method} needs SciPy: pip install 'hpc-sweep-manager[qmc]'; "
        "random and lhs need nothing"
    )


def test_a_space_without_anything_to_draw() -> None:
    assert chosen(parse_overrides(["a=1"]), method="random", n_trials=2) == [{"a": 1}, {"a": 1}]


# --- what may be written ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"method": "grdi"}, "here: method must be one of grid, random, lhs, sobol, halton"),
        ({"method": 3}, "here: method must be one of grid, random, lhs, sobol, halton, not 3"),
        ({"method": "random"}, "here: method=random needs n_trials, the number of points"),
        ({"n_trials": 3}, "here: n_trials is for the methods that draw points (random, lhs"),
        ({"method": "lhs", "n_trials": 0}, "here: n_trials must be a whole number of 1 or more"),
        ({"method": "lhs", "n_trials": True}, "here: n_trials must be a whole number of 1 or more"),
        ({"method": "lhs", "n_trials": 2.5}, "here: n_trials must be a whole number of 1 or more"),
        ({"max_runs": -1}, "here: max_runs must be a whole number of 1 or more, not -1"),
        ({"max_runs": "many"}, "here: max_runs must be a whole number of 1 or more, not 'many'"),
        ({"seed": -1}, "here: seed must be a whole number from 0 to 4294967295, not -1"),
        ({"seed": 2**32}, "here: seed must be a whole number from 0 to 4294967295"),
        ({"shuffle": "often"}, "here: shuffle must be true or false, not 'often'"),
        ({"shuffle": True, "method": "lhs", "n_trials": 3}, "here: shuffle is for grids; "),
        ({"filter": True}, "here: filter must be a text"),
        ({"repeat": 3}, "here: repeat must be a mapping of parameters to their values"),
        ({"repeat": {"seed": []}}, "here: repeat.seed must be a list with at least one value"),
        ({"repeat": {"seed": 3}}, "here: repeat.seed must be a list with at least one value"),
        ({"repeat": {"seed": "range(99999)"}}, "here: repeat.seed must be at most 10000 values"),
        ({"repeat": {"a": [{1: 2}]}}, "here: repeat.a: keys of dicts must be strings"),
        ({"repeat": {"a": [[{"b": {2: 3}}]]}}, "here: repeat.a: keys of dicts must be strings"),
        ({"repeat": {"s": [0], "+s": [1]}}, "here: repeat has +s twice"),
        ({"repeat": {"a b": [0]}}, "here: a key must be a parameter's name"),
        ({"repeat": {"seed": "interval(0, 1)"}}, "here: cannot sweep over"),
    ],
)
def test_what_is_wrong_is_named(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check_choosing(keys, "here")
    assert str(caught.value).startswith(told)


def test_the_origin_of_each_key_is_told() -> None:
    with pytest.raises(SettingsError, match=r"^--seed must be a whole number"):
        check_choosing({"seed": "x"}, {"seed": "--seed"})


def test_what_was_written_as_text_counts_as_well() -> None:
    given = {"n_trials": "20", "method": "lhs", "seed": "7", "shuffle": "false", "max_runs": None}
    assert check_choosing(given, "here") == Choosing(Method.lhs, 20, 7)


@pytest.mark.parametrize(
    "choosing",
    [
        Choosing(),
        Choosing(Method.random, 5, 3, "x > 1", max_runs=2),
        Choosing(shuffle=True, seed=0, repeat={"seed": [0, "a", None, [1]]}),
    ],
)
def test_a_record_is_read_as_it_was_written(choosing: Choosing) -> None:
    record = choosing.record()
    assert check_choosing(record, "journal") == choosing
    assert record.keys() <= set(KEYS)
    assert bool(record) is not choosing.is_default
