from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hsm.core.errors import SettingsError
from hsm.core.settings.resolve import (
    SETTINGS,
    resolve_local,
)

_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
_WORDS = st.sampled_from(
    [
        *SETTINGS,
        *"local script command output_dir none null true 0 -1 4 .nan 2h 0b 0x 1e400 1_0".split(),
        *"12:30:45 2024-02-30 &a *a << ? !x !!int !!bool !!timestamp !!binary !!set !!omap".split(),
    ]
)
_PUNCTUATION = st.sampled_from(
    [": ", ":", "\n", "\n  ", "\n- ", " ", "\t", "{", "}", "[", "]", ", ", "'"]
)
_YAML = st.lists(_WORDS | _PUNCTUATION | st.text(max_size=3), max_size=30).map("".join)
_FUZZ = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@_FUZZ
@given(text=_YAML | st.text())
@example(text="local: {timeout: !!float ''}")
@example(text="local: {timeout: !!int 0b}")
@example(text="? {a: 1}\n: 2")
@example(text="!!set {local}")
@example(text="!!map [a]")
@example(text="local: !!seq {a: 1}")
@example(text="<<: 3")
def test_any_text_in_a_file(text: str, tmp_path: Path) -> None:
    path = tmp_path / "fuzz.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    _only_settings_errors(hsm_config=path)


@_FUZZ
@given(data=st.binary())
def test_any_bytes_in_a_file(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "fuzz.yaml"
    path.write_bytes(data)
    _only_settings_errors(hsm_config=path)


@_FUZZ
@given(
    environ=st.dictionaries(
        st.sampled_from([*(setting.variable for setting in SETTINGS.values())])
        | st.text(max_size=5).map("HSM_LOCAL_".__add__),
        st.sampled_from(["1", "true", "none", "2h", "fork", "-0", "1e5", "rich"]) | st.text(),
        max_size=3,
    )
)
def test_any_environment(environ: dict[str, str]) -> None:
    _only_settings_errors(environ=environ)


@_FUZZ
@given(
    arguments=st.dictionaries(st.sampled_from(list(SETTINGS)) | st.text(), _ANYTHING, max_size=2)
)
def test_any_arguments(arguments: dict[str, Any]) -> None:
    _only_settings_errors(arguments)


def _only_settings_errors(*args: Any, **options: Any) -> None:
    try:
        conf = resolve_local(*args, **options).conf
    except SettingsError as refused:
        error = refused
    else:
        assert resolve_local(dataclasses.asdict(conf), environ={}).conf == conf
        return
    assert str(error).isprintable()
    assert error.origin
    assert error.allowed
