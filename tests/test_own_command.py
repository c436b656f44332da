"""How a process was started, and the line that starts it again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hsm.core import own_command
from hsm.core.own_command import command_to_paste, own_words


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        ("python train.py -m x=1", "-m x=1"),
        ("python -O -uBX dev -W error train.py -O", "-O"),
        ("python -Wignore -Xutf8=1 ./train -m", "-m"),
        ("python -m pkg.app -m x=1", "-m x=1"),
        ("python -Im pkg.app -m x=1", "-m x=1"),
        ("python -mpkg.app -m", "-m"),
        ("python -c code -c", "-c"),
        ("python -X frozen_modules=off -bb -- -train.py a", "a"),
        ("python --check-hash-based-pycs always -P train.py a", "a"),
        ("python - a", "a"),
        ("python train.py", "own"),
        ("python -m pkg.app", "own"),
        ("python", "own"),
    ],
)
def test_the_interpreters_options_and_the_arguments_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, words: str, arguments: str
) -> None:
    monkeypatch.setattr(sys, "orig_argv", words.split())
    monkeypatch.setattr(sys, "argv", ["train.py", "own"])
    program, found = own_words()
    assert found == arguments.split()
    assert " ".join([*program, *found]).replace(sys.executable, "python") in (words, f"{words} own")


def test_a_frozen_program_is_its_own_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", "/opt/app")
    monkeypatch.setattr(sys, "argv", ["app", "-m", "x=1"])
    assert own_words() == (["/opt/app"], ["-m", "x=1"])


def test_a_console_script_is_named_without_its_interpreter(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = tmp_path / "train"
    monkeypatch.setattr(own_command, "_main_file", lambda: str(script))
    monkeypatch.setattr(sys, "orig_argv", ["python", str(script), "-m"])
    for first_line, program in (
        (f"#!{sys.executable}\n", [str(script)]),
        (f"#!{sys.executable} -O\n", [sys.executable, str(script)]),
        ("#!/usr/bin/env python\n", [sys.executable, str(script)]),
    ):
        script.write_text(first_line)
        script.chmod(0o700)
        assert own_words() == (program, ["-m"])
    script.chmod(0o600)
    assert own_words()[0] == [sys.executable, str(script)]


@pytest.mark.parametrize(
    ("name", "main_file", "directory"),
    [
        ("train.py", "/home/a b/train.py", "'/home/a b'"),
        ("../train.py", "/home/me/../train.py", "/home/me"),
        ("app.pyz", "/home/me/app.pyz/__main__.py", "/home/me"),
        ("train.py", "/train.py", "/"),
        ("/home/me/train.py", "/home/me/train.py", "/now"),
        ("train.py", "", "/now"),
    ],
)
def test_it_runs_where_the_program_was_started(
    monkeypatch: pytest.MonkeyPatch, name: str, main_file: str, directory: str
) -> None:
    monkeypatch.setattr(own_command, "_main_file", lambda: main_file)
    monkeypatch.setattr(sys, "orig_argv", ["python", name])
    assert command_to_paste(["a", "b c"], "/now") == f"cd {directory} && a 'b c'"
