"""Each form of a sweep gives the same points from the command line, a sweep file and Python."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

import hsm
from hsm.cli import sweep
from hsm.cli._commands import run_command
from hsm.cli._points import AskedPoints
from hsm.cli._sweep_line import SweepLine
from hsm.core.program.program import Program
from hsm.core.space.selection import Selection
from hsm.hydra_app.override_values import point_texts
from hsm.hydra_app.sweeping import select


@dataclass(frozen=True)
class Form:
    """The same sweep in three ways.

    Attributes:
        line: words after `hsm sweep`.
        yaml: what stands below ``sweep:``.
        python: arguments of `hsm.choose_points`.
        points: what it gives; None where it is enough that all three are equal.
        count: how many points.
        files: texts by name, which are there.
    """

    line: list[str]
    yaml: str
    python: dict[str, Any]
    points: list[dict[str, Any]] | None = None
    count: int = 0
    files: Mapping[str, str] = field(default_factory=dict)


_SPACE_LINE = [
    *("lr=tag(log, interval(1e-5, 1e-1))", "n=int(interval(1, 10))", "p=interval(0, 1)"),
    *("k=tag(log, range(1, 1000))", "model=svm,forest", "c=7"),
]
_SPACE_YAML = """\
params:
  lr: tag(log, interval(1e-5, 1e-1))
  n: int(interval(1, 10))
  p: interval(0, 1)
  k: tag(log, range(1, 1000))
  model: [svm, forest]
  c: 7
"""
_SPACE = {
    "lr": "tag(log, interval(1e-5, 1e-1))",
    "n": "int(interval(1, 10))",
    "p": "interval(0, 1)",
    "k": "tag(log, range(1, 1000))",
    "model": ["svm", "forest"],
    "c": 7,
}


def drawn(method: str) -> Form:
    return Form(
        [*_SPACE_LINE, "--method", method, "--n-trials", "8", "--seed", "5"],
        f"{_SPACE_YAML}method: {method}\nn_trials: 8\nseed: 5\n",
        {"params": _SPACE, "method": method, "n_trials": 8, "seed": 5},
        count=8,
    )


_UNION: list[dict[str, Any]] = [
    *({"model": "svm", "C": C} for C in (0.1, 1)),
    *({"model": "forest", "n": n, "depth": depth} for n, depth in product((10, 100), (2, None))),
]
_ROWS = [{"lr": 0.1, "note": "a"}, {"lr": 1, "note": "b"}]

FORMS = {
    "grid": Form(
        ["lr=0.1,0.01", "seed=range(3)", "model=svm"],
        "grid: {lr: [0.1, 0.01], seed: range(3), model: svm}",
        {"params": {"lr": [0.1, 0.01], "seed": range(3), "model": "svm"}},
        [{"lr": lr, "seed": seed, "model": "svm"} for lr in (0.1, 0.01) for seed in range(3)],
    ),
    "nested and odd values": Form(
        ["opt.beta=0,1", "x=null,[1,2]", "note='a, b'"],
        "params: {opt: {beta: [0, 1]}, x: [null, [1, 2]], note: ['a, b']}",
        {"params": {"opt": {"beta": (0, 1)}, "x": [None, [1, 2]], "note": ["a, b"]}},
        [{"opt.beta": beta, "x": x, "note": "a, b"} for beta, x in product((0, 1), (None, [1, 2]))],
    ),
    "union": Form(
        ["model=svm", "C=0.1,1", "--also", "model=forest n=10,100 depth=2,null"],
        "params:\n  - {model: svm, C: [0.1, 1]}\n"
        "  - {model: forest, n: [10, 100], depth: [2, null]}\n",
        {
            "params": [
                {"model": "svm", "C": [0.1, 1]},
                {"model": "forest", "n": [10, 100], "depth": [2, None]},
            ]
        },
        _UNION,
    ),
    "zip": Form(
        ["a=1,2", "--zip", "w=64,128 d=range(2)", "--zip", "x=5,6 y=7,8"],
        "grid: {a: [1, 2]}\nzip:\n  size: {w: [64, 128], d: range(2)}\n"
        "  other: {x: [5, 6], y: '7,8'}\n",
        {
            "params": {"a": [1, 2]},
            "zip": {"size": {"w": [64, 128], "d": range(2)}, "other": {"x": [5, 6], "y": "7,8"}},
        },
        [
            {"a": a, "w": w, "d": d, "x": x, "y": y}
            for a, (w, d), (x, y) in product((1, 2), ((64, 0), (128, 1)), ((5, 7), (6, 8)))
        ],
    ),
    "a list of points": Form(
        ["lr=0.1", "note=a", "--also", "lr=1 note=b"],
        "points:\n  - {lr: 0.1, note: a}\n  - {lr: 1, note: b}\n",
        {"params": {}, "points": _ROWS},
        _ROWS,
    ),
    "a CSV file": Form(
        ["--config", "rows.csv"],
        "points: rows.csv",
        {"params": {}, "points": Path("rows.csv")},
        _ROWS,
        files={"rows.csv": "lr,note\n0.1,a\n1,b\n"},
    ),
    "a JSONL file": Form(
        ["--config", "rows.jsonl"],
        "points: rows.jsonl",
        {"params": {}, "points": "rows.jsonl"},
        _ROWS,
        files={"rows.jsonl": "\n".join(map(json.dumps, _ROWS))},
    ),
    "a YAML file of points": Form(
        ["--config", "rows.yaml"],
        "points: rows.yaml",
        {"params": {}, "points": "rows.yaml"},
        _ROWS,
        files={"rows.yaml": "- {lr: 0.1, note: a}\n- lr: 1\n  note: b\n"},
    ),
    "filter": Form(
        ["w=range(4)", "d=range(4)", "--filter", "w + d >= 5 and w != d"],
        "grid: {w: range(4), d: range(4)}\nfilter: w + d >= 5 and w != d\n",
        {"params": {"w": range(4), "d": range(4)}, "filter": "w + d >= 5 and w != d"},
        [{"w": 2, "d": 3}, {"w": 3, "d": 2}],
    ),
    "random": drawn("random"),
    "lhs": drawn("lhs"),
    "sobol": drawn("sobol"),
    "halton": drawn("halton"),
    "shuffle": Form(
        ["a=range(1000)", "--shuffle", "--seed", "3"],
        "grid: {a: range(1000)}\nshuffle: true\nseed: 3\n",
        {"params": {"a": range(1000)}, "shuffle": True, "seed": 3},
        count=1000,
    ),
    "max_runs": Form(
        ["a=range(1000)", "b=range(1000000000)", "--max-runs", "3"],
        "grid: {a: range(1000), b: range(1000000000)}\nmax_runs: 3\n",
        {"params": {"a": range(1000), "b": range(1000000000)}, "max_runs": 3},
        [{"a": 0, "b": b} for b in range(3)],
    ),
    "a random part": Form(
        ["a=range(1000)", "b=range(1000000000)", "--max-runs", "3", "--shuffle", "--seed", "4"],
        "grid: {a: range(1000), b: range(1000000000)}\nmax_runs: 3\nshuffle: true\nseed: 4\n",
        {
            "params": {"a": range(1000), "b": range(1000000000)},
            "max_runs": 3,
            "shuffle": True,
            "seed": 4,
        },
        count=3,
    ),
    "repeat": Form(
        ["lr=0.1,0.2", "--repeat", "seed=0,1", "--repeat", "fold=range(2)"],
        "grid: {lr: [0.1, 0.2]}\nrepeat: {seed: [0, 1], fold: range(2)}\n",
        {"params": {"lr": [0.1, 0.2]}, "repeat": {"seed": [0, 1], "fold": range(2)}},
        [
            {"lr": lr, "seed": seed, "fold": fold}
            for lr, seed, fold in product((0.1, 0.2), (0, 1), (0, 1))
        ],
    ),
    "all at once": Form(
        [
            *("a=range(10)", "--zip", "b=0,1 c=1,0", "--also", "a=-1 b=1", "--filter", "a != b"),
            *("--shuffle", "--seed", "6", "--max-runs", "4", "--repeat", "seed=0,1"),
        ],
        "grid: [{a: range(10)}]\nzip: {g: {b: [0, 1], c: [1, 0]}}\npoints: [{a: -1, b: 1}]\n"
        "filter: a != b\nshuffle: yes\nseed: 6\nmax_runs: 4\nrepeat: {seed: '0,1'}\n",
        {
            "params": {"a": range(10)},
            "zip": {"g": {"b": [0, 1], "c": [1, 0]}},
            "points": [{"a": -1, "b": 1}],
            "filter": "a != b",
            "shuffle": True,
            "seed": 6,
            "max_runs": 4,
            "repeat": {"seed": [0, 1]},
        },
        count=8,
    ),
}


def from_line(words: list[str]) -> Selection:
    """What `hsm sweep` runs."""
    lines: list[SweepLine] = []

    def note(line: SweepLine) -> int:
        lines.append(line)
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "run_line", note)
        run_command(["sweep", *words])
    [line] = lines
    return selected(AskedPoints.of(line, line.config))


def selected(asked: AskedPoints) -> Selection:
    """The points of a sweep that is no study."""
    selection = asked.select(Program())
    assert isinstance(selection, Selection)
    return selection


@pytest.mark.parametrize("name", FORMS)
def test_the_three_ways_give_the_same_points(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name in ("sobol", "halton") and importlib.util.find_spec("scipy") is None:
        pytest.skip("needs scipy")
    form = FORMS[name]
    monkeypatch.chdir(tmp_path)
    for file, text in form.files.items():
        (tmp_path / file).write_text(text)
    path = tmp_path / "sweep.yaml"
    path.write_text("sweep:\n" + "".join(f"  {line}\n" for line in form.yaml.splitlines()))
    selections = [
        from_line(form.line),
        selected(AskedPoints(config=str(path))),
        hsm.choose_points(**form.python),
    ]
    [line, file_points, python] = [list(selection) for selection in selections]
    assert repr(line) == repr(file_points) == repr(python)
    if form.points is not None:
        assert repr(line) == repr(form.points)
    assert len(line) == (form.count if form.points is None else len(form.points))
    for selection in selections:
        assert selection.count() == len(line)
        assert list(selection) == line, "going through them again gives others"
        assert {key for point in line for key in point} <= set(selection.all_keys())


@pytest.mark.parametrize("name", FORMS)
def test_so_does_hydras_sweeper(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name in ("sobol", "halton") and importlib.util.find_spec("scipy") is None:
        pytest.skip("needs scipy")
    form = FORMS[name]
    monkeypatch.chdir(tmp_path)
    for file, text in form.files.items():
        (tmp_path / file).write_text(text)
    settings: Any = yaml.safe_load(form.yaml)
    if "grid" in settings:
        settings["params"] = settings.pop("grid")
    loader = ConfigLoaderImpl(ConfigSearchPathImpl())
    composed: Any = OmegaConf.create(settings)
    points = list(select(composed, [], loader))
    assert repr(points) == repr(list(hsm.choose_points(**form.python)))
    texts = [word for point in points for word in point_texts(point)]
    read = OverridesParser.create().parse_overrides(texts)
    values = [value for point in points for value in point.values()]
    assert [override.value() for override in read] == values
