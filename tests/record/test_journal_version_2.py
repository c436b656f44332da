"""Number 6: version 2 of the journal is written, version 1 read for ever, a newer one refused."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from helpers.cli import Project
from helpers.reliability import conf, journal_events, source
from hsm import collect_results, read_sweep
from hsm.core.engine.end_hook import environment
from hsm.core.engine.policy import RetryPolicy, StopPolicy
from hsm.core.record.job import Attempt, Ending, IllegalTransition, Job, JobState
from hsm.core.record.job_table import JobTable
from hsm.core.record.journal import Journal
from hsm.core.record.journal_header import VERSION, JournalError
from hsm.core.record.lock import LockFile
from hsm.core.record.paths import SweepPaths
from hsm.core.record.replay import Replay
from hsm.core.record.resume import RERUN, runs_again
from hsm.core.record.setting_aside import set_aside
from hsm.display.counts import Counts
from hsm.display.summary import Shown, summary

pytestmark = pytest.mark.thorough

DATA = Path(__file__).resolve().parents[1] / "data"


def frozen(folder: Path, version: int) -> SweepPaths:
    paths = SweepPaths(folder)
    paths.create()
    if version == 1:
        shutil.copy(DATA / "journal_v1.jsonl", paths.journal)
    else:
        shutil.copytree(DATA / "journal_v2", paths.hsm_dir, dirs_exist_ok=True)
    return paths


def append(paths: SweepPaths, *records: Mapping[str, Any]) -> None:
    with paths.journal.open("a") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


def begun(folder: Path) -> SweepPaths:
    """A journal of one job, as another hsm may have written it."""
    paths = SweepPaths(folder)
    paths.create()
    entry = {"job": 0, "id": "s_0", "label": "", "params": {}}
    append(
        paths,
        {"v": 2, "event": "sweep", "sweep_id": "s", "time": 1.0},
        {"event": "submit", "jobs": [entry], "time": 2.0},
    )
    return paths


START = {"event": "start", "job": 0, "attempt": 1, "pid": 7, "time": 3.0}
END = {"event": "end", "job": 0, "attempt": 1, "state": "COMPLETED", "time": 4.0}


# --- versions ----------------------------------------------------------------------------------


def test_what_is_written_says_that_it_is_version_2(tmp_path: Path) -> None:
    Journal(SweepPaths(tmp_path), "s", {}).close("finished")
    assert journal_events(tmp_path)[0]["v"] == VERSION == 2


def test_a_resumed_sweep_of_version_1_goes_on_as_2(tmp_path: Path) -> None:
    frozen(tmp_path, 1)
    models = [{"model": "gp"}, {"model": "new", "big": "x" * 50_000}]
    with source(resume=True) as made:
        made.submit_jobs(models, "ignored", tmp_path, command=["true"])
    events = journal_events(tmp_path)
    assert events[0]["v"] == 1
    resumes = [event for event in events if event["event"] == "resume"]
    assert [event.get("v") for event in resumes] == [None, 2]
    sweep = read_sweep(tmp_path)
    assert sweep.problems == []
    assert sweep.jobs[5].params == models[1]


def test_the_large_values_of_version_1_stay_readable(tmp_path: Path) -> None:
    """There, they were in the line itself."""
    paths = frozen(tmp_path, 1)
    text = paths.journal.read_text()
    big = json.dumps([i / 7 for i in range(50_000)])
    assert '"value":{"accuracy":0.9,"loss":NaN}' in text
    paths.journal.write_text(text.replace('"value":{"accuracy":0.9,"loss":NaN}', f'"value":{big}'))
    sweep = read_sweep(tmp_path)
    assert (sweep.problems, sweep.jobs[0].value) == ([], json.loads(big))
    with source(resume=True) as made:
        [job_id] = made.submit_jobs([{"model": "svm"}], "ignored", tmp_path, command=["true"])
        assert made.job(job_id).value == json.loads(big)


@pytest.mark.parametrize("version", [3, 99])
def test_a_newer_version_is_refused_by_name_wherever_it_begins(
    tmp_path: Path, version: int
) -> None:
    newer = {"v": version, "hsm": "9.9", "time": 5.0}
    paths = SweepPaths(tmp_path / "header")
    paths.create()
    append(paths, {**newer, "event": "sweep", "sweep_id": "s"})
    resumed = begun(tmp_path / "resume")
    with Replay(resumed) as replay:
        replay.advance()
        append(resumed, {**newer, "event": "resume", "jobs": []})
        with pytest.raises(JournalError, match=f"format {version} by hsm 9.9; this hsm reads"):
            replay.advance()
    for folder in ("header", "resume"):
        with pytest.raises(JournalError, match=f"format {version} by hsm 9.9; this hsm reads"):
            read_sweep(tmp_path / folder)


@pytest.mark.parametrize("version", ["2", 2.0, None, True, [], -1])
def test_a_resume_with_a_version_that_is_none_is_named(tmp_path: Path, version: Any) -> None:
    paths = begun(tmp_path)
    append(paths, START, END, {"v": version, "event": "resume", "jobs": [], "time": 5.0})
    sweep = read_sweep(tmp_path)
    assert str(sweep.jobs[0].state) == "COMPLETED"
    if version != -1:
        assert sweep.problems == [f"line 5: v is {version!r}, not a version"]


def test_what_a_later_hsm_of_this_version_adds_is_passed_over(tmp_path: Path) -> None:
    paths = begun(tmp_path)
    append(paths, {**START, "rack": 3}, {"event": "checkpoint", "time": 3.5}, END)
    sweep = read_sweep(tmp_path)
    assert str(sweep.jobs[0].state) == "COMPLETED"
    assert sweep.problems == ["line 4: unknown event 'checkpoint'"]


def test_a_frozen_journal_of_version_2_stays_readable(tmp_path: Path) -> None:
    paths = frozen(tmp_path, 2)
    sweep = read_sweep(tmp_path)
    assert sweep.problems == []
    assert (sweep.sweep_id, sweep.planned, sweep.latest["host"]) == (
        "train-20270131-235959-7bd2e4",
        8,
        "bench2",
    )
    assert (sweep.header["host"], sweep.header["planned"]) == ("bench", 6)
    assert [record["set"] for record in sweep.asked.records] == [{"max_parallel_jobs": 3}]
    first, pruned, lost, failed, large = sweep.jobs.values()
    assert [job.ending() for job in sweep.jobs.values()] == [
        "completed",
        "pruned",
        "completed",
        "exit code 2",
        "launcher died",
    ]
    assert first.value == [round(1 / (i + 1), 6) for i in range(2000)]
    start = first.attempts[0]
    assert (start.slot, start.gpus, start.waited) == (0, [0, "GPU-8f6b"], 0.5)
    assert first.outcome is not None
    assert pruned.outcome is not None
    assert first.outcome.objective == 0.25
    assert isinstance(pruned.outcome.objective, list)
    assert math.isnan(pruned.outcome.objective[1])
    assert pruned.value == 0.75
    assert sweep.problems == []
    assert (lost.value, large.params, failed.attempts[0].error_message) == (
        None,
        {},
        "boom… (40000 characters)",
    )
    missing = paths.large_file("ab" * 32)
    assert sweep.problems == [
        "job 2: its return value could not be recorded: No space left on device",
        f"job 4: its parameters cannot be read: {missing}: No such file or directory",
    ]


def test_a_frozen_journal_of_version_2_is_resumed(tmp_path: Path) -> None:
    frozen(tmp_path, 2)
    rates = [{"lr": rate} for rate in (0.4, 0.1, 0.2, 0.3, 0.5)]
    with source(resume=True, accept_changes=True) as made:
        ids = made.submit_jobs(rates, "ignored", tmp_path, command=["true"])
        assert [made.job(job_id).num for job_id in ids] == [3, 0, 1, 2, 5]
    sweep = read_sweep(tmp_path)
    assert [len(job.attempts) for job in sweep.jobs.values()] == [1, 1, 1, 3, 0, 1]
    assert str(sweep.jobs[1].state) == "PRUNED"


# --- what it makes room for ----------------------------------------------------------------------


def test_starts_and_ends_give_back_what_they_are_given(tmp_path: Path) -> None:
    journal = Journal(SweepPaths(tmp_path), "s", {})
    job = Job(0, "s_0", "", {})
    journal.submit([job])
    attempt = job.start(3.0, 7)
    attempt.slot, attempt.gpus, attempt.waited = 4, [1, "MIG-1"], 2.5
    attempt.metrics = 17
    journal.start(job)
    ending = Ending(JobState.PRUNED, exit_code=0, value=0.5, objective=[0.5, 2.0])
    job.end(4.0, ending)
    journal.end(job)
    journal.append("control", pause=True)
    journal.close("finished")
    sweep = read_sweep(tmp_path)
    assert sweep.problems == []
    assert sweep.jobs[0] == job
    assert sweep.jobs[0].attempts == [
        Attempt(1, 3.0, 4.0, 7, ending, slot=4, gpus=[1, "MIG-1"], waited=2.5, metrics=17)
    ]
    assert [record["pause"] for record in sweep.asked.records] == [True]


def test_an_objective_that_is_not_finite_is_a_text(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path)
    objectives: list[Any] = [
        math.nan,
        math.inf,
        -math.inf,
        [0.5, -math.inf, math.nan],
        3,
        -0.0,
        1e300,
    ]
    with_jobs = Journal(paths, "s", {})
    jobs = [Job(num, f"s_{num}") for num in range(len(objectives))]
    with_jobs.submit(jobs)
    for job, objective in zip(jobs, objectives, strict=True):
        job.start(3.0, 7)
        with_jobs.start(job)
        job.end(4.0, Ending(JobState.COMPLETED, exit_code=0, objective=objective))
        with_jobs.end(job)
    with_jobs.close("finished")
    lines = paths.journal.read_text().splitlines()
    records = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    written = [record["objective"] for record in records if record["event"] == "end"]
    assert written == ["nan", "inf", "-inf", [0.5, "-inf", "nan"], 3, -0.0, 1e300]
    read = [job.outcome.objective for job in read_sweep(tmp_path).jobs.values() if job.outcome]
    assert repr(read) == repr(objectives)


@pytest.mark.parametrize(
    ("record", "named"),
    [
        ({**START, "slot": "first"}, "slot is 'first'"),
        ({**START, "gpus": [1.5]}, "gpus is"),
        ({**START, "waited": -1}, "waited is -1"),
        ({**START, "metrics": -1}, "metrics is -1"),
        ({**START, "metrics": "all"}, "metrics is 'all'"),
        ({**END, "objective": "best"}, "objective is 'best'"),
        ({**END, "objective": "NaN"}, "objective is 'NaN'"),
        ({**END, "objective": [1, None]}, "objective is"),
        ({**END, "objective": True}, "objective is True"),
        ({**END, "objective": [[1]]}, "objective is"),
        ({**END, "large": []}, "large is"),
        ({"event": "submit", "jobs": [], "more": "some"}, "more is 'some'"),
        ({"event": "resume", "jobs": [], "planned": -2}, "planned is -2"),
    ],
)
def test_a_field_of_another_type_is_named(
    tmp_path: Path, record: Mapping[str, Any], named: str
) -> None:
    paths = begun(tmp_path)
    append(paths, record)
    [problem] = read_sweep(tmp_path).problems
    assert problem.startswith("line 3: ")
    assert named in problem


def pruned_sweep(folder: Path) -> SweepPaths:
    paths = begun(folder)
    append(paths, START, {**END, "state": "PRUNED", "value": 0.5, "exit_code": 0})
    append(paths, {"event": "close", "reason": "finished", "time": 5.0})
    return paths


def test_pruned_is_an_end_with_a_value_and_no_failure(tmp_path: Path) -> None:
    paths = pruned_sweep(tmp_path)
    sweep = read_sweep(tmp_path)
    [job] = sweep.jobs.values()
    assert (job.state, job.value, job.ending()) == (JobState.PRUNED, 0.5, "pruned")
    table = JobTable("s")
    assert table.add(job)
    assert table.count_states() == {"PRUNED": 1}
    assert environment(sweep)["HSM_PRUNED"] == "1"
    results = collect_results(tmp_path)
    assert [row["value"] for row in results.only("pruned")] == [0.5]
    assert len(results.only("failed", "completed")) == 0
    counts = Counts()
    counts.submitted([job], 6.0)
    assert (counts.ended, counts.failed, counts.unfinished) == (1, 0, 0)
    assert "1 pruned" in summary(counts, paths, 6.0, Shown())[0]


def test_pruned_is_in_the_live_view() -> None:
    pytest.importorskip("rich")
    from hsm.display.rich_view import LiveView

    by_state = {**dict.fromkeys(JobState, 0), JobState.PRUNED: 3, JobState.COMPLETED: 2}
    view = LiveView("", by_state, 1.0, None, [])
    bar, counts = ["".join(text for text, _ in line) for line in view.lines(80, 3)]
    assert bar.endswith(" 5/5")
    assert "3 pruned" in counts


def test_what_was_pruned_is_neither_retried_nor_run_again_nor_counted_as_a_failure() -> None:
    job = Job(0, "s_0")
    job.start(1.0, 7)
    with pytest.raises(IllegalTransition):
        job.retry(2.0, Ending(JobState.PRUNED))
    job.end(2.0, Ending(JobState.PRUNED))
    assert [rerun for rerun in RERUN if runs_again(job, rerun)] == ["all"]
    settings = conf(max_retries=3, fail_fast=True)
    assert RetryPolicy(settings).delay(Ending(JobState.PRUNED), 1) is None
    policy = StopPolicy(settings)
    policy.in_a_row = 2
    assert policy.note(0, JobState.PRUNED) is None
    assert (policy.failures, policy.in_a_row) == (0, 0)


def test_a_sweep_with_a_pruned_job_is_a_success_for_hsm_monitor(project: Project) -> None:
    pruned_sweep(project.folder)
    assert "1 pruned" in project.here("monitor", ".", "--once").out
    assert "PRUNED" in project.here("collect-results", ".", "--only", "pruned").out


def test_an_earlier_record_is_set_aside_with_what_lies_beside_it(tmp_path: Path) -> None:
    paths = frozen(tmp_path, 2)
    lock = LockFile(paths.lock)
    aside = set_aside(paths, lock)
    lock.release()
    assert aside is not None
    assert not paths.large.exists()
    assert {path.name for path in aside.iterdir()} >= {"journal.jsonl", "large", "logs", "results"}
