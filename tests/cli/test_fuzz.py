"""Whatever stands in a file or on the command line: an exit code of 0 or 2, never a traceback."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.cli import Project

pytestmark = pytest.mark.thorough

_ANY = st.text(max_size=40).filter(lambda text: "\0" not in text)
_FUZZ = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just("range(3)")
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
_NAMES = st.sampled_from(
    ["sweep", "grid", "paired", "jobs", "local", "script", "timeout", "a", "+b"]
)
_DOCUMENTS = st.recursive(
    _VALUES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=6,
)


def _check(project: Project, *arguments: str) -> None:
    ran = project.here(*arguments, code=None)
    assert ran.code in (0, 2)
    if ran.code == 2:
        assert ran.err.startswith("hsm: ")
        assert ran.err.count("\n") == 1, ran.err
        assert ran.out == ""


def _with_file(project: Project, suffix: str, content: bytes) -> str:
    fd, name = tempfile.mkstemp(suffix=suffix, dir=project.folder)
    os.write(fd, content)
    os.close(fd)
    return Path(name).name


@pytest.mark.slow
@_FUZZ
@given(document=_DOCUMENTS)
def test_sweep_files_of_any_shape(project: Project, document: object) -> None:
    text = yaml.safe_dump(document, allow_unicode=True)
    name = _with_file(project, ".yaml", text.encode(errors="surrogatepass"))
    _check(project, "sweep", "--config", name, "--count-only")
    _check(project, "sweep", "--config", name, "--max-runs", "3", "--dry-run", "--", "echo")


@pytest.mark.slow
@_FUZZ
@given(content=st.binary(max_size=60), suffix=st.sampled_from([".yaml", ".csv", ".jsonl"]))
def test_sweep_files_of_any_bytes(project: Project, content: bytes, suffix: str) -> None:
    _check(project, "sweep", "--config", _with_file(project, suffix, content), "--count-only")


@_FUZZ
@given(document=_DOCUMENTS)
def test_hsm_yaml_of_any_shape(project: Project, document: object) -> None:
    text = yaml.safe_dump(document, allow_unicode=True)
    name = _with_file(project, ".yaml", text.encode(errors="surrogatepass"))
    _check(project, "config", "--hsm-config", name)


@_FUZZ
@given(overrides=st.lists(_ANY, min_size=1, max_size=3))
def test_overrides_of_any_text(project: Project, overrides: list[str]) -> None:
    # What starts with a dash is an option, and one of those might start something.
    texts = [text for text in overrides if not text.startswith("-")]
    _check(project, "sweep", "--max-runs", "3", "--dry-run", *texts, "--", "echo")


@pytest.mark.slow
@_FUZZ
@given(
    option=st.sampled_from(
        ["--timeout", "--parallel-jobs", "--kill-grace", "--progress", "--sweep-id", "--sweep-dir"]
    ),
    value=_ANY,
)
def test_options_of_any_text(project: Project, option: str, value: str) -> None:
    _check(project, "sweep", "x=1", f"{option}={value}", "--dry-run", "--", "echo")


@_FUZZ
@given(name=_ANY)
def test_names_of_sweeps_of_any_text(project: Project, name: str) -> None:
    for command in (["monitor", "--once"], ["collect-results"]):
        _check(project, *command, "--sweep-id", name)


@pytest.mark.slow
@_FUZZ
@given(command=st.lists(_ANY, max_size=3))
def test_commands_of_any_text(project: Project, command: list[str]) -> None:
    _check(project, "sweep", "x=1", "--dry-run", "--", "echo", *command)
