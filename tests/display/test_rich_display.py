"""The live view on a terminal, and what is printed above it."""

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
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import TextIO

import pytest

from helpers.displays import Rich, Terminal, ended, environment, pending, running
from helpers.processes import PATIENCE, wait_for
from helpers.terminal import Screen
from hsm.core.engine.compute_source import RunningJob
from hsm.core.record.job import Job, JobState
from hsm.core.record.paths import SweepPaths
from hsm.display import make_display, rich_display
from hsm.display.stream import SafeStream


def test_the_live_view_comes_and_goes(paths: SweepPaths) -> None:
    rows = [RunningJob(0, "lr=0.1", 4.0, 99.0, 1 << 20, "epoch 1")]
    rich = Rich(paths, lambda: rows)
    with rich.display:
        rich.display.jobs_submitted([running(0), pending(1)])
        assert "0 done  0 failed  1 running  1 pending" in rich.wait_for("epoch 1")
        assert not rich.screen.has_cursor
    assert rich.screen.text == ""
    assert rich.screen.has_cursor


def test_what_varies_is_shown_and_a_later_batch_may_vary_in_more(paths: SweepPaths) -> None:
    jobs = [Job(num, f"s_{num}", "", {"m.lr": num, "m.seed": num // 2}) for num in range(3)]
    for job in jobs:
        job.start(0.0, 1)
    rows = [RunningJob.of(jobs[0], 4.0, (None, None), "epoch 1")]
    rich = Rich(paths, lambda: rows)
    with rich.display:
        rich.display.jobs_submitted(jobs[:2])
        assert "all jobs: seed=0" in rich.wait_for(" job lr ")
        rich.display.jobs_submitted(jobs[2:])
        assert "all jobs" not in rich.wait_for(" job lr  seed ")


def test_what_a_shell_has_printed_before_the_process_goes_on_stays(paths: SweepPaths) -> None:
    """After `kill -STOP`, which nobody can prepare for, and fg."""
    rows = [RunningJob(0, "lr=0.1", 4.0, 99.0, 1 << 20, "epoch 1")]
    may_draw, drawn = threading.Event(), threading.Semaphore(0)
    may_draw.set()

    def running_jobs() -> list[RunningJob]:
        drawn.release()
        may_draw.wait()
        return rows

    rich = Rich(paths, running_jobs)
    with rich.display:
        rich.display.jobs_submitted([running(0), pending(1)])
        rich.wait_for("epoch 1")
        may_draw.clear()
        while drawn.acquire(blocking=False):
            pass
        drawn.acquire()  # The view is about to be drawn again.
        rich.file.write("\nit is stopped\n$ fg\n")
        signal.raise_signal(signal.SIGCONT)
        rows[0] = RunningJob(0, "lr=0.1", 5.0, 99.0, 1 << 20, "epoch 2")
        may_draw.set()
        shown = rich.wait_for("epoch 2")
        assert not rich.screen.has_cursor
    view, _, rest = shown.partition("\nit is stopped\n$ fg\n")
    assert "epoch 1" in view
    assert "epoch 2" in rest
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


@pytest.mark.slow
def test_five_thousand_lines_a_second(paths: SweepPaths) -> None:
    rich = Rich(paths, show_output=True)
    job = pending(3)
    with rich.display:
        began = time.process_time()
        for line in range(5000):
            rich.display.job_output(job, "stdout", f"line {line} [bold] of output")
        wait_for(lambda: "line 4999 " in rich.file.getvalue(), "the last line")
        spent = time.process_time() - began
    lines = rich.screen.text.split("\n")
    assert lines == [f"[3] line {line} [bold] of output" for line in range(5000)]
    assert spent < 5.0  # some tenths, on an idle machine


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
            wait_for(lambda: len(spoken) >= 30, "output in the queue")
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
        paths.stderr(num).write_text(f"boom {chr(ord('a') + num // 10)}\n")
    with rich.display, rich.display._drawing:
        for num in range(100):
            rich.display.job_ended(ended(num, JobState.FAILED, exit_code=1))
    shown = rich.screen.text
    assert shown.count("FAILED") == 100
    assert re.findall("boom (.)", shown) == ["a", "b", "c", "d", "e"]
    assert shown.count("log: ") == 5


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
        wait_for(lambda: "1 pending" in Screen(terminal.getvalue()).text, "the view")
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


@pytest.mark.slow
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
        wait_for(lambda: _has_ended(process.pid), "the end of the forks")
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
