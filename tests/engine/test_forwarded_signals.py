"""One Ctrl-C that reaches the launcher twice: from the terminal, and from a wrapper around it.

`uv run`, `srun`, `timeout -f` or make pass on, often as SIGTERM, what the terminal has sent to the
launcher as well. That is not a person's second Ctrl-C, which takes the jobs' grace away.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers.processes import (
    RunningSweep,
    first_fast,
    let_burst_pass,
    start_program,
)
from hsm.core.engine.interrupts import Burst, Interrupts, deferred

#: What each door runs: it saves its work on SIGTERM, once it is told to go on.
JOB = """
import signal, sys, time
from pathlib import Path

HERE = Path(__file__).parent

def job(params):
    def save(*_):
        (HERE / "heard").touch()
        while not (HERE / "go").exists():
            time.sleep(0.02)
        (HERE / "saved").touch()
        sys.exit(1)

    signal.signal(signal.SIGTERM, save)
    (HERE / "started").touch()
    while True:  # Of a signal just before a long sleep, Python would know only after it.
        time.sleep(0.05)
"""
#: How every program begins. None waits for the end of a burst that is as long as the test.
BURST = """
from hsm.core.engine import interrupts

interrupts._BURST = {seconds}
if {seconds} == {as_the_test}:
    interrupts.burst.wait = lambda: None
"""
PROGRAM = """
from job import job
from hsm import JobManager, LocalComputeSource, LocalManager

if __name__ == "__main__":
    points, options = [{"x": 1}], {"function": job, "sweep_dir": "sweep"}
    settings = {"max_parallel_jobs": 1, "kill_grace": 600}
"""
BODIES = {
    "LocalManager": "    LocalManager(**settings).run(points, **options)\n",
    "LocalManager in another thread": """\
    import threading
    with LocalManager(**settings) as manager:
        thread = threading.Thread(target=manager.run, args=(points,), kwargs=options)
        thread.start()
        while thread.is_alive():  # So it is with any other long wait.
            thread.join(0.05)
""",
    "JobManager": """\
    with LocalComputeSource(**settings) as source:
        manager = JobManager()
        ids = manager.submit_sweep(points, source, "s", "sweep", function=job)
        manager.monitor_jobs(ids, source)
""",
    "wait": """\
    with LocalComputeSource(**settings) as source:
        source.submit_jobs(points, "s", "sweep", function=job)
        source.wait()
""",
    "close": """\
    with LocalComputeSource(**settings) as source:
        source.submit_jobs(points, "s", "sweep", function=job)
""",
    "the block of a source": """\
    import time
    with LocalComputeSource(**settings) as source:
        source.submit_jobs(points, "s", "sweep", function=job)
        while True:
            time.sleep(0.05)
""",
}
ENDING = """\
    hook = "touch hook; while ! test -e on; do sleep 0.02; done; touch told"
    LocalManager(on_sweep_end=["sh", "-c", hook], **settings).run(points, **options)
"""
HYDRA = """
import hydra
from job import job

@hydra.main(version_base=None, config_path=None)
def main(cfg):
    job(cfg)

if __name__ == "__main__":
    main()
"""
HSM = """
from hsm.cli.main import main

main()
"""
#: Seconds in which signals are one. A busy machine may let much time pass between two of them.
AS_THE_TEST, SHORT = 600.0, 2.0
_LAUNCHER = "hydra/launcher=hsm_local hydra.launcher.kill_grace=600 hydra.sweep.dir=sweep"
_SWEEP = "sweep x=1 --sweep-dir sweep --kill-grace 600 --"


@contextmanager
def started(folder: Path, door: str, burst: float) -> Iterator[RunningSweep]:
    """A sweep of one job through that door, once the job runs.

    Args:
        burst: seconds in which signals are one.
    """
    (folder / "job.py").write_text(JOB)
    words: list[str] = []
    if door == "hydra":
        program, words = HYDRA, ["-m", "+x=1", *_LAUNCHER.split()]
    elif door == "hsm sweep":
        program, words = HSM, [*_SWEEP.split(), sys.executable, "-c", "import job; job.job(0)"]
    else:
        program = PROGRAM + BODIES.get(door, ENDING)
    beginning = BURST.format(seconds=burst, as_the_test=AS_THE_TEST)
    (folder / "program.py").write_text(beginning + program)
    words = [sys.executable, "program.py", *words]
    with start_program(folder, words, env={"PYTHONPATH": str(folder)}) as running:
        running.wait_for_files("started")
        yield running


def send_burst(running: RunningSweep) -> None:
    """Both signals are there when the launcher looks, as it would be on a busy machine."""
    for signum in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT):
        running.process.send_signal(signum)


#: Where Python's own handler raises KeyboardInterrupt first; SIGTERM would end such a program.
_RAISING = ("wait", "the block of a source", "LocalManager in another thread")


def send_twice(running: RunningSweep, door: str) -> None:
    if door not in _RAISING:
        send_burst(running)
        return
    running.process.send_signal(signal.SIGINT)
    running.wait_for_files("heard")
    running.process.send_signal(signal.SIGINT)


DOORS = first_fast("hsm sweep", "hydra", *BODIES)


@pytest.mark.parametrize("door", DOORS)
def test_a_forwarded_ctrl_c_leaves_jobs_their_grace(tmp_path: Path, door: str) -> None:
    with started(tmp_path, door, AS_THE_TEST) as running:
        send_twice(running, door)
        running.wait_for_files("heard")
        running.touch("go")
        running.assert_all_gone()
        done = running.finish()
    assert (tmp_path / "saved").exists()
    assert done.code in (130, 143, -signal.SIGINT)  # whichever it sees first
    assert done.states == ["CANCELLED"]


@pytest.mark.slow
@pytest.mark.parametrize("door", ["hsm sweep", "hydra", *BODIES])
def test_a_later_ctrl_c_kills_although_the_first_was_forwarded(tmp_path: Path, door: str) -> None:
    with started(tmp_path, door, SHORT) as running:
        send_twice(running, door)
        running.wait_for_files("heard")
        let_burst_pass(SHORT)
        running.process.send_signal(signal.SIGINT)
        running.assert_all_gone()
        done = running.finish()
    assert not (tmp_path / "saved").exists()
    assert done.code in (130, 143, -signal.SIGINT)  # whichever it sees first
    assert done.states == ["CANCELLED"]


@pytest.mark.slow
def test_a_forwarded_ctrl_c_does_not_end_the_command_that_runs_at_the_end(tmp_path: Path) -> None:
    """It comes when the jobs have ended, and on_sweep_end has just begun."""
    (tmp_path / "go").touch()
    with started(tmp_path, "on_sweep_end", AS_THE_TEST) as running:
        running.process.send_signal(signal.SIGINT)
        running.wait_for_files("hook")
        running.process.send_signal(signal.SIGINT)
        running.touch("on")
        done = running.finish()
    assert done.code == -signal.SIGINT
    assert (tmp_path / "told").exists()
    assert "was stopped by" not in done.screen


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the time of the monotonic clock."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, 1000.0 + seconds)


@pytest.mark.parametrize(
    ("times", "taken"),
    [
        ([0, 0.1], [0]),  # forwarded
        ([0, 0.1, 0.2, 0.3, 0.49], [0]),  # by several
        ([0, 0.6], [0, 0.6]),  # a person, twice
        ([0, 0.2, 0.8], [0, 0.8]),  # twice quickly, and a third time
        ([0, 0.2, 0.4, 0.6], [0, 0.6]),  # a key that is held down
        ([0, 3.0, 3.1], [0, 3.0]),  # forwarded, twice
    ],
)
def test_which_signals_count(
    clock: Callable[[float], None], times: list[float], taken: list[float]
) -> None:
    burst = Burst()
    found = []
    for seconds in times:
        clock(seconds)
        if not burst.has():
            found.append(seconds)
    assert found == taken


def test_signals_of_one_burst_are_one_and_the_next_is_another() -> None:
    with Interrupts().caught() as caught:
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.raise_signal(signum)
        first = caught.within(0)
        assert first is not None
        assert first.signum == signal.SIGINT
        assert caught.within(0) is None
        let_burst_pass()
        signal.raise_signal(signal.SIGTERM)
        second = caught.within(0)
        assert second is not None
        assert second.signum == signal.SIGTERM
    assert caught.first == signal.SIGINT


def test_the_end_of_the_block_waits_for_what_is_forwarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would raise KeyboardInterrupt while the program already says how the sweep ended."""
    waited = []

    def forwarding(seconds: float) -> None:
        signal.raise_signal(signal.SIGINT)
        waited.append(seconds)

    monkeypatch.setattr(time, "sleep", forwarding)
    with Interrupts().caught() as caught:
        with deferred():
            signal.raise_signal(signal.SIGINT)
        assert waited == []  # Jobs that this signal ends would run on.
        assert caught.first == signal.SIGINT
    assert len(waited) == 1
    assert 0 < waited[0] <= 0.5
