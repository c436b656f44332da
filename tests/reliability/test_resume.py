"""A sweep that is resumed: what completed is not run again, and what is missing is."""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import socket
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reliability_support import (
    Recorder,
    journal_events,
    points,
    side_lines,
    source,
    start_driver,
    start_program,
    write_driver,
)

from hsm.core.errors import JobFailed, SettingsError
from hsm.core.job import Ending, Job, JobState
from hsm.core.journal import JournalError, Sweep, SweepInUse, read_sweep
from hsm.core.lock import LockFile
from hsm.core.paths import SweepPaths
from hsm.core.resume import (
    RERUN,
    Resumption,
    SweepChanged,
    describe_changes,
    identity,
    open_sweep,
    runs_again,
    save_files,
)
from support import App, wait_until
from sweep_support import PROFILE

FINAL = [state for state in JobState if state.is_final]

# --- matching ---------------------------------------------------------------------------------

_KEYS = st.text("ab", min_size=1, max_size=2)
_SCALARS = st.none() | st.booleans() | st.integers(-2, 2) | st.floats() | st.text("ab1", max_size=2)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.integers(0, 12) | st.none() | st.booleans() | _KEYS, inner, max_size=3)
    ),
    max_leaves=5,
)
#: Few different ones, so that there are repetitions.
_POINTS = st.lists(st.fixed_dictionaries({"x": st.integers(0, 4)}), max_size=12)


def one_key_each(value: Any) -> bool:
    """Whether JSON, whose keys are texts, keeps a dict's keys apart: not 1 and "1"."""
    if isinstance(value, dict):
        return len(json.loads(json.dumps(value))) == len(value) and all(
            map(one_key_each, value.values())
        )
    return all(map(one_key_each, value)) if isinstance(value, (list, tuple)) else True


@PROFILE
@given(st.dictionaries(_KEYS, _VALUES, max_size=4), st.randoms(use_true_random=False))
def test_parameters_are_known_again_from_the_journal_whatever_their_order(
    params: dict[str, Any], chance: random.Random
) -> None:
    if not one_key_each(params):
        return
    items = list(params.items())
    chance.shuffle(items)
    assert identity(dict(items)) == identity(json.loads(json.dumps(params)))


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, 1.0), (1, True), (0, False), (1, "1"), (None, "null"), ([1], [1.0]), ("", None)],
)
def test_different_values_are_different_points(one: Any, other: Any) -> None:
    assert identity({"x": one}) != identity({"x": other})


def earlier_sweep(before: list[dict[str, Any]], states: list[JobState]) -> Sweep:
    jobs = {}
    for num, params in enumerate(before):
        jobs[num] = job = Job(num, f"s_{num}", "", params)
        job.start(1.0, 42)
        job.end(2.0, Ending(states[num % len(states)]))
    return Sweep("s", SweepPaths("/nowhere"), {}, jobs)


@PROFILE
@given(
    _POINTS,
    st.lists(st.sampled_from(FINAL), min_size=12, max_size=12),
    _POINTS,
    st.sampled_from(sorted(RERUN)),
    st.integers(1, 5),
)
def test_each_point_gets_the_job_that_it_was_and_each_job_is_given_once(
    before: list[dict[str, Any]],
    states: list[JobState],
    now: list[dict[str, Any]],
    rerun: str,
    batch: int,
) -> None:
    sweep = earlier_sweep(before, states)
    matches = Resumption(sweep, rerun).match(now)
    by_batch = Resumption(sweep, rerun)
    assert matches == [
        match for i in range(0, len(now), batch) for match in by_batch.match(now[i : i + batch])
    ]
    assert len({match.num for match in matches}) == len(now)
    known = [match.job for match in matches if match.job is not None]
    in_both = Counter(map(identity, before)) & Counter(map(identity, now))
    assert Counter(identity(job.params) for job in known) == in_both
    for point, match in zip(now, matches, strict=True):
        if match.job is None:
            assert match.runs
            assert match.num >= len(before)
        else:
            assert match.num == match.job.num
            assert match.job.params == point
            assert match.runs == runs_again(match.job, rerun)


@PROFILE
@given(
    _POINTS,
    st.lists(st.sampled_from(FINAL), min_size=12, max_size=12),
    st.sampled_from(sorted(RERUN)),
)
def test_the_same_points_again_are_the_same_jobs(
    before: list[dict[str, Any]], states: list[JobState], rerun: str
) -> None:
    matches = Resumption(earlier_sweep(before, states), rerun).match(before)
    assert [match.num for match in matches] == list(range(len(before)))


@pytest.mark.parametrize(
    ("rerun", "again"),
    [
        ("unfinished", {"FAILED", "TIMEOUT", "OUT_OF_MEMORY", "CANCELLED"}),
        ("failed", {"FAILED", "OUT_OF_MEMORY", "CANCELLED"}),
        ("timeout", {"TIMEOUT", "CANCELLED"}),
        ("all", {"COMPLETED", "FAILED", "TIMEOUT", "OUT_OF_MEMORY", "CANCELLED"}),
    ],
)
def test_rerun_chooses_and_what_was_cancelled_always_runs(rerun: str, again: set[str]) -> None:
    sweep = earlier_sweep(points(*range(len(FINAL))), FINAL)
    assert {str(job.state) for job in sweep.jobs.values() if runs_again(job, rerun)} == again


# --- what has changed -------------------------------------------------------------------------


def test_changes_are_told_line_by_line() -> None:
    before = {"train.py": "a\nlr = 1\nb\n", "gone.yaml": "x: 1\n", "same.yaml": "y: 1\n"}
    now = {"train.py": "a\nlr = 2\nb\n", "same.yaml": "y: 1\n", "new.yaml": "z: 1\n"}
    assert describe_changes(before, now) == [
        "train.py has changed:",
        "  -lr = 1",
        "  +lr = 2",
        "gone.yaml is not there any more",
    ]


def test_lines_that_look_like_a_diffs_own_are_told_as_well() -> None:
    assert describe_changes({"a.yaml": "-- x\n"}, {"a.yaml": "++ y\n"}) == [
        "a.yaml has changed:",
        "  --- x",
        "  +++ y",
    ]


def test_a_change_of_the_last_newline_alone_is_told() -> None:
    lines = describe_changes({"a.yaml": "x: 1\n"}, {"a.yaml": "x: 1"})
    assert lines == ["a.yaml has changed:", "  (line ends only)"]


def test_of_many_changes_the_first_are_told() -> None:
    lines = describe_changes({"a": "x\n" * 100}, {"a": ""})
    assert len(lines) == 21
    assert lines[-1] == "(and 81 lines more)"


def test_files_that_are_too_long_are_not_kept_and_the_others_are(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path)
    paths.create()
    save_files(paths, {"small.yaml": "a: 1", "large.py": "x" * (2 << 20), "last.yaml": "b: 1"})
    kept = json.loads(paths.launched.read_text())["files"]
    assert kept == {"small.yaml": "a: 1", "last.yaml": "b: 1"}


def test_files_that_are_known_later_are_added_and_the_first_texts_stay(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path)
    paths.create()
    save_files(paths, {"config.yaml": "a: 1"})
    save_files(paths, {"config.yaml": "a: 2", "model.yaml": "b: 1"})
    kept = json.loads(paths.launched.read_text())["files"]
    assert kept == {"config.yaml": "a: 1", "model.yaml": "b: 1"}
    assert list(paths.hsm_dir.glob("*.tmp")) == []


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
    assert recorder.messages == ["2 of 4 jobs had ended before: they do not run again"]
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
        wait_until(lambda: recorder.has("started", 0), 30, "its start")
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
        sweep.assert_all_gone(5)
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
        before = journal_events(tmp_path / "sweep")
        with source() as made, pytest.raises(SweepInUse) as caught:
            made.submit_jobs(points(0), "s", tmp_path / "sweep", function=double, resume=True)
        owner = f"process {sweep.process.pid} on {socket.gethostname()}"
        assert str(caught.value) == f"{tmp_path / 'sweep'} is in use by {owner}"
        assert [*before, *journal_events(tmp_path / "sweep")[len(before) :]] == journal_events(
            tmp_path / "sweep"
        )
        let_go(tmp_path, 0)
        assert sweep.finish().code == 0


def test_a_lock_file_that_names_somebody_who_does_not_hold_it_is_stale(tmp_path: Path) -> None:
    sweep_of(tmp_path, [0])
    SweepPaths(tmp_path).lock.write_text(f"process {os.getppid()} on elsewhere")
    assert not read_sweep(tmp_path).alive
    sweep_of(tmp_path, [0, 1], resume=True)
    assert ran(tmp_path) == [0, 1]


# --- under Hydra ------------------------------------------------------------------------------

_APP = """
    def job(cfg):
        with open("side", "a") as file:
            file.write(f'{{"x": {cfg.job}}}\\n')
        note(f"started-{cfg.job}")
        while not (os.path.exists("go") or os.path.exists(f"go-{cfg.job}")):
            time.sleep(0.02)
        if os.path.exists(f"fail-{cfg.job}"):
            raise ValueError(f"cannot do {cfg.job}")
        return {"square": cfg.job ** 2, "not for JSON": {1, 2}}
"""


def kill_at_half(app: App, *overrides: str, **settings: Any) -> None:
    """Start a sweep of eight jobs and kill its launcher when four of them have completed."""
    with app.start("job=range(8)", *overrides, **settings) as sweep:
        let_go(app.folder, 0, 1, 2, 3)
        sweep.wait_for_files("started-4", "started-5")
        for num in range(4):
            sweep.wait_until_ended(num)
        sweep.process.kill()
        sweep.assert_all_gone(5)
    (app.folder / "go").touch()


def test_a_hydra_sweep_killed_at_half_is_resumed_by_the_same_command(tmp_path: Path) -> None:
    app = App(tmp_path, _APP)
    kill_at_half(app)
    done = app.run("job=range(8)", resume="true")
    assert (done.code, done.states) == (0, ["COMPLETED"] * 8)
    counts = Counter(ran(tmp_path))
    assert counts == {**dict.fromkeys(range(8), 1), 4: 2, 5: 2}  # these two were killed
    assert [len(job.attempts) for job in done.jobs.values()] == [1, 1, 1, 1, 2, 2, 1, 1]
    assert "4 of 8 jobs had ended before" in done.screen
    assert "resume" in {event["event"] for event in app.events()}


def test_a_resumed_hydra_sweep_in_batches_returns_every_value(tmp_path: Path) -> None:
    """BasicSweeper stops at a batch with a failed job: that it goes on shows that none failed."""
    app = App(tmp_path, _APP)
    kill_at_half(app, "hydra.sweeper.max_batch_size=3")
    done = app.run("job=range(8)", "hydra.sweeper.max_batch_size=3", resume="true")
    assert (done.code, done.states) == (0, ["COMPLETED"] * 8)
    assert sorted(done.jobs) == list(range(8))
    assert [job.params["job"] for _, job in sorted(done.jobs.items())] == list(range(8))
    assert {num for num, count in Counter(ran(tmp_path)).items() if count > 1} <= {4, 5}


def test_a_hydra_sweep_is_resumed_with_other_points(tmp_path: Path) -> None:
    app = App(tmp_path, _APP)
    (tmp_path / "go").touch()
    assert app.run("job=1,2,3").code == 0
    done = app.run("job=4,3,1,4", resume="true")
    assert (done.code, done.states) == (0, ["COMPLETED"] * 5)
    assert ran(tmp_path) == [1, 2, 3, 4, 4]
    assert (tmp_path / "sweep" / "4" / ".hydra" / "overrides.yaml").read_text() == "- job=4\n"


def test_ctrl_c_says_how_to_resume_and_that_command_does_it(tmp_path: Path) -> None:
    app = App(tmp_path, _APP)
    with app.start("job=range(4)") as sweep:
        let_go(tmp_path, 0)
        sweep.wait_for_files("started-1", "started-2")
        sweep.wait_until_ended(0)
        sweep.process.send_signal(signal.SIGINT)
        interrupted = sweep.finish(20)
    assert (interrupted.code, interrupted.states) == (130, ["COMPLETED"] + ["CANCELLED"] * 3)
    (line,) = [line for line in interrupted.screen.splitlines() if line.startswith("To go on")]
    words = shlex.split(line.partition(": ")[2])
    assert words[0] == "python"
    (tmp_path / "go").touch()
    with start_program(tmp_path, [sys.executable, *words[1:]]) as sweep:
        done = sweep.finish()
    assert (done.code, done.states) == (0, ["COMPLETED"] * 4)
    assert Counter(ran(tmp_path)) == {0: 1, 1: 2, 2: 2, 3: 1}


@pytest.mark.parametrize("changed", ["train.py", "conf/config.yaml"])
def test_a_hydra_sweep_whose_files_have_changed_is_refused(tmp_path: Path, changed: str) -> None:
    app = App(tmp_path, _APP)
    (tmp_path / "go").touch()
    assert app.run("job=0,1").code == 0
    path = tmp_path / changed
    path.write_text(path.read_text() + ("\nRATE = 2\n" if changed == "train.py" else "rate: 2\n"))
    refused = app.run("job=0,1,2", resume="true")
    assert refused.code == 1
    assert "Traceback" not in refused.screen
    assert f"{Path(changed).name} has changed" in refused.screen
    assert ("+RATE = 2" if changed == "train.py" else "+rate: 2") in refused.screen
    assert ran(tmp_path) == [0, 1]
    done = app.run("job=0,1,2", resume="true", accept_changes="true")
    assert (done.code, done.states) == (0, ["COMPLETED"] * 3)
    assert ran(tmp_path) == [0, 1, 2]


def test_a_config_that_no_point_uses_any_more_is_no_change(tmp_path: Path) -> None:
    app = App(tmp_path, _APP)
    (tmp_path / "go").touch()
    group = tmp_path / "conf" / "model"
    group.mkdir()
    for name in ("svm", "tree"):
        (group / f"{name}.yaml").write_text(f"name: {name}\n")
    assert app.run("job=0", "+model=svm,tree").code == 0
    done = app.run("job=0,1", "+model=tree", resume="true")
    assert (done.code, done.states) == (0, ["COMPLETED"] * 3)
    assert ran(tmp_path) == [0, 0, 1]


def test_a_config_that_only_a_later_batch_uses_is_compared_too(tmp_path: Path) -> None:
    app = App(tmp_path, _APP)
    (tmp_path / "go").touch()
    group = tmp_path / "conf" / "model"
    group.mkdir()
    for name in ("svm", "tree"):
        (group / f"{name}.yaml").write_text(f"name: {name}\n")
    batches = ("job=0", "+model=svm,tree", "hydra.sweeper.max_batch_size=1")
    assert app.run(*batches).code == 0
    (group / "tree.yaml").write_text("name: oak\n")
    refused = app.run(*batches, resume="true")
    assert refused.code == 1
    assert "tree.yaml has changed" in refused.screen


def test_a_second_hydra_launcher_that_would_resume_is_refused(tmp_path: Path) -> None:
    app = App(tmp_path, _APP)
    with app.start("job=range(2)") as sweep:
        sweep.wait_for_files("started-0")
        with app.start("job=range(2)", resume="true") as second:
            refused = second.finish()
        assert refused.code == 1
        assert "Traceback" not in refused.screen
        assert f"process {sweep.process.pid} on {socket.gethostname()}" in refused.screen
        (tmp_path / "go").touch()
        assert sweep.process.wait(60) == 0
    assert ran(tmp_path) == [0, 1]
    wait_until(lambda: not read_sweep(tmp_path / "sweep").alive, 5, "the lock to be free")
