"""Settings that are mappings: what jobs share and need, and the variables that they get."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from helpers.settings import refusal, write
from hsm.cli._given import given_settings
from hsm.core.errors import SettingsError
from hsm.core.masked import masked_data, masked_words
from hsm.core.settings.resolve import SETTINGS, LocalConf, resolve_local

_COUNTS = "names with integers of at least {}, such as {{licence: 2}}, in text licence=2,tokens=5"
_NAME = "a name has no spaces, commas and equals signs"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("resources", {"licence": 2}, {"licence": 2}),
        ("resources", "licence=2,tokens=5", {"licence": 2, "tokens": 5}),
        ("resources", " licence=2 , tokens = 5 ", {"licence": 2, "tokens": 5}),
        ("resources", {"gpu-mem/GB": 2**31 - 1}, {"gpu-mem/GB": 2**31 - 1}),
        ("resources", None, {}),
        ("resources", "none", {}),
        ("resources", {}, {}),
        ("env", {"A": "x", "B": 1, "C": 0.5, "D": ""}, {"A": "x", "B": "1", "C": "0.5", "D": ""}),
        ("env", "A=x B='two words, a=b' C=", {"A": "x", "B": "two words, a=b", "C": ""}),
        ("env", None, {}),
        ("env", "null", {}),
        ("env", {"lower.case": "é\n"}, {"lower.case": "é\n"}),
    ],
)
def test_what_is_allowed(name: str, value: Any, expected: dict[str, Any]) -> None:
    found = getattr(resolve_local({name: value}).conf, name)
    assert found == expected
    assert type(found) is dict


@pytest.mark.parametrize(
    ("name", "texts", "expected"),
    [
        ("resources", ["a=1,b=2"], {"a": 1, "b": 2}),
        ("resources", ["a=1", "b=2,c=3"], {"a": 1, "b": 2, "c": 3}),
        ("env", ["A=two words, a=b"], {"A": "two words, a=b"}),
        ("env", ["A='quoted'", "B="], {"A": "'quoted'", "B": ""}),
        ("env", ["none"], {}),
    ],
)
def test_a_flag_may_be_given_several_times(
    name: str, texts: list[str], expected: dict[str, Any]
) -> None:
    assert given_settings({name: texts}) == {name: expected}


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        *(("resources", {"a": bad}, "") for bad in (0, True, "1", 1.0, 2**31, None)),
        *(("resources", {bad: 1}, _NAME) for bad in ("a b", "a,b", "a=b", "", 1)),
        *(("resources", bad, "") for bad in ({"a\x07": 1}, ["a"], "a", "a=", "a=1,", "", "a=-1")),
        ("resources", "a=1,a=2", "a is given twice"),
        ("needs", {"a": -1}, ""),
    ],
)
def test_bad_counts_are_named(name: str, value: Any, hint: str) -> None:
    error = refusal({name: value})
    assert error.value == value
    least = 0 if name == "needs" else 1
    assert str(error).startswith(f"argument {name} must be {_COUNTS.format(least)}, or none, not ")
    assert error.hint == hint


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("secret", ""),
        ("A=secret b", ""),
        ("A='secret", ""),
        (["A=secret"], ""),
        ({"A": ["secret"]}, "A is neither a text nor a number"),
        ({"A": True}, "A is true, which may be spelt in several ways: put it in quotes"),
        ({"A": None}, "A is null, which may be spelt in several ways: put it in quotes"),
        ({"A": "secret\0"}, "a value has no NUL"),
        ({"": "secret"}, "a variable's name is a text without = and NUL, and not empty"),
        ({"A=B": "secret"}, "a variable's name is a text without = and NUL, and not empty"),
        ({3: "secret"}, "a variable's name is a text without = and NUL, and not empty"),
        ({"HSM_X": "secret"}, "HSM_X is hsm's own: it sets TMPDIR and HSM_* for each job"),
        ("TMPDIR=secret", "TMPDIR is hsm's own: it sets TMPDIR and HSM_* for each job"),
        ("A=secret A=secret", "A is given twice"),
        ("A=***", "*** stands for a value that is not on record: give the value itself"),
    ],
)
def test_a_refused_variable_is_named_without_its_value(value: Any, hint: str) -> None:
    error = refusal({"env": value})
    assert error.hint == hint
    assert "secret" not in f"{error} {error.args} {vars(error)}"


@pytest.mark.parametrize(
    "arguments", [{"env": {"A": "secret"}, "timeout": -1}, {"envs": {"A": "secret"}}]
)
def test_no_other_error_tells_the_values(arguments: dict[str, Any]) -> None:
    assert "secret" not in str(refusal(arguments))


def test_neither_do_errors_of_a_file() -> None:
    path = write("hsm.yaml", "local:\n  timeout: 1\n  env: {A: [secret]}\n")
    error = refusal()
    assert error.origin == f"local.env in {path}, line 3"
    assert "secret" not in str(error)


def test_values_are_not_in_what_is_shown() -> None:
    conf = resolve_local({"env": {"A": "secret"}}).conf
    assert "secret" not in repr(conf)
    assert SETTINGS["env"].show(conf.env) == "A=***"
    assert SETTINGS["resources"].show({"a": 1, "b": 2}) == "a=1,b=2"
    assert SETTINGS["resources"].show({}) == "none"
    assert pickle.loads(pickle.dumps(conf)) == conf  # A copy has them.


def test_settings_do_not_share_their_mappings() -> None:
    LocalConf().env["A"] = "x"
    resolve_local().conf.resources["a"] = 1
    assert LocalConf().env == SETTINGS["env"].default == {}
    assert resolve_local().conf.resources == SETTINGS["resources"].default == {}


@pytest.mark.parametrize(
    ("resources", "needs", "message"),
    [
        ({"licence": 2}, {"licnce": 1}, "there is no resource 'licnce'; did you mean licence?"),
        ({"a": 1, "b": 1}, {"xyz": 1}, "there is no resource 'xyz'; known: a, b"),
        ({}, {"a": 3}, "there is no resource 'a'; there are none; set resources to {a: 3}, say"),
        ({"a": 2}, {"a": 3}, "a job cannot need 3 of a: there are 2"),
        ({}, {"a": 0}, "there is no resource 'a'; there are none; set resources to {a: 1}, say"),
    ],
)
def test_needs_that_can_never_be_met(
    resources: dict[str, int], needs: dict[str, int], message: str
) -> None:
    error = refusal({"resources": resources, "needs": needs})
    assert str(error) == f"argument needs: {message}"


def test_needs_may_come_from_another_place_than_resources() -> None:
    path = write("hsm.yaml", "local: {resources: {licence: 2}}")
    assert resolve_local({"needs": {"licence": 2}}).conf.needs == {"licence": 2}
    with pytest.raises(SettingsError) as caught:
        resolve_local(environ={"HSM_LOCAL_NEEDS": "licence=3"})
    assert str(caught.value).startswith("environment variable HSM_LOCAL_NEEDS: a job cannot need 3")
    write(path, "local: {needs: {licence: 1}}")
    assert str(refusal()).startswith(f"local.needs in {path}, line 1: there is no resource")


@pytest.mark.parametrize(
    ("words", "masked"),
    [
        (["hsm", "--env", "A=s", "x=1"], ["hsm", "--env", "A=***", "x=1"]),
        (["--env=A=s=t"], ["--env=A=***"]),
        (["--env", "s"], ["--env", "***"]),
        (["--env", "--env", "A=s"], ["--env", "***", "A=s"]),
        (["--env"], ["--env"]),
        (["--", "env", "--env", "A=s"], ["--", "env", "--env", "A=s"]),
        (["hydra.launcher.env.A=s"], ["hydra.launcher.env.A=***"]),
        (["++hydra.launcher.env={A: s,\nB: t}"], ["++hydra.launcher.env=***"]),
        (["hydra.launcher={timeout: 3, env: {A: s}}"], ["hydra.launcher=***"]),
        (["hydra={launcher: {env: {A: s}}}"], ["hydra=***"]),
        (["hydra.launcher={timeout: 3}", "env=s"], ["hydra.launcher={timeout: 3}", "env=s"]),
        (["hydra.job.env_set.A=s"], ["hydra.job.env_set.A=s"]),
    ],
)
def test_a_command_line_without_the_values(words: list[str], masked: list[str]) -> None:
    assert masked_words(words) == masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("+  TOKEN: tr0ub", "+  TOKEN: ***"),
        ("+{'TOKEN': 'tr0ub', MODE: a}", "+{'TOKEN': '***', MODE: ***}"),
        ('-TOKEN="tr0ub"', '-TOKEN="***"'),
        ("a tr0ub, no TOKEN", "a tr0ub, no TOKEN"),
        ("EMPTY: x", "EMPTY: x"),
    ],
)
def test_data_without_the_values(text: str, masked: str) -> None:
    variables = {"TOKEN": "tr0ub", "MODE": "a", "EMPTY": ""}
    assert masked_data(text.encode(), variables).decode() == masked
