"""Filters: expressions that can do nothing but tell, and functions."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsm import SettingsError
from hsm.core.space.condition import Filter

POINT = {"model": "svm", "+model.C": 10, "lr": 0.1, "on": True, "none": None, "tags": ["a", "b"]}
KEYS = [*POINT, "n_estimators", "optimizer"]


def keeps(text: str, point: dict[str, Any] | None = None) -> bool:
    return Filter(text, KEYS, "--filter").keeps(POINT if point is None else point)


def refusal(text: str, point: dict[str, Any] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        keeps(text, point)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr == 0.1", True),
        ("lr < 0.1", False),
        ("0 < lr < 1", True),
        ("0 < lr < 0.05", False),
        ("model == 'svm'", True),
        ('model != "svm"', False),
        ("model.C == 10", True),
        ("model.C * lr <= 1", True),
        ("model == 'forest' or model.C > 5", True),
        ("not (model == 'svm' and model.C > 5)", False),
        ("model in ['svm', 'mlp']", True),
        ("model not in ('svm', 'mlp')", False),
        ("'v' in model", True),
        ("'a' in tags", True),
        ("on", True),
        ("on == true and on == True", True),
        ("none == null", True),
        ("none != None", False),
        ("n_estimators == null", True),
        ("optimizer.name == null", True),
        ("-lr < +lr", True),
        ("model.C // 3 == 3 and model.C % 3 == 1 and model.C / 4 == 2.5", True),
        ("model.C ** 2 - 1 == 99", True),
        ("  lr > 0  ", True),
        ("tags == ['a', 'b']", True),
        ("1", True),
        ("false", False),
        ("none and n_estimators > 3", False),  # what is not reached is not evaluated
    ],
)
def test_expressions(text: str, expected: bool) -> None:
    assert keeps(text) is expected


def test_a_name_may_lead_into_a_value_that_is_a_mapping() -> None:
    point = {"optimizer": {"name": "sgd", "beta": [1, {"x": 2}]}}
    assert keeps("optimizer.name == 'sgd'", point)
    assert keeps("optimizer.beta.x == null", point)
    assert keeps("optimizer.nothing.at.all == null", point)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "model.upper()",
        "[x for x in tags]",
        "tags[0]",
        "lambda: 1",
        "lr if on else 0",
        "f'{lr}'",
        "{1: 2}",
        "(lr := 3)",
        "b'x' == 1",
        "lr << 3",
        "lr @ 3",
        "~model.C",
        "model is 'svm'",
        "...",
        "1j",
        "*tags",
    ],
)
def test_nothing_else_is_evaluated(text: str) -> None:
    told = refusal(text)
    assert told.startswith("--filter: cannot filter by ")
    assert "is not evaluated" in told or "invalid syntax" in told or "can't use" in told


def test_what_looks_like_an_attribute_is_an_entry_or_nothing() -> None:
    assert not keeps("lr.__class__ == 3")
    assert keeps("lr.__class__ == null")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr <", "--filter: cannot filter by 'lr <': invalid syntax"),
        ("modell == 3", "no point has a parameter modell; did you mean model?"),
        ("lr == svm", "no point has a parameter svm; a text needs quotes: 'svm'"),
        ("lr.x + q.r == 1", "no point has a parameter q.r"),
        ("sin(lr) > 0", "'sin(lr)' is not evaluated"),
    ],
)
def test_what_is_wrong_is_said_before_any_point_is_seen(text: str, expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Filter(text, KEYS, "--filter")
    assert expected in str(caught.value)
    assert caught.value.value == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("n_estimators < 3", "cannot compare null with 3"),
        ("model > 3", "cannot compare 'svm' with 3"),
        ("model + 'x' == 1", "cannot calculate with 'svm'"),
        ("-tags == 1", "cannot calculate with ['a', 'b']"),
        ("lr / 0 > 1", "float division by zero"),
        ("3 in model.C", "cannot compare 3 with 10"),
        ("model.C ** 9999 > 1", "10 ** 9999 is too large"),
        ("9 ** 900 * 9 ** 900 * 9 ** 900 > 1", "a number in it is too large"),
        ("(0 - 1) ** 0.5 == 1", "cannot calculate with"),
    ],
)
def test_a_point_that_it_cannot_tell_of_is_named(text: str, reason: str) -> None:
    told = refusal(text)
    assert told.startswith(f"--filter: cannot filter by {text!r}: ") or "too large" in told
    assert reason in told
    assert "at model='svm' model.C=10 lr=0.1" in told


@pytest.mark.parametrize("text", ["(" * 500 + "1" + ")" * 500, "not " * 5000 + "on", "1+" * 9000])
def test_no_filter_is_too_much(text: str) -> None:
    with pytest.raises(SettingsError, match="cannot filter by"):
        Filter(text, KEYS, "--filter")


@given(text=st.text(max_size=40))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    told = ""
    try:
        Filter(text, KEYS, "--filter").keeps(POINT)
    except SettingsError as error:
        told = str(error)
    assert not told or told.startswith("--filter: cannot filter by ")


# --- functions --------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "own_filters.py").write_text(
        "seen = []\nlimit = 3\n\n\n"
        "class Small:\n"
        "    @staticmethod\n"
        "    def tells(point):\n"
        "        seen.append(dict(point))\n"
        "        return point['lr'] < 1\n\n\n"
        "def fails(point):\n"
        "    raise KeyError('depth')\n"
    )
    (tmp_path / "broken_filters.py").write_text("import nowhere_to_be_found\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    yield tmp_path
    assert sys.path == before
    sys.modules.pop("own_filters", None)


@pytest.mark.parametrize("text", ["own_filters:Small.tells", "own_filters.Small.tells"])
@pytest.mark.usefixtures("folder")
def test_a_function_gets_the_point(text: str) -> None:
    assert keeps(text)
    assert not keeps(text, {"lr": 2})
    assert sys.modules["own_filters"].seen == [
        {key.lstrip("+"): value for key, value in POINT.items()},
        {"lr": 2},
    ]


@pytest.mark.usefixtures("folder")
def test_a_function_that_fails_is_named_with_the_point() -> None:
    assert refusal("own_filters.fails") == (
        "--filter: cannot filter by 'own_filters.fails': KeyError: 'depth', at model='svm' "
        "model.C=10 lr=0.1 on=True none=None tags=['a', 'b']"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("own_filters.limit", "own_filters.limit is no function"),
        ("own_filters.nothing", "cannot import it: AttributeError: "),
        ("broken_filters.any", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("no_such.module.tells", "ModuleNotFoundError: No module named 'no_such'"),
        ("no_such_module:tells", "ModuleNotFoundError: No module named 'no_such_module'"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_a_function_that_is_not_there_is_said_at_once(text: str, reason: str) -> None:
    assert reason in refusal(text)
