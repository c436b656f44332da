"""Whatever the place, the record of a sweep is the same, and all that reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract_jobs import FLAKY, STAY, double
from contract_support import Place, Recorder, journal_events, noted_pid, points, states
from helpers.processes import wait_for
from hsm import HsmError, JobManager, JobState, SettingsError, collect_results, read_sweep
from hsm.core.record.paths import SweepPaths

#: Leaves a line each time; x=1 fails until there is a file "go".
RUN = ["sh", "-c", "echo {x} >> ran; [ {x} != 1 ] || [ -e go ]"]


# --- the journal ------------------------------------------------------------------------------


def test_the_journal_tells_the_story_in_order(place: Place) -> None:
    with place.source(max_retries=1, retry_delay=0) as source:
        source.submit_jobs(points(2, 9), "s", "s", command=FLAKY)
        states(source)
    events = journal_events("s")
    assert [events[0]["event"], events[1]["event"]] == ["sweep", "submit"]
    assert [job["id"] for job in events[1]["jobs"]] == ["s_0", "s_1"]
    assert (events[-1]["event"], events[-1]["reason"]) == ("close", "finished")
    for num, end in ((0, "COMPLETED"), (1, "FAILED")):
        mine = [event for event in events if event.get("job") == num]
        assert [event["event"] for event in mine] == ["start", "retry", "start", "end"]
        assert [event["attempt"] for event in mine] == [1, 1, 2, 2]
        assert (mine[1]["state"], mine[1]["exit_code"], mine[3]["state"]) == ("FAILED", 1, end)


def test_the_jobs_and_their_replay_agree(place: Place) -> None:
    with place.source(max_retries=1, retry_delay=0) as source:
        source.submit_jobs(points(1, 2, 9), "s", "s", command=FLAKY)
        source.submit_jobs(points(4), "s", "s", function=double)
        source.submit_jobs(points("nowhere-to-be-found"), "s", "s", command=["{x}"])
        states(source)
        live = source.jobs()
    sweep = read_sweep("s")
    for job in sweep.jobs.values():
        job.job_dir = SweepPaths("s").job_dir(job.num)  # follows from the number
    assert (list(sweep.jobs.values()), sweep.problems) == (live, [])


def test_a_sweep_can_be_read_while_it_runs(place: Place) -> None:
    with place.source(max_parallel_jobs=1) as source:
        source.submit_jobs(points(0, 1), "s", "s", command=STAY)
        pid = noted_pid(0)  # A job may run before the journal says so.
        wait_for(lambda: read_sweep("s").jobs[0].attempts, "the start in the journal")
        sweep = read_sweep("s")
        assert (sweep.alive, sweep.closed) == (True, None)
        assert [str(job.state) for job in sweep.jobs.values()] == ["RUNNING", "PENDING"]
        assert sweep.jobs[0].attempts[0].pid == pid
        source.stop("enough")
    assert (read_sweep("s").alive, read_sweep("s").closed) == (False, "enough")


def test_closing_with_cancel_says_so(place: Place) -> None:
    source = place.source()
    source.submit_jobs(points(0), "s", "s", command=STAY)
    noted_pid(0)
    source.close(cancel=True)
    assert read_sweep("s").closed == "cancelled"


def test_observers_are_told_in_order(place: Place) -> None:
    recorder = Recorder()
    with place.source(recorder, max_retries=1, retry_delay=0) as source:
        source.submit_jobs(points(2, 1), "s", "s", command=FLAKY)
        states(source)
    assert recorder.of(0) == ["submitted", "started", "retried", "started", "ended"]
    assert recorder.of(1) == ["submitted", "started", "ended"]


def test_two_sweeps_of_one_source_cannot_have_one_id(place: Place) -> None:
    """Their jobs' ids would be the same."""
    with place.source() as source:
        first = source.submit_jobs(points(1), "s", "first", command=RUN)
        with pytest.raises(HsmError, match=r"^this source has a sweep s already, in .*/first$"):
            source.submit_jobs(points(2), "s", "second", command=RUN)
        other = source.submit_jobs(points(2), "other", "third", command=RUN)
        assert [*first, *other] == ["s_0", "other_0"]
        assert len(source.wait()) == 2


# --- results ----------------------------------------------------------------------------------


def test_results_are_a_table(place: Place) -> None:
    write = 'echo \'{{"loss": {x}}}\' > "$HSM_JOB_DIR/results.json"; exit {x}'
    with place.source() as source:
        source.submit_jobs(points(1, 2), "s", "s", function=double)
        source.submit_jobs(points(0, 3), "s", "s", command=["sh", "-c", write])
        states(source)
    rows = list(collect_results("s"))
    assert [(row["job"], row["x"]) for row in rows] == [(0, 1), (1, 2), (2, 0), (3, 3)]
    assert [row["state"] for row in rows] == ["COMPLETED"] * 3 + ["FAILED"]
    assert [row["value"] for row in rows] == [2, 4, None, None]
    assert [row["loss"] for row in rows] == [None, None, 0, 3]
    assert [row["exit_code"] for row in rows] == [0, 0, 0, 3]
    assert [row["attempts"] for row in rows] == [1] * 4


# --- resume -----------------------------------------------------------------------------------


def first_life(place: Place) -> None:
    """A sweep of two commands, of which the second fails."""
    with place.source() as source:
        source.submit_jobs(points(0, 1), "s", "s", command=RUN)
        assert states(source) == ["COMPLETED", "FAILED"]


def second_life(place: Place) -> None:
    """Go on with it in a fresh source, with one job more."""
    Path("go").touch()
    with place.source() as source:
        ids = source.submit_jobs(points(0, 1, 2), "other", "s", command=RUN, resume=True)
        assert ids == ["s_0", "s_1", "s_2"]
        assert states(source) == ["COMPLETED"] * 3


def test_a_resumed_sweep_runs_what_has_not_completed(place: Place) -> None:
    first_life(place)
    second_life(place)
    first, later = (Path("ran").read_text().split()[i:j] for i, j in ((0, 2), (2, None)))
    assert (sorted(first), sorted(later)) == (["0", "1"], ["1", "2"])
    sweep = read_sweep("s")
    assert [len(job.attempts) for job in sweep.jobs.values()] == [1, 2, 1]
    assert (sweep.closed, sweep.problems) == ("finished", [])
    assert [event["event"] for event in journal_events("s")].count("resume") == 1


@pytest.mark.parametrize("begun_in", ["local", "plain"])
def test_a_sweep_may_go_on_in_another_place(place: Place, begun_in: str) -> None:
    with Place(begun_in).source() as source:
        source.submit_jobs(points(1, 2), "s", "s", function=double)
        states(source)
    with place.source() as source:
        ids = source.submit_jobs(points(1, 2, 3), "s", "s", function=double, resume=True)
        assert [source.result(job_id) for job_id in ids] == [2, 4, 6]
    assert [len(job.attempts) for job in read_sweep("s").jobs.values()] == [1, 1, 1]


def test_a_directory_with_a_sweep_or_in_use_is_refused(place: Place) -> None:
    first_life(place)
    with place.source() as source:
        with pytest.raises(SettingsError, match="holds an earlier sweep"):
            source.submit_jobs(points(0), "s", "s", command="true")
        source.submit_jobs(points(0), "t", "t", command=STAY)
        with place.source() as other, pytest.raises(HsmError, match="in use"):
            other.submit_jobs(points(0), "t", "t", command="true")
        source.stop("enough")


# --- the job manager and the display ----------------------------------------------------------


def test_the_job_manager_runs_shows_and_collects(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    manager = JobManager()
    command = "sh -c 'echo bad >&2; exit {x}'"
    with place.source(max_parallel_jobs=1) as source:
        ids = manager.submit_sweep(points(0, 4), source, "mine", "s", command=command)
        found = manager.monitor_jobs(ids, source)
    assert found == {ids[0]: JobState.COMPLETED, ids[1]: JobState.FAILED}
    screen = capsys.readouterr().out
    for shown in ("job 1 FAILED", "exit code 4", "    bad\n", "2 jobs: 1 completed, 1 failed"):
        assert shown in screen
    assert [row["exit_code"] for row in manager.collect_results("s")] == [0, 4]


def test_output_is_shown_where_it_is_to_be(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    manager = JobManager()
    with place.source(show_output=True) as source:
        ids = manager.submit_sweep(points("a", "b"), source, "s", "s", command="echo is {x}")
        manager.monitor_jobs(ids, source)
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line for line in lines if "] is" in line) == ["[0] is a", "[1] is b"]
