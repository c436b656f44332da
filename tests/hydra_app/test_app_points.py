"""The points of ``hydra/sweeper=hsm``, beside those of Hydra's own sweeper; no jobs run."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins import basic_sweeper
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from helpers.hydra import write_files
from helpers.override_sets import override_set
from hsm.core.errors import SettingsError
from hsm.core.space.choosing import Choosing, Method
from hsm.core.space.selection import Selection
from hsm.hydra_app.app_points import AppPoints
from hsm.hydra_app.early_checks import points_to_compose
from hsm.hydra_app.override_values import (
    drawn_values_of,
    override_text,
    point_texts,
    values_of,
)

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.filterwarnings("ignore:.* is deprecated and will be removed:UserWarning"),
]

_FAST, _ALL = 60, 1200


@pytest.fixture
def loader(tmp_path: Path) -> ConfigLoader:
    names = ("config", "db/mysql", "db/mongo", "db/a1", "x/y/one", "x/y/two")
    write_files(tmp_path / "conf", {f"{name}.yaml": "a: 1\n" for name in names})
    return ConfigLoaderImpl(create_config_search_path(str(tmp_path / "conf")))


def texts_of(loader: ConfigLoader, *arguments: str, **settings: Any) -> list[list[str]]:
    """The overrides of each job, from these keys of hydra.sweeper and the command line."""
    given = AppPoints(**settings)
    return [*map(point_texts, given.definition(arguments, loader, values_of))]


def basic_texts(
    loader: ConfigLoader, *arguments: str, params: Mapping[str, str], size: int | None = None
) -> list[list[list[str]]]:
    """The batches of Hydra's own sweeper."""
    # Not imported by itself: whenever Hydra 1.3 looks for plugins, the module gets another one.
    sweeper = basic_sweeper.BasicSweeper(max_batch_size=size, params=dict(params))
    parser = OverridesParser.create(config_loader=loader)
    overrides = parser.parse_overrides([*sweeper._parse_config(), *arguments])
    return sweeper.split_arguments(overrides, size)


def outcome(call: Callable[[], Sequence[Any]]) -> tuple[Any, float]:
    """What a call returned or raised, and the state in which it left the random generator."""
    random.seed(5)
    try:
        result: Any = call()
    except Exception as error:
        result = (type(error), str(error))
    return result, random.random()


def compare(loader: ConfigLoader, seed: int) -> None:
    source = Random(seed)
    texts = override_set(source)
    cut = source.choice((0, 0, len(texts) // 2))
    pairs = [text.partition("=") for text in texts[:cut]]
    params = {key: value for key, equals, value in pairs if equals}
    theirs = outcome(lambda: basic_texts(loader, *texts[cut:], params=params)[0])
    ours = outcome(lambda: texts_of(loader, *texts[cut:], params=params))
    if isinstance(theirs[0], tuple) and "INTERVAL_SWEEP" in theirs[0][1]:  # more is said of it
        assert issubclass(ours[0][0], theirs[0][0]), texts
        assert ours[0][1].startswith(theirs[0][1]), texts
        assert "method=random" in ours[0][1], texts
    else:
        assert ours == theirs, texts


@pytest.mark.parametrize("seed", range(0, _FAST, 20))
def test_sets_of_overrides_give_the_points_and_errors_of_hydras_own(
    loader: ConfigLoader, seed: int
) -> None:
    for number in range(seed, seed + 20):
        compare(loader, number)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(_FAST, _ALL, 60))
def test_so_do_many(loader: ConfigLoader, seed: int) -> None:
    for number in range(seed, seed + 60):
        compare(loader, number)


@pytest.mark.parametrize(
    ("arguments", "points"),
    [
        ([], ""),
        (["lr=1"], "lr=1"),
        (["lr=1", "lr=2,3"], "lr=2 | lr=3"),  # the last one wins
        (["a=1,2", "b=10,20"], "a=1 b=10 | a=1 b=20 | a=2 b=10 | a=2 b=20"),
        (["a=1,2", "b=3", "a=4"], "a=4 b=3"),  # in the place of the first
        (["+a=1", "a=2"], "+a=1 a=2"),  # another key to Hydra
        (["~a", "~b=1"], "~a=null ~b=1"),
        (["a='1',\"2\",3"], "a='1' | a=\"2\" | a=3"),
        (["a=[1,'x'],{k:v}"], "a=[1,'x'] | a={k:v}"),
        (["a=true,null,1e-3"], "a=True | a=null | a=0.001"),
        (["a=range(3)"], "a=0 | a=1 | a=2"),
        (["a=range(3,0,-2)"], "a=3 | a=1"),
        (["a=choice(b,c)"], "a=b | a=c"),
        (["a=sort(3,1,2,reverse=true)"], "a=3 | a=2 | a=1"),
        (["a=tag(t,choice(1,2))"], "a=1 | a=2"),
        (["db=glob(m*)"], "db=mongo | db=mysql"),
        (["db=glob(*,exclude=a*)"], "db=mongo | db=mysql"),
        (["x/y=glob(*)"], "x/y=one | x/y=two"),
        (["db@backup=mysql,mongo"], "db@backup=mysql | db@backup=mongo"),
    ],
)
def test_points(loader: ConfigLoader, arguments: list[str], points: str) -> None:
    expected = [point.split() for point in points.split(" | ")]
    assert texts_of(loader, *arguments) == expected
    assert basic_texts(loader, *arguments, params={}) == [expected]


def test_params_join_the_command_line_which_wins(loader: ConfigLoader) -> None:
    params = {"a": "1,2", "b": "x"}
    assert texts_of(loader, "c=5", "a=3,4", params=params) == [
        ["a=3", "b=x", "c=5"],
        ["a=4", "b=x", "c=5"],
    ]
    composed = OmegaConf.create({"n": 2, "params": {"a": "${n},3", "b": 1e-3, "c": True}})
    assert texts_of(loader, params=composed.params) == [
        ["a=2", "b=0.001", "c=True"],
        ["a=3", "b=0.001", "c=True"],
    ]
    assert texts_of(loader, params={"a": [1, "1", "b, c", None], "n": {"m": True}}) == [
        ["a=1", "n.m=True"],
        ["a='1'", "n.m=True"],
        ["a='b, c'", "n.m=True"],
        ["a=null", "n.m=True"],
    ]


def test_a_list_of_params_is_the_union_of_their_grids(loader: ConfigLoader) -> None:
    params = [{"model": "svm", "C": "1,10"}, {"model": "forest", "depth": "2"}]
    assert texts_of(loader, "seed=0,1", params=params) == [
        ["model=svm", "C=1", "seed=0"],
        ["model=svm", "C=1", "seed=1"],
        ["model=svm", "C=10", "seed=0"],
        ["model=svm", "C=10", "seed=1"],
        ["model=forest", "depth=2", "seed=0"],
        ["model=forest", "depth=2", "seed=1"],
    ]
    assert texts_of(loader, "model=x", params=params) == [
        ["model=x", "C=1"],
        ["model=x", "C=10"],
        ["model=x", "depth=2"],
    ]


def test_zipped_parameters_advance_together(loader: ConfigLoader) -> None:
    groups = {"size": {"w": "64,128", "d": [2, 4]}, "two": {"s": "range(2)"}}
    assert texts_of(loader, "lr=1", zip=groups) == [
        ["lr=1", "w=64", "d=2", "s=0"],
        ["lr=1", "w=64", "d=2", "s=1"],
        ["lr=1", "w=128", "d=4", "s=0"],
        ["lr=1", "w=128", "d=4", "s=1"],
    ]
    without = {"size": groups["size"]}
    assert texts_of(loader, "d=8", zip=without) == [["d=8", "w=64"], ["d=8", "w=128"]]
    assert texts_of(loader, "d=8", "+w=1", zip=without) == [["d=8", "+w=1"]]


def test_points_that_are_written_out(loader: ConfigLoader, project_dir: Path) -> None:
    points = [{"model": "svm", "C": 0.1}, {"model": "a, b", "opt": {"beta": [1]}}]
    expected = [["model=svm", "C=0.1"], ["model='a, b'", "opt.beta=[1]"]]
    assert texts_of(loader, points=points) == expected
    Path("points.jsonl").write_text("".join(f"{json.dumps(point)}\n" for point in points))
    assert texts_of(loader, points="points.jsonl") == expected
    Path("points.csv").write_text("model,C\nsvm,0.1\nforest,\n")
    assert texts_of(loader, points=str(project_dir / "points.csv")) == [
        ["model=svm", "C=0.1"],
        ["model=forest", "C=''"],
    ]
    assert texts_of(loader, "C=1,2", points=points) == [
        ["model=svm", "C=1"],
        ["model=svm", "C=2"],
        ["model='a, b'", "opt.beta=[1]", "C=1"],
        ["model='a, b'", "opt.beta=[1]", "C=2"],
    ]
    assert texts_of(loader, points=points, params={"C": "5,6"}) == [["C=5"], ["C=6"], *expected]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"params": "lr=1"}, "hydra.sweeper.params must be a mapping of parameters"),
        ({"params": [["lr"]]}, "hydra.sweeper.params[0] must be a mapping"),
        ({"params": {"a": []}}, "hydra.sweeper.params.a must be a list with at least one value"),
        ({"zip": [1]}, "hydra.sweeper.zip must be a mapping of named groups"),
        ({"zip": {"g": "a"}}, "hydra.sweeper.zip.g must be a mapping"),
        (
            {"zip": {"g": {"a": "1,2", "b": "range(3)"}}},
            "hydra.sweeper.zip.g: its lists differ in length: a has 2, b has 3",
        ),
        (
            {"zip": {"g": {"a": "1,2"}}, "params": {"+a": "1"}},
            "hydra.sweeper.zip.g: 'a' is set twice: there and in hydra.sweeper.params",
        ),
        (
            {"zip": {"g": {"a": "1,2"}, "h": {"a": "1"}}},
            "hydra.sweeper.zip.h: 'a' is set twice: there and in hydra.sweeper.zip.g",
        ),
        ({"points": []}, "hydra.sweeper.points must be a list of points"),
        ({"points": ""}, "hydra.sweeper.points must be a list of points"),
        ({"points": [3]}, "hydra.sweeper.points[0] must be a point, not 3"),
        ({"points": ["a"]}, "hydra.sweeper.points[0] must be a point, not 'a'"),
        ({"points": [{"a b": 1}]}, "points[0] of hydra.sweeper: a key must be a parameter's name"),
        ({"points": [{"_needs_": {"x": 1}}]}, "hydra.sweeper.points[0]: _needs_ is for points of"),
        ({"points": "none.csv"}, "cannot read the sweep file 'none.csv': No such file"),
        ({"points": "points.txt"}, "its name must end in"),
    ],
)
def test_what_is_refused(loader: ConfigLoader, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        texts_of(loader, **settings)
    assert message in str(caught.value)


def test_hydras_errors_are_its_own(loader: ConfigLoader) -> None:
    for texts in (["lr"], ["a=(1"], ["a=nosuch(1)"]):
        with pytest.raises(HydraException) as ours:
            texts_of(loader, *texts)
        with pytest.raises(HydraException) as theirs:
            basic_texts(loader, *texts, params={})
        assert (type(ours.value), str(ours.value)) == (type(theirs.value), str(theirs.value))


def test_a_grid_is_never_listed(loader: ConfigLoader) -> None:
    arguments = ("a=range(1000000000)", "b=range(0,1000000)", "c=1,2")
    definition = AppPoints().definition(arguments, loader, values_of)
    assert definition.count() == 2 * 10**15
    assert point_texts(definition.point(10**15 + 1)) == ["a=500000000", "b=0", "c=2"]
    assert next(iter(definition)) == {"a": 0, "b": 0, "c": 1}


def test_fractions_of_a_long_range_are_as_short_ones(loader: ConfigLoader) -> None:
    long = AppPoints().definition(["a=range(0,3000000,0.5)"], loader, values_of)
    assert long.count() == 6_000_000
    assert [point_texts(long.point(at)) for at in (0, 1, 5_999_999)] == [
        ["a=0.0"],
        ["a=0.5"],
        ["a=2999999.5"],
    ]


def test_values_are_those_that_hydra_reads(loader: ConfigLoader) -> None:
    definition = AppPoints().definition(["a='1',x,[1,'b'],{k: '2'},1.5"], loader, values_of)
    values = [point["a"] for point in definition]
    assert values == ["1", "x", [1, "b"], {"k": "2"}, 1.5]
    values[2].append(3)  # of this point alone
    assert override_text("a", definition.point(2)["a"]) == "a=[1,'b']"


def _checked(
    loader: ConfigLoader, *arguments: str, choosing: Choosing | None = None, **settings: Any
) -> list[str]:
    """The points that are composed before the first job."""
    definition = AppPoints(**settings).definition(arguments, loader, values_of)
    selection = Selection(definition, choosing)

    def options(group: str) -> list[str]:
        return loader.get_group_options(group)

    points = points_to_compose(selection, next(iter(selection)), options)
    return [" ".join(point_texts(point)) for point in points]


def test_what_is_composed_first_is_a_sum(loader: ConfigLoader) -> None:
    assert _checked(loader, "lr=range(1000000)", "seed=1,2") == ["lr=0 seed=1"]
    assert _checked(loader, "db=mysql,mongo", "x/y=one,two", "lr=range(100)") == [
        "db=mysql x/y=one lr=0",
        "db=mongo x/y=one lr=0",
        "db=mysql x/y=two lr=0",
    ]


def test_each_block_and_each_set_of_keys_is_composed(loader: ConfigLoader) -> None:
    params = [{"db": "mysql", "C": "1,2"}, {"db": "mongo", "D": "1,2"}]
    assert _checked(loader, params=params) == ["db=mysql C=1", "db=mongo D=1"]
    points = [{"a": 1}, {"a": 2}, {"b": 1}, {"db": "a1"}]
    assert _checked(loader, points=points) == ["a=1", "b=1", "db=a1"]


def test_options_that_are_not_there_are_composed_first(loader: ConfigLoader) -> None:
    options = ",".join(["mysql"] * 200 + ["mongo", "nope"])
    checked = _checked(loader, f"db={options}")
    assert checked == ["db=mysql", "db=nope", "db=mongo"]
    many = ",".join(f"o{n}" for n in range(100))
    assert len(_checked(loader, f"db=mysql,{many}")) == 21


def test_no_point_is_composed_that_does_not_run(loader: ConfigLoader) -> None:
    arguments = ("db=mysql,mongo,a1", "x/y=one,two")
    choosing = Choosing(filter="db != 'mongo'")
    assert _checked(loader, "db=mysql,mongo,a1", choosing=choosing) == ["db=mysql", "db=a1"]
    assert _checked(loader, *arguments, choosing=Choosing(max_runs=3)) == [
        "db=mysql x/y=one",
        "db=mysql x/y=two",
        "db=mongo x/y=one",
    ]


def test_what_is_repeated_is_part_of_what_is_composed(loader: ConfigLoader) -> None:
    choosing = Choosing(repeat={"seed": [1, 2], "x/y": ["one", "two"]})
    assert _checked(loader, "db=mysql,mongo", choosing=choosing) == [
        "db=mysql seed=1 x/y=one",
        "db=mongo seed=1 x/y=one",
        "db=mysql seed=1 x/y=two",
    ]


def test_what_methods_draw_from(loader: ConfigLoader) -> None:
    texts = ["lr=tag(log,interval(1e-4,1))", "n=int(interval(1,10))", "k=tag(log,range(1,100))"]
    texts += ["m='a b',c", "fixed=1"]
    definition = AppPoints().definition(texts, loader, drawn_values_of)
    points = [*Selection(definition, Choosing(method=Method.random, n_trials=50, seed=1))]
    assert {tuple(point) for point in points} == {("lr", "n", "k", "m", "fixed")}
    assert all(1e-4 <= point["lr"] <= 1 for point in points)
    assert {point["n"] for point in points} <= set(range(1, 11))
    assert all(type(point["n"]) is int for point in points)
    assert sum(point["k"] < 10 for point in points) > 15  # half of the logarithms
    overrides = [point_texts(point) for point in points]
    assert {texts[3] for texts in overrides} == {"m='a b'", "m=c"}
    assert {texts[4] for texts in overrides} == {"fixed=1"}
    with pytest.raises(SettingsError, match="above 0"):
        AppPoints().definition(["a=tag(log,interval(-1,1))"], loader, drawn_values_of)
