"""Parameters on their way to a command: what Hydra, and a script's config, make of them."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from helpers.sweeps import HYDRA, HYDRA_14, PROFILE, TEXTS, VALUES, assert_one_line, file, parsed
from hsm.core.errors import SettingsError
from hsm.core.space.arguments import to_argv, to_override
from hsm.core.space.command import check_command, expand_command, placeholders
from hsm.core.space.definition import read_sweep_file


@settings(PROFILE, max_examples=100)
@given(VALUES)
@example({"": 1, "a b": ["", {"c": "\\"}]})
@example(["\\'", {"a": "'\\", "b": '"'}])
@example({2: "x", True: None})
def test_hydra_reads_back_any_value(value: Any) -> None:
    _read_back(value)


@pytest.mark.slow
@settings(PROFILE, max_examples=400)
@given(VALUES)
def test_hydra_reads_back_any_of_many_values(value: Any) -> None:
    _read_back(value)


def _read_back(value: Any) -> None:
    try:
        override = to_override("key", value)
    except SettingsError as error:
        assert_one_line(error, "the dict's key")
        assert _has_impossible_key(value)
    else:
        assert repr(parsed(override)) == repr(value)


def _has_impossible_key(value: Any) -> bool:
    """Whether some dict's key is empty, or a text that Hydra reads as a number, boolean or null."""
    if isinstance(value, list):
        return any(map(_has_impossible_key, value))
    if not isinstance(value, dict):
        return False
    keys = [key for key in value if isinstance(key, str)]
    as_values = [
        HYDRA.parse_override(f"x={key}").value() for key in keys if re.fullmatch(r"[\w+.-]+", key)
    ]
    if "" in keys or not all(isinstance(read, str) for read in as_values):
        return True
    return any(map(_has_impossible_key, value.values()))


@settings(PROFILE, max_examples=300)
@given(st.text(max_size=6))
def test_a_dicts_key_is_read_back_or_refused(key: str) -> None:
    try:
        override = to_override("x", {key: 1})
    except SettingsError:
        return
    assert parsed(override) == {key: 1}


@settings(PROFILE, max_examples=400)
@given(TEXTS)
def test_text_without_quotes_is_text_that_any_program_understands(text: str) -> None:
    bare = to_override("x", text) == f"x={text}"
    if bare:
        assert parsed(f"x={text}") == text
    if re.fullmatch(r"[A-Za-z_][\w/.-]*", text, re.ASCII) and isinstance(parsed(f"x={text}"), str):
        assert bare


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (1e-05, "x=1e-05"),
        (float("inf"), "x=inf"),
        (float("-inf"), "x=-inf"),
        (-0.0, "x=-0.0"),
        (True, "x=true"),
        (None, "x=null"),
        ("svm", "x=svm"),
        ("data/train.csv", "x=data/train.csv"),
        ("", "x=''"),
        ("1", "x='1'"),
        ("null", "x='null'"),
        ("it's", 'x="it\'s"'),
        ("a b", "x='a b'"),
        ("C:\\", "x='C:\\\\'"),
        ("C:\\x y", "x='C:\\x y'"),
        ([], "x=[]"),
        ({}, "x={}"),
        ((1, (2, "a b")), "x=[1,[2,'a b']]"),
        ({"a": {"b": [1, None]}}, "x={a:{b:[1,null]}}"),
        ({"a b": 1}, "x={a\\ b:1}"),
        (Path("a/b"), "x=a/b"),
        (np.float64(0.1), "x=0.1"),
        (np.float32(0.5), "x=0.5"),
        (np.int64(3), "x=3"),
        (np.bool_(True), "x=true"),
        (np.array([[1, 2], [3, 4]]), "x=[[1,2],[3,4]]"),
    ],
)
def test_how_values_are_written(value: Any, written: str) -> None:
    assert to_override("x", value) == written


def test_an_enum_is_its_name_unless_it_is_a_text_or_number_itself() -> None:
    class Plain(Enum):
        RED = 7

    class Text(str, Enum):
        RBF = "rbf kernel"

    class Number(int, Enum):
        TWO = 2

    assert to_argv({"a": Plain.RED, "b": Text.RBF, "c": Number.TWO}) == [
        "a=RED",
        "b='rbf kernel'",
        "c=2",
    ]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"1": 2}, "would read the dict's key '1' as 1"),
        ([{"null": 2}], "would read the dict's key 'null' as None"),
        ({"it's": 2}, "no way to write the dict's key"),
        ({(1, 2): 3}, "a tuple cannot be a dict's key"),
        ("a\0b", "NUL"),
        ("\ud800", "UTF-8"),
        ({1, 2}, "a set is none of these"),
        (b"x", "a bytes is none of these"),
        pytest.param(10**5000, "digits", id="5001 digits"),
    ],
)
def test_a_value_that_cannot_be_written_is_refused(value: Any, reason: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(reason)):
        to_override("x", value)


def test_a_list_that_holds_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(SettingsError, match="holds itself"):
        to_override("x", endless)


def test_bytes_of_a_file_name_that_are_not_utf8_stay_as_they_are() -> None:
    assert parsed(to_override("x", "caf\udce9")) == "caf\udce9"


@settings(PROFILE, max_examples=300)
@given(st.text(alphabet="ab_-$.@/+~01=[ ", max_size=8))
@example("a.0.b")
@example("$a.b")
@example("a/b@c.d")
@example("++a-b")
def test_a_key_is_taken_exactly_if_hydra_takes_it(key: str) -> None:
    try:
        override = HYDRA.parse_override(f"{key}=1")
        taken = override.get_key_element() == key and key.strip("+~") != ""
    except Exception:  # whatever Hydra raises, it does not take the key
        taken = False
    try:
        ours = to_override(key, 1) == f"{key}=1"
    except SettingsError:
        ours = False
    assert ours == taken


@pytest.mark.parametrize(
    "key", ["", "+", "~", "a b", "a=b", "caf\u00e9", "a.", ".a", "a\n", 3, None, True]
)
def test_a_bad_key_is_refused(key: Any) -> None:
    message = r"a key must be a parameter's name|expected a string as a key, got"
    with pytest.raises(SettingsError, match=message):
        to_override(key, 1)


def test_a_deletion_needs_no_value() -> None:
    assert to_argv({"~db": None, "~model": "svm"}) == ["~db", "~model=svm"]


def composed(tmp_path: Path, *overrides: str) -> Any:
    """`x` of a real composed and resolved config."""
    file(tmp_path, "x: null\ny: 3\n", "config.yaml")
    options: dict[str, Any] = {} if HYDRA_14 else {"version_base": None}
    with hydra.initialize_config_dir(config_dir=str(tmp_path), **options):
        cfg = hydra.compose("config", list(overrides))
    return OmegaConf.to_container(cfg, resolve=True)["x"]  # type: ignore[call-overload, index]


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("${y}", 3),  # an interpolation in the script's own config
        ("y is ${y}", "y is 3"),
        ("\\${y}", "${y}"),  # escaped: the text itself
        ("\\\\\\${y}", "\\${y}"),
        (["${y}", "\\${y}"], [3, "${y}"]),
        ("$y", "$y"),
        ("a$b", "a$b"),
        ("C:\\new\\", "C:\\new\\"),
        ("{y}", "{y}"),
        ({"a": {"b": "c d"}}, {"a": {"b": "c d"}}),
        ("???", "???"),  # to_container shows a missing value so; reading it raises
    ],
)
def test_what_a_script_sees(tmp_path: Path, value: Any, seen: Any) -> None:
    assert composed(tmp_path, to_override("x", value)) == seen


@pytest.mark.slow
def test_a_script_sees_any_text_whose_interpolations_are_escaped(tmp_path: Path) -> None:
    @settings(PROFILE, max_examples=15)
    @given(TEXTS.filter(lambda text: text != "???"))
    @example("a\\${b}\\\\${c")
    @example("C:\\")
    @example("it's \\\"\n")
    def check(text: str) -> None:
        escaped = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
        assert composed(tmp_path, to_override("x", escaped)) == text

    check()


def test_a_command_places_parameters() -> None:
    params = {
        "lr": 0.001,
        "model.C": 3,
        "+note": "a 'b' {c}",
        "flag": True,
        "none": None,
        "l": [1, "a"],
    }
    template = ["./fit", "--lr={lr}", "{model.C}{model.C}", "{note}", "{+note}", "{flag}", "{none}"]
    template += ["{l}", "{job_dir}/out", "{{lr}} {{{lr}}}", "a}b", "$HOME"]
    assert expand_command(template, params, Path("/sweep/3")) == [
        *["./fit", "--lr=0.001", "33", "a 'b' {c}", "a 'b' {c}", "true", "null"],
        *['[1, "a"]', "/sweep/3/out", "{lr} {0.001}", "a}b", "$HOME"],
    ]
    assert placeholders(template) == [
        "lr",
        "model.C",
        "note",
        "+note",
        "flag",
        "none",
        "l",
        "job_dir",
    ]


def test_json_in_a_command_with_doubled_braces() -> None:
    assert expand_command(['{{"a": {{"lr": {lr}}}}}'], {"lr": 1}, "/j") == ['{"a": {"lr": 1}}']


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            ["./fit", "{lrr}"],
            "no parameter for {lrr}; did you mean lr?",
        ),
        (["{}"], "no parameter for {}; there are {lr}, {note}, {job_dir}, {args}, {gpu},"),
        (["{job-dir}"], "did you mean job_dir?"),
        (["awk", "{print $1}"], "no parameter for {print $1}"),
        (["{lr"], "a { is not closed in '{lr'"),
        ("./fit {lr}", "a list of arguments"),
        ([], "a list of arguments"),
        (["./fit", 3], "a list of arguments"),
        (None, "a list of arguments"),
    ],
)
def test_a_bad_command_is_refused(template: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)):
        expand_command(template, {"lr": 1, "+note": 2}, "/j")


def test_a_value_that_no_argument_can_hold_is_refused() -> None:
    for value in ("a\0b", "\ud800", {1, 2}):
        with pytest.raises(SettingsError, match="x must be a text, or what JSON can hold"):
            expand_command(["{x}"], {"x": value}, "/j")


def test_a_command_is_checked_against_what_all_points_have(tmp_path: Path) -> None:
    definition = read_sweep_file(
        file(tmp_path, "sweep: {grid: {a: 1, b: 2}, jobs: [{b: 1, c: 1}]}")
    )
    assert definition.all_keys() == ["a", "b", "c"]
    assert definition.shared_keys() == ["b"]
    check_command(["{b}"], definition.shared_keys())
    with pytest.raises(
        SettingsError, match=r"no parameter for \{a\}; there are \{b\}, \{job_dir\}"
    ):
        check_command(["{a}"], definition.shared_keys())


@settings(PROFILE, max_examples=150)
@given(
    st.lists(st.text(alphabet="{}ab. ", max_size=8), max_size=3),
    st.dictionaries(TEXTS, VALUES, max_size=2),
)
def test_only_settings_errors_leave_expand_command(
    template: list[str], params: dict[str, Any]
) -> None:
    try:
        expanded = expand_command(template, params, "/j")
    except SettingsError as error:
        assert_one_line(error)
    else:
        assert len(expanded) == len(template)
