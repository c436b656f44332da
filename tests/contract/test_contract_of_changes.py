"""Whatever the place, jobs obey while they run: pauses, limits, priorities, resources."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from contract_jobs import STAY
from contract_support import Place, Recorder, journal_events, points, states
from helpers.processes import is_running, wait_for
from hsm import read_sweep
from hsm.core.engine.sweep_source import SweepSource
from hsm.core.errors import SettingsError

pytestmark = pytest.mark.thorough

#: Notes the job's number and the time when it starts and when it ends.
NOTED = 'echo "start $HSM_JOB_NUM" >> noted; sleep 0.05; echo "end $HSM_JOB_NUM" >> noted'
#: Prints, in a child of its own, too, until the file "go" is there.
TICKS = "(until [ -e go ]; do echo child; sleep 0.02; done) & until [ -e go ]; do sleep 0.02; done"


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


def running(source: SweepSource) -> list[int]:
    return [job.num for job in source.running()]


def are_running(source: SweepSource, *nums: int) -> None:
    wait_for(lambda: running(source) == list(nums), f"jobs {nums} to run")


def tree(source: SweepSource, job_id: str) -> list[psutil.Process]:
    """A job's process and what is below it."""
    attempts = wait_for(lambda: source.job(job_id).attempts, "its start")
    process = psutil.Process(attempts[-1].pid)
    return [process, *process.children(recursive=True)]


#: In vfork(2), a process waits for its stopped child in the kernel; what has ended waits for its
#: stopped parent.
STILL = (psutil.STATUS_STOPPED, psutil.STATUS_DISK_SLEEP, psutil.STATUS_ZOMBIE)


def are_stopped(processes: list[psutil.Process]) -> bool:
    return all(map(stands_still, processes))


def stands_still(process: psutil.Process) -> bool:
    try:
        return process.status() in STILL
    except psutil.NoSuchProcess:  # It ended as it was looked at.
        return True


# --- pauses -----------------------------------------------------------------------------------


def test_during_a_pause_no_job_starts_and_those_that_run_end(place: Place) -> None:
    with place.source(max_parallel_jobs=1) as source:
        ids = source.submit_jobs(points(0, 1), "s", "s", command=sh("until [ -e go ]; do :; done"))
        are_running(source, 0)
        source.pause()
        Path("go").touch()
        assert states(source, ids[:1]) == ["COMPLETED"]
        assert str(source.get_job_status(ids[1])) == "PENDING"
        assert source.explain(ids[1]) == ["it waits for the sweep to be continued: it is paused"]
        source.unpause()
        assert states(source) == ["COMPLETED"] * 2


def test_what_the_app_itself_asks_for_is_recorded_and_told_like_a_request(place: Place) -> None:
    recorder = Recorder()
    with place.source(recorder, max_parallel_jobs=1) as source:
        source.pause()
        ids = source.submit_jobs(points(0, 1, 2), "s", "s", command="true")
        source.change(max_parallel_jobs=2, timeout=60, max_retries=1)
        source.set_priority(ids[1:], 3)
        assert source.cancel_pending() == 3
        source.unpause()
        assert states(source) == ["CANCELLED"] * 3
    asked = [event for event in journal_events("s") if event["event"] == "control"]
    assert [event["request"] for event in asked] == [
        *("pause", "set", "priority", "cancel", "continue"),
    ]
    assert asked[2]["jobs"] == [1, 2]
    assert recorder.messages == [
        "paused: no job starts until hsm continue",
        "at most 2 jobs at once, a time limit of 1:00 per job, 1 retry per job from now on",
        "priority 3 for job 1-2",
        "3 pending jobs cancelled",
        "continued",
    ]
    assert read_sweep("s").asked.changes == {
        "max_parallel_jobs": 2,
        "timeout": 60.0,
        "max_retries": 1,
    }


def test_paused_jobs_stand_still_with_their_children_and_so_do_their_time_limits(
    place: Place,
) -> None:
    limit = 1.0
    with place.source(timeout=limit) as source:
        (job_id,) = source.submit_jobs(points(0), "s", "s", command=sh(TICKS))
        wait_for(lambda: len(tree(source, job_id)) >= 2, "its child")
        source.pause(running=True)
        processes = tree(source, job_id)
        wait_for(lambda: are_stopped(processes), "all its processes to be stopped")
        (shown,) = source.running()
        later = time.monotonic() + 2 * limit
        wait_for(lambda: time.monotonic() > later, "the time at which it would have ended")
        assert are_stopped(processes)
        assert source.running()[0].elapsed == pytest.approx(shown.elapsed, abs=0.2)
        Path("go").touch()
        source.unpause()
        assert states(source) == ["COMPLETED"]
        assert (source.job(job_id).duration or 9.0) < 2 * limit


def test_the_time_limit_of_a_job_that_was_paused_still_ends_it(place: Place) -> None:
    with place.source(timeout=0.5) as source:
        source.submit_jobs(points(0), "s", "s", command=STAY)
        are_running(source, 0)
        source.pause(running=True)
        source.unpause()
        assert states(source) == ["TIMEOUT"]


def test_a_job_that_is_started_as_running_jobs_are_paused_stands_still(place: Place) -> None:
    """Its start was already under way."""
    source_of: list[SweepSource] = []

    def pause(_: Any) -> None:
        source_of[0].pause(running=True)

    with place.source(Recorder(started=pause), max_parallel_jobs=2) as source:
        source_of.append(source)
        ids = source.submit_jobs(points(0), "s", "s", command=STAY)
        wait_for(lambda: are_stopped(tree(source, ids[0])), "it to be stopped")
        source.cancel_job(ids[0])
        assert states(source) == ["CANCELLED"]


def test_a_paused_job_that_is_cancelled_goes_on_to_handle_its_sigterm(place: Place) -> None:
    script = (
        "trap 'echo saved > saved; exit 3' TERM; echo ready > ready; while :; do sleep 0.02; done"
    )
    with place.source(kill_grace=30) as source:
        ids = source.submit_jobs(points(0), "s", "s", command=sh(script))
        wait_for(Path("ready").exists, "the job's handler")
        source.pause(running=True)
        wait_for(lambda: are_stopped(tree(source, ids[0])), "it to be stopped")
        assert source.cancel_job(ids[0])
        assert states(source) == ["CANCELLED"]
    assert Path("saved").read_text() == "saved\n"


def test_a_source_that_is_left_during_a_pause_leaves_nothing(place: Place) -> None:
    with place.source(kill_grace=0.5) as source:
        ids = source.submit_jobs(points(0, 1, 2), "s", "s", command=STAY)
        are_running(source, 0, 1)
        source.pause(running=True)
        pids = [process.pid for job_id in ids[:2] for process in tree(source, job_id)]
        source.close(cancel=True)
        assert states(source) == ["CANCELLED"] * 3
    assert not any(map(is_running, pids))


# --- limits -----------------------------------------------------------------------------------


def test_more_jobs_run_at_once_and_fewer_as_they_end(place: Place) -> None:
    command = sh("until [ -e go-$HSM_JOB_NUM ]; do sleep 0.02; done")
    with place.source(max_parallel_jobs=1) as source:
        ids = source.submit_jobs(points(*range(5)), "s", "s", command=command)
        are_running(source, 0)
        source.change(max_parallel_jobs=3)
        are_running(source, 0, 1, 2)
        source.change(max_parallel_jobs=1)
        for num in (1, 2):
            Path(f"go-{num}").touch()
            assert states(source, [ids[num]]) == ["COMPLETED"]
        assert running(source) == [0]
        Path("go-0").touch()
        are_running(source, 3)
        for num in (3, 4):
            Path(f"go-{num}").touch()
        assert states(source) == ["COMPLETED"] * 5


def test_at_once_the_youngest_end_and_run_again_which_costs_no_retry(place: Place) -> None:
    command = sh("until [ -e go ]; do sleep 0.02; done; [ $HSM_JOB_NUM != 2 ]")
    with place.source(max_parallel_jobs=1, max_retries=1, retry_delay=0) as source:
        ids = source.submit_jobs(points(0, 1, 2, 3), "s", "s", command=command)
        for limit in (1, 2, 3):
            source.change(max_parallel_jobs=limit)
            are_running(source, *range(limit))
        source.change(max_parallel_jobs=1, now=True)
        are_running(source, 0)

        def all_wait() -> bool:
            return {str(source.get_job_status(job_id)) for job_id in ids[1:]} == {"PENDING"}

        wait_for(all_wait, "the others to wait")  # They do so later than they are gone.
        Path("go").touch()
        assert states(source) == ["COMPLETED", "COMPLETED", "FAILED", "COMPLETED"]
        attempts = [len(source.job(job_id).attempts) for job_id in ids]
        assert attempts == [1, 2, 3, 1]  # job 2 has failed twice besides
    sweep = read_sweep("s")
    assert [len(job.attempts) for job in sweep.jobs.values()] == attempts
    assert sweep.problems == []
    made_room = sweep.jobs[1].attempts[0]
    assert made_room.reason == "ended as only 1 may run at once; runs again"
    starts = [event["job"] for event in journal_events("s") if event["event"] == "start"]
    assert starts[3:6] == [1, 2, 3] or starts[3:6] == [1, 2, 2]  # before the one that never ran


def test_a_time_limit_that_is_set_later_ends_a_running_job_and_one_that_is_lifted_does_not(
    place: Place,
) -> None:
    with place.source(timeout=0.7) as source:
        command = sh("until [ -e go ]; do sleep 0.02; done")
        (first,) = source.submit_jobs(points(0), "s", "s", command=command)
        are_running(source, 0)
        source.change(timeout=None)
        later = time.monotonic() + 1.4
        wait_for(lambda: time.monotonic() > later, "the time at which it would have ended")
        assert running(source) == [0]
        source.change(timeout=0.1)
        assert states(source, [first]) == ["TIMEOUT"]
        assert source.job(first).ending() == "timeout after 0.1 s"


def test_the_number_of_retries_may_change(place: Place) -> None:
    command = sh('[ -e "seen-$HSM_ATTEMPT" ] || until [ -e go ]; do sleep 0.02; done; exit 1')
    with place.source(retry_delay=0) as source:
        (job_id,) = source.submit_jobs(points(0), "s", "s", command=command)
        are_running(source, 0)
        source.change(max_retries=2)
        Path("go").touch()
        assert states(source) == ["FAILED"]
        assert len(source.job(job_id).attempts) == 3


@pytest.mark.parametrize("given", [{"max_parallel_jobs": 0}, {"timeout": -1}, {"max_retries": -1}])
def test_a_change_to_a_value_that_is_not_allowed_is_refused(
    place: Place, given: dict[str, Any]
) -> None:
    ((name, value),) = given.items()
    with place.source() as source, pytest.raises(SettingsError) as refused:
        source.change(**given)
    assert str(refused.value).startswith(f"argument {name} must be ")
    assert str(refused.value).endswith(f", not {value}")


# --- the order --------------------------------------------------------------------------------


def test_jobs_of_a_higher_priority_start_first(place: Place) -> None:
    with place.source(max_parallel_jobs=1) as source:
        source.pause()
        ids = source.submit_jobs(points(*range(5)), "s", "s", command=sh(NOTED))
        source.set_priority([ids[4], ids[2]], 5)
        source.set_priority([ids[0]], -5)
        with pytest.raises(KeyError):
            source.set_priority([ids[1], "nobody"], 9)
        source.unpause()
        assert states(source) == ["COMPLETED"] * 5
    order = [line for line in Path("noted").read_text().split() if line.isdigit()]
    assert order[::2] == ["2", "4", "1", "3", "0"]


def test_what_waits_can_be_cancelled_while_what_runs_goes_on(place: Place) -> None:
    command = sh("until [ -e go ]; do sleep 0.02; done; [ $HSM_JOB_NUM = 0 ]")
    with place.source(max_parallel_jobs=2, max_retries=1, retry_delay=3600) as source:
        ids = source.submit_jobs(points(*range(4)), "s", "s", command=command)
        are_running(source, 0, 1)
        assert source.cancel_pending() == 2
        assert states(source, ids[2:]) == ["CANCELLED"] * 2
        assert running(source) == [0, 1]
        Path("go").touch()
        wait_for(lambda: str(source.get_job_status(ids[1])) == "PENDING", "its wait for a retry")
        assert source.explain(ids[1]) == ["it waits for its retry_delay to end"]
        assert source.cancel_pending() == 1
        assert states(source) == ["COMPLETED", *["CANCELLED"] * 3]
        assert source.cancel_pending() == 0
    assert read_sweep("s").closed == "finished"


def test_no_job_starts_once_those_that_wait_are_cancelled(place: Place) -> None:
    with place.source(max_parallel_jobs=2) as source:
        source.pause()
        ids = source.submit_jobs(points(*range(200)), "s", "s", command="touch started")
        assert source.cancel_pending() == len(ids)
        source.unpause()
        assert source.cancel_pending() == 0
        assert states(source) == ["CANCELLED"] * len(ids)
    assert not list(Path("s").rglob("started"))


# --- what jobs need ---------------------------------------------------------------------------


def test_jobs_share_what_is_there_and_others_pass_them(place: Place) -> None:
    settings = {"resources": {"licence": 2}, "needs": {"licence": 1}, "max_parallel_jobs": 4}
    with place.source(**settings) as source:
        own: list[dict[str, Any]]
        own = [{"x": 0, "_needs_": {"licence": 2}}, {"x": 1}, {"x": 2}, {"x": 3}]
        own.append({"x": 4, "_needs_": {"licence": 0}})
        command = sh("until [ -e go-$HSM_JOB_NUM ]; do sleep 0.02; done")
        source.submit_jobs(own, "s", "s", command=command)
        are_running(source, 0, 4)
        Path("go-0").touch()
        are_running(source, 1, 2, 4)
        for num in (1, 2, 3, 4):
            Path(f"go-{num}").touch()
        assert states(source) == ["COMPLETED"] * 5


def test_starts_are_apart(place: Place) -> None:
    with place.source(start_delay=0.3, max_parallel_jobs=3) as source:
        source.submit_jobs(points(0, 1, 2), "s", "s", command="true")
        assert states(source) == ["COMPLETED"] * 3
        starts = sorted(job.attempts[0].started or 0.0 for job in source.jobs())
    assert all(later - earlier > 0.2 for earlier, later in itertools.pairwise(starts))


def test_what_jobs_wait_for_is_told(place: Place) -> None:
    with place.source(max_parallel_jobs=1) as source:
        ids = source.submit_jobs(points(0, 1, 2), "s", "s", command=STAY)
        are_running(source, 0)
        assert source.explain(ids[0]) == ["it waits for nothing: it is running"]
        assert source.explain(ids[1]) == [
            "it waits for a place: 1 place is taken (max_parallel_jobs)"
        ]
        assert source.explain(ids[2]) == [
            "it waits for a place: 1 place is taken (max_parallel_jobs); 1 job is before it"
        ]
        assert source.explain() == [
            "1 running, 2 waiting; at most 1 run at once",
            "jobs 1-2 wait for a place: 1 place is taken (max_parallel_jobs)",
        ]
        with pytest.raises(KeyError):
            source.explain("nobody")
        source.stop("enough")
