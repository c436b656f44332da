"""What a person sees: words, counts, the lines of the plain display, the screen of the live one."""

from __future__ import annotations

import io
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from textwrap import dedent
from typing import TextIO, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from helpers.processes import PATIENCE, SOURCE, wait_until
from hsm.core.engine.compute_source import RunningJob
from hsm.core.errors import SettingsError
from hsm.core.record.job import Ending, Job, JobState
from hsm.core.record.paths import SweepPaths
from hsm.core.units import format_clock, format_duration, format_size
from hsm.display import Display, make_display, rich_display
from hsm.display.counts import Counts
from hsm.display.plain_display import NoDisplay, PlainDisplay
from hsm.display.rich_display import RichDisplay
from hsm.display.rich_view import LiveView
from hsm.display.stream import SafeStream
from hsm.display.tail import last_lines
from hsm.display.text import clean, shorten

MODES = ("rich", "plain", "none")
T0 = 1_700_000_000.0


def pending(num: int, label: str = "") -> Job:
    return Job(num, f"sweep_{num}", label)


def running(num: int, label: str = "", *, started: float = T0) -> Job:
    job = pending(num, label)
    job.start(started, 1000 + num)
    return job


def ended(
    num: int,
    state: JobState = JobState.COMPLETED,
    label: str = "",
    *,
    started: float = T0,
    seconds: float = 10.0,
    reason: str | None = None,
    exit_code: int | None = None,
) -> Job:
    job = running(num, label, started=started)
    job.end(started + seconds, Ending(state, reason=reason, exit_code=exit_code))
    return job


@pytest.fixture
def paths(tmp_path: Path) -> SweepPaths:
    paths = SweepPaths(tmp_path / "sweep")
    paths.create()
    return paths


def environment() -> dict[str, str]:
    """For scripts: with the streams that Python has by default, which are buffered."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return {**env, "PYTHONPATH": str(SOURCE)}


class Screen:
    """A terminal as far as rich's live display uses one; what scrolls off at the top is kept."""

    _PARTS = re.compile(r"\x1b\[(\?25[hl]|[0-9;]*[A-Za-z])|([\r\n])|([^\x1b\r\n]+)")

    def __init__(self, written: str) -> None:
        self.lines = [""]
        self.has_cursor = True
        self._row = self._column = 0
        for control, motion, text in self._PARTS.findall(written):
            if control:
                self._obey(control)
            elif motion == "\n":
                self._row, self._column = self._row + 1, 0
                self.lines += [""] * (self._row + 1 - len(self.lines))
            elif motion:
                self._column = 0
            else:
                line = self.lines[self._row].ljust(self._column)
                after = line[self._column + len(text) :]
                self.lines[self._row] = line[: self._column] + text + after
                self._column += len(text)

    def _obey(self, control: str) -> None:
        if control in ("?25h", "?25l"):
            self.has_cursor = control == "?25h"
        elif control == "2K":
            self.lines[self._row] = ""
        elif control == "1A":
            self._row -= 1
            assert self._row >= 0
        else:
            assert control.endswith("m"), control

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines).rstrip()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Rich:
    """A rich display, and what is to be seen on its terminal."""

    def __init__(
        self,
        paths: SweepPaths,
        running: Callable[[], Sequence[RunningJob]] = list,
        *,
        width: int = 80,
        height: int = 24,
        show_output: bool = False,
    ) -> None:
        self.file = io.StringIO()
        self.console = Console(
            file=self.file, force_terminal=True, width=width, height=height, highlight=False
        )
        self.display = RichDisplay(
            paths, running, title="digits", show_output=show_output, console=self.console
        )

    @property
    def screen(self) -> Screen:
        return Screen(self.file.getvalue())

    def wait_for(self, text: str) -> str:
        """Wait until `text` is on the screen; returns all that was there then."""

        def look() -> str:
            shown = self.screen.text
            return shown if text in shown else ""

        return wait_until(look, PATIENCE, f"{text!r} on the screen")


# ---------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("plain [red]not markup[/red] 验证", "plain [red]not markup[/red] 验证"),
        ("\x1b[1;31mred\x1b[0m \x1b[2Kline", "red line"),
        ("\x1b]0;title\x07text \x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "text link"),
        ("\x1bcreset \x1b(Bascii", "reset ascii"),
        ("\x9b31mred\x9bm", "red"),
        ("10%\r55%\r100%\r", "100%"),
        ("50%\r\x1b[K", "50%"),
        ("a\tb", "a       b"),
        ("bell\x07 null\x00 delete\x7f escape\x1b", "bell\\x07 null\\x00 delete\\x7f escape\\x1b"),
        ("right\u202eto left", "right\\u202eto left"),
        ("lone \udcff surrogate", "lone \\udcff surrogate"),
        ("two\nlines", "two\\nlines"),
    ],
)
def test_clean(line: str, shown: str) -> None:
    assert clean(line) == shown


@given(st.text())
def test_whatever_is_cleaned_cannot_steer_a_terminal(text: str) -> None:
    assert clean(text).isprintable()
    clean(text).encode()


def test_shorten() -> None:
    assert shorten("abcdef", 6) == "abcdef"
    assert shorten("abcdefg", 6) == "abcde…"


@pytest.mark.parametrize(
    ("seconds", "as_clock", "as_span"),
    [
        (-1.0, "0:00", "0.00 s"),
        (0.42, "0:00", "0.42 s"),
        (0.999, "0:00", "1.0 s"),
        (9.97, "0:09", "10 s"),
        (42.0, "0:42", "42 s"),
        (59.7, "0:59", "1:00"),
        (754.0, "12:34", "12:34"),
        (3723.0, "1:02:03", "1:02:03"),
        (3 * 86400 + 4 * 3600.0, "3d 04:00:00", "3d 04:00:00"),
    ],
)
def test_times(seconds: float, as_clock: str, as_span: str) -> None:
    assert (format_clock(seconds), format_duration(seconds)) == (as_clock, as_span)


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (34 << 20, "34 MiB"),
        ((1 << 30) - 1, "1.0 GiB"),
        (1288490189, "1.2 GiB"),
        (3 << 50, "3.0 PiB"),
    ],
)
def test_memory(size: int, shown: str) -> None:
    assert format_size(size) == shown


# ----------------------------------------------------------------------------------------- tail


def test_the_last_lines_of_a_file(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"".join(b"line %d\n" % number for number in range(20)) + b"last\n\n")
    assert last_lines(log, 3) == ["line 18", "line 19", "last"]


def test_the_last_lines_of_anything(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"bar 1%\rbar 100%\r\n\xff\xfebytes \x1b[31mred\x1b[0m\n" + b"x" * 600)
    assert last_lines(log) == ["bar 100%", "\ufffd\ufffdbytes red", "x" * 499 + "…"]


def test_a_file_of_a_gigabyte_is_read_from_its_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        file.truncate(1 << 30)
        file.seek(0, os.SEEK_END)
        file.write(b"\nValueError: boom\n")
    before = _bytes_read()
    assert last_lines(log, 1) == ["ValueError: boom"]
    assert _bytes_read() - before < 1 << 20


def _bytes_read() -> int:
    """By this process so far, with whatever system call."""
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.parametrize("size", range(20, 32))
def test_lines_cut_by_the_limit_are_left_out(tmp_path: Path, size: int) -> None:
    log = tmp_path / "log"
    log.write_text("first line\nzweite Zeile ü\nthird line\n", encoding="utf-8")
    # "third line" has 11 bytes and the one before it 16, with their newlines.
    expected = ["zweite Zeile ü", "third line"] if size >= 27 else ["third line"]
    assert last_lines(log, 10, size) == expected


def test_of_one_endless_line_the_end_is_shown(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"".join(b"\rstep %06d" % number for number in range(1000)))
    assert last_lines(log, 10, 100) == ["step 000999"]
    log.write_bytes(b"x" * 1000 + b"\n")
    assert last_lines(log, 10, 100) == ["x" * 99]


def test_no_lines(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"\n\n")
    assert last_lines(tmp_path / "empty") == []
    assert last_lines(tmp_path / "missing") == []
    assert last_lines(tmp_path) == []


# --------------------------------------------------------------------------------------- counts


def test_counts_follow_the_states() -> None:
    counts = Counts()
    jobs = [pending(num) for num in range(4)]
    counts.submitted(jobs, T0)
    for job in jobs[:3]:
        job.start(T0 + 1, 1)
        counts.started(job)
    jobs[0].end(T0 + 3, Ending(JobState.COMPLETED))
    jobs[1].end(T0 + 6, Ending(JobState.TIMEOUT))
    counts.ended_now(jobs[0])
    counts.ended_now(jobs[1])
    assert counts.by_state[JobState.PENDING] == counts.by_state[JobState.RUNNING] == 1
    assert (counts.total, counts.ended, counts.failed, counts.unfinished) == (4, 2, 1, 2)
    assert counts.failed_jobs == [1]
    assert counts.job_seconds == 2 + 5
    assert counts.wall_seconds(T0 + 20) == 20


def test_events_in_any_order_and_twice_count_once() -> None:
    counts = Counts()
    job = ended(0, started=T0, seconds=4)
    counts.ended_now(job)
    counts.submitted([job], T0 + 100)
    counts.ended_now(job)
    assert (counts.total, counts.ended, counts.job_seconds) == (1, 1, 4)
    assert counts.wall_seconds(T0 + 100) == 4


def test_a_sweep_is_taken_over_as_it_stands() -> None:
    counts = Counts()
    jobs = [
        ended(0, seconds=10),
        ended(1, JobState.FAILED, seconds=30),
        running(2, started=T0 + 30),
        pending(3),
    ]
    counts.submitted(jobs, T0 + 40)
    assert (counts.ended, counts.failed, counts.job_seconds) == (2, 1, 40)
    assert counts.wall_seconds(T0 + 50) == 50
    assert counts.eta([10.0], T0 + 40) == 10 + 20  # 20 s a job, one at a time


def test_all_attempts_are_work() -> None:
    job = running(0, started=T0)
    job.attempts[0].ended = T0 + 5
    job.state = JobState.PENDING
    job.start(T0 + 10, 2)
    counts = Counts()
    counts.started(job)
    job.end(T0 + 13, Ending(JobState.COMPLETED))
    counts.ended_now(job)
    assert counts.job_seconds == 5 + 3
    assert counts.wall_seconds(T0 + 99) == 13


def test_no_estimate_before_the_first_end_nor_after_the_last() -> None:
    counts = Counts()
    jobs = [running(0), pending(1)]
    counts.submitted(jobs, T0)
    assert counts.eta([5.0], T0 + 5) is None
    jobs[0].end(T0 + 8, Ending(JobState.COMPLETED))
    counts.ended_now(jobs[0])
    assert counts.eta([], T0 + 8) == 8
    jobs[1].end(T0 + 8, Ending(JobState.CANCELLED))
    counts.ended_now(jobs[1])
    assert counts.eta([], T0 + 8) is None


def test_the_estimate_is_work_left_over_slots() -> None:
    counts = Counts()
    jobs = [ended(0, seconds=10), ended(1, seconds=30), running(2), running(3)]
    counts.submitted([*jobs, *map(pending, range(4, 14))], T0 + 30)
    # 20 s a job: 10 pending, and halves of two running ones, in two slots.
    assert counts.eta([10.0, 10.0], T0 + 30) == (10 * 20 + 10 + 10) / 2


def test_at_the_end_the_youngest_job_decides() -> None:
    counts = Counts()
    counts.submitted([ended(0, seconds=10), running(1), running(2)], T0 + 10)
    assert counts.eta([8.0, 3.0], T0 + 10) == 7
    assert counts.eta([12.0, 11.0], T0 + 10) is None  # longer than any before: who knows


def test_of_short_jobs_the_pace_is_observed() -> None:
    counts = Counts()
    counts.submitted(list(map(pending, range(200))), T0)
    for num in range(100):  # each takes 2 ms, but one ends every 10 ms only
        counts.ended_now(ended(num, started=T0 + num / 100, seconds=0.002))
    eta = counts.eta([0.001], T0 + 1.0)
    assert eta == pytest.approx(1.0, rel=0.05)


def test_a_pause_between_batches_does_not_slow_the_estimate() -> None:
    counts = Counts()
    for batch, start in enumerate((T0, T0 + 3600)):
        counts.submitted([pending(batch * 100 + num) for num in range(50)], start)
        for num in range(50 if batch == 0 else 20):
            begin = start + num / 100
            counts.ended_now(ended(batch * 100 + num, started=begin, seconds=0.002))
    eta = counts.eta([], T0 + 3600.2)
    assert eta == pytest.approx(0.3, rel=0.1)


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(list(JobState)))))
def test_counts_always_add_up(history: list[tuple[int, JobState]]) -> None:
    counts = Counts()
    jobs: dict[int, Job] = {}
    for num, state in history:
        job = jobs.setdefault(num, pending(num))
        if job.state is JobState.PENDING and state is not JobState.PENDING:
            job.start(T0, 1)
        if job.state is JobState.RUNNING and state.is_final:
            job.end(T0 + 1, Ending(state))
        if job.state.is_final:
            counts.ended_now(job)
        else:
            counts.started(job)
        assert sum(counts.by_state.values()) == counts.total == len(jobs)
        assert counts.ended == sum(job.state.is_final for job in jobs.values())
        assert min(counts.by_state.values()) >= 0


# ---------------------------------------------------------------------------------------- plain


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
    assert "failed jobs: 0 1 2 " in file.getvalue()
    assert " 19 and 5 more\n" in file.getvalue()


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
        for line in range(500):
            display.job_output(pending(num), "stdout", f"{line:03} {chr(97 + num) * 200}")

    with display:
        threads = [threading.Thread(target=speak, args=[num]) for num in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = [line for line in Screen(file.getvalue()).text.split("\n") if line.startswith("[")]
    for num in range(8):
        expected = [f"[{num}] {line:03} {chr(97 + num) * 200}" for line in range(500)]
        assert [line for line in lines if line.startswith(f"[{num}]")] == expected


# -------------------------------------------------------------------------------- never in the way


class Broken(io.StringIO):
    """Fails at every write, as `error` says."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def write(self, text: str) -> int:
        raise self._error

    def flush(self) -> None:
        raise self._error


def use_all_of(display: Display, paths: SweepPaths) -> None:
    paths.stderr(0).write_text("boom\n")
    job = pending(0, "lr=1")
    with display:
        display.jobs_submitted([job])
        job.start(T0, 1)
        display.job_started(job)
        display.job_output(job, "stderr", "text")
        job.end(T0 + 1, Ending(JobState.FAILED))
        display.job_ended(job)
        display.message("notice")
    display.summary()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "error",
    [BrokenPipeError(), OSError(28, "No space left on device"), ValueError("closed"), KeyError()],
    ids=lambda error: type(error).__name__,
)
def test_a_broken_stream_breaks_nothing(paths: SweepPaths, mode: str, error: Exception) -> None:
    stream = Broken(error)
    use_all_of(
        make_display(mode, show_output=True, paths=paths, running=list, stream=stream), paths
    )


@pytest.mark.parametrize("mode", MODES)
def test_a_closed_stream_breaks_nothing(paths: SweepPaths, mode: str) -> None:
    stream = Terminal()
    stream.close()
    use_all_of(
        make_display(mode, show_output=True, paths=paths, running=list, stream=stream), paths
    )


@pytest.mark.parametrize("mode", ["auto", *MODES])
def test_a_process_without_stdout(
    paths: SweepPaths, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    use_all_of(make_display(mode, show_output=True, paths=paths, running=list), paths)


@pytest.mark.parametrize("mode", MODES)
def test_odd_jobs_break_nothing(paths: SweepPaths, mode: str) -> None:
    file = Terminal()

    def nothing() -> Sequence[RunningJob]:
        raise RuntimeError("no figures")

    display = make_display(mode, show_output=True, paths=paths, running=nothing, stream=file)
    with display:
        display.job_ended(cast("Job", None))
        display.jobs_submitted([cast("Job", 1)])
        display.job_output(pending(0), "stdout", "still here")
    assert "still here" in file.getvalue()


@pytest.mark.parametrize("mode", MODES)
def test_what_the_encoding_lacks_is_replaced(paths: SweepPaths, mode: str) -> None:
    data = io.BytesIO()
    file = io.TextIOWrapper(data, encoding="ascii")
    display = make_display(mode, show_output=True, paths=paths, running=list, stream=file)
    with display:
        display.jobs_submitted([pending(0, "größe=1")])
        display.job_output(pending(0), "stdout", "größe")
    assert b"[0] " in data.getvalue()
    assert b"gr??e" in data.getvalue()


@pytest.mark.parametrize("mode", ["plain", "rich"])
def test_a_reader_that_goes_away_costs_no_exit_code(mode: str, tmp_path: Path) -> None:
    script = f"""
        import sys
        from hsm.core.record.job import Job
        from hsm.core.record.paths import SweepPaths
        from hsm.display import make_display
        display = make_display("{mode}", show_output=True, paths=SweepPaths("."), running=list)
        sys.stdin.readline()
        with display:
            for number in range(2000):
                display.job_output(Job(0, "0"), "stdout", "x" * 100)
        display.summary()
        """
    with subprocess.Popen(
        [sys.executable, "-c", dedent(script)],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, errors = process.communicate(b"go\n", timeout=PATIENCE)
    assert (process.returncode, errors) == (0, b"")


# ----------------------------------------------------------------------------------------- choice


def test_auto_is_rich_on_a_terminal(paths: SweepPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    def kind(stream: TextIO, term: str) -> type[Display]:
        monkeypatch.setenv("TERM", term)
        display = make_display("auto", show_output=False, paths=paths, running=list, stream=stream)
        return type(display)

    assert kind(Terminal(), "xterm-256color") is RichDisplay
    assert kind(Terminal(), "dumb") is PlainDisplay
    assert kind(io.StringIO(), "xterm-256color") is PlainDisplay


def test_an_unknown_kind_is_refused(paths: SweepPaths) -> None:
    with pytest.raises(SettingsError, match=r"fancy.* progress must be one of auto, rich"):
        make_display("fancy", show_output=False, paths=paths, running=list)


def test_rich_is_imported_only_when_used() -> None:
    script = """
        import io, sys
        from hsm.core.record.paths import SweepPaths
        from hsm.display import make_display
        make_display("plain", show_output=True, paths=SweepPaths("."), running=list)
        print("rich" in sys.modules)
        """
    command = [sys.executable, "-c", dedent(script)]
    env = environment()
    assert subprocess.run(command, env=env, capture_output=True, check=True).stdout == b"False\n"


# ------------------------------------------------------------------------------------- rich: view


def view(
    rows: Sequence[RunningJob] = (),
    *,
    title: str = "digits",
    eta: float | None = 31.0,
    **counts: int,
) -> LiveView:
    by_state = {state: counts.get(state.lower(), 0) for state in JobState}
    return LiveView(title, by_state, 83.0, eta, rows)


def text_of(
    view: LiveView, width: int = 80, height: int = 23, ascii_only: bool = False
) -> list[str]:
    lines = view.lines(width, height, ascii_only)
    return ["".join(text for text, _ in line).rstrip() for line in lines]


def test_view_at_80_columns() -> None:
    rows = [
        RunningJob(7, "lr=0.1 model=svm", 12.0, 99.4, 1288490189, "epoch 3 loss 0.21"),
        RunningJob(8, "lr=0.1 model=random_forest model.max_depth=12", 4.0),
    ]
    shown = text_of(view(rows, completed=35, failed=1, timeout=1, running=2, pending=11))
    assert shown == [
        "digits " + "━" * 49 + "─" * 18 + " 37/50",
        "35 done  2 failed  2 running  11 pending" + " " * 26 + "1:23  ETA 0:31",
        " job overrides                    time    cpu   memory last output",
        "   7 lr=0.1 model=svm             0:12    99%  1.2 GiB epoch 3 loss 0.21",
        "   8 lr=0.1 model=random_fores…   0:04",
    ]


def test_view_at_200_columns_gives_labels_their_room() -> None:
    label = "lr=0.1 model=random_forest model.max_depth=12 seed=4"
    rows = [RunningJob(8, label, 4.0, 1600.0, 34 << 20, "x" * 300)]
    *_, row = text_of(view(rows, running=1), 200)
    assert f" 8 {label} " in row
    assert row.endswith("x…")
    assert len(row) == 200


def test_view_shows_markup_and_cleans_escapes() -> None:
    rows = [RunningJob(8, "x=[red]\x1b[31m", 4.0, None, None, "[bold]\x07 1%\r2%")]
    *_, row = text_of(view(rows, running=1))
    assert "x=[red] " in row
    assert row.endswith(" 2%")


def test_more_jobs_than_rows() -> None:
    rows = [RunningJob(num, "", 4.0) for num in range(64)]
    shown = text_of(view(rows, running=64), height=10)
    assert len(shown) == 10
    assert shown[-1] == "   +58 more running"
    assert len(text_of(view(rows[:7], running=7), height=10)) == 10
    assert "more" not in text_of(view(rows[:7], running=7), height=10)[-1]


def test_one_failure_among_thousands_is_red() -> None:
    (bar, *_) = view(completed=5000, failed=1, pending=4999).lines(80, 23)
    assert [text for text, style in bar if style and style.color and style.color.name == "red"] == [
        "━"
    ]


def test_view_in_ascii() -> None:
    rows = [RunningJob(1, "l" * 100, 4.0)]
    shown = text_of(view(rows, completed=1, running=1), ascii_only=True)
    assert "\n".join(shown).isascii()
    assert "####----" in shown[0]


def test_no_estimate_is_blank() -> None:
    assert "ETA" not in text_of(view(running=1, eta=None))[1]


def test_figures_of_a_machine_that_is_not_built_yet_fit() -> None:
    rows = [RunningJob(0, "", 0.0), RunningJob(1, "l", 4.0, cpu_percent=1e6, memory=1 << 70)]
    for width in range(1, 100):
        for line in view(rows, running=2).lines(width, 15, ascii_only=False):
            assert cell_len("".join(text for text, _ in line)) <= width


texts = st.text(max_size=120)
many = st.integers(0, 10**6)


@given(
    st.lists(
        st.builds(
            RunningJob,
            num=many,
            label=texts,
            elapsed=st.floats(0, 1e7),
            cpu_percent=st.none() | st.floats(0, 1e5),
            memory=st.none() | st.integers(0, 1 << 50),
            last_line=texts,
        ),
        max_size=12,
    ),
    texts.map(clean),
    st.fixed_dictionaries(dict.fromkeys(JobState, many)),
    st.integers(1, 210),
    st.integers(1, 30),
    st.booleans(),
)
def test_the_view_always_fits(
    rows: list[RunningJob],
    title: str,
    by_state: dict[JobState, int],
    width: int,
    height: int,
    ascii_only: bool,
) -> None:
    lines = list(LiveView(title, by_state, 1e6, 1e5, rows).lines(width, height, ascii_only))
    assert 1 <= len(lines) <= height
    for line in lines:
        assert cell_len("".join(text for text, _ in line)) <= width


# ---------------------------------------------------------------------------------- rich: display


def test_the_live_view_comes_and_goes(paths: SweepPaths) -> None:
    rows = [RunningJob(0, "lr=0.1", 4.0, 99.0, 1 << 20, "epoch 1")]
    rich = Rich(paths, lambda: rows)
    with rich.display:
        rich.display.jobs_submitted([running(0), pending(1)])
        assert "0 done  0 failed  1 running  1 pending" in rich.wait_for("epoch 1")
        assert not rich.screen.has_cursor
    assert rich.screen.text == ""
    assert rich.screen.has_cursor


def test_a_failure_is_printed_above_the_view_at_once(
    paths: SweepPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(paths.sweep_dir)
    rows = [RunningJob(1, "lr=1", 4.0)]
    rich = Rich(paths, lambda: rows)
    paths.stderr(0).write_bytes(
        b"".join(b"line %d\n" % line for line in range(30)) + b"[red]boom\n"
    )
    with rich.display:
        rich.display.jobs_submitted([pending(0), running(1)])
        rich.display.job_ended(ended(0, JobState.FAILED, "x=[red]", exit_code=3))
        shown = rich.wait_for("1 failed  1 running")
    head = dedent("""\
        job 0 FAILED after 10 s: exit code 3 (x=[red])
            line 21
            line 22
            line 23
            line 24
            line 25
            line 26
            line 27
            line 28
            line 29
            [red]boom
            log: .hsm/logs/0.err
        digits ━━━""")
    assert shown.startswith(head)
    assert rich.screen.text + "\ndigits ━━━" == head


def test_the_view_stays_below_while_lines_stream_by(paths: SweepPaths) -> None:
    rows = [RunningJob(0, "lr=1", 4.0)]
    rich = Rich(paths, lambda: rows, show_output=True)
    done = threading.Event()

    def speak() -> None:
        while not done.wait(0.001):
            rich.display.job_output(pending(0), "stdout", "x" * 300)

    with rich.display:
        speaker = threading.Thread(target=speak)
        speaker.start()
        try:
            shown = rich.wait_for("   0 lr=1 ").split("\n")
        finally:
            done.set()
            speaker.join()
    assert shown[0] == "[0] " + "x" * 300  # whole, for the terminal to wrap
    assert shown[-5].startswith("[0] ")
    assert shown[-1].startswith("   0 lr=1 ")


def test_five_thousand_lines_a_second(paths: SweepPaths) -> None:
    rich = Rich(paths, show_output=True)
    job = pending(3)
    with rich.display:
        began = time.process_time()
        for line in range(5000):
            rich.display.job_output(job, "stdout", f"line {line} [bold] of output")
        rich.wait_for("[3] line 4999 [bold] of output")
        spent = time.process_time() - began
    lines = rich.screen.text.split("\n")
    assert lines == [f"[3] line {line} [bold] of output" for line in range(5000)]
    assert spent < 1.0


def test_slow_terminals_hold_back_output_and_nothing_else(
    paths: SweepPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rich_display, "_QUEUE_LIMIT", 2000)
    rich = Rich(paths, show_output=True)
    job = pending(0)
    spoken = []

    def speak() -> None:
        for line in range(100):
            rich.display.job_output(job, "stdout", f"{line:03}")
            spoken.append(line)

    with rich.display:
        with rich.display._drawing:  # the terminal takes nothing
            speaker = threading.Thread(target=speak)
            speaker.start()
            wait_until(lambda: len(spoken) >= 30, PATIENCE, "output in the queue")
            rich.display.job_started(running(1))
            rich.display.job_ended(ended(1, JobState.FAILED))
            rich.display.message("notice")
            # 2000 characters are 38 lines with their overhead, once more for a draw under way.
            assert len(spoken) < 80
        speaker.join(PATIENCE)
        assert not speaker.is_alive()
    lines = [line for line in rich.screen.text.split("\n") if line.startswith("[0]")]
    assert lines == [f"[0] {line:03}" for line in range(100)]


def test_if_all_jobs_fail_the_first_tell_why(paths: SweepPaths) -> None:
    rich = Rich(paths)
    for num in range(100):
        paths.stderr(num).write_text("boom\n")
    with rich.display, rich.display._drawing:
        for num in range(100):
            rich.display.job_ended(ended(num, JobState.FAILED))
    shown = rich.screen.text
    assert shown.count("FAILED") == 100
    assert shown.count("boom") == shown.count("log: ") == 5


def test_cancelled_jobs_are_only_counted(paths: SweepPaths) -> None:
    rich = Rich(paths)
    with rich.display:
        rich.display.jobs_submitted([running(999)])
        for num in range(100):
            rich.display.job_ended(ended(num, JobState.CANCELLED, reason="interrupted"))
        rich.wait_for("100 cancelled")
    assert rich.screen.text == ""


def test_the_summary_follows_the_view(paths: SweepPaths) -> None:
    rich = Rich(paths, width=200)
    with rich.display:
        rich.display.job_ended(ended(0))
        rich.wait_for("1 done")
        rich.display.message("notice")
    rich.display.summary()
    assert rich.screen.text == dedent(f"""\
        notice
        digits: 1 job: 1 completed
        wall time 10 s, sum of job times 10 s
        results: {paths.sweep_dir}
        logs:    {paths.logs}""")


def test_the_block_can_be_entered_again(paths: SweepPaths) -> None:
    rich = Rich(paths)
    for batch in range(2):
        with rich.display:
            rich.display.jobs_submitted([pending(batch)])
            rich.wait_for(f"{batch + 1} pending")
        rich.display.message(f"after {batch}")
    assert rich.screen.text == "after 0\nafter 1"


def test_a_view_that_comes_again_is_not_waited_for(
    paths: SweepPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    rich = Rich(paths)
    with rich.display:
        rich.display.jobs_submitted([pending(0)])
        rich.wait_for("1 pending")
    monkeypatch.setattr(rich_display, "_INTERVAL", 3600.0)
    with rich.display:
        rich.wait_for("1 pending")


def test_threads_live_only_inside_the_block(paths: SweepPaths) -> None:
    before = threading.active_count()
    rich = Rich(paths)
    rich.display.jobs_submitted([pending(0)])
    assert threading.active_count() == before
    with rich.display:
        assert threading.active_count() == before + 1
        with rich.display:  # harmless
            assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_an_exception_restores_the_terminal_and_goes_on(paths: SweepPaths) -> None:
    rich = Rich(paths)

    def sweep() -> None:
        with rich.display:
            rich.display.jobs_submitted([pending(0)])
            rich.wait_for("1 pending")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep()
    assert rich.screen.has_cursor
    assert rich.screen.text == ""


@pytest.fixture
def root_handler() -> Iterator[logging.StreamHandler[TextIO]]:
    handler: logging.StreamHandler[TextIO] = logging.StreamHandler()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


def test_prints_and_log_records_go_above_the_view(
    paths: SweepPaths,
    monkeypatch: pytest.MonkeyPatch,
    root_handler: logging.StreamHandler[TextIO],
) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", io.StringIO())  # 2>file: stays a file
    errors = sys.stderr
    root_handler.setStream(terminal)
    display = make_display("auto", show_output=False, paths=paths, running=list)
    with display:
        display.jobs_submitted([pending(0)])
        wait_until(lambda: "1 pending" in Screen(terminal.getvalue()).text, PATIENCE, "the view")
        print("printed")
        logging.getLogger("hydra").warning("logged")
        shown = Screen(terminal.getvalue()).text.split("\n")
        assert sys.stderr is errors
    assert shown[:2] == ["printed", "logged"]
    assert shown[2].startswith("─")
    assert sys.stdout is terminal
    assert root_handler.stream is terminal
    assert Screen(terminal.getvalue()).text == "printed\nlogged"


def test_no_color(paths: SweepPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    def written() -> str:
        file = Terminal()
        display = make_display("rich", show_output=True, paths=paths, running=list, stream=file)
        with display:
            display.job_output(pending(0), "stdout", "text")
        return file.getvalue()

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[36m[0] \x1b[0m" in written()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[(3|9)\d", written())


def test_safe_stream_passes_on_what_it_is() -> None:
    assert SafeStream(Terminal()).isatty()
    assert not SafeStream(None).isatty()
    with pytest.raises(OSError, match="no file descriptor"):
        SafeStream(None).fileno()


_FORKING = """
    import logging, os, sys, threading, time
    from hsm.core.record.job import Job
    from hsm.core.record.paths import SweepPaths
    from hsm.display import make_display, rich_display
    rich_display._QUEUE_LIMIT = 50000
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    display = make_display("auto", show_output=True, paths=SweepPaths("."), running=list)
    done = threading.Event()
    def speak():
        while not done.is_set():
            display.job_output(Job(0, "0"), "stdout", "noise" * 20)
    with display:
        speaker = threading.Thread(target=speak)
        speaker.start()
        while display._latest.view is None:
            time.sleep(0.01)
        try:
            for number in range(50):
                pid = os.fork()
                if pid == 0:
                    log = os.open(f"{number}.log", os.O_WRONLY | os.O_CREAT)
                    os.dup2(log, 1)
                    print("printed")
                    logging.warning("logged")
                    sys.stdout.flush()
                    os._exit(0)
                assert os.waitpid(pid, 0)[1] == 0
        finally:
            done.set()
            speaker.join()
    """


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal")
def test_a_process_forked_under_the_live_view_has_its_streams_to_itself(tmp_path: Path) -> None:
    main, terminal = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", dedent(_FORKING)],
        cwd=tmp_path,
        env={**environment(), "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    reader = threading.Thread(target=_read_slowly, args=[main])
    reader.start()
    try:
        wait_until(lambda: _has_ended(process.pid), PATIENCE, "the end of the forks")
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # its stuck children, too; itself is not reaped
        process.wait()
        reader.join()
        os.close(main)
    assert process.returncode == 0
    for number in range(50):
        assert (tmp_path / f"{number}.log").read_text() == "printed\nlogged\n"


def _has_ended(pid: int) -> bool:
    """Without reaping it: so its process group stays its own."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _read_slowly(fd: int) -> None:
    """So slowly that whoever writes is nearly always in the middle of that."""
    try:
        while os.read(fd, 1024):
            time.sleep(0.001)
    except OSError:  # nobody has the terminal any more
        pass
