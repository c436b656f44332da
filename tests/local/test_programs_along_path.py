"""Which program a command's job executes, while programs come and go along PATH during a sweep."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.processes import PATIENCE
from helpers.reliability import source
from hsm.core.local.processes.command_process import CommandStarter
from hsm.core.program.isolation import NO_ENDS

Run = Callable[..., tuple[int | None, str, str]]


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Three folders, of which the first is missing and the others are next along PATH."""
    folders = [tmp_path / name for name in ("missing", "first", "second")]
    for folder in folders[1:]:
        folder.mkdir()
    found = os.pathsep.join([*map(str, folders), os.environ["PATH"]])
    monkeypatch.setenv("PATH", found)
    return folders[1:]


@pytest.fixture
def run(places: list[Path], tmp_path: Path) -> Iterator[Run]:
    """Runs a command as the next job of one keeper; returns its exit code, stdout and stderr."""
    with source(max_parallel_jobs=1) as made:

        def run(*command: str) -> tuple[int | None, str, str]:
            # As a parameter, since a program that is missing from the start is refused.
            point, words = {"program": command[0]}, ["{program}", *command[1:]]
            ids = made.submit_jobs([point], "s", tmp_path / "sweep", command=words)
            made.wait(ids, timeout=PATIENCE)
            job, paths = made.job(ids[0]), made.paths(ids[0])
            assert job.outcome is not None
            stdout, stderr = paths.stdout(job.num), paths.stderr(job.num)
            return job.outcome.exit_code, stdout.read_text(), stderr.read_text()

        yield run


def write(folder: Path, text: str, mode: int = 0o755, name: str = "prog") -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(mode)
    return path


def saying(word: str) -> str:
    return f"#!/bin/sh\necho {word}\n"


def test_a_program_that_is_replaced_moved_or_removed_is_found_as_it_is_then(
    run: Run, places: list[Path]
) -> None:
    first, second = places
    write(second, saying("one"))
    assert run("prog") == (0, "one\n", "")
    write(second, saying("two"))
    assert run("prog") == (0, "two\n", "")
    (second / "prog").rename(first / "prog")
    assert run("prog") == (0, "two\n", "")
    write(second, saying("three"))
    (first / "prog").unlink()
    assert run("prog") == (0, "three\n", "")
    (second / "prog").unlink()
    assert run("prog") == (127, "", "hsm: prog: No such file or directory\n")
    write(first, saying("four"))
    assert run("prog") == (0, "four\n", "")


def test_what_cannot_be_executed_is_passed_over_and_else_told(run: Run, places: list[Path]) -> None:
    first, second = places
    write(first, saying("no"), mode=0o644)
    assert run("prog") == (126, "", "hsm: prog: Permission denied\n")
    write(second, saying("yes"))
    assert run("prog") == (0, "yes\n", "")
    write(first, "echo no first line\n")
    write(second, "echo no first line\n")
    assert run("prog") == (126, "", "hsm: prog: Exec format error\n")
    (second / "prog").unlink()
    (first / "prog").unlink()
    (first / "prog").mkdir()
    assert run("prog") == (126, "", "hsm: prog: Permission denied\n")


def test_a_path_is_taken_from_the_working_directory(
    run: Run, places: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, word in zip(places, ("one", "two"), strict=True):
        write(folder, saying(word), name="here")
        monkeypatch.chdir(folder)
        assert run("./here") == (0, f"{word}\n", "")
        assert run("here")[:2] == (0, "one\n")
    assert run("./there") == (127, "", "hsm: ./there: No such file or directory\n")


def test_an_empty_place_along_path_is_the_working_directory_of_each_job(
    tmp_path: Path, places: list[Path]
) -> None:
    for folder, word in zip(places, ("one", "two"), strict=True):
        write(folder, saying(word), name="here")
    read_end, write_end = os.pipe()
    starter, where = CommandStarter(write_end, 2), os.getcwd()
    try:
        for folder in (*places, *places):
            os.chdir(folder)
            pid = starter.start(("here",), {"PATH": "/nowhere:"}, str(folder))
            assert pid is not None
            assert os.waitpid(pid, 0)[1] == 0
        assert starter.start(("here",), {"PATH": "/nowhere"}, str(places[0])) is None
    finally:
        os.chdir(where)
        os.close(write_end)
    with open(read_end) as file:
        assert file.read().split() == ["one", "two", "one", "two"]


def test_where_the_program_is_not_no_process_is_started(
    places: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(places[1], saying("two"))
    started: list[str] = []

    def spawn(path: str, *arguments: object, **options: object) -> int:
        started.append(path)
        return 7

    monkeypatch.setattr(os, "posix_spawn", spawn)
    starter = CommandStarter(1, 2)
    for _ in range(2):
        assert starter.start(("prog",), {}, os.getcwd()) == 7
    assert started == [str(places[1] / "prog")] * 2


def test_a_command_inherits_three_streams_and_no_signal_that_hsm_ignores(run: Run) -> None:
    looks = "echo $$ $(ps -o pgid= $$); grep SigIgn /proc/$$/status; ls -l /proc/$$/fd"
    code, out, err = run("sh", "-c", looks)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    pid, group = lines[0].split()
    assert pid == group
    ignored = int(lines[1].split()[1], 16)
    assert not [number for number in NO_ENDS if ignored >> (number - 1) & 1]
    opened = dict(re.findall(r" (\d+) -> (\S+)", out))
    assert opened.keys() == {"0", "1", "2"}
    assert opened["0"] == "/dev/null"
