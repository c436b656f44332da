from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.settings import BAD_VALUES, refusal
from hsm.core.errors import SettingsError, UnknownSetting
from hsm.core.settings.resolve import (
    SETTINGS,
    CpuAffinity,
    LocalConf,
    ProgressMode,
    StartMethod,
    resolve_local,
)
from hsm.core.units import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("1.5", 1.5),
        (".5", 0.5),
        ("2.", 2),
        ("1e3", 1000),
        ("1E-1", 0.1),
        ("90s", 90),
        ("30m", 1800),
        ("2h", 7200),
        ("1d", 86400),
        ("1.5h", 5400),
        ("2H", 7200),
        (" 2 h ", 7200),
        ("0", 0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        *["", " ", "h", "s5", "-1", "-2h", "+1", "1h30m", "2 hours", "1w", "nan", "inf"],
        *["1_000", "0x10", "1,5", ".", "e3", "٣", "1:30", "2h\n3"],
    ],
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


@given(st.text())
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    with suppress(ValueError):
        assert parse_duration(text) >= 0


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("max_parallel_jobs", 1, 1),
        ("max_parallel_jobs", 10**6, 10**6),
        ("max_parallel_jobs", "auto", "auto"),
        ("cpus", 3, 3),
        ("cpus", " Auto", "auto"),
        ("cpus", "none", None),
        ("cpus", None, None),
        ("cpu_affinity", "share", CpuAffinity.share),
        ("cpu_affinity", None, None),
        ("timeout", None, None),
        ("timeout", 3, 3.0),
        ("timeout", 0.25, 0.25),
        ("timeout", Fraction(1, 2), 0.5),
        ("timeout", "2h", 7200.0),
        ("timeout", "none", None),
        ("timeout", "Null", None),
        ("timeout", 1e9, 1e9),
        ("show_output", True, True),
        ("cleanup_on_exit", False, False),
        ("fail_fast", True, True),
        ("start_method", "spawn", StartMethod.spawn),
        ("start_method", StartMethod.fork, StartMethod.fork),
        ("kill_grace", 0, 0.0),
        ("kill_grace", "1m", 60.0),
        ("progress", "none", ProgressMode.none),
        ("max_retries", 0, 0),
        ("max_failures", None, None),
        ("max_failures", 1, 1),
        ("retry_on", ["crashed"], ("crashed",)),
        ("retry_on", [], ()),
        ("retry_on", "timeout, Crashed", ("timeout", "crashed")),
        ("timeout_factor", 3, 3.0),
        ("timeout_factor", None, None),
        ("memory_limit", None, None),
        ("memory_limit", 1024, 1024),
        ("memory_limit", "4GB", 4 * 10**9),
        ("memory_limit", "4g", 4 * 10**9),
        ("memory_limit", "1.5 GiB", 3 * 2**29),
        ("memory_limit", "512MB", 512 * 10**6),
        ("memory_limit", "2KiB", 2048),
        ("memory_limit", "1TB", 10**12),
        ("memory_limit", "100", 100),
        ("memory_limit", "none", None),
        ("on_sweep_end", None, None),
        ("on_sweep_end", "notify 'a b'", ("notify", "a b")),
        ("on_sweep_end", ["notify", ""], ("notify", "")),
    ],
)
def test_what_is_allowed(name: str, value: Any, expected: Any) -> None:
    found = getattr(resolve_local({name: value}).conf, name)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize("kind", ["int8", "int64", "uint16"])
def test_numpys_integers_are_counts(kind: str) -> None:
    numpy = pytest.importorskip("numpy")
    jobs = resolve_local({"max_parallel_jobs": getattr(numpy, kind)(3)}).conf.max_parallel_jobs
    assert jobs == 3
    assert type(jobs) is int


@pytest.mark.parametrize("kind", ["float32", "float64", "int64"])
def test_numpys_numbers_are_seconds(kind: str) -> None:
    numpy = pytest.importorskip("numpy")
    seconds = resolve_local({"timeout": getattr(numpy, kind)(3)}).conf.timeout
    assert seconds == 3.0
    assert type(seconds) is float


class _Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


_BAD_IN_PYTHON = [
    (name, value, SETTINGS[name].kind.allowed)
    for name in SETTINGS
    for value in (_Unshowable(), 4j, b"4", object)
]


@pytest.mark.parametrize(("name", "value", "allowed"), [*BAD_VALUES, *_BAD_IN_PYTHON])
def test_what_is_refused(name: str, value: Any, allowed: str) -> None:
    with pytest.raises(SettingsError) as caught:
        resolve_local({name: value})
    error = caught.value
    assert (error.key, error.origin) == (name, f"argument {name}")
    assert error.value is value or name == "env"  # whose values nobody is shown
    assert str(error).startswith(f"argument {name} must be {allowed}, not ")


@pytest.mark.parametrize("name", ["timeout", "kill_grace"])
def test_a_wait_as_long_as_the_longest_duration_is_possible(name: str) -> None:
    import threading

    setting = SETTINGS[name]
    assert setting.check(1e9, "here") < threading.TIMEOUT_MAX


def test_a_huge_number_is_named_without_being_written_out() -> None:
    error = refusal({"timeout": 10**10_000})
    assert len(str(error)) < 300


def test_the_near_word_is_suggested() -> None:
    assert "did you mean fork?" in str(refusal({"start_method": "frok"}))
    assert "did you mean" not in str(refusal({"start_method": "xyz"}))


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("max_paralel_jobs", "max_parallel_jobs"),
        ("max_jobs", "max_parallel_jobs"),
        ("Timeout", "timeout"),
        ("time_out", "timeout"),
        ("failfast", "fail_fast"),
        ("startmethod", "start_method"),
    ],
)
def test_an_unknown_key_is_refused_and_the_near_one_suggested(key: str, near: str) -> None:
    error = refusal({key: 4})
    assert isinstance(error, UnknownSetting)
    assert str(error) == f"unknown argument {key}; did you mean {near}?"
    assert error.allowed == ", ".join(SETTINGS)


def test_a_key_like_no_other_gets_the_list_only() -> None:
    text = str(refusal({"zzz": 4}))
    assert "did you mean" not in text
    assert "known: max_parallel_jobs, timeout," in text


def test_the_caller_names_its_arguments() -> None:
    error = refusal({"timeout": 0}, argument_origin=lambda name: f"--{name}")
    assert str(error).startswith("--timeout must be a number of seconds above 0 ")
    assert str(error).endswith(", not 0")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("max_parallel_jobs", "8", 8),
        ("max_parallel_jobs", " +8 ", 8),
        ("max_parallel_jobs", " AUTO ", "auto"),
        ("cpus", "2", 2),
        ("cpus", "auto", "auto"),
        ("cpus", "null", None),
        ("cpu_affinity", "share", CpuAffinity.share),
        ("cpu_affinity", "none", None),
        ("timeout", "7200", 7200.0),
        ("timeout", "2h", 7200.0),
        ("timeout", "none", None),
        ("timeout", "NULL", None),
        ("kill_grace", "0", 0.0),
        ("start_method", " fork", StartMethod.fork),
        ("progress", "none", ProgressMode.none),
        ("max_failures", "none", None),
        ("max_failures", "5", 5),
        ("retry_on", "timeout,crashed", ("timeout", "crashed")),
        ("timeout_factor", "2.5", 2.5),
        ("timeout_factor", "none", None),
        ("memory_limit", "4GB", 4 * 10**9),
        ("on_sweep_end", "notify 'a b'", ("notify", "a b")),
        *[("show_output", text, True) for text in ("true", "True", "1", "yes", "ON", " on ")],
        *[("cleanup_on_exit", text, False) for text in ("false", "FALSE", "0", "no", "off")],
    ],
)
def test_variables(name: str, text: str, expected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = SETTINGS[name].variable
    resolved = resolve_local(environ={variable: text})
    assert getattr(resolved.conf, name) == expected
    assert resolved.origins[name] == f"environment variable {variable}"
    monkeypatch.setenv(variable, text)
    assert resolve_local().conf == resolved.conf


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *[
            ("max_parallel_jobs", text)
            for text in ("0", "-3", "4.0", "1e1", "four", "true", "1_0", "٤", "9" * 5000, "0x4")
        ],
        *[("timeout", text) for text in ("0", "-5", "nan", "inf", "soon", "1h30m", "1e10")],
        *[("show_output", text) for text in ("2", "y", "maybe", "None")],
        *[("start_method", text) for text in ("thread", "FORK")],
        *[("progress", text) for text in ("null", "bar")],
        *[("kill_grace", text) for text in ("none", "-1")],
        *[("max_failures", text) for text in ("0", "off")],
        *[("retry_on", text) for text in ("none", "failed crashed")],
        *[("timeout_factor", text) for text in ("1", "nan", "inf", "2x")],
        *[("memory_limit", text) for text in ("0", "-1", "4 lions", "1e9", "50%", "nan")],
        *[("on_sweep_end", text) for text in ("echo 'a", "'")],
    ],
)
def test_bad_variables(name: str, text: str) -> None:
    setting = SETTINGS[name]
    error = refusal(environ={setting.variable: text})
    assert (error.key, error.value, error.allowed) == (name, text, setting.kind.allowed)
    assert str(error).startswith(f"environment variable {setting.variable} must be ")


@pytest.mark.parametrize(
    ("text", "shown"), [("0", "0"), ("-3", "-3"), ("4.0", "4.0"), ("four", "'four'"), ("٤", "'٤'")]
)
def test_a_number_that_was_typed_stands_without_quotes(text: str, shown: str) -> None:
    allowed = "an integer of at least 1, or auto"
    error = refusal(environ={"HSM_LOCAL_MAX_JOBS": text})
    assert str(error) == f"environment variable HSM_LOCAL_MAX_JOBS must be {allowed}, not {shown}"
    error = refusal({"max_parallel_jobs": "4"})
    assert str(error) == f"argument max_parallel_jobs must be {allowed}, not '4'"


@pytest.mark.parametrize("text", ["", " ", "\t"])
def test_an_empty_variable_is_not_set(text: str) -> None:
    environ = {setting.variable: text for setting in SETTINGS.values()}
    environ |= {"HSM_LOCAL_SOMETHING": text, "HSM_CONFIG": text}
    assert resolve_local(environ=environ).conf == LocalConf()


@pytest.mark.parametrize(
    ("variable", "near"),
    [
        ("HSM_LOCAL_TIMOUT", "HSM_LOCAL_TIMEOUT"),
        ("HSM_LOCAL_MAX_PARALLEL_JOBS", "HSM_LOCAL_MAX_JOBS"),
        ("HSM_LOCAL_MAXJOBS", "HSM_LOCAL_MAX_JOBS"),
        ("HSM_LOCAL_timeout", "HSM_LOCAL_TIMEOUT"),
        ("HSM_LOCAL_ZZZ", None),
        ("HSM_LOCAL_", None),
    ],
)
def test_an_unknown_variable_is_refused(variable: str, near: str | None) -> None:
    text = str(refusal(environ={variable: "3"}))
    assert text.startswith(f"unknown environment variable {variable}; ")
    assert ("did you mean" in text) == (near is not None)
    assert near is None or f"did you mean {near}?" in text


def test_other_variables_are_nobodys_business() -> None:
    environ = {"HSM_JOB_ID": "x", "HSM_LOCALE": "y", "HSM_SWEEP_DIR": "z", "TIMEOUT": "w"}
    assert resolve_local(environ=environ).conf == LocalConf()


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("timeout", None, "none"),
        ("timeout", 5400.0, "5400"),
        ("memory_limit", 4 * 10**9, "3.7 GiB"),
        ("fail_fast", False, "false"),
        ("start_method", StartMethod.spawn, "spawn"),
        ("retry_on", ("failed", "timeout"), "failed,timeout"),
        ("on_sweep_end", ("mail", "-s", "all done"), "mail -s 'all done'"),
    ],
)
def test_a_value_is_shown_as_a_person_would_write_it(name: str, value: Any, shown: str) -> None:
    assert SETTINGS[name].show(value) == shown
