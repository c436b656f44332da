"""Sweeps as tables: CSV and JSON lines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helpers.sweeps import LOOKALIKES, PROFILE, file_points, parsed, refusal
from hsm.core.space.grammar import read_scalar


def test_a_csv_file_is_read_as_hydra_reads_values(tmp_path: Path) -> None:
    text = (
        "lr, model.C,note\r\n0.1,1,a\r\n\r\n1e-3,null,\"a, 'b'\"\r\n.5,True, x y \r\n1_000,007,\r\n"
    )
    assert file_points(tmp_path, "\ufeff" + text, "points.CSV") == [
        {"lr": 0.1, "model.C": 1, "note": "a"},
        {"lr": 0.001, "model.C": None, "note": "a, 'b'"},
        {"lr": 0.5, "model.C": True, "note": "x y"},
        {"lr": 1000, "model.C": "007", "note": ""},
    ]


@settings(PROFILE, max_examples=400)
@given(st.text(alphabet="0123456789+-._eEinfaNtruelsTR \t/%", max_size=7) | LOOKALIKES)
@example("9" * 5000)
def test_a_csv_cell_is_what_hydra_makes_of_it(cell: str) -> None:
    if (
        not re.fullmatch(r"[\w+./% \t-]*", cell, re.ASCII)
        or (cell and not cell.strip(" \t"))
        or len(cell) > 4000
    ):
        assert isinstance(read_scalar(cell), str)
    else:
        assert repr(read_scalar(cell)) == repr(parsed(f"x={cell}"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "points.csv: "),
        ("\n\n", "a line of names and at least one row"),
        ("a,b\n", "a line of names and at least one row"),
        (
            "a,b\n1,2\n3\n",
            "points.csv, line 3: expected 2 cells (a, b), got 1",
        ),
        ("a,b\n1,2,3\n", "points.csv, line 2: "),
        ("5,0.1\n6,0.2\n", "points.csv, line 1: a key must be"),
        ("0.1,a\n0.2,b\n", "line 1: the first line must be names"),
        ("a,true\n0.2,b\n", "the first line must be names"),
        ("a,,b\n1,2,3\n", "the first line names the parameters"),
        ("a;b\n1;2\n", "separated by commas"),
        (
            "a,b,a\n1,2,3\n",
            "points.csv, line 1: 'a' is set twice",
        ),
        ('a\n"x\n', "points.csv, line 2: "),
        ('a\n"x"y\n', "valid CSV"),
        ("a\nx\0\n", "line 2"),
        pytest.param("a\n" + "x" * 200_000, "valid CSV", id="a long cell"),
    ],
)
def test_a_bad_csv_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    assert message in refusal(tmp_path, text, "points.csv")


def test_a_jsonl_file(tmp_path: Path) -> None:
    text = '{"a": 1, "b": {"c": [1, {"d": 2}]}}\r\n\n{"a": "1", "e": null, "f": {}}\n{}\n'
    assert file_points(tmp_path, text, "points.jsonl") == [
        {"a": 1, "b.c": [1, {"d": 2}]},
        {"a": "1", "e": None, "f": {}},
        {},
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lines with one JSON object each"),
        ('{"a": 1}\n{"a": }', "line 2: not valid JSON: Expecting value, at character 7"),
        ('{"a": 1}\n{"a": }', "Expecting value, at character 7"),
        ("[1]", ", line 1: a line must be one JSON object, not '[1]'"),
        ('{"a": 1} {"a": 2}', "Extra data"),
        ('{"a": 1, "a": 2}', "the key 'a' appears twice"),
        ('{"a.b": 1, "a": {"b": 2}}', "'a.b' is set twice"),
        ('{"a b": 1}', "a key must be"),
        ('{"a": "\\u0000"}', "NUL"),
        ('{"a": "\\ud800"}', "UTF-8"),
        pytest.param('{"a": ' + "9" * 5000 + "}", "line 1", id="5000 digits"),
        pytest.param('{"a": ' + "[" * 100_000, "line 1", id="deep"),
        pytest.param('{"a":' * 5000 + "1" + "}" * 5000, "points.jsonl", id="a deep key"),
    ],
)
def test_a_bad_jsonl_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    assert message in refusal(tmp_path, text, "points.jsonl")
