"""Naming jobs on a command line: without a sweep, a number means a job of the newest one."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.cli import STAY, Project
from hsm.core.job_numbers import parse_numbers, show_numbers

pytestmark = pytest.mark.thorough

_ECHO = ("--", "sh", "-c", "echo {x}")


@pytest.fixture
def two_sweeps(project: Project) -> Project:
    project.here("sweep", "x=1,2", "--sweep-id", "old", *_ECHO)
    project.here("sweep", "x=3,4", "--sweep-id", "new", *_ECHO)
    return project


def test_a_number_alone_is_a_job_of_the_newest_sweep(two_sweeps: Project) -> None:
    assert two_sweeps.hsm("logs", "1").out == "4\n"
    assert two_sweeps.hsm("logs", "old", "1").out == "2\n"
    assert two_sweeps.here("show", "0").out.startswith("job          0 of new, new_0\n")


def test_without_any_word_it_is_the_newest_sweep(two_sweeps: Project) -> None:
    assert two_sweeps.here("show").out.startswith("sweep        new\n")
    assert two_sweeps.here("cancel").out == "new is not running: finished\n"
    assert two_sweeps.refused("logs") == (
        "hsm: which job? hsm logs 0 means job 0 of the newest sweep, hsm logs SWEEP 0 of another\n"
    )


@pytest.mark.slow
def test_a_sweep_that_is_called_like_a_number(two_sweeps: Project) -> None:
    two_sweeps.here("sweep", "x=5", "--sweep-id", "1", *_ECHO)
    two_sweeps.here("sweep", "x=6,7", "--sweep-id", "newest", *_ECHO)
    assert two_sweeps.here("show", "1").out.startswith("sweep        1\n")
    assert two_sweeps.hsm("logs", "1", "0").out == "5\n"
    assert two_sweeps.refused("logs", "1") == (
        "hsm: '1' is a sweep here: give hsm logs last 1 for the job of that number in the newest "
        "sweep, or hsm logs 1 JOB\n"
    )
    assert two_sweeps.hsm("logs", "last", "1").out == "7\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("logs", "7"), "sweep new has no job 7: give a number from 0 to 1"),
        (("show", "0-1"), "JOB must be the number of one job, not '0-1'"),
        (("cancel", "new", "x"), "JOB must be the number of a job, such as 3, or several, such as"),
        (("cancel", "new", "3-1"), "not '3-1'"),
    ],
)
def test_numbers_that_mean_no_job(two_sweeps: Project, words: tuple[str, ...], said: str) -> None:
    assert said in two_sweeps.refused(*words)


@pytest.mark.slow
def test_cancel_names_the_sweep_that_nobody_named(project: Project) -> None:
    with project.detached("x=1,2,3", "--parallel-jobs", "2", "--", "sh", "-c", STAY):
        out = project.here("cancel", "0-1").out
        assert out.startswith("cancelling job 0-1 of bg, in outputs/bg\n")
        assert "job 1: CANCELLED" in out
        out = project.here("cancel").out
        assert out.startswith("cancelling bg, in outputs/bg\nbg has ended: 3 cancelled")


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("3", (3,)), ("3,1", (1, 3)), ("2-4, 3, 9", (2, 3, 4, 9)), ("0-0", (0,))],
)
def test_lists_of_numbers(text: str, numbers: tuple[int, ...]) -> None:
    assert parse_numbers(text) == numbers
    assert parse_numbers(show_numbers(numbers)) == numbers


@pytest.mark.parametrize("text", ["", "-1", "3-", "3-1", "x", "1.5", "0-9999999999", "1,,2", "²"])
def test_what_is_no_list_of_numbers(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- its text is for nobody
        parse_numbers(text)


@pytest.mark.slow
def test_the_directory_of_a_sweep_may_be_a_number(two_sweeps: Project, tmp_path: Path) -> None:
    directory = two_sweeps.folder / "5"
    two_sweeps.here("sweep", "x=8", "--sweep-id", "odd", "--sweep-dir", str(directory), *_ECHO)
    assert two_sweeps.here("show", "5").out.startswith("sweep        odd\n")
