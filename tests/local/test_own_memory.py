"""The memory that counts as a job's own, beside what it shares with its keeper and the launcher."""

from __future__ import annotations

import errno
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from helpers.processes import PATIENCE
from helpers.reliability import points, source
from hsm.core.record.sweep import read_sweep

MB = 1_000_000

#: A launcher with 60 MB forks a keeper, which forks a job; the job prints the size of its own
#: memory, and of that of its children.
_FAMILY = """
import mmap, os, signal, subprocess, sys
import psutil
from hsm.core.local.job_memory import own_memory

MB = 1_000_000
ballast = mmap.mmap(-1, 60 * MB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
ballast.write(b"1" * 60 * MB)

def pages(megabytes, shared=False):
    kind = mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE
    made = mmap.mmap(-1, megabytes * MB, flags=kind | mmap.MAP_ANONYMOUS)
    made.write(b"1" * megabytes * MB)
    return made

def children(do, count=3):
    for _ in range(count):
        done, ready = os.pipe()
        if os.fork() == 0:
            kept = do()
            os.write(ready, b"1")
            signal.pause()
        os.read(done, 1)

def fork(do):
    done, ready = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(done)
        do()
        os._exit(0)
    os.close(ready)
    os.read(done, 1)  # ends with the child
    os.waitpid(pid, 0)

def job():
    kept = BODY
    me = psutil.Process()
    tree = [me, *me.children(recursive=True)]
    print(own_memory(tree, psutil.Process(os.getppid())), flush=True)
    for process in tree[1:]:
        process.kill()

fork(lambda: fork(job))
"""


def own_megabytes(body: str) -> float:
    """What a job that evaluates `body` has of its own, with all its processes."""
    program = _FAMILY.replace("BODY", body)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout) / MB


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param("ballast[:].count(b'1')", 0, id="it reads the launcher's memory"),
        pytest.param("pages(40)", 40, id="it allocates", marks=SLOW),
        pytest.param(
            "ballast[:] and ballast.seek(0) or ballast.write(b'2' * 40 * MB)",
            40,
            id="it writes to the launcher's memory",
        ),
        pytest.param(
            "(pages(40), children(lambda: None))", 40, id="it forks after it has allocated"
        ),
        pytest.param(
            "(pages(40, shared=True), children(lambda: None))",
            40,
            id="it shares memory with its children",
            marks=SLOW,
        ),
        pytest.param(
            "(ballast.close(), pages(40, shared=True), children(lambda: None))",
            40,
            id="it gives up the launcher's memory, and shares some with its children",
            marks=SLOW,
        ),
        pytest.param("children(lambda: pages(20))", 60, id="its children allocate", marks=SLOW),
    ],
)
def test_pages_shared_with_the_launcher_count_for_nothing_and_a_jobs_own_count_once(
    body: str, expected: float
) -> None:
    # Each process also writes to some of the interpreter's pages.
    assert expected - 3 <= own_megabytes(body) <= expected + 12


def test_a_program_that_a_job_executes_has_all_its_memory_for_itself() -> None:
    """Though it is an interpreter, like the keeper, which is larger."""
    script = "import sys; x = b'1' * 40_000_000; print(flush=True); sys.stdin.read()"
    start = textwrap.dedent(f"""
        (lambda program: (program, program.stdout.readline()))(subprocess.Popen(
            [sys.executable, "-c", {script!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    """).strip()
    assert 40 <= own_megabytes(start) <= 70


#: Ends as OUT_OF_MEMORY, or else fails: it does not outlast the test.
GREEDY = [sys.executable, "-c", "x = b'1' * 200_000_000; import time; time.sleep(20); exit(1)"]


def test_the_limit_holds_though_a_process_vanishes_while_it_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """psutil lets a FileNotFoundError through if a process goes between two reads."""
    real = psutil.Process.ppid

    def ppid(process: psutil.Process) -> int:
        if process.pid == 1:
            raise FileNotFoundError(errno.ENOENT, "gone")
        return int(real(process))

    monkeypatch.setattr(psutil.Process, "ppid", ppid)
    with source(memory_limit="100MB") as made:
        made.submit_jobs(points(0), "s", tmp_path, command=GREEDY)
        made.wait(timeout=PATIENCE)
    assert str(read_sweep(tmp_path).jobs[0].state) == "OUT_OF_MEMORY"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["memory_info", "cpu_times", "name"])
def test_the_limit_holds_though_a_jobs_own_processes_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """At every other look."""
    real, looks = getattr(psutil.Process, name), iter(range(10**9))

    def fail(process: psutil.Process) -> Any:
        if next(looks) % 2 == 0:
            raise OSError(errno.ESRCH, "gone")
        return real(process)

    monkeypatch.setattr(psutil.Process, name, fail)
    with source(memory_limit="100MB") as made:
        made.submit_jobs(points(0), "s", tmp_path, command=GREEDY)
        made.wait(timeout=PATIENCE)
    assert str(read_sweep(tmp_path).jobs[0].state) == "OUT_OF_MEMORY"


@pytest.mark.slow
def test_a_bug_in_a_look_at_memory_is_logged_once_and_the_limit_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, looks = psutil.process_iter, iter(range(10**9))

    def process_iter() -> Iterator[psutil.Process]:
        if next(looks) < 3:
            raise RuntimeError("set changed size during iteration")
        return iter(list(real()))

    monkeypatch.setattr(psutil, "process_iter", process_iter)
    with source(memory_limit="100MB") as made:
        made.submit_jobs(points(0), "s", tmp_path, command=GREEDY)
        made.wait(timeout=PATIENCE)
    assert str(read_sweep(tmp_path).jobs[0].state) == "OUT_OF_MEMORY"
    assert [record.getMessage() for record in caplog.records] == [
        "a look at the jobs' memory failed; hsm goes on looking"
    ]
