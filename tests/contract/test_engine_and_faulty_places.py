"""What the engine makes of a place that refuses, loses jobs, or lets them wait."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from contract_jobs import STAY
from contract_support import Place, Recorder, noted_pid, points, start_python, states
from helpers.processes import PATIENCE, is_running, wait_for
from hsm import read_sweep
from hsm.core.engine.backend import (
    CannotStart,
    Ended,
    JobLost,
    Launch,
    NoRoom,
    NothingStarts,
    PlaceGone,
    Started,
    Work,
)
from hsm.core.engine.sweep_source import SweepSource
from hsm.core.settings.resolve import resolve_local
from plain_backend import PlainAttempt, PlainBackend

#: Where programs find what these tests have.
FOLDERS = (Path(__file__).parent, Path(__file__).parents[1])


class Faulty(PlainBackend):
    """A place that does not always do what it is asked for.

    Args:
        fault: is called with each method's name before that is done; may raise.
    """

    def __init__(self, fault: Callable[[str], None]) -> None:
        super().__init__()
        self.fault = fault

    def attempt(self, work: Work, launch: Launch) -> PlainAttempt:
        self.fault("attempt")
        made = super().attempt(work, launch)
        made.__class__ = FaultyAttempt
        assert isinstance(made, FaultyAttempt)
        made.fault = self.fault
        return made


class FaultyAttempt(PlainAttempt):
    fault: Callable[[str], None]

    def start(self) -> None:
        self.fault("start")
        super().start()

    def started(self) -> Started:
        self.fault("started")
        return super().started()

    def ended(self, deadline: float | None) -> Ended | None:
        self.fault("ended")
        return super().ended(deadline)


def faulty(method: str, *errors: Exception, **settings: object) -> SweepSource:
    """A source over plain processes, where the first calls of `method` raise `errors`."""
    left = list(errors)

    def fault(name: str) -> None:
        if name == method and left:
            raise left.pop(0)

    conf = resolve_local({"max_parallel_jobs": 1, "retry_delay": 0, **settings}).conf
    return SweepSource(Faulty(fault), conf)


@pytest.mark.parametrize("method", ["start", "started"])
def test_a_place_that_is_gone_is_replaced_and_the_job_knows_nothing_of_it(method: str) -> None:
    with faulty(method, PlaceGone("it is gone"), PlaceGone("that, too")) as source:
        source.submit_jobs(points(0, 1), "s", "s", command="true")
        assert states(source) == ["COMPLETED"] * 2
        assert [len(job.attempts) for job in source.jobs()] == [1, 1]


@pytest.mark.parametrize("method", ["attempt", "started"])
def test_a_job_for_which_there_is_no_room_waits_and_has_not_failed(method: str) -> None:
    errors = [NoRoom("no room at all"), NoRoom("still none")]
    recorder = Recorder()
    with faulty(method, *errors, fail_fast=True) as source:
        source.observers.append(recorder)
        source.submit_jobs(points(0, 1), "s", "s", command="true")
        assert states(source) == ["COMPLETED"] * 2
        assert [len(job.attempts) for job in source.jobs()] == [1, 1]
    assert recorder.messages == ["jobs wait: no room at all"]


@pytest.mark.parametrize("method", ["attempt", "started"])
def test_a_job_that_can_get_no_process_was_never_started(method: str) -> None:
    """It is neither a failure, nor is it tried again before a resume."""
    settings = {"fail_fast": True, "max_retries": 1}
    recorder = Recorder()
    with faulty(method, CannotStart("a file has its name"), **settings) as source:
        source.observers.append(recorder)
        source.submit_jobs(points(0, 1), "s", "s", command="true")
        assert states(source) == ["CANCELLED", "COMPLETED"]
    assert recorder.messages == ["job 0 never started: a file has its name"]
    job = read_sweep("s").jobs[0]
    assert (job.attempts, job.ending()) == ([], "never started: a file has its name")
    with faulty("none") as source:
        source.submit_jobs(points(0, 1), "s", "s", command="true", resume=True)
        assert states(source) == ["COMPLETED"] * 2


@pytest.mark.parametrize("method", ["attempt", "started"])
def test_if_nothing_starts_any_more_what_runs_ends_and_the_rest_is_for_a_resume(
    method: str,
) -> None:
    is_read_only = threading.Event()

    def fault(name: str) -> None:
        if name == method and is_read_only.is_set():
            raise NothingStarts("the disk is read-only")

    recorder = Recorder()
    conf = resolve_local({"max_parallel_jobs": 2, "max_retries": 1}).conf
    with SweepSource(Faulty(fault), conf, observers=[recorder]) as source:
        command = ["sh", "-c", "until [ -e go ]; do sleep 0.05; done"]
        ids = source.submit_jobs(points(0), "s", "s", command=command)
        wait_for(lambda: source.job(ids[0]).attempts, "its start")
        is_read_only.set()
        ids += source.submit_jobs(points(1, 2, 3), "s", "s", command=command)
        assert states(source, ids[1:]) == ["CANCELLED"] * 3
        assert str(source.get_job_status(ids[0])) == "RUNNING"
        Path("go").touch()
        assert states(source, ids[:1]) == ["COMPLETED"]
    assert recorder.messages == [
        "no more jobs start: the disk is read-only; a resume runs the others"
    ]
    sweep = read_sweep("s")
    assert sweep.closed == "jobs cannot be started: the disk is read-only"
    assert [len(job.attempts) for job in sweep.jobs.values()] == [1, 0, 0, 0]


def test_a_running_job_can_be_ended_although_nothing_starts_any_more() -> None:
    """The reason is the later one."""
    with faulty("none", max_parallel_jobs=2) as source:
        ids = source.submit_jobs(points(0), "s", "s", command=STAY)
        noted_pid(0)
        wait_for(source.running, "what is known of its start")  # The job may be further.
        source._scheduler.start_no_more("the disk is read-only")
        source.stop("cancelled by a person")
        assert states(source) == ["CANCELLED"]
        assert source.job(ids[0]).ending() == "cancelled by a person"


@pytest.mark.parametrize("method", ["started", "ended"])
def test_a_job_that_is_lost_has_crashed(method: str) -> None:
    settings = {"max_retries": 1, "retry_on": ["crashed"]}
    with faulty(method, JobLost("the node is gone"), **settings) as source:
        source.submit_jobs(points(0), "s", "s", command="sleep 0.1")
        assert states(source) == ["COMPLETED"]
        lost, again = source.jobs()[0].attempts
    assert (lost.signal, lost.reason) == ("SIGKILL", "the node is gone")
    assert again.exit_code == 0


def test_a_job_that_is_lost_as_it_is_cancelled_is_cancelled() -> None:
    class Losing(PlainBackend):
        def attempt(self, work: Work, launch: Launch) -> PlainAttempt:
            return LosingAttempt(launch, None, self._folder)

    class LosingAttempt(PlainAttempt):
        is_told = False

        def ended(self, deadline: float | None) -> Ended | None:
            ended = super().ended(deadline)
            if ended is not None and not self.is_told:
                self.is_told = True
                raise JobLost("the node is gone")
            return ended

    with SweepSource(Losing(), resolve_local({"max_retries": 1}).conf) as source:
        (job_id,) = source.submit_jobs(points(0), "s", "s", command=STAY)
        noted_pid(0)
        source.cancel_job(job_id)
        assert states(source) == ["CANCELLED"]
        assert source.job(job_id).attempts[0].signal == "SIGKILL"


@pytest.mark.parametrize("method", ["attempt", "start", "started", "ended"])
def test_a_fault_of_the_place_itself_ends_one_job_and_leaves_nothing(method: str) -> None:
    """Only a job that had a process has failed."""
    with faulty(method, RuntimeError("a bug")) as source:
        source.submit_jobs(points(0, 1), "s", "s", command="sleep 0.1")
        assert states(source) == ["FAILED" if method == "ended" else "CANCELLED", "COMPLETED"]
        assert "a bug" in source.jobs()[0].ending()


def test_jobs_wait_for_room_until_there_is_some_or_nobody_wants_them() -> None:
    class Full(PlainBackend):
        def lack(self) -> str:
            return "" if has_room.is_set() else "there is no room"

    has_room = threading.Event()
    with SweepSource(Full(), resolve_local({"max_parallel_jobs": 1}).conf) as source:
        ids = source.submit_jobs(points(0, 1), "s", "s", command="true")
        assert source.cancel_job(ids[0])
        assert states(source, ids[:1]) == ["CANCELLED"]
        assert str(source.get_job_status(ids[1])) == "PENDING"
        has_room.set()
        assert states(source) == ["CANCELLED", "COMPLETED"]
        assert source.jobs()[0].attempts == []


def test_another_place_needs_nothing_of_this_machines(project_dir: Path) -> None:
    program = """
import sys
from hsm.core.settings.resolve import resolve_local
from hsm.core.engine.sweep_source import SweepSource
from plain_backend import PlainBackend

with SweepSource(PlainBackend(), resolve_local({}).conf) as source:
    source.submit_jobs([{"x": 0}], "s", "sweep", command="true")
print([name for name in sys.modules if name.startswith("hsm.core.local")])
"""
    (project_dir / "launcher.py").write_text(program)
    with start_python(project_dir, ["launcher.py"], FOLDERS) as launcher:
        done = launcher.finish()
    assert (done.code, done.out, done.states) == (0, "[]\n", ["COMPLETED"]), done.screen


# --- the launcher's death ---------------------------------------------------------------------

LAUNCHER = """
import sys
from contract_support import Place
from contract_jobs import DEAF

source = Place(sys.argv[1]).source()
source.submit_jobs([{"x": 0}, {"x": 1}], "s", "sweep", command=DEAF)
source.wait()
"""


def test_if_the_launcher_is_killed_its_jobs_go(place: Place, project_dir: Path) -> None:
    (project_dir / "launcher.py").write_text(LAUNCHER)
    with start_python(project_dir, ["launcher.py", place.name], FOLDERS) as launcher:
        pids = [noted_pid(0), noted_pid(1)]
        # On record, a job is in the place's care; the plain one looks after it only from then on.
        wait_for(lambda: _states("sweep") == ["RUNNING"] * 2, "the record of their starts")
        launcher.process.send_signal(signal.SIGKILL)
        wait_for(lambda: not any(map(is_running, pids)), "the jobs' ends")
        launcher.assert_all_gone(PATIENCE)
    assert _states("sweep") == ["CANCELLED"] * 2


def _states(sweep_dir: str) -> list[str]:
    return [str(job.state) for job in read_sweep(sweep_dir).jobs.values()]


def test_a_program_that_just_ends_waits_for_its_jobs(place: Place, project_dir: Path) -> None:
    program = LAUNCHER.replace("DEAF)", '["sleep", "0.2"])').replace("source.wait()", "")
    (project_dir / "launcher.py").write_text(program)
    with start_python(project_dir, ["launcher.py", place.name], FOLDERS) as launcher:
        done = launcher.finish()
    assert (done.code, done.states) == (0, ["COMPLETED"] * 2), done.screen
    assert done.sweep.closed == "finished"
