"""Sweep definitions: what overrides combine to, and that points are made only when asked for."""

from __future__ import annotations

import subprocess
import sys
from itertools import islice, product
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helpers.sweeps import HYDRA, HYDRA_14, PROFILE, assert_one_line, file, use
from hsm.core.errors import SettingsError
from hsm.core.space import axes as _axes
from hsm.core.space.arguments import to_argv
from hsm.core.space.definition import parse_overrides, read_sweep_file


def points(*overrides: str) -> list[dict[str, Any]]:
    return list(parse_overrides(overrides))


def test_a_grid_of_overrides_changes_the_last_parameter_fastest() -> None:
    assert points("lr=0.1,0.01", "seed=range(2)", "model=svm") == [
        {"lr": 0.1, "seed": 0, "model": "svm"},
        {"lr": 0.1, "seed": 1, "model": "svm"},
        {"lr": 0.01, "seed": 0, "model": "svm"},
        {"lr": 0.01, "seed": 1, "model": "svm"},
    ]


@pytest.mark.parametrize(
    ("override", "key", "values"),
    [
        ("lr=0.1,1e-3", "lr", [0.1, 0.001]),
        ("model=choice(svm,forest)", "model", ["svm", "forest"]),
        ("seed=range(5)", "seed", [0, 1, 2, 3, 4]),
        ("seed=range(5, 0, -2)", "seed", [5, 3, 1]),
        ("x=range(1.5, 3)", "x", [1.5, 2.5]),
        ("x=range(1, 0, -0.25)", "x", [1.0, 0.75, 0.5, 0.25]),
        ("x=int(range(0, 3))", "x", [0, 1, 2]),
        ("x=float(1,2)", "x", [1.0, 2.0]),
        ("x=str(1,2)", "x", ["1", "2"]),
        ("x=tag(a, choice(1, 2))", "x", [1, 2]),
        ("x=sort(3, 1, 2, reverse=true)", "x", [3, 2, 1]),
        ("x=sort(range(6, 0, -2))", "x", [2, 4, 6]),
        ("+x=1,2", "+x", [1, 2]),
        ("++x.y=1", "++x.y", [1]),
        ("db@source=a,b", "db@source", ["a", "b"]),
        ("group/db=a,b", "group/db", ["a", "b"]),
        ("~db", "~db", [None]),
        ("~db=mysql", "~db", ["mysql"]),
        ("a.b=3", "a.b", [3]),
        ("x=", "x", [""]),
        ("x=null,true,'1','true'", "x", [None, True, "1", "true"]),
        ("x=[1,a],{b:1}", "x", [[1, "a"], {"b": 1}]),
        ("x=['1',\"a b\"]", "x", [["1", "a b"]]),
        ("x=${y}", "x", ["${y}"]),
    ],
)
def test_each_form_of_an_override(override: str, key: str, values: list[Any]) -> None:
    assert repr(points(override)) == repr([{key: value} for value in values])


@pytest.mark.parametrize(
    "overrides",
    [
        ["lr=0.1,0.01", "model=svm,'a b',\"it's\"", "seed=range(2)"],
        ["+x=sort(3,1,2)", "y=[1,2],[3]", "z=choice({a:1},{b:'c d'})"],
        ["a.b=1", "c=null,true", "d=", "e=range(3,0,-1)"],
    ],
)
def test_the_jobs_are_those_of_hydras_own_sweeper(overrides: list[str]) -> None:
    parsed = HYDRA.parse_overrides(overrides)
    [jobs] = BasicSweeper.split_arguments(parsed, None)
    told = [{o.get_key_element(): o.value() for o in HYDRA.parse_overrides(job)} for job in jobs]
    assert points(*overrides) == told


@pytest.mark.parametrize("stop", ["0.3", "0.6", "0.7", "0.8", "1", "1.1", "100.1"])
def test_a_fractional_range_counts_in_decimal(stop: str) -> None:
    values = [point["x"] for point in points(f"x=range(0,{stop},0.1)")]
    assert values == [i / 10 for i in range(round(float(stop) * 10))]


def test_a_shuffled_sweep_holds_the_same_points_in_one_order() -> None:
    definition = parse_overrides(["x=shuffle(range(100))", "y=shuffle(1,2,3)"])
    first = list(definition)
    assert first == list(definition)
    assert sorted((p["x"], p["y"]) for p in first) == list(product(range(100), (1, 2, 3)))
    assert [p["x"] for p in first] != sorted(p["x"] for p in first)  # 1 in 100! runs would fail


def test_no_override_is_one_point_without_parameters() -> None:
    assert points() == [{}]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lr", "it has no ="),
        ("=3", "a key must be a parameter's name"),
        ("lr=0.1,,2", "extraneous input ','"),
        ("x='it", "special characters need quotes"),
        ("x=caf\u00e9", "special characters need quotes"),
        ("x=rnage(5)", "did you mean range?"),
        ("x=frobnicate(5)", "there is no frobnicate(), only "),
        ("x=interval(0, 1)", "an interval has no list of values: write x=0.1,0.5 or x=range("),
        ("x=glob(*)", "glob() needs a config group, and no config is known here: write x=a,b"),
        ("x=range(0, 10, 0)", "a step of 0 never ends"),
        ("x=range(inf)", "inf is not finite"),
        ("x=range(0, nan)", "nan is not finite"),
        ("x=range(5, 1)", "cannot sweep over 'x=range(5, 1)': it has no values"),
        ("x=shuffle(range(1000000000))", "at most 10000000 values can be shuffled"),
        ("x=[range(3)]", "no sweep can stand inside a list or dict"),
        ("x={a:1,b:interval(0,1)}", "no sweep can stand inside a list or dict"),
        ("x=sort(a, 1)", "not supported between"),
        pytest.param("x=" + "[" * 1000 + "]" * 1000, "nested too deeply", id="deep"),
        pytest.param("x=" + "9" * 5000, "digits", id="5000 digits"),
        (3, "cannot use the override 3: it is not a string"),
    ],
)
def test_a_bad_override_is_refused_with_one_line(override: Any, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_overrides(["ok=1", override], origin="the line")
    assert_one_line(caught.value, "the line: ", message)


@pytest.mark.skipif(not HYDRA_14, reason="new in Hydra 1.4")
def test_hydra_14s_own_forms() -> None:
    assert points("items[0]=1,2") == [{"items[0]": 1}, {"items[0]": 2}]
    assert to_argv({"items[0]": "a b"}) == ["items[0]='a b'"]
    with (
        pytest.warns(UserWarning, match="deprecated"),
        pytest.raises(SettingsError, match="extend_list"),
    ):
        parse_overrides(["x=extend_list(1)"])


def test_one_parameter_given_twice_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"lr is given twice, last as '\+lr=2'"):
        parse_overrides(["lr=1", "+lr=2"])
    with pytest.raises(SettingsError, match="a list"):
        parse_overrides("lr=1")


def test_glob_asks_the_config_loader() -> None:
    class Loader:
        def get_group_options(self, group_name: str, results_filter: object) -> list[str]:
            return ["forest", "logistic", "svm"] if group_name == "model" else []

    loader: Any = Loader()
    definition = parse_overrides(["model=glob([*], exclude=l*)"], config_loader=loader)
    assert list(definition) == [{"model": "forest"}, {"model": "svm"}]
    with pytest.raises(SettingsError, match="model has forest, logistic, svm"):
        parse_overrides(["model=glob(x*)"], config_loader=loader)
    with pytest.raises(SettingsError, match="there is no config group modle"):
        parse_overrides(["modle=glob(*)"], config_loader=loader)


def test_counting_makes_no_value_and_slicing_only_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    get = _axes.Stepped.__getitem__

    def counted(self: _axes.Stepped, index: int) -> Any:
        made.append(index)
        return get(self, index)

    monkeypatch.setattr(_axes.Stepped, "__getitem__", counted)
    definition = parse_overrides(["a=range(1000000)", "b=range(0, 1000000, 0.001)", "c=1,2"])
    assert definition.count() == 2 * 10**15
    assert made == []
    assert list(islice(definition, 3)) == [
        {"a": 0, "b": 0.0, "c": 1},
        {"a": 0, "b": 0.0, "c": 2},
        {"a": 0, "b": 0.001, "c": 1},
    ]
    assert len(made) == 6


def test_more_points_than_fit_a_machine_word() -> None:
    definition = parse_overrides([f"x{i}=range(1000000000000)" for i in range(4)])
    assert definition.count() == 10**48
    assert definition.point(10**48 - 1) == {f"x{i}": 10**12 - 1 for i in range(4)}
    assert next(iter(definition)) == {f"x{i}": 0 for i in range(4)}


def test_a_point_has_an_index(tmp_path: Path) -> None:
    text = "sweep: {grid: {a: [1, 2], b: [3, 4]}, jobs: [{a: 5}, {b: 6}]}"
    definition = read_sweep_file(file(tmp_path, text))
    assert [definition.point(i) for i in range(definition.count())] == list(definition)
    for index in (-1, 6):
        with pytest.raises(IndexError):
            definition.point(index)


def test_points_share_no_list() -> None:
    definition = parse_overrides(["x=[1,{a:[2]}]", "y=1,2"])
    first, second = definition
    first["x"][1]["a"].append(3)
    assert second["x"] == next(iter(definition))["x"] == [1, {"a": [2]}]


def test_importing_the_module_imports_neither_hydra_nor_yaml() -> None:
    code = (
        "import sys, hsm.core.space.definition\n"
        "print(*{'hydra', 'omegaconf', 'yaml', 'numpy', 'csv', 'antlr4'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == []


_PIECES = ["a", "=", ",", "1", "0.5", "range(", "choice(", "sort(", "int(", "shuffle(", "interval("]
_PIECES += [
    ")",
    "[",
    "]",
    "{",
    "}",
    ":",
    "'",
    '"',
    "\\",
    "+",
    "~",
    "@",
    "/",
    ".",
    "$",
    " ",
    "inf",
    "null",
]


@settings(PROFILE, max_examples=500)
@given(st.lists(st.sampled_from(_PIECES), max_size=8).map("".join))
@example("x=range(1e300, 1e-300, -1e-320)")
@example("x=range(0, 1e308, 1e-308)")
@example("x=int(range(0.5, 9))")
@example("x=choice(1,2,1)")
@example("x=sort(range(0, 0.5, 0.1), reverse=true)")
def test_fuzz_overrides(text: str) -> None:
    for override in (text, f"x={text}"):
        try:
            definition = parse_overrides([override])
        except SettingsError as error:
            assert_one_line(error)
        else:
            use(definition)
