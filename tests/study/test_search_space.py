"""The space of a study, from what a sweep's definition has."""

from __future__ import annotations

import math
from typing import Any

import pytest

from helpers.studies import space_of
from hsm.core.errors import SettingsError
from hsm.core.space.definition import parse_overrides
from hsm.core.study.dimensions import Number, Options
from hsm.core.study.search_space import SearchSpace

pytestmark = pytest.mark.thorough


def only(override: str) -> Any:
    [dimension] = space_of(override).dimensions
    return dimension


@pytest.mark.parametrize(
    ("override", "low", "high", "is_int", "is_log", "step"),
    [
        ("x=interval(0, 1)", 0.0, 1.0, False, False, None),
        ("x=interval(1, 10)", 1.0, 10.0, False, False, None),  # of whole numbers only with int()
        ("x=int(interval(1, 10))", 1, 10, True, False, None),
        ("x=tag(log, interval(1e-5, 1))", 1e-5, 1.0, False, True, None),
        ("x=tag(log, int(interval(1, 100)))", 1, 100, True, True, None),
        ("x=range(1, 5)", 1, 4, True, False, None),
        ("x=range(5, 1, -1)", 2, 5, True, False, None),
        ("x=range(0, 10, 4)", 0, 8, True, False, 4),
        ("x=range(0, -10, -4)", -8, 0, True, False, 4),
        ("x=range(0, 0.8, 0.1)", 0.0, 0.7, False, False, 0.1),
        ("x=range(1, 0, -0.25)", 0.25, 1.0, False, False, 0.25),
        ("x=tag(log, range(1, 101))", 1, 100, True, True, None),
    ],
)
def test_numbers(
    override: str, low: float, high: float, is_int: bool, is_log: bool, step: float | None
) -> None:
    found = only(override)
    assert isinstance(found, Number)
    assert (found.low, found.high, found.is_int, found.is_log, found.step) == (
        *(low, high, is_int, is_log, step),
    )
    assert type(found.low) is (int if is_int else float)


def test_steps_are_exact_decimals() -> None:
    found = only("x=range(0, 1, 0.1)")
    assert [found.params(0.1 * at)["x"] for at in range(10)] == [
        *(0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    ]
    assert found.raw({"x": 0.1 * 3}) == (0.1 * 3,)
    assert found.raw({"x": 0.35}) is None
    assert found.raw({"x": 1.0}) is None


@pytest.mark.parametrize(
    ("override", "raws"),
    [
        ("x=a,b", ["a", "b"]),
        ("x=1,true,1.0", ["1", "true", "1.0"]),  # equal to Python, and not the same
        ("x=a,b,a", ["a", "b"]),
        ("x=null,a", [None, "a"]),
        ("x=nan,1.5", ["NaN", 1.5]),
        ("x=[1,2],[3]", ["[1,2]", "[3]"]),
        ("x={a:1},{a:2}", ['{"a":1}', '{"a":2}']),
    ],
)
def test_options(override: str, raws: list[Any]) -> None:
    found = only(override)
    assert isinstance(found, Options)
    assert list(found.raws) == raws
    for raw in raws:
        point = found.params(raw)
        assert found.raw(point) == (raw,)


def test_a_shuffled_list_has_the_same_order_each_time() -> None:
    texts = {str(only("x=shuffle(1,2,3,4,5,6,7)").raws) for _ in range(5)}
    assert len(texts) == 1


def test_values_that_are_alone_are_fixed() -> None:
    space = space_of("x=interval(2, 2)", "a=1", "b=range(3,4)", "c=q,q", "d=interval(0,1)")
    assert space.fixed == {"x": 2.0, "a": 1, "b": 3, "c": "q"}
    assert [each.name for each in space.dimensions] == ["d"]
    assert space.count is None


def test_a_group_is_one_choice_of_rows() -> None:
    definition = parse_overrides(["k=1,2"], zipped=[["a=1,2", "b=x,y"]], intervals=True)
    space = SearchSpace.of(definition, "command line")
    rows = space.dimensions[1]
    assert rows.name == "a,b"
    assert rows.keys == ["a", "b"]
    assert space.count == 4
    assert [rows.params(raw) for raw in rows.raws] == [  # type: ignore[attr-defined]
        *({"a": 1, "b": "x"}, {"a": 2, "b": "y"}),
    ]
    assert rows.raw({"a": 2, "b": "y"}) is not None
    assert rows.raw({"a": 2, "b": "x"}) is None


def test_a_union_is_refused() -> None:
    union = parse_overrides(["a=1,2"]).followed_by(parse_overrides(["b=1,2"]))
    with pytest.raises(SettingsError, match="a study searches one space, and this is a union"):
        SearchSpace.of(union, "sweep.yaml")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("x=shuffle(range(20000))", "write range"),
        ("x=tag(log, range(0, 5))", "above 0"),
    ],
)
def test_what_cannot_be_searched_is_refused(override: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        space_of(override)


def test_a_range_with_many_steps_is_a_number() -> None:
    found = only("x=range(0, 1000000000)")
    assert (found.low, found.high, found.count) == (0, 999_999_999, 1_000_000_000)


def test_steps_that_floats_cannot_tell_apart_are_options() -> None:
    found = only("x=range(1e16, 1.0000000000000008e16, 2.0)")
    assert isinstance(found, Options)


def test_logarithms_of_steps_are_noted() -> None:
    space = space_of("x=tag(log, range(1, 100, 3))")
    assert "tag(log, …) is not for a range with steps" in space.notes[0]


def test_points_are_aligned_with_the_space() -> None:
    space = space_of("+model.C=interval(0,1)", "x=1,2")
    point = {"model": {"C": 0.5}, "x": 1, "y": {"z": 1}, "seed": {"a": 2}}
    aligned = space.aligned(point, ["seed"])
    assert aligned == {"+model.C": 0.5, "x": 1, "y.z": 1, "seed": {"a": 2}}


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ({"x": 2.0}, "cannot run x=2.0: it is not in the space; x is interval from 0.0 to 1.0"),
        ({"x": True}, "cannot run x=True"),
        ({"x": math.nan}, "cannot run x=nan"),
        ({"m": "c"}, 'm is \\["a","b"\\]'),
        ({"y": 1}, "there are x, m, k"),
        ({"k": 2}, "k is 1"),
    ],
)
def test_points_outside_are_refused(point: dict[str, Any], message: str) -> None:
    space = space_of("x=interval(0,1)", "m=a,b", "k=1")
    space.check({"x": 1, "m": "a", "k": 1}, "enqueue")
    space.check({"x": 0}, "enqueue")
    with pytest.raises(SettingsError, match=message):
        space.check(point, "enqueue")


def test_texts_tell_spaces_apart() -> None:
    first, second = space_of("x=interval(0,1)", "y=1"), space_of("x=interval(0,2)", "y=1")
    assert first.texts() == {"x": "interval from 0.0 to 1.0", "y": "1"}
    assert first.texts() != second.texts()
