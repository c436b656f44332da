"""A sweep that is resumed: what completed is not run again, and what is missing is."""

from __future__ import annotations

import json
import os
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from helpers.processes import wait_for
from helpers.reliability import Recorder, points, side_lines, source, start_driver, write_driver
from hsm.core.errors import SettingsError
from hsm.core.record.job import JobFailed, JobState
from hsm.core.record.journal import SweepInUse
from hsm.core.record.journal_header import JournalError
from hsm.core.record.lock import LockFile
from hsm.core.record.paths import SweepPaths
from hsm.core.record.resume import SweepChanged, open_sweep
from hsm.core.record.sweep import read_sweep

pytestmark = pytest.mark.thorough

# --- through the API --------------------------------------------------------------------------


def double(params: dict[str, Any]) -> Any:
    """Fails while a file named after the point is there."""
    with open(os.path.join(os.environ["HSM_SWEEP_DIR"], "side"), "a") as file:
        file.write(json.dumps(params) + "\n")
    if os.path.exists(os.path.join(os.environ["HSM_SWEEP_DIR"], f"fail-{params['x']}")):
        raise ValueError(f"cannot do {params['x']}")
    return {"of": params["x"], "bytes": bytes([params["x"]])}  # not for JSON


def ran(sweep_dir: Path) -> list[int]:
    return sorted(line["x"] for line in side_lines(sweep_dir))


def sweep_of(
    sweep_dir: Path, values: list[int], *observers: Any, **settings: Any
) -> dict[int, JobState]:
    with source(*observers, **settings) as made:
        ids = made.submit_jobs(points(*values), "s", sweep_dir, function=double)
        states = list(made.wait().values())
        for job_id, value, state in zip(ids, values, states, strict=True):
            if state is JobState.COMPLETED:
                assert made.result(job_id) == {"of": value, "bytes": bytes([value])}
            else:
                with pytest.raises(JobFailed, match=f"cannot do {value}"):
                    made.result(job_id)
    return dict(zip(values, states, strict=True))


def test_what_completed_is_not_run_again_and_gives_its_value(tmp_path: Path) -> None:
    (tmp_path / "fail-1").touch()
    (tmp_path / "fail-3").touch()
    assert sweep_of(tmp_path, [0, 1, 2, 3])[1] is JobState.FAILED
    (tmp_path / "fail-1").unlink()
    recorder = Recorder()
    states = sweep_of(tmp_path, [0, 1, 2, 3], recorder, resume=True)
    assert [str(state) for state in states.values()] == ["COMPLETED"] * 3 + ["FAILED"]
    assert ran(tmp_path) == [0, 1, 1, 2, 3, 3]
    assert sorted(num for event, num in recorder.events if event == "ended") == [1, 3]
    assert recorder.messages == ["2 of 4 jobs are already done and will not run again"]
    jobs = read_sweep(tmp_path).jobs
    assert [len(job.attempts) for job in jobs.values()] == [1, 2, 1, 2]
    assert list(jobs) == [0, 1, 2, 3]


def test_points_may_be_added_taken_away_reordered_and_repeated(tmp_path: Path) -> None:
    sweep_of(tmp_path, [5, 6, 7, 7])
    states = sweep_of(tmp_path, [8, 7, 6, 7, 7, 9], resume=True)
    assert set(states.values()) == {JobState.COMPLETED}
    assert ran(tmp_path) == [5, 6, 7, 7, 7, 8, 9]
    jobs = read_sweep(tmp_path).jobs
    assert {num: job.params["x"] for num, job in jobs.items()} == dict(
        enumerate([5, 6, 7, 7, 8, 7, 9])
    )
    assert {str(job.state) for job in jobs.values()} == {"COMPLETED"}


def test_a_third_life_knows_both_earlier_ones(tmp_path: Path) -> None:
    sweep_of(tmp_path, [0, 1])
    sweep_of(tmp_path, [1, 2], resume=True)
    sweep_of(tmp_path, [0, 2, 3], resume=True)
    assert ran(tmp_path) == [0, 1, 2, 3]
    assert list(read_sweep(tmp_path).jobs) == [0, 1, 2, 3]


def test_resuming_where_there_is_no_sweep_begins_one(tmp_path: Path) -> None:
    sweep_of(tmp_path / "new", [0, 1], resume=True)
    assert ran(tmp_path / "new") == [0, 1]


def test_a_sweep_is_not_resumed_unasked(tmp_path: Path) -> None:
    sweep_of(tmp_path, [0])
    with source() as made, pytest.raises(SettingsError, match="resume"):
        made.submit_jobs(points(0), "s", tmp_path, function=double)
    with source() as made:
        made.submit_jobs(points(0), "s", tmp_path, function=double, resume=True)
    assert ran(tmp_path) == [0]


@pytest.mark.parametrize(("rerun", "count"), [("all", 2), ("timeout", 1), ("failed", 1)])
def test_rerun_all_runs_what_completed_as_well(tmp_path: Path, rerun: str, count: int) -> None:
    sweep_of(tmp_path, [0, 1])
    sweep_of(tmp_path, [0, 1], resume=True, rerun=rerun)
    assert Counter(ran(tmp_path)) == {0: count, 1: count}


def test_a_job_that_is_not_to_run_again_gives_the_error_that_it_had(tmp_path: Path) -> None:
    (tmp_path / "fail-1").touch()
    sweep_of(tmp_path, [0, 1])
    assert sweep_of(tmp_path, [0, 1], resume=True, rerun="timeout")[1] is JobState.FAILED
    assert ran(tmp_path) == [0, 1]


def test_a_resumed_sweep_gives_each_job_its_retries_anew(tmp_path: Path) -> None:
    (tmp_path / "fail-1").touch()
    retries = {"max_retries": 2, "retry_delay": 0}
    sweep_of(tmp_path, [1], **retries)
    sweep_of(tmp_path, [1], resume=True, **retries)
    assert len(read_sweep(tmp_path).jobs[1 - 1].attempts) == 6
    assert ran(tmp_path) == [1] * 6


def test_more_jobs_of_a_resumed_sweep_do_not_take_the_numbers_of_old_ones(tmp_path: Path) -> None:
    """Of ten jobs two are submitted again; the next new one is number ten."""
    sweep_of(tmp_path, list(range(10)))
    with source(resume=True) as made:
        made.submit_jobs(points(0, 1), "s", tmp_path, function=double)
        (job_id,) = made.submit_jobs(points(77), "s", tmp_path, function=double)
        assert made.result(job_id)["of"] == 77
        assert made.job(job_id).num == 10
    jobs = read_sweep(tmp_path).jobs
    assert [job.params["x"] for job in jobs.values()] == [*range(10), 77]


def test_a_resumed_sweep_may_be_submitted_in_batches(tmp_path: Path) -> None:
    sweep_of(tmp_path, [0, 1, 2, 3])
    with source(resume=True) as made:
        for values in ([3, 2], [1, 0], [4]):
            ids = made.submit_jobs(points(*values), "s", tmp_path, function=double)
            assert [made.result(job_id)["of"] for job_id in ids] == values
    assert ran(tmp_path) == [0, 1, 2, 3, 4]


def test_batches_of_a_resumed_sweep_may_overlap(tmp_path: Path) -> None:
    """When the second one is recorded, jobs of the first one run."""
    wait = ["sh", "-c", f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done"]
    recorder = Recorder()
    with source() as made:
        (job_id,) = made.submit_jobs(points(0), "s", tmp_path / "sweep", command=wait)
        made.cancel_job(job_id)
    with source(recorder, resume=True) as made:
        made.submit_jobs(points(0), "s", tmp_path / "sweep", command=wait)
        wait_for(lambda: recorder.has("started", 0), "its start")
        made.submit_jobs(points(1), "s", tmp_path / "sweep", command=wait)
        (tmp_path / "go").touch()
        assert set(made.wait().values()) == {JobState.COMPLETED}
    sweep = read_sweep(tmp_path / "sweep")
    assert sweep.problems == []
    assert {str(job.state) for job in sweep.jobs.values()} == {"COMPLETED"}


def test_a_command_that_completed_is_not_run_again(tmp_path: Path) -> None:
    command = ["sh", "-c", 'echo {{\\"x\\": {x}}} >> "$HSM_SWEEP_DIR/side"; [ {x} != 1 ]']
    for _ in range(2):
        with source() as made:
            ids = made.submit_jobs(points(0, 1, 2), "s", tmp_path, command=command, resume=True)
            states = [str(state) for state in made.wait().values()]
            assert states == ["COMPLETED", "FAILED", "COMPLETED"]
            assert made.result(ids[0]) is None
    assert ran(tmp_path) == [0, 1, 1, 2]


def test_a_script_that_has_changed_is_refused_with_what_differs(tmp_path: Path) -> None:
    script = tmp_path / "fit.py"
    script.write_text("import sys\nprint(sys.argv[1], 'rate', 1)\n")
    sweep_dir = tmp_path / "sweep"
    with source() as made:
        made.submit_jobs(points(0), "s", sweep_dir, script=script)
    script.write_text("import sys\nprint(sys.argv[1], 'rate', 2)\n")
    with source() as made, pytest.raises(SweepChanged) as caught:
        made.submit_jobs(points(0, 1), "s", sweep_dir, script=script, resume=True)
    assert caught.value.differences == [
        "fit.py has changed:",
        "  -print(sys.argv[1], 'rate', 1)",
        "  +print(sys.argv[1], 'rate', 2)",
    ]
    assert "accept_changes=True" in str(caught.value)
    assert len(read_sweep(sweep_dir).jobs) == 1
    with source(accept_changes=True) as made:
        made.submit_jobs(points(0, 1), "s", sweep_dir, script=script, resume=True)
    jobs = read_sweep(sweep_dir).jobs
    assert [len(job.attempts) for job in jobs.values()] == [1, 1]
    assert SweepPaths(sweep_dir).stdout(0).read_text() == "x=0 rate 1\n"
    assert SweepPaths(sweep_dir).stdout(1).read_text() == "x=1 rate 2\n"


def test_a_refused_resume_leaves_no_lock_and_no_trace(tmp_path: Path) -> None:
    sweep_of(tmp_path, [0])
    before = SweepPaths(tmp_path).journal.read_bytes()
    changed = {"files": {Path(__file__).name: "another text\n"}}
    SweepPaths(tmp_path).launched.write_text(json.dumps(changed))
    with source() as made, pytest.raises(SweepChanged):
        made.submit_jobs(points(0), "s", tmp_path, function=double, resume=True)
    assert SweepPaths(tmp_path).journal.read_bytes() == before
    LockFile(SweepPaths(tmp_path).lock).release()


def test_a_sweep_that_is_not_there_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="no sweep in"):
        open_sweep(SweepPaths(tmp_path), "all", {}, {}, accept_changes=False)


# --- when the launcher was killed -------------------------------------------------------------

_DRIVER = """
def job(params):
    wait_for(f"go-{params['x']}")
    side(params)
    return params["x"] ** 2


points = [{"x": x} for x in range(int(sys.argv[2]))]
with source(resume=True, start_method="fork") as made:
    ids = made.submit_jobs(points, "s", "sweep", function=job)
    note("submitted")
    print(json.dumps([made.result(job_id) for job_id in ids]))
"""


def let_go(folder: Path, *numbers: int) -> None:
    for number in numbers:
        (folder / f"go-{number}").touch()


def test_a_sweep_killed_at_half_completes_with_each_point_run_once(tmp_path: Path) -> None:
    write_driver(tmp_path, _DRIVER)
    with start_driver(tmp_path, {}, "8") as sweep:
        sweep.wait_for_files("submitted")
        let_go(tmp_path, 0, 1, 2, 3)
        for num in range(4):
            sweep.wait_until_ended(num)
        sweep.process.kill()
        sweep.assert_all_gone()
        left = sweep.read()
    assert [str(job.state) for job in left.jobs.values()] == ["COMPLETED"] * 4 + ["CANCELLED"] * 4
    assert left.jobs[4].ending() == left.jobs[7].ending() == "launcher died"
    assert f"process {sweep.process.pid} on" in left.paths.lock.read_text()  # stale by now
    let_go(tmp_path, *range(8))
    with start_driver(tmp_path, {}, "8") as sweep:
        done = sweep.finish()
    assert (done.code, json.loads(done.out)) == (0, [x**2 for x in range(8)])
    assert done.states == ["COMPLETED"] * 8
    assert Counter(line["x"] for line in side_lines(tmp_path)) == dict.fromkeys(range(8), 1)


def test_a_second_launcher_is_refused_with_the_firsts_pid_and_host(tmp_path: Path) -> None:
    write_driver(tmp_path, _DRIVER)
    with start_driver(tmp_path, {}, "1") as sweep:
        sweep.wait_for_files("submitted")
        journal = SweepPaths(tmp_path / "sweep").journal
        started = '"event":"start","job":0,'
        wait_for(lambda: started in journal.read_text(), "the start of its job")
        before = journal.read_bytes()
        with source() as made, pytest.raises(SweepInUse) as caught:
            made.submit_jobs(points(0), "s", tmp_path / "sweep", function=double, resume=True)
        owner = f"process {sweep.process.pid} on {socket.gethostname()}"
        assert str(caught.value) == f"{tmp_path / 'sweep'} is in use by {owner}"
        assert journal.read_bytes() == before  # Its one job waits: the first writes nothing.
        let_go(tmp_path, 0)
        assert sweep.finish().code == 0


def test_a_lock_file_that_names_somebody_who_does_not_hold_it_is_stale(tmp_path: Path) -> None:
    sweep_of(tmp_path, [0])
    SweepPaths(tmp_path).lock.write_text(f"process {os.getppid()} on elsewhere")
    assert not read_sweep(tmp_path).alive
    sweep_of(tmp_path, [0, 1], resume=True)
    assert ran(tmp_path) == [0, 1]
