"""The cause of a failure is shown wherever the job has written it."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.displays import ended, running
from hsm.core.record.job import Ending, Job, JobState
from hsm.core.record.paths import SweepPaths
from hsm.display.failures import failure_details

_TRACEBACK = """\
Traceback (most recent call last):
  File "train.py", line 7, in main
    fit()
  File "train.py", line 3, in fit
    1 / 0
    ~~^~~
ZeroDivisionError: division by zero
"""


def _shown(paths: SweepPaths, out: str = "", err: str = "", *, brief: bool = False) -> list[str]:
    paths.stdout(0).write_text(out)
    paths.stderr(0).write_text(err)
    job = ended(0, JobState.FAILED, exit_code=1)
    return [text.replace(str(paths.logs), "LOGS") for text, _ in _details(job, paths, brief)]


def _details(job: Job, paths: SweepPaths, brief: bool = False) -> list[tuple[str, bool]]:
    return [(text, is_note) for text, is_note in failure_details(job, paths, brief=brief)]


def test_an_error_on_stderr_is_enough(paths: SweepPaths) -> None:
    assert _shown(paths, "epoch 1\n", _TRACEBACK) == [*_TRACEBACK.splitlines(), "log: LOGS/0.err"]


@pytest.mark.parametrize("err", ["", "\n", "  \n\t\n\n"])
def test_without_stderr_the_end_of_stdout_is_shown(paths: SweepPaths, err: str) -> None:
    out = "".join(f"line {n}\n" for n in range(30))
    expected = [*(f"line {n}" for n in range(20, 30)), "log: LOGS/0.out"]
    assert _shown(paths, out, err) == expected


@pytest.mark.parametrize(
    "err",
    [
        "train.py:3: UserWarning: invalid value, an error may follow\n",
        "\r 10%|#   |\r 80%|### |",
        "2026-01-31 12:00:00,123 - train - WARNING - failed to find a GPU\n",
        "Warning: no GPU found\n",
    ],
)
def test_with_mere_warnings_on_stderr_the_ends_of_both_are_shown(
    paths: SweepPaths, err: str
) -> None:
    out = "".join(f"line {n}\n" for n in range(30)) + "the loss is nan\n"
    shown = _shown(paths, out, err)
    assert shown[1:] == [
        "log: LOGS/0.err",
        *(f"line {n}" for n in range(26, 30)),
        "the loss is nan",
        "log: LOGS/0.out",
    ]


@pytest.mark.parametrize(
    "err",
    [
        "train.sh: line 3: nope: command not found\n",
        "ERROR: bad data\n",
        "usage: train.py [-h]\n",
        "Segmentation fault (core dumped)\n",
        "thread 'main' panicked at src/main.rs:3\n",
        "numpy.linalg.LinAlgError: Singular matrix\n",
    ],
)
def test_errors_are_told_by_their_words(paths: SweepPaths, err: str) -> None:
    assert _shown(paths, "epoch 1\n", err) == [err.strip(), "log: LOGS/0.err"]


def test_a_job_that_printed_nothing_names_no_empty_log(paths: SweepPaths) -> None:
    assert _shown(paths) == ["it printed nothing"]
    paths.stdout(0).unlink()
    paths.stderr(0).unlink()
    assert _details(ended(0, JobState.FAILED), paths) == [("it printed nothing", True)]


def test_a_log_of_the_jobs_own_is_used_if_it_printed_nothing(paths: SweepPaths) -> None:
    directory = paths.job_dir(0)
    directory.mkdir()
    (directory / "train.log").write_text("[main][ERROR] - no data\n")
    (directory / "empty.log").touch()
    (directory / "stdout.log").symlink_to(paths.stdout(0))
    assert _shown(paths) == ["[main][ERROR] - no data", f"log: {directory / 'train.log'}"]


def test_a_long_message_is_shown_if_the_logs_are_gone(paths: SweepPaths) -> None:
    job = running(0)
    ending = Ending(JobState.FAILED, error_type="ValueError", error_message="bad:\n  a\x1b[2J\n  b")
    job.end(1.0, ending)
    assert _details(job, paths) == [
        ("bad:", False),
        ("  a", False),
        ("  b", False),
        ("it printed nothing", True),
    ]


def test_only_what_the_last_attempt_printed_counts(paths: SweepPaths) -> None:
    header = "---- attempt 2, 2026-01-31 12:00:00 ----\n"
    err = _TRACEBACK + header
    assert _shown(paths, f"first\n{header}no space left\n", err) == [
        "no space left",
        "log: LOGS/0.out",
    ]


def test_a_traceback_that_will_be_shown_is_cut_to_its_end(paths: SweepPaths) -> None:
    assert _shown(paths, "", _TRACEBACK, brief=True) == [
        '  File "train.py", line 3, in fit',
        "    1 / 0",
        "    ~~^~~",
        "ZeroDivisionError: division by zero",
        "log: LOGS/0.err",
    ]
    assert _shown(paths, "", "error: 3\n", brief=True) == ["error: 3", "log: LOGS/0.err"]


def test_the_line_that_is_shown_anyhow_is_not_repeated(paths: SweepPaths) -> None:
    paths.stderr(0).write_text(_TRACEBACK)
    job = running(0)
    error = ("ZeroDivisionError", "division by zero")
    job.end(1.0, Ending(JobState.FAILED, error_type=error[0], error_message=error[1]))
    assert [text for text, _ in _details(job, paths, brief=True)][:-1] == [
        '  File "train.py", line 3, in fit',
        "    1 / 0",
        "    ~~^~~",
    ]


def test_a_log_that_was_cut_shows_its_end(paths: SweepPaths) -> None:
    mark = "---- 123456 bytes were left out here (log_limit=1048576) ----"
    assert _shown(paths, "", f"x\n{mark}\nValueError: boom\n")[-2] == "ValueError: boom"


def test_logs_of_a_directory_that_is_gone(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path / "gone")
    assert _details(ended(0, JobState.TIMEOUT), paths) == [("it printed nothing", True)]
