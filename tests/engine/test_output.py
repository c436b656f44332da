"""Following the output of running jobs: `OutputFollower`."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.processes import PATIENCE, wait_for
from hsm.core.engine.line_splitter import MAX_LINE
from hsm.core.engine.output import OutputFollower, _Stream
from hsm.core.record.job import Job
from hsm.core.record.paths import SweepPaths


class Received:
    """A sink that keeps what it gets, and can be told to wait."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, str, str]] = []
        self.threads: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, job: Job, stream: str, line: str) -> None:
        self.gate.wait(PATIENCE)
        self.threads.add(threading.current_thread().name)
        self.entries.append((job.num, stream, line))

    def lines(self, num: int = 0, stream: str = "stdout") -> list[str]:
        return [entry[2] for entry in list(self.entries) if entry[:2] == (num, stream)]


def a_job(num: int = 0, sweep: str = "sweep") -> Job:
    return Job(num=num, job_id=f"{sweep}_{num}")


def follower_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "hsm-output"]


@pytest.fixture
def paths(tmp_path: Path) -> SweepPaths:
    paths = SweepPaths(tmp_path / "sweep")
    paths.create()
    return paths


@pytest.fixture
def received() -> Received:
    return Received()


@pytest.fixture
def follower(received: Received) -> Iterator[OutputFollower]:
    follower = OutputFollower(received, redraw_interval=0.2)
    yield follower
    received.gate.set()
    follower.stop()
    assert follower_threads() == []


@pytest.fixture
def run(paths: SweepPaths) -> Iterator[Callable[[int, str], subprocess.Popen[bytes]]]:
    """Starts a job's process, which runs a Python program and writes to the job's log files."""
    started = []

    def run(num: int, program: str) -> subprocess.Popen[bytes]:
        with paths.stdout(num).open("ab") as out, paths.stderr(num).open("ab") as err:
            process = subprocess.Popen([sys.executable, "-c", program], stdout=out, stderr=err)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


Run = Callable[[int, str], "subprocess.Popen[bytes]"]


def test_lines_come_while_the_job_runs(
    follower: OutputFollower, received: Received, paths: SweepPaths, run: Run
) -> None:
    job = a_job()
    follower.add(job, paths)
    process = run(
        0,
        "import sys, time\n"
        "print('hello', flush=True); print('error', file=sys.stderr, flush=True); time.sleep(600)",
    )
    wait_for(lambda: len(received.entries) == 2, "a line of each stream")
    assert process.poll() is None
    assert sorted(received.entries) == [(0, "stderr", "error"), (0, "stdout", "hello")]
    process.kill()
    process.wait()
    follower.remove(job)


def test_all_output_comes_before_remove_returns(
    follower: OutputFollower, received: Received, paths: SweepPaths, run: Run
) -> None:
    job = a_job()
    process = run(0, "for i in range(50_000): print(i)\nprint('end', end='')")
    follower.add(job, paths)
    process.wait()
    follower.remove(job)
    assert received.lines() == [*map(str, range(50_000)), "end"]
    follower.remove(job)


def test_many_jobs_at_once_are_kept_apart(
    follower: OutputFollower, received: Received, paths: SweepPaths, run: Run
) -> None:
    program = """
import sys
for i in range(2000):
    sys.stdout.write(f"{i} ")
    sys.stdout.flush()
    sys.stdout.write("of {0}\\n")
    sys.stdout.flush()
    print("e", i, file=sys.stderr)
"""
    jobs = [a_job(num) for num in range(8)]
    processes = [run(job.num, program.replace("{0}", str(job.num))) for job in jobs]
    for job in jobs:
        follower.add(job, paths)
    for job, process in zip(jobs, processes, strict=True):
        assert process.wait() == 0
        follower.remove(job)
    for num in range(8):
        assert received.lines(num) == [f"{i} of {num}" for i in range(2000)]
        assert received.lines(num, "stderr") == [f"e {i}" for i in range(2000)]
    assert received.threads == {"hsm-output"}


def test_files_may_come_later_or_never(
    follower: OutputFollower, received: Received, paths: SweepPaths
) -> None:
    late, never = a_job(0), a_job(1)
    follower.add(late, paths)
    follower.add(never, paths)
    assert follower.last_line(late) == ""
    paths.stdout(0).write_text("there\n")
    wait_for(received.lines, "the line of a late file")
    follower.remove(never)
    follower.remove(late)
    assert received.entries == [(0, "stdout", "there")]


def test_what_an_earlier_attempt_wrote_is_skipped(
    follower: OutputFollower, received: Received, paths: SweepPaths
) -> None:
    paths.stdout(0).write_text("first attempt\n")
    paths.stderr(0).write_text("ä\n")
    job = a_job()
    follower.add(job, paths, stdout_start=paths.stdout(0).stat().st_size, stderr_start=3)
    assert follower.last_line(job) == ""
    with paths.stdout(0).open("a") as file:
        file.write("second attempt\n")
    assert follower.last_line(job) == "second attempt"
    follower.remove(job)
    assert received.entries == [(0, "stdout", "second attempt")]


def test_a_truncated_file_is_read_anew(
    follower: OutputFollower, received: Received, paths: SweepPaths
) -> None:
    job = a_job()
    paths.stdout(0).write_text("long enough\nunfinished")
    follower.add(job, paths)
    wait_for(received.lines, "the first line")
    os.truncate(paths.stdout(0), 0)
    wait_for(lambda: received.lines()[1:], "what was left of the truncated line")
    paths.stdout(0).write_text("new\n")
    follower.remove(job)
    assert received.lines() == ["long enough", "unfinished", "new"]


def test_a_file_that_is_deleted_is_read_to_its_end(
    follower: OutputFollower, received: Received, paths: SweepPaths
) -> None:
    job = a_job()
    with paths.stdout(0).open("w") as file:
        file.write("first\n")
        file.flush()
        follower.add(job, paths)
        wait_for(received.lines, "the first line")
        received.gate.clear()
        paths.stdout(0).unlink()
        file.write(f"{'x' * 99}\n" * 40_000)
    received.gate.set()
    follower.remove(job)
    assert len(received.lines()) == 40_001


def test_a_very_long_line_comes_in_pieces(
    follower: OutputFollower, received: Received, paths: SweepPaths
) -> None:
    size = 5 << 20
    paths.stdout(0).write_bytes(b"x" * size)
    job = a_job()
    follower.add(job, paths)
    assert follower.last_line(job) == "x" * 4096
    follower.remove(job)
    lines = received.lines()
    assert sum(map(len, lines)) == size
    assert max(map(len, lines)) == MAX_LINE


def test_a_busy_job_does_not_hold_up_the_others(
    follower: OutputFollower, received: Received, paths: SweepPaths
) -> None:
    busy, calm = a_job(0), a_job(1)
    paths.stdout(0).write_bytes((b"x" * 1023 + b"\n") * 8 * 1024)
    paths.stdout(1).write_text("calm\n")
    received.gate.clear()
    follower.add(busy, paths)
    follower.add(calm, paths)
    received.gate.set()
    follower.remove(busy)
    follower.remove(calm)
    assert received.entries.index((1, "stdout", "calm")) <= 2048
    assert len(received.lines(0)) == 8 * 1024


def test_remove_does_not_wait_for_a_process_that_still_writes(
    follower: OutputFollower, received: Received, paths: SweepPaths, run: Run
) -> None:
    job = a_job()
    follower.add(job, paths)
    run(0, "import itertools\nfor i in itertools.count(): print(i, flush=True)")
    wait_for(received.lines, "output")
    follower.remove(job)
    count = len(received.entries)
    assert received.lines()[:-1] == [str(number) for number in range(count - 1)]
    size = paths.stdout(0).stat().st_size
    wait_for(lambda: paths.stdout(0).stat().st_size > size, "more output")
    assert len(received.entries) == count


def test_remove_returns_although_the_file_grows_faster_than_it_is_read(paths: SweepPaths) -> None:
    lines = []
    gate = threading.Event()

    def growing(job: Job, stream: str, line: str) -> None:
        gate.wait(PATIENCE)
        lines.append(line)
        if len(lines) < 10_000:
            file.write("more\n")
            file.flush()

    follower = OutputFollower(growing)
    with paths.stdout(0).open("w") as file:
        file.write("first\n" * 10)
        file.flush()
        follower.add(a_job(), paths)
        followed = follower._followed["sweep_0"]
        remover = threading.Thread(target=follower.remove, args=[a_job()])
        remover.start()
        wait_for(lambda: followed.is_ending, "remove to be called")
        gate.set()
        remover.join(PATIENCE)
        assert 10 <= len(lines) < 10_000
        follower.stop()


class TestProgressBar:
    def test_its_states_come_now_and_then(
        self, follower: OutputFollower, received: Received, paths: SweepPaths, run: Run
    ) -> None:
        job = a_job()
        follower.add(job, paths)
        run(
            0,
            "import itertools, time\n"
            "for i in itertools.count(): print(end=f'\\r{i}', flush=True); time.sleep(.01)",
        )
        wait_for(lambda: len(received.entries) >= 4, "states of the bar")
        states = [int(line) for line in received.lines()]
        assert states == sorted(set(states))
        follower.remove(job)

    def test_its_states_come_no_more_often_than_asked(self, paths: SweepPaths) -> None:
        stream = _Stream("stdout", paths.stdout(0), 0)
        told = []
        with paths.stdout(0).open("w") as file:
            for now in range(100, 110):
                file.write(f"\r{now}")
                file.flush()
                assert stream.read() == ([], True)
                told += stream.redraw(now, 3.0)
        assert told == ["103", "106", "109"]
        assert stream.finish() == []

    def test_a_state_comes_once(
        self, follower: OutputFollower, received: Received, paths: SweepPaths
    ) -> None:
        job = a_job()
        with paths.stdout(0).open("w") as file:
            file.write("\r 50%")
            file.flush()
            follower.add(job, paths)
            wait_for(lambda: received.entries, "a state")
            # Another job's bar, told later, shows that the first one's was kept back meanwhile.
            paths.stdout(1).write_text("\rother")
            follower.add(a_job(1), paths)
            wait_for(lambda: received.lines(1), "the other bar")
            file.write("\r100%")
            file.flush()
            wait_for(lambda: received.lines()[1:], "the next state")
            file.write("\n")
        follower.remove(a_job(1))
        follower.remove(job)
        assert received.lines() == [" 50%", "100%"]
        assert received.lines(1) == ["other"]

    def test_a_short_one_is_one_line(
        self, received: Received, paths: SweepPaths, follower: OutputFollower
    ) -> None:
        paths.stderr(0).write_text("\r 10%\r 60%\r100%\nend\n")
        job = a_job()
        follower.add(job, paths)
        follower.remove(job)
        assert received.lines(stream="stderr") == ["100%", "end"]

    def test_the_same_text_in_the_next_line_is_a_line(
        self, follower: OutputFollower, received: Received, paths: SweepPaths
    ) -> None:
        job = a_job()
        paths.stdout(0).write_text("\r100%")
        follower.add(job, paths)
        wait_for(lambda: received.entries, "a state")
        with paths.stdout(0).open("a") as file:
            file.write("\n100%\n")
        follower.remove(job)
        assert received.lines() == ["100%", "100%"]

    def test_an_unfinished_line_without_a_redraw_is_waited_for(
        self, follower: OutputFollower, received: Received, paths: SweepPaths
    ) -> None:
        job = a_job()
        paths.stdout(0).write_text("loading ...")
        paths.stdout(1).write_text("\rbar")
        follower.add(job, paths)
        follower.add(a_job(1), paths)
        wait_for(lambda: received.lines(1), "the other job's bar")
        assert received.lines(0) == []
        with paths.stdout(0).open("a") as file:
            file.write(" done\n")
        follower.remove(job)
        assert received.lines(0) == ["loading ... done"]


class TestLastLine:
    @pytest.fixture
    def silent(self) -> Iterator[OutputFollower]:
        """A follower as without show_output."""

        def nothing(job: Job, stream: str, line: str) -> None:
            raise AssertionError(line)

        follower = OutputFollower(nothing, every_line=False)
        yield follower
        assert follower_threads() == []
        follower.stop()

    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("", ""),
            ("one\ntwo\n", "two"),
            ("one\ntw", "tw"),
            ("one\n\n  \r\n", "one"),
            ("\r 10%\r 20%", " 20%"),
            ("\r 10%\r 20%\r      \r", " 20%"),
            ("loss 1\n\x1b[A\x1b[0m\n", "loss 1"),
            ("\x1b[32mgreen\x1b[0m  \n", "\x1b[32mgreen\x1b[0m"),
            ("\n" * 10, ""),
            ("x" * 5000, "x" * 4096),
            ("x" * 10_000 + "\nlast\n", "last"),
            ("☃" * 5000, "☃" * 1365),
            ("gone" + "\n" * 5000, ""),
        ],
    )
    def test_is_found(
        self, silent: OutputFollower, paths: SweepPaths, text: str, line: str
    ) -> None:
        job = a_job()
        paths.stdout(0).write_text(text, newline="")
        silent.add(job, paths)
        assert silent.last_line(job) == line
        silent.remove(job)
        assert silent.last_line(job) == ""

    def test_is_of_the_stream_written_to_last(
        self, silent: OutputFollower, paths: SweepPaths
    ) -> None:
        job = a_job()
        silent.add(job, paths)
        paths.stderr(0).write_text("error\n")
        assert silent.last_line(job) == "error"
        paths.stdout(0).write_text("out\n")
        os.utime(paths.stdout(0), ns=(1, 1))
        os.utime(paths.stderr(0), ns=(2, 2))
        assert silent.last_line(job) == "error"
        os.utime(paths.stdout(0), ns=(3, 3))
        assert silent.last_line(job) == "out"
        paths.stdout(0).write_text("\n")
        assert silent.last_line(job) == "error"

    def test_of_a_truncated_file(self, silent: OutputFollower, paths: SweepPaths) -> None:
        job = a_job()
        silent.add(job, paths, stdout_start=100)
        paths.stdout(0).write_text("after\n")
        assert silent.last_line(job) == "after"

    def test_of_two_sweeps(self, silent: OutputFollower, tmp_path: Path) -> None:
        jobs = []
        for sweep in ("a", "b"):
            paths = SweepPaths(tmp_path / sweep)
            paths.create()
            paths.stdout(0).write_text(f"of {sweep}\n")
            jobs.append(a_job(0, sweep))
            silent.add(jobs[-1], paths)
        assert [silent.last_line(job) for job in jobs] == ["of a", "of b"]

    def test_comes_without_waiting_for_the_sink(
        self, follower: OutputFollower, received: Received, paths: SweepPaths
    ) -> None:
        job = a_job()
        received.gate.clear()
        paths.stdout(0).write_text("one\ntwo\n")
        follower.add(job, paths)
        assert follower.last_line(job) == "two"
        received.gate.set()
        follower.remove(job)


class TestLife:
    def test_the_thread_lives_from_the_first_job_to_stop(self, paths: SweepPaths) -> None:
        follower = OutputFollower(Received())
        assert follower_threads() == []
        for _ in range(2):
            follower.add(a_job(), paths)
            assert len(follower_threads()) == 1
            follower.remove(a_job())
        follower.stop()
        assert follower_threads() == []
        follower.stop()
        follower.add(a_job(), paths)
        follower.remove(a_job())
        assert follower_threads() == []

    def test_stop_without_a_job(self) -> None:
        OutputFollower(Received()).stop()

    def test_a_job_is_followed_once(self, follower: OutputFollower, paths: SweepPaths) -> None:
        follower.add(a_job(), paths)
        with pytest.raises(ValueError, match="sweep_0"):
            follower.add(a_job(), paths)
        follower.remove(a_job())

    def test_no_descriptor_is_left_open(self, paths: SweepPaths) -> None:
        def descriptors() -> set[str]:
            return {os.fspath(path.resolve()) for path in Path("/proc/self/fd").iterdir()}

        if not Path("/proc/self/fd").exists():
            pytest.skip("no /proc to count descriptors in")
        received = Received()
        follower = OutputFollower(received)
        for num in range(5):
            paths.stdout(num).write_text("line\n")
            paths.stderr(num).write_text("line\n")
            follower.add(a_job(num), paths)
        wait_for(lambda: len(received.entries) == 10, "a line of each file")
        assert os.fspath(paths.stdout(4)) in descriptors()
        for num in range(3):
            follower.remove(a_job(num))
        assert not any(os.fspath(paths.stdout(num)) in descriptors() for num in range(3))
        follower.stop()
        assert not any(name.startswith(os.fspath(paths.logs)) for name in descriptors())

    def test_remove_returns_when_stop_comes_first(
        self, follower: OutputFollower, received: Received, paths: SweepPaths
    ) -> None:
        job = a_job()
        received.gate.clear()
        paths.stdout(0).write_text("line\n" * 10)
        follower.add(job, paths)
        threads = [
            threading.Thread(target=function)
            for function in (lambda: follower.remove(job), follower.stop)
        ]
        for thread in threads:
            thread.start()
        received.gate.set()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()

    def test_a_sink_that_raises_gets_no_more_and_holds_nobody_up(
        self, paths: SweepPaths, caplog: pytest.LogCaptureFixture
    ) -> None:
        calls = []

        def broken(job: Job, stream: str, line: str) -> None:
            calls.append(line)
            raise BrokenPipeError("nobody reads")

        follower = OutputFollower(broken)
        paths.stdout(0).write_text("one\ntwo\n")
        with caplog.at_level(logging.ERROR):
            follower.add(a_job(), paths)
            follower.remove(a_job())
        assert calls == ["one"]
        assert "no longer shown" in caplog.text
        assert "nobody reads" in caplog.text
        paths.stdout(1).write_text("three\n")
        follower.add(a_job(1), paths)
        assert follower.last_line(a_job(1)) == "three"
        follower.remove(a_job(1))
        follower.stop()
        assert calls == ["one"]

    def test_a_file_that_cannot_be_read_is_named_once(
        self, follower: OutputFollower, paths: SweepPaths, caplog: pytest.LogCaptureFixture
    ) -> None:
        paths.stdout(0).mkdir()
        paths.stdout(1).write_text("good\n")
        with caplog.at_level(logging.WARNING):
            follower.add(a_job(0), paths)
            wait_for(lambda: caplog.text, "a warning")
            follower.remove(a_job(0))
        assert caplog.text.count(str(paths.stdout(0))) == 1
