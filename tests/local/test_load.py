"""Many jobs, many at a time, and much output: nothing grows that should not, nothing is lost."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from helpers.processes import wait_for
from helpers.reliability import points, source
from hsm.core.engine.compute_source import SweepObserver
from hsm.core.record.job import Job, JobState
from hsm.core.record.paths import SweepPaths
from hsm.core.record.sweep import read_sweep

pytestmark = pytest.mark.thorough

MB = 1_000_000


@dataclass
class Usage:
    """What this process held, sampled while a block ran.

    Attributes:
        memory: bytes that are its own (USS), which neither shared libraries nor forks blur.
        fds: open descriptors.
        threads: threads.
    """

    memory: list[int] = field(default_factory=list)
    fds: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    def sample(self) -> None:
        process = psutil.Process()
        self.memory.append(process.memory_full_info().uss)
        self.fds.append(process.num_fds())
        self.threads.append(process.num_threads())


@contextmanager
def watched(interval: float = 0.5) -> Iterator[Usage]:
    usage, over = Usage(), threading.Event()
    usage.sample()

    def watch() -> None:
        while not over.wait(interval):
            usage.sample()

    # Its name is one of hsm's own, or `auto` would not fork beside it.
    thread = threading.Thread(target=watch, name="hsm-test-watch")
    thread.start()
    try:
        yield usage
    finally:
        over.set()
        thread.join()
        usage.sample()


def nothing(params: dict[str, Any]) -> None:
    return None


@pytest.mark.long
@pytest.mark.parametrize("kind", ["callables", "commands"])
def test_ten_thousand_jobs_that_do_nothing(tmp_path: Path, kind: str) -> None:
    count = 10_000
    program: dict[str, Any] = {"function": nothing} if kind == "callables" else {"command": "true"}
    began = time.monotonic()
    with watched() as usage, source(max_parallel_jobs=4) as made:
        made.submit_jobs(points(*range(count)), "s", tmp_path, **program)
        usage.memory.clear()  # from here on, all jobs are known
        usage.sample()
        states = Counter(made.wait().values())
    growth = (max(usage.memory) - usage.memory[0]) / count
    print(f"{count} {kind}: {time.monotonic() - began:.1f} s, {growth:.0f} bytes more for each,")
    print(f"at most {max(usage.fds)} descriptors and {max(usage.threads)} threads")
    assert states == {JobState.COMPLETED: count}
    assert usage.fds[-1] == usage.fds[0]
    # A thread that was joined may take a moment more to leave the kernel.
    wait_for(lambda: psutil.Process().num_threads() <= usage.threads[0], "all threads' end")
    assert max(usage.fds) < usage.fds[0] + 40
    assert max(usage.threads) < usage.threads[0] + 12
    # An attempt with its ending stays for each job: about a kilobyte.
    assert growth < 4000
    sweep = read_sweep(tmp_path)
    assert sweep.problems == []
    assert Counter(job.state for job in sweep.jobs.values()) == states
    assert len(os.listdir(SweepPaths(tmp_path).logs)) == 2 * count


class Lines(SweepObserver):
    """Counts what it is shown, and looks whether each job's lines are whole and in order.

    Args:
        told: the line of which number a job writes to a stream.
    """

    def __init__(self, told: Callable[[Job, int], str] = lambda job, n: f"line {n}") -> None:
        self._told = told
        self.counts: Counter[tuple[int, str]] = Counter()
        self.strange: list[tuple[int, str]] = []
        self.lag = 0.0

    def job_output(self, job: Job, stream: str, line: str) -> None:
        key = (job.num, stream)
        text, at, written = line.partition(" at ")
        if text != self._told(job, self.counts[key]):
            self.strange.append((job.num, line[:200]))
        if at:
            self.lag = max(self.lag, time.time() - float(written))
        self.counts[key] += 1


@pytest.mark.slow
def test_sixty_four_jobs_at_once_with_output(tmp_path: Path) -> None:
    command = [
        "sh",
        "-c",
        "for i in 0 1 2 3 4 5 6 7 8 9; do echo line $i; echo line $i >&2; sleep 0.05; done; "
        "while [ ! -e $HSM_SWEEP_DIR/go ]; do sleep 0.2; done",
    ]
    lines = Lines()
    with source(lines, max_parallel_jobs=64, show_output=True) as made:
        made.submit_jobs(points(*range(64)), "s", tmp_path, command=command)
        wait_for(lambda: len(made.running()) == 64, "64 jobs at once")
        (tmp_path / "go").touch()
        assert set(made.wait().values()) == {JobState.COMPLETED}
    assert lines.counts == {(num, s): 10 for num in range(64) for s in ("stdout", "stderr")}
    assert lines.strange == []


#: The last line says when it was written.
_CHATTER = """
import os, sys, time
job, count = os.environ["HSM_JOB_NUM"], int(sys.argv[1])
began = time.monotonic()
for n in range(count):
    last = f" at {time.time()}" if n == count - 1 else ""
    sys.stdout.write(f"job {job} line {n}{last}\\n")
    if n % 25 == 24:
        sys.stdout.flush()
        time.sleep(max(0.0, began + n / 625 - time.monotonic()))
"""
#: Seconds after it was written in which a job's last line must be shown, on a slow machine, too. A
#: display that takes half of the lines as fast as they come is five seconds behind by then.
_LONGEST_LAG = 4.0


@pytest.mark.slow
def test_five_thousand_short_lines_a_second_from_eight_jobs(tmp_path: Path) -> None:
    """625 a second from each: all arrive, none is mixed with another's, and none waits for long.

    On a slow machine the jobs themselves write slower; what is shown must not fall behind them.
    """
    (tmp_path / "chatter.py").write_text(_CHATTER)
    lines, count = Lines(lambda job, n: f"job {job.num} line {n}"), 3125
    command = [sys.executable, str(tmp_path / "chatter.py"), str(count)]
    with source(lines, max_parallel_jobs=8, show_output=True) as made:
        made.submit_jobs(points(*range(8)), "s", tmp_path / "sweep", command=command)
        made.wait()
    assert lines.counts == {(num, "stdout"): count for num in range(8)}
    assert lines.strange == []
    assert 0 < lines.lag < _LONGEST_LAG
    assert {str(job.state) for job in made.jobs()} == {"COMPLETED"}


@pytest.mark.long
def test_a_job_that_writes_a_gigabyte(tmp_path: Path) -> None:
    """Twice: to a file that nobody reads, and with every line shown."""
    size = 1_000_000_000
    line = "a line of some length, as logs have it: step 1234, loss 0.5678\n"
    command = f"yes '{line.strip()}' | head -c {size}"
    for shown in (False, True):
        lines, sweep_dir = Lines(lambda *_: line.strip()), tmp_path / f"shown-{shown}"
        with source(lines, show_output=shown) as made, watched() as usage:
            (job_id,) = made.submit_jobs(points(0), "s", sweep_dir, command=["sh", "-c", command])
            assert made.wait() == {job_id: JobState.COMPLETED}
        log = SweepPaths(sweep_dir).stdout(0)
        assert log.stat().st_size == size
        assert max(usage.memory) - usage.memory[0] < 50 * MB
        if shown:
            assert lines.counts[0, "stdout"] == -(-size // len(line))
            assert len(lines.strange) <= 1  # The last one is cut off.
        log.unlink()


@pytest.mark.slow
def test_thirty_sources_one_after_another_leave_nothing(tmp_path: Path) -> None:
    def one(number: int) -> None:
        with source() as made:
            ids = made.submit_jobs(points(1, 2), "s", tmp_path / str(number), command=["true"])
            assert set(made.wait(ids).values()) == {JobState.COMPLETED}

    one(0)
    process = psutil.Process()
    before = process.num_fds(), process.num_threads()
    for number in range(1, 30):
        one(number)
    wait_for(lambda: process.num_threads() <= before[1], "all threads' end")
    assert process.num_fds() == before[0]
    assert process.children() == []
