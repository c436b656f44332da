"""Sweep files: what they combine to, and that whatever is wrong with one is told in one line."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from itertools import islice, product
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from helpers.sweeps import PROFILE, SCALARS, TEXTS, assert_one_line, file, file_points, refusal, use
from hsm.cli._points import AskedPoints
from hsm.cli._study import AskedStudy
from hsm.core.errors import SettingsError
from hsm.core.program.program import Program
from hsm.core.space.choosing import is_study
from hsm.core.space.definition import parse_overrides, read_sweep_file, read_sweep_text


def test_grid_pairs_and_jobs(tmp_path: Path) -> None:
    text = """\
        sweep:
          grid:
            lr: [0.1, 1e-2]
            opt: {beta: range(2), name: adam}
          paired:
            - size:
                width: [64, 128]
                depth: range(2, 4)
          jobs:
            - {lr: 0.5, opt: {name: sgd}}
            - {layers: [1, 2], day: 2024-01-31, on_: yes}
        """
    grid = product([0.1, 0.01], [0, 1], [(64, 2), (128, 3)])
    assert file_points(tmp_path, text) == [
        *(
            {"lr": lr, "opt.beta": beta, "opt.name": "adam", "width": width, "depth": depth}
            for lr, beta, (width, depth) in grid
        ),
        {"lr": 0.5, "opt.name": "sgd"},
        {"layers": [1, 2], "day": "2024-01-31", "on_": True},
    ]


@pytest.mark.parametrize(
    ("yaml_value", "values"),
    [
        ("[1, two, [3], {a: 4}]", [1, "two", [3], {"a": 4}]),
        ("[range(3), 'a,b']", ["range(3)", "a,b"]),
        ("range(3)", [0, 1, 2]),
        ("1e-3, 2", [0.001, 2]),
        ("choice('a, b', c)", ["a, b", "c"]),
        ("\"'a, b'\"", ["a, b"]),
        ("'1'", ["1"]),
        ("a b's", ["a b's"]),
        ("caf\u00e9 (x)", ["caf\u00e9 (x)"]),
        ("${y}", ["${y}"]),
        ("null", [None]),
        ("1_000", [1000]),
        ("-1.5E+3", [-1500.0]),
        (".inf", [float("inf")]),
    ],
)
def test_each_form_of_a_grid_value(tmp_path: Path, yaml_value: str, values: list[Any]) -> None:
    found = file_points(tmp_path, f"sweep:\n  grid:\n    x: {yaml_value}\n")
    assert repr(found) == repr([{"x": value} for value in values])


def test_values_are_those_of_a_hydra_config_file(tmp_path: Path) -> None:
    items = "1e3, 1e-3, 1., 0o17, 017, 1:30, 0x1f, yes, off, ~, 2001-01-01, '1e3', 1_0, +1, .nan"
    items += ", -.inf, 0.1_0, e3, 1e, 12:30:45, =x, [1e3, no]"
    text = f"[{items}]"
    [read] = file_points(tmp_path, f"sweep: {{jobs: [{{x: {text}}}]}}")
    assert repr(read["x"]) == repr(OmegaConf.to_object(OmegaConf.create(text)))


def test_anchors_and_merges(tmp_path: Path) -> None:
    text = """\
        sweep:
          jobs:
            - &base {a: 1, b: [2]}
            - {<<: *base, a: 3}
        """
    assert file_points(tmp_path, text) == [{"a": 1, "b": [2]}, {"a": 3, "b": [2]}]


def test_several_groups_multiply(tmp_path: Path) -> None:
    text = "sweep: {paired: [{p: {a: [1, 2], b: [3, 4]}}, {q: {c: [5, 6], d: [7, 8]}}]}"
    assert [tuple(p.values()) for p in file_points(tmp_path, text)] == [
        *[(1, 3, 5, 7), (1, 3, 6, 8), (2, 4, 5, 7), (2, 4, 6, 8)],
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "sweep.yaml: the file must be a mapping with the one key sweep:"),
        ("- 1", "the one key sweep:"),
        (
            "swep:\n  grid: {a: 1}",
            "unknown setting swep in sweep.yaml, line 1; did you mean sweep?",
        ),
        ("sweep: {a: 1}\nlocal: 3", "unknown setting local in sweep.yaml, line 2; known: sweep"),
        ("sweep:", "sweep: must be a mapping"),
        ("sweep: [1]", "sweep: must be a mapping"),
        (
            "sweep:\n  gird: {a: 1}",
            "unknown setting gird in sweep.yaml, line 2; did you mean grid?",
        ),
        ("sweep:\n  3: {a: 1}", "unknown setting 3 in sweep.yaml, line 2"),
        ("a: 1\n---\nb: 2", "valid YAML"),
    ],
)
def test_a_sweep_file_of_another_form_is_refused(tmp_path: Path, text: str, message: str) -> None:
    assert message in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ("", "line 2: grid: must be a mapping"),
        (" {}", "grid: must be a mapping"),
        ("\n    a: 1\n    b: []", "line 4: b must be a list with at least"),
        ("\n    a: {}", "line 3: a must be a value"),
        ("\n    a: 1\n    a: 2", "line 4 is not valid YAML near 'a: 2': "),
        ("\n    a: 1\n    a: 2", "the key 'a' appears twice, first in line 3"),
        ("\n    a.b: 1\n    a: {b: 2}", "line 4: 'a.b' is set twice, first in line 3"),
        ("\n    a: 1\n    +a: 2", "line 4: '+a' is set twice, first in line 3"),
        ("\n    a b: 1", "line 3: a key must be"),
        ("\n    on: 1", "line 3: expected a string as a key, got True (bool): quote it"),
        ("\n    a: {1: 2}", "expected a string as a key, got 1 (int): quote it"),
        ("\n    a: rnage(3)", "line 3: cannot use the override 'a=rnage(3)': "),
        (
            "\n    a: rnage(3)",
            "there is no rnage(), did you mean range?; to use the string as it is, put it",
        ),
        ("\n    a: what (not", "to use the string as it is, put it in a list"),
        ("\n    a: interval(0, 1)", "an interval has no list"),
        ("\n    a: [{'1': 2}]", "would read the dict's key '1' as 1"),
        ('\n    a: ["x\\0"]', "NUL"),
        ("\n    a: [!!set {b}]", "a set is none of these"),
        ("\n    a: [!!binary aGk=]", "a bytes is none of these"),
        ("\n    a: !!python/name:os.system", "valid YAML"),
        ("\n    a: !!int x", "line 3 is not valid YAML near 'a: !!int x': "),
        ("\n    a: !!map x", "this is not a mapping"),
        ("\n    ? [a]\n    : 1", "line 3"),
        ("\n    a: [1, 2", "valid YAML"),
        ("\n\ta: 1", "line 3"),
        (" {a: \x01}", "line 2"),
        (" &g {a: *g}", "recursive"),
        pytest.param(" {a: " + "[" * 500, "nested too deeply", id="deep"),
    ],
)
def test_a_bad_grid_is_refused(tmp_path: Path, grid: str, message: str) -> None:
    assert message in refusal(tmp_path, f"sweep:\n  grid:{grid}")


@pytest.mark.parametrize(
    ("paired", "message"),
    [
        (" {a: [1]}", "line 2: paired: must be a list of named groups"),
        (" []", "paired: must be a list of named groups"),
        ("\n    - {a: [1], b: [2]}", "line 3: paired: must be a"),
        ("\n    - 3", "paired: must be a list of named groups"),
        ("\n    - g: {}", "paired: must be a list of named groups"),
        (
            "\n    - g: {a: [1, 2], b: [3]}",
            "line 3: the lists of paired group",
        ),
        (
            "\n    - g: {a: range(2), b: [3]}",
            "lists of paired group 'g' differ in length: a has 2, b has 1",
        ),
        ("\n    - g:\n        a: 1", "line 4: a must be a list with at least one"),
        (
            "\n    - g: {a: [1]}\n    - g: {b: [1]}",
            "line 4: two paired groups are called 'g'",
        ),
        (
            "\n    - g: {a: [1]}\n    - h: {a: [1]}",
            "line 4: 'a' is set twice: by paired group 'h' and by paired group 'g'",
        ),
        ("\n    - g: {a: [1]}\n  grid:\n    a: 1", "line 3: 'a' is set twice"),
        (
            "\n    - g: {a: [1]}\n  grid:\n    a: 1",
            "'a' is set twice: by paired group 'g' and by grid, first in line 5",
        ),
    ],
)
def test_bad_groups_are_refused(tmp_path: Path, paired: str, message: str) -> None:
    assert message in refusal(tmp_path, f"sweep:\n  paired:{paired}")


@pytest.mark.parametrize(
    ("jobs", "message"),
    [
        (" {}", "line 2: jobs: must be a list of mappings"),
        (" [3]", "jobs: must be a list of mappings"),
        (" []", "jobs: must be a list of mappings"),
        ("\n    - {a: 1}\n    - {a.b: 1, a: {b: 2}}", "line 4: 'a.b' is set twice"),
    ],
)
def test_bad_jobs_are_refused(tmp_path: Path, jobs: str, message: str) -> None:
    assert message in refusal(tmp_path, f"sweep:\n  jobs:{jobs}")


def test_params_zip_and_points_are_other_names(tmp_path: Path) -> None:
    old = "grid: {a: [1, 2]}, paired: [{g: {b: [3, 4], c: 'range(2)'}}], jobs: [{a: 5}]"
    new = "params: {a: [1, 2]}, zip: {g: {b: [3, 4], c: 'range(2)'}}, points: [{a: 5}]"
    listed = "params: {a: [1, 2]}, zip: [{g: {b: [3, 4], c: 'range(2)'}}], points: [{a: 5}]"
    expected = file_points(tmp_path, f"sweep: {{{old}}}")
    assert len(expected) == 5
    assert file_points(tmp_path, f"sweep: {{{new}}}") == expected
    assert file_points(tmp_path, f"sweep: {{{listed}}}") == expected


@pytest.mark.parametrize("name", ["params", "grid"])
def test_a_list_of_grids_is_their_union(tmp_path: Path, name: str) -> None:
    text = f"""\
        sweep:
          {name}:
            - {{model: svm, C: [1, 2]}}
            - model: forest
              opt: {{n: range(2)}}
          zip:
            size: {{w: [5, 6], d: [7, 8]}}
          points:
            - {{model: none}}
        """
    assert file_points(tmp_path, text) == [
        *(
            {"model": "svm", "C": C, "w": w, "d": d}
            for C, (w, d) in product((1, 2), ((5, 7), (6, 8)))
        ),
        *(
            {"model": "forest", "opt.n": n, "w": w, "d": d}
            for n, (w, d) in product((0, 1), ((5, 7), (6, 8)))
        ),
        {"model": "none"},
    ]


def test_a_list_of_points_is_a_sweep_file(tmp_path: Path) -> None:
    text = "- {a: 1, b: {c: [1, 2]}}\n- {a: range(3)}\n- {}\n"
    expected = [{"a": 1, "b.c": [1, 2]}, {"a": "range(3)"}, {}]
    assert file_points(tmp_path, text) == expected
    for start in ("", "# points\n\n", "---\n"):
        assert list(read_sweep_text(f"{start}{text}".encode(), "stdin")) == expected


def test_points_lie_beside_the_sweep_file_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    file(tmp_path / "deep", "a,b\n1,x\n", "rows.csv")
    text = "sweep: {grid: {a: [5]}, points: deep/rows.csv}"
    assert file_points(tmp_path, text) == [{"a": 5}, {"a": 1, "b": "x"}]
    absolute = f"sweep: {{points: '{tmp_path}/deep/rows.csv'}}"
    assert file_points(tmp_path, absolute) == [{"a": 1, "b": "x"}]


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("{params: {a: 1}, grid: {b: 1}}", "params: and grid: are two names of one thing"),
        ("{zip: {g: {a: [1]}}, paired: [{h: {b: [1]}}]}", "zip: and paired: are two names"),
        ("{points: [{a: 1}], jobs: [{b: 1}]}", "points: and jobs: are two names of one thing"),
        ("\n  grid: {a: 1}\n  params: {b: 1}", "sweep.yaml, line 3: params: and grid:"),
        ("{params: []}", "params: must be a mapping, or a list of mappings"),
        ("{params: [3]}", "params: must be a mapping of parameters to their values, not 3"),
        ("{params: [{a: 1}, {}]}", "params: must be a mapping of parameters to their values"),
        ("\n  params:\n  - {a: 1}\n  - {b: 1, +b: 2}", "line 4: '+b' is set twice"),
        (
            "{params: [{a: 1}, {b: 1}], zip: {g: {b: [1]}}}",
            "'b' is set twice: by zip group 'g' and by params",
        ),
        ("{zip: {a: [1, 2], b: [3, 4]}}", "zip: must be a mapping of named groups"),
        ("{zip: {}}", "zip: must be a mapping of named groups"),
        ("{zip: 3}", "zip: must be a mapping of named groups"),
        ("{paired: {g: {a: [1]}}}", "paired: must be a list of named groups"),
        ("{zip: {g: {a: [1, 2], b: [3]}}}", "the lists of zip group 'g' differ in length"),
        ("{zip: {g: {a: 'interval(0,1)', b: [3]}}}", "an interval has no list"),
        ("{points: no.csv}", "no.csv': No such file"),
        ("{points: no.txt}", "its name must end in .csv, .jsonl, .ndjson, .yaml, .yml"),
        ("{points: ''}", "points: must be a list of mappings, one for each job, or the path"),
        ("{points: 3}", "points: must be a list of mappings, one for each job, or the path"),
        ("{jobs: rows.csv}", "jobs: must be a list of mappings, one for each job, not 'rows.csv'"),
        ("{method: random, n_trials: 3}", "says how to choose points, but has none"),
        ("{grid: {a: 1}, n_trails: 3}", "unknown setting n_trails in sweep.yaml, line 1; did you"),
        ("{grid: {a: 'interval(0,1)'}, method: grid}", "an interval has no list"),
    ],
)
def test_bad_newer_parts_are_refused(tmp_path: Path, sweep: str, message: str) -> None:
    assert message in refusal(tmp_path, f"sweep: {sweep}")


def test_a_file_of_points_that_is_wrong_is_named(tmp_path: Path) -> None:
    for name, text, message in [
        ("rows.csv", "a,a\n1,2\n", "rows.csv, line 1: 'a' is set twice"),
        ("rows.yaml", "sweep: {grid: {a: 1}}", "rows.yaml: the file must be a list of mappings"),
        ("rows.yaml", "- {a: 1}\n- 3\n", "rows.yaml: the file must be a list of mappings"),
        ("rows.yaml", "- {a: 1}\n- {b: 1, +b: 3}\n", "rows.yaml, line 2: '+b' is set twice"),
        ("rows.yaml", "", "rows.yaml: the file must be a list of mappings"),
        ("rows.jsonl", '{"a": 1}\n[]\n', "rows.jsonl, line 2: a line must be one JSON object"),
        ("rows.yaml", "[" * 5000, "nested too deeply"),
    ]:
        file(tmp_path, text, name)
        assert message in refusal(tmp_path, f"sweep: {{points: {name}}}")


def test_how_to_choose_is_kept_with_its_place(tmp_path: Path) -> None:
    text = """\
        sweep:
          params: {a: 'interval(0, 1)'}
          method: random
          n_trials: 3
          repeat: {seed: [0, 1]}
        """
    path = file(tmp_path, dedent(text))
    choosing = read_sweep_file(path, intervals=None).choosing
    assert choosing == {
        "method": ("random", f"{path}, line 3"),
        "n_trials": (3, f"{path}, line 4"),
        "repeat": ({"seed": [0, 1]}, f"{path}, line 5"),
    }
    assert read_sweep_file(path, intervals=True).count() is not None
    with pytest.raises(SettingsError, match="an interval has no list of values"):
        read_sweep_file(path)
    zipped = file(tmp_path, "sweep: {zip: {g: {a: 'interval(0,1)', b: '3,4'}}, method: random}")
    with pytest.raises(
        SettingsError, match="a in zip group 'g': an interval has no list of values"
    ):
        read_sweep_file(zipped, intervals=None)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "dir.yaml").mkdir()
    (tmp_path / "latin.csv").write_bytes(b"caf\xe9\n1\n")
    for name, message in {
        "none.yaml": "No such file",
        "dir.yaml": "directory",
        "latin.csv": "it is not UTF-8",
        "sweep.toml": "its name must end in .yaml, .yml, .csv, .jsonl, .ndjson",
        "a\0.yaml": "cannot read the sweep file",
    }.items():
        with pytest.raises(SettingsError, match=message):
            read_sweep_file(tmp_path / name)


def test_the_command_line_has_the_last_word(tmp_path: Path) -> None:
    text = """\
        sweep:
          grid: {lr: [1, 2], seed: [1, 2]}
          paired: [{p: {a: [1, 2], b: [3, 4]}}]
          jobs: [{lr: 5, c: 1}]
        """
    whole = read_sweep_file(file(tmp_path, text))
    assert list(whole.overridden_by(parse_overrides(["seed=9", "+lr=7,8", "a=0"]))) == [
        {"b": 3, "seed": 9, "+lr": 7, "a": 0},
        {"b": 3, "seed": 9, "+lr": 8, "a": 0},
        {"b": 4, "seed": 9, "+lr": 7, "a": 0},
        {"b": 4, "seed": 9, "+lr": 8, "a": 0},
        {"c": 1, "seed": 9, "+lr": 7, "a": 0},
        {"c": 1, "seed": 9, "+lr": 8, "a": 0},
    ]
    assert list(whole.overridden_by(parse_overrides([]))) == list(whole)
    only = read_sweep_file(file(tmp_path, "lr\n1\n2\n", "p.csv"))
    assert list(only.overridden_by(parse_overrides(["lr=3"]))) == [{"lr": 3}]


def read_or_refuse(name: str, content: bytes) -> None:
    """Only a SettingsError of one line may escape; what is accepted must be usable to its end."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, name)
        path.write_bytes(content)
        try:
            definition = read_sweep_file(path)
        except SettingsError as error:
            assert_one_line(error, name)
            return
    use(definition)


VALID_YAML = b"""sweep:
  grid:
    lr: [0.1, 1e-3]
    seed: range(1, 3)
    opt: {beta: [0, 1]}
  paired:
    - size: {width: [64, 128], depth: 'a, b'}
  jobs:
    - {lr: 0.5, note: "a \\" b"}
"""
VALID_CSV = b'lr,model.C,note\n0.1,1,"a, b"\n1e-3,null,\n'
VALID_JSONL = b'{"lr": 0.1, "a": {"b": [1, "x"]}}\n{"lr": null}\n'
_TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["a", "b.c", "+d", "e f", "g"]) | st.integers(), inner, max_size=3
        )
    ),
    max_leaves=10,
)
_EDITS = st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 3), st.binary(max_size=3)), min_size=1, max_size=4
)


def edited(content: bytes, edits: Sequence[tuple[int, int, bytes]]) -> bytes:
    for at, removed, inserted in edits:
        content = content[:at] + inserted + content[at + removed :]
    return content


@settings(PROFILE, max_examples=80)
@given(_TREES, _TREES, _TREES)
def test_fuzz_the_shape_of_a_sweep_file(grid: Any, paired: Any, jobs: Any) -> None:
    for sweep in (
        {"grid": grid},
        {"paired": [{"p": paired}]},
        {"jobs": jobs},
        {"grid": {"a": paired}},
        {"params": [grid, {"z": paired}], "zip": jobs},
        {"zip": {"p": paired}, "points": jobs},
    ):
        read_or_refuse("sweep.yaml", yaml.safe_dump({"sweep": sweep}, allow_unicode=True).encode())


_CHOSEN = st.fixed_dictionaries(
    {},
    optional={
        "method": st.sampled_from(["grid", "random", "lhs"]) | SCALARS,
        "n_trials": st.integers(1, 5) | SCALARS,
        "seed": st.integers(0, 9) | SCALARS,
        "filter": st.sampled_from(["a > 1", "b == 'x' or a < 2", "c.d"]) | SCALARS,
        "shuffle": st.booleans() | SCALARS,
        "repeat": st.just({"s": [0, 1]}) | _TREES,
        "max_runs": st.integers(1, 5) | SCALARS,
    },
)


@settings(PROFILE, max_examples=200)
@given(_CHOSEN, st.sampled_from(["[1, 2, 3]", "interval(0, 3)", "tag(log, range(1, 9))"]))
def test_fuzz_how_to_choose(chosen: dict[str, Any], values: str) -> None:
    """What is refused is told in one line; what is accepted gives points, the same ones again."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "sweep.yaml")
        grid = {"a": yaml.safe_load(values), "b": ["x", "y"]}
        path.write_text(yaml.safe_dump({"sweep": {"grid": grid, **chosen}}, allow_unicode=True))
        try:
            selection = AskedPoints(config=str(path)).select(Program())
        except SettingsError as error:
            assert_one_line(error)
            return
        if isinstance(selection, AskedStudy):
            assert is_study(chosen["method"])
            return
        points = list(islice(selection, 50))
        assert points
        assert list(islice(selection, 50)) == points
        json.dumps(selection.choosing.record())


@settings(PROFILE, max_examples=200)
@given(_EDITS)
def test_fuzz_the_text_of_a_sweep_file(edits: list[tuple[int, int, bytes]]) -> None:
    read_or_refuse("sweep.yaml", edited(VALID_YAML, edits))


@settings(PROFILE, max_examples=150)
@given(st.text(alphabet="sweepgrid: []{}&*!?-|>'\"%@`#,\n\t<1e.~=", max_size=30))
def test_fuzz_yaml(text: str) -> None:
    read_or_refuse("sweep.yaml", text.encode())
    read_or_refuse("sweep.yaml", f"sweep: {{grid: {{a: {text}}}}}".encode())
    read_or_refuse("sweep.yaml", f"sweep:\n  jobs:\n  - {text}".encode())


@settings(PROFILE, max_examples=200)
@given(_EDITS)
def test_fuzz_rows(edits: list[tuple[int, int, bytes]]) -> None:
    read_or_refuse("rows.csv", edited(VALID_CSV, edits))
    read_or_refuse("rows.jsonl", edited(VALID_JSONL, edits))


@settings(PROFILE, max_examples=100)
@given(st.binary(max_size=40))
def test_fuzz_bytes(content: bytes) -> None:
    for name in ("sweep.yaml", "rows.csv", "rows.jsonl"):
        read_or_refuse(name, content)


@pytest.mark.parametrize(
    ("name", "text", "override", "expected"),
    [
        (
            "s.yaml",
            "sweep: {jobs: [{seed: 1}, {seed: 2}, {lr: 1, seed: 3}]}",
            "seed=7",
            [{"seed": 7}, {"lr": 1, "seed": 7}],
        ),
        (
            "s.jsonl",
            '{"a": 1, "b": 2, "seed": 1}\n{"b": 2, "a": 1, "seed": 2}\n{"a": 1.0, "b": 2}\n',
            "seed=7,8",
            [
                *({"a": 1, "b": 2, "seed": seed} for seed in (7, 8)),
                *({"a": 1.0, "b": 2, "seed": seed} for seed in (7, 8)),
            ],
        ),
        ("s.csv", "lr,seed\n1,1\n2,1\n1,2\n", "seed=7", [{"lr": n, "seed": 7} for n in (1, 2)]),
        (
            "s.yaml",
            "sweep: {paired: [{size: {w: [5, 5, 6], d: 'range(3)'}}]}",
            "d=7",
            [{"w": 5, "d": 7}, {"w": 6, "d": 7}],
        ),
        # Written twice, meant twice.
        ("s.csv", "lr,seed\n1,1\n1,1\n1,2\n", "seed=7", [{"lr": 1, "seed": 7}] * 2),
        ("s.yaml", "sweep: {jobs: [{lr: 1}, {lr: 1}]}", "seed=7", [{"lr": 1, "seed": 7}] * 2),
    ],
)
def test_points_that_an_override_makes_equal_are_one(
    tmp_path: Path, name: str, text: str, override: str, expected: list[dict[str, Any]]
) -> None:
    from_file = read_sweep_file(file(tmp_path, text, name))
    points = list(from_file.overridden_by(parse_overrides([override])))
    assert repr(points) == repr(expected)


def test_long_ranges_stay_formulas_beside_an_override(tmp_path: Path) -> None:
    text = "sweep: {paired: [{p: {a: 'range(9000000000)', b: 'range(9000000000)'}}]}"
    sweep = read_sweep_file(file(tmp_path, text)).overridden_by(parse_overrides(["b=1"]))
    assert sweep.count() == 9_000_000_000
