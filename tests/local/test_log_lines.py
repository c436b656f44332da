"""Every byte that a job prints is in its log, in order, however it is opened and whoever dies."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import psutil
import pytest

from helpers.processes import PATIENCE, RunningSweep
from helpers.reliability import points, source, start_driver, write_driver
from hsm.core.engine.compute_source import SweepObserver
from hsm.core.local.processes import log_pipe
from hsm.core.local.processes.log_pipe import LogPipe
from hsm.core.record.job import Job, JobState
from hsm.core.record.paths import SweepPaths

pytestmark = pytest.mark.thorough

ABC = "a\nb\nc\n"
LINES = "".join(f"line {n}\n" for n in range(2000))


def _run(folder: Path, command: list[str], **settings: object) -> tuple[Job, str, str]:
    """Run one job; it, its stdout and its stderr."""
    with source(**settings) as made:
        made.submit_jobs(points(0), "s", folder, command=command)
        made.wait(timeout=PATIENCE)
        (job,) = made.jobs()
    paths = SweepPaths(folder)
    return job, paths.stdout(0).read_text(), paths.stderr(0).read_text()


def _python(body: str) -> list[str]:
    return [sys.executable, "-c", "import fcntl, os, signal, sys, time\n" + dedent(body)]


# --- whoever removes a log ---------------------------------------------------------------------


def test_a_log_that_is_removed_goes_on_in_a_new_file(tmp_path: Path) -> None:
    log = SweepPaths(tmp_path / "sweep").stdout(0)
    script = f"echo before; until test -s {log}; do sleep 0.02; done; rm {log}; echo after"
    job, out, _ = _run(tmp_path / "sweep", ["sh", "-c", script])
    assert job.state is JobState.COMPLETED
    assert out == "after\n"


# --- whoever opens its streams once more -------------------------------------------------------

REOPENED = {
    "tee": ("echo a >&2; echo b | tee /dev/stderr; echo c >&2", "b\n", ABC),
    "emptied": ("echo a; : > /dev/stdout; echo b; : > /proc/self/fd/1; echo c", ABC, ""),
    "dd": ("echo a; echo b | dd of=/dev/stdout status=none; echo c", ABC, ""),
    "exec": ("echo a >&2; exec >/dev/stderr; echo b; echo c >&2", "", ABC),
    "by number": (
        "echo a; exec 7>/proc/$$/fd/1; echo b >&7; echo c; echo d >&7",
        "a\nb\nc\nd\n",
        "",
    ),
    "copied": (
        "echo a; echo b > f; cp f /dev/stdout; cat f >/dev/stderr; echo c",
        ABC,
        "b\n",
    ),
}


@pytest.mark.parametrize("case", REOPENED)
def test_a_stream_that_is_opened_once_more_loses_nothing(tmp_path: Path, case: str) -> None:
    script, *expected = REOPENED[case]
    job, *printed = _run(tmp_path / "sweep", ["sh", "-c", f"cd {tmp_path}; {script}"])
    assert job.state is JobState.COMPLETED
    assert printed == expected


def test_a_log_file_that_an_app_calls_dev_stdout(tmp_path: Path) -> None:
    """As `--log-file /dev/stdout`: Python's logging, with mode "w", beside print."""
    body = """
        import logging
        print("first", flush=True)
        logging.basicConfig(filename="/dev/stdout", filemode="w", format="%(message)s", level=20)
        for n in range(3):
            logging.info("logged %d", n)
            print("printed", n, flush=True)
    """
    _, out, _ = _run(tmp_path, _python(body))
    lines = [f"{word} {n}" for n in range(3) for word in ("logged", "printed")]
    assert out.splitlines() == ["first", *lines]


def test_a_function_that_opens_its_own_streams_once_more(tmp_path: Path) -> None:
    def chatty(params: dict[str, int]) -> None:
        print("a")
        with open("/dev/stdout", "w") as again, open("/proc/self/fd/2", "w") as error:
            print("b", file=again, flush=True)
            print("c")
            print("d", file=error)
        os.system("echo e; echo f | tee /dev/stderr")

    with source(start_method="fork") as made:
        made.submit_jobs(points(0, 1), "s", tmp_path, function=chatty)
    for num in (0, 1):
        assert SweepPaths(tmp_path).stdout(num).read_text() == "a\nb\nc\ne\nf\n"
        assert SweepPaths(tmp_path).stderr(num).read_text() == "d\nf\n"


# --- what a job does to its pipe ---------------------------------------------------------------

_HELPERS = """
    def leave_a_child():
        "It has printed when its parent ends, and stays."
        done, tell = os.pipe()
        if os.fork() == 0:
            write(b"x")
            os.write(tell, b"x")
            time.sleep(60)
        os.read(done, 1)

    def write(data):
        "To a stream that may take a part at a time, or nothing."
        while data:
            try:
                data = data[os.write(1, data):]
            except BlockingIOError:
                time.sleep(0.001)
"""
ODD = {
    "does not wait": "os.set_blocking(1, False); write(b'x' * 1_000_000)",
    "makes it small": "fcntl.fcntl(1, 1031, 4096); write(b'x' * 1_000_000)",
    "makes it large": "fcntl.fcntl(1, 1031, 1 << 20); write(b'x' * 1_000_000)",
    "kills itself": "write(b'x' * 1_000_000); os.kill(os.getpid(), signal.SIGKILL)",
    "closes it": "write(b'x' * 1_000_000); os.close(1); os.close(2)",
    "leaves a child": "write(b'x' * 999_999); leave_a_child()",
}


@pytest.mark.parametrize("case", ODD)
def test_what_a_job_does_to_its_pipe_loses_nothing(tmp_path: Path, case: str) -> None:
    job, out, _ = _run(tmp_path, _python(dedent(_HELPERS) + ODD[case]), kill_grace=0.5)
    assert job.state is (JobState.FAILED if case == "kills itself" else JobState.COMPLETED)
    assert len(out) == 1_000_000


def test_the_jobs_of_a_slot_do_not_print_into_each_others_logs(tmp_path: Path) -> None:
    """Large and small outputs in turn, through the same pipes."""
    body = "n = os.environ['HSM_JOB_NUM']; print((n + chr(10)) * (int(n) % 3) * 100_000, end='')"
    with source(max_parallel_jobs=1) as made:
        made.submit_jobs(points(*range(5)), "s", tmp_path, command=_python(body))
    for num in range(5):
        assert SweepPaths(tmp_path).stdout(num).read_text() == f"{num}\n" * (num % 3) * 100_000


def test_a_log_that_is_emptied_while_its_job_runs_goes_on_from_there(tmp_path: Path) -> None:
    log = SweepPaths(tmp_path).stdout(0)
    body = f"""
        print("x" * 5000, flush=True)
        while os.path.getsize({str(log)!r}) < 5001:
            time.sleep(0.01)
        os.truncate({str(log)!r}, 0)
        print("rest")
    """
    assert _run(tmp_path, _python(body))[1] == "rest\n"


class _Shown(SweepObserver):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def job_output(self, job: Job, stream: str, line: str) -> None:
        self.lines.append(line)


def test_a_retry_goes_on_below_a_header_on_a_line_of_its_own(tmp_path: Path) -> None:
    shown = _Shown()
    script = "printf 'no newline'; [ $HSM_ATTEMPT = 2 ]"
    with source(shown, max_retries=1, retry_delay=0, show_output=True) as made:
        made.submit_jobs(points(0), "s", tmp_path, command=["sh", "-c", script])
    lines = SweepPaths(tmp_path).stdout(0).read_text().splitlines()
    assert [lines[0], lines[1][:14], lines[2]] == ["no newline", "---- attempt 2", "no newline"]
    assert shown.lines[0] == "no newline"
    assert sorted(line[:10] for line in shown.lines) == ["---- attem"] * 2 + ["no newline"] * 2


def test_a_command_that_cannot_be_executed_says_so_in_its_log(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    job, out, err = _run(tmp_path / "sweep", [str(script)])
    assert job.ending() == "exit code 127"
    assert (out, err) == ("", f"hsm: {script}: No such file or directory\n")


def test_a_launcher_whose_standard_streams_are_closed(tmp_path: Path) -> None:
    """Pipes that get the numbers of standard streams would be taken for these."""
    write_driver(
        tmp_path,
        """
        for fd in (0, 1, 2):
            os.close(fd)
        with source(start_method=sys.argv[2]) as made:
            command = ["sh", "-c", "echo out; echo err >&2"]
            made.submit_jobs([{"x": 1}], "s", "sweep", command=command)
        """,
    )
    with start_driver(tmp_path, {}, "auto") as running:
        done = running.finish()
    assert done.states == ["COMPLETED"]
    assert (done.log(0, "stdout"), done.log(0)) == ("out\n", "err\n")


# --- whoever dies meanwhile --------------------------------------------------------------------

#: A job, as a function or as a command, that prints `LINES` once it may, and stays.
_PRINTER = """
    def job(params):
        note("started", os.getpid())
        wait_for("go")
        print("".join(f"line {n}\\n" for n in range(2000)), end="", flush=True)
        note("printed")
        time.sleep(600)

    SCRIPT = '''
        echo $$ > pid; mv pid started
        until [ -e go ]; do sleep 0.02; done
        n=0; while [ $n -lt 2000 ]; do echo line $n; n=$((n+1)); done
        touch printed; sleep 600
    '''
    what = {"function": job} if sys.argv[2] == "function" else {"command": ["sh", "-c", SCRIPT]}
    with source(start_method="fork") as made:
        made.submit_jobs([{"x": 1}], "s", "sweep", **what)
        made.wait()
"""


@contextmanager
def _printed(
    folder: Path, kind: str, *, stops_keeper: bool
) -> Iterator[tuple[RunningSweep, psutil.Process]]:
    """A sweep whose one job has printed, and its keeper.

    If that is stopped before, all that the job has printed is in the pipe.
    """
    write_driver(folder, _PRINTER)
    with start_driver(folder, {}, kind) as running:
        running.wait_for_files("started")
        running.wait_until_running(0)  # A keeper tells of the job's start, once it runs.
        keeper = psutil.Process(running.pid("started")).parent()
        assert keeper is not None
        assert keeper.name() == "hsm-keeper"
        if stops_keeper:
            keeper.suspend()
        running.touch("go")
        running.wait_for_files("printed")
        yield running, keeper


@pytest.mark.parametrize("kind", ["function", "command"])
def test_a_killed_keeper_loses_nothing_of_what_was_printed(tmp_path: Path, kind: str) -> None:
    with _printed(tmp_path, kind, stops_keeper=True) as (running, keeper):
        keeper.kill()
        done = running.finish()
    assert done.states == ["FAILED"]
    assert "its keeper was killed" in done.jobs[0].ending()
    assert done.log(0, "stdout") == LINES


@pytest.mark.parametrize("stops_keeper", [False, True], ids=["alone", "with a stopped keeper"])
@pytest.mark.parametrize("kind", ["function", "command"])
def test_a_killed_launcher_loses_nothing_of_what_was_printed(
    tmp_path: Path, kind: str, stops_keeper: bool
) -> None:
    with _printed(tmp_path, kind, stops_keeper=stops_keeper) as (running, _):
        running.process.kill()
        running.assert_all_gone()
    assert SweepPaths(tmp_path / "sweep").stdout(0).read_text() == LINES


def test_a_killed_fork_server_loses_nothing_of_what_was_printed(tmp_path: Path) -> None:
    with _printed(tmp_path, "command", stops_keeper=False) as (running, keeper):
        server = keeper.parent()
        assert server is not None
        server.kill()
        done = running.finish()
    assert done.log(0, "stdout") == LINES


# --- logs that take nothing --------------------------------------------------------------------


def test_a_log_that_may_not_grow_is_told_and_costs_no_job(tmp_path: Path) -> None:
    """A limit on the size of files (ulimit -f) is the keeper's as well: it is not killed by it."""
    write_driver(
        tmp_path,
        """
        import resource

        class Told:
            def __getattr__(self, name):
                return lambda *arguments: None

            def message(self, text):
                print(text)

        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        with source() as made:
            made.observers.append(Told())
            command = ["sh", "-c", "yes | head -c 300000; echo end >&2"]
            made.submit_jobs([{"x": 1}, {"x": 2}], "s", "sweep", command=command)
            made.wait()
        """,
    )
    with start_driver(tmp_path) as running:
        done = running.finish()
    assert done.states == ["COMPLETED"] * 2
    for num in (0, 1):
        assert done.log(num, "stdout") == "y\n" * 50_000
        assert done.log(num) == "end\n"
        lost = f"job {num}: 200000 bytes of output are lost: File too large"
        assert lost in done.screen


@pytest.fixture
def pipe() -> Iterator[LogPipe]:
    made = LogPipe()
    yield made
    made.close()


def test_what_finds_no_room_waits_then_is_dropped_and_told_where_it_is_missing(
    tmp_path: Path, pipe: LogPipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, log = os.open("/dev/full", os.O_RDWR), os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT)
    pipe.open(full, None)
    os.write(pipe.write_end, b"lost\n")
    assert pipe.move() is None  # It waits.
    monkeypatch.setattr(log_pipe, "_TIMEOUT", 0.0)
    assert pipe.move()
    assert pipe.lost == (5, "No space left on device")
    os.dup2(log, full)  # There is room again.
    os.close(log)
    os.write(pipe.write_end, b"kept\n")
    pipe.empty(until=0.0)
    pipe.close_file()
    told = "---- 5 bytes of output are lost: No space left on device ----\n"
    assert (tmp_path / "log").read_text() == f"{told}kept\n"


def test_where_nothing_can_be_spliced_it_is_read_and_written(
    tmp_path: Path, pipe: LogPipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "splice", refuse)
    pipe.open(os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT), "header")
    for _ in range(3):
        os.write(pipe.write_end, b"x" * 50_000)
        assert pipe.move()
    assert pipe.move() == 0
    assert (tmp_path / "log").read_text() == "header\n" + "x" * 150_000


def test_a_slot_has_as_many_descriptors_as_it_needs_where_few_are_allowed(tmp_path: Path) -> None:
    """The fork server holds some for each slot; jobs find the limit as it was."""
    write_driver(
        tmp_path,
        """
        import resource

        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (90, hard))
        script = "ulimit -n; touch up-$HSM_JOB_NUM; until [ -e sweep/go ]; do sleep 0.1; done"
        with source(max_parallel_jobs=30) as made:
            points = [{"x": x} for x in range(30)]
            made.submit_jobs(points, "s", "sweep", command=["sh", "-c", script])
            for num in range(30):
                wait_for(f"up-{num}")
            note("sweep/go")
            made.wait()
        """,
    )
    with start_driver(tmp_path) as running:
        done = running.finish()
    assert done.states == ["COMPLETED"] * 30
    assert {done.log(num, "stdout") for num in range(30)} == {"90\n"}
