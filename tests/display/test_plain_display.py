"""The lines of the plain display, and of none."""

from __future__ import annotations

import io
import threading
from textwrap import dedent

import pytest

from helpers.displays import MODES, T0, Terminal, ended, pending, running
from helpers.terminal import Screen
from hsm.core.record.job import Ending, JobState
from hsm.core.record.paths import SweepPaths
from hsm.display import make_display
from hsm.display.plain_display import NoDisplay, PlainDisplay


def plain(paths: SweepPaths, **options: bool) -> tuple[PlainDisplay, io.StringIO]:
    file = io.StringIO()
    return PlainDisplay(paths, list, title="digits", stream=file, **options), file


def test_plain_lines(paths: SweepPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(paths.sweep_dir)
    display, file = plain(paths)
    jobs = [pending(0, "lr=0.1"), pending(1, "lr=1"), pending(2)]
    paths.stderr(1).write_bytes(b"Traceback\n  \x1b[31mValueError\x1b[0m: boom\n")
    with display:
        display.jobs_submitted(jobs)
        for job in jobs[:2]:
            job.start(T0, 1)
            display.job_started(job)
        jobs[0].end(T0 + 12, Ending(JobState.COMPLETED, exit_code=0))
        display.job_ended(jobs[0])
        jobs[1].end(T0 + 7, Ending(JobState.FAILED, exit_code=3))
        display.job_ended(jobs[1])
        jobs[2].end(T0 + 7, Ending(JobState.CANCELLED, reason="interrupted by SIGINT"))
        display.job_ended(jobs[2])
        display.message("that is all")
    display.summary()
    assert file.getvalue() == dedent("""\
        [0/3] job 0 started (lr=0.1)
        [0/3] job 1 started (lr=1)
        [1/3] job 0 COMPLETED after 12 s (lr=0.1)
        [2/3] job 1 FAILED after 7.0 s: exit code 3 (lr=1)
            Traceback
              ValueError: boom
            log: .hsm/logs/1.err
        that is all
        digits: 3 jobs: 1 completed, 1 failed, 1 cancelled
        failed jobs: 1
        wall time 12 s, sum of job times 19 s (speed-up 1.6)
        results: .
        logs:    .hsm/logs
        """)


def test_plain_says_which_attempt_and_why(paths: SweepPaths) -> None:
    display, file = plain(paths)
    job = running(0)
    job.attempts[0].ended = T0 + 5
    job.state = JobState.PENDING
    job.start(T0 + 10, 2)
    display.job_started(job)
    job.end(T0 + 12, Ending(JobState.TIMEOUT, reason="timeout after 2 s"))
    display.job_ended(job)
    assert "[0/1] job 0 started, attempt 2\n" in file.getvalue()
    assert "[1/1] job 0 TIMEOUT after 2.0 s: timeout after 2 s\n" in file.getvalue()


def test_a_cancelled_job_has_no_tail(paths: SweepPaths) -> None:
    display, file = plain(paths)
    paths.stderr(0).write_text("terminated\n")
    display.job_ended(ended(0, JobState.CANCELLED, seconds=3, reason="interrupted by SIGINT"))
    assert file.getvalue() == "[1/1] job 0 CANCELLED after 3.0 s: interrupted by SIGINT\n"


def test_labels_and_endings_cannot_steer(paths: SweepPaths) -> None:
    display, file = plain(paths)
    display.job_ended(ended(0, JobState.FAILED, "x=\x1b[31m[red]\n", reason="\x1b]0;t\x07bo\rom"))
    assert file.getvalue().startswith(
        "[1/1] job 0 FAILED after 10 s: \\x1b]0;t\\x07bo\\rom (x=[red]\\n)\n"
    )
    assert "\x1b" not in file.getvalue()


def test_of_many_failures_the_first_are_named(paths: SweepPaths) -> None:
    display, file = plain(paths)
    display.jobs_submitted([ended(num, JobState.FAILED) for num in range(25)])
    assert file.getvalue() == ""  # what was before is taken over silently
    display.summary()
    assert "failed jobs: 0-19 and 5 more\n" in file.getvalue()


def test_a_failure_like_an_earlier_one_is_one_line(paths: SweepPaths) -> None:
    display, file = plain(paths)
    for num in range(3):
        paths.stderr(num).write_text(f"Traceback\nValueError: {num}\n")
        display.job_ended(ended(num, JobState.FAILED, exit_code=1))
    paths.stderr(3).write_text("Traceback\nKeyError: 'lr'\n")
    display.job_ended(ended(3, JobState.FAILED, exit_code=1))
    assert file.getvalue().splitlines() == [
        "[1/1] job 0 FAILED after 10 s: exit code 1",
        "    Traceback",
        "    ValueError: 0",
        f"    log: {paths.stderr(0)}",
        "[2/2] job 1 FAILED after 10 s: exit code 1",
        "[3/3] job 2 FAILED after 10 s: exit code 1",
        "[4/4] job 3 FAILED after 10 s: exit code 1",
        "    Traceback",
        "    KeyError: 'lr'",
        f"    log: {paths.stderr(3)}",
    ]


def test_an_empty_sweep_has_a_summary(paths: SweepPaths) -> None:
    display, file = plain(paths)
    display.jobs_submitted([])
    display.summary()
    assert file.getvalue().startswith("digits: no jobs\nwall time 0.00 s")


def test_no_display_shows_output_and_nothing_else(paths: SweepPaths) -> None:
    file = io.StringIO()
    display = NoDisplay(paths, list, stream=file, show_output=True)
    job = pending(3)
    with display:
        display.jobs_submitted([job])
        job.start(T0, 1)
        display.job_started(job)
        display.job_output(job, "stdout", "text")
        job.end(T0, Ending(JobState.FAILED))
        display.job_ended(job)
        display.message("notice")
    display.summary()
    assert file.getvalue() == "[3] text\n"


@pytest.mark.parametrize("mode", MODES)
def test_output_only_if_asked_for(paths: SweepPaths, mode: str) -> None:
    file = Terminal()
    display = make_display(mode, show_output=False, paths=paths, running=list, stream=file)
    with display:
        display.job_output(pending(3), "stdout", "text")
    assert "text" not in file.getvalue()


@pytest.mark.parametrize("mode", MODES)
def test_lines_of_several_jobs_never_mix(paths: SweepPaths, mode: str) -> None:
    file = Terminal()
    display = make_display(mode, show_output=True, paths=paths, running=list, stream=file)

    def speak(num: int) -> None:
        for line in range(100):
            display.job_output(pending(num), "stdout", f"{line:03} {chr(97 + num) * 60}")

    with display:
        threads = [threading.Thread(target=speak, args=[num]) for num in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = [line for line in Screen(file.getvalue()).text.split("\n") if line.startswith("[")]
    for num in range(8):
        expected = [f"[{num}] {line:03} {chr(97 + num) * 60}" for line in range(100)]
        assert [line for line in lines if line.startswith(f"[{num}]")] == expected
