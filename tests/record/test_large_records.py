"""Number 5: a record has a bound, whatever jobs return, are given or raise; all of it is kept."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from helpers.cli import Project
from helpers.processes import both_methods
from helpers.reliability import Recorder, journal_events, points, source
from hsm import collect_results, read_sweep
from hsm.core.errors import SettingsError
from hsm.core.record.job import Ending, Job, JobState
from hsm.core.record.journal import Journal
from hsm.core.record.large import INLINE, Large, LargeLost
from hsm.core.record.paths import SweepPaths
from hsm.core.record.resume import Resumption

pytestmark = pytest.mark.thorough

LONGEST = 64 << 10


def lines(sweep_dir: Path) -> list[bytes]:
    """Those of the journal; each has a bound."""
    found = SweepPaths(sweep_dir).journal.read_bytes().splitlines(keepends=True)
    assert max(map(len, found)) <= LONGEST
    return found


def large_files(sweep_dir: Path) -> list[Path]:
    return sorted(SweepPaths(sweep_dir).large.glob("*"))


def ended(job: Job, ending: Ending) -> Job:
    job.start(1.0, 42)
    job.end(2.0, ending)
    return job


@contextmanager
def journal_at(folder: Path) -> Iterator[Journal]:
    journal = Journal(SweepPaths(folder), "demo", {})
    yield journal
    journal.close("finished")


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """No file grows beyond `size` bytes: what a disk without room does, and any user can have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# --- what is large lies beside, and is given back ------------------------------------------------


def many_floats(params: Mapping[str, Any]) -> list[float]:
    return [params["x"] + i / 7 for i in range(20_000)]


def a_long_text(params: Mapping[str, Any]) -> str:
    return "é\ud800" * 20_000


def a_table(params: Mapping[str, Any]) -> dict[str, Any]:
    return {"loss": float("nan"), "rows": [{"at": i, "name": f"row {i}"} for i in range(2000)]}


def looks_like_a_reference(params: Mapping[str, Any]) -> dict[str, Any]:
    return {"large": {"value": {"sha256": "0" * 64, "size": 3}}, "lost": "x" * INLINE}


@pytest.mark.parametrize(
    ("function", "start_method"),
    [
        (many_floats, "fork"),
        (a_long_text, "fork"),
        (a_table, "spawn"),
        (looks_like_a_reference, "fork"),
    ],
)
def test_a_large_return_value_lies_beside_and_is_given_back(
    tmp_path: Path, function: Callable[[Any], Any], start_method: str
) -> None:
    expected = repr(function({"x": 1}))
    with source(start_method=start_method) as made:
        [job_id] = made.submit_jobs(points(1), "s", tmp_path, function=function)
        assert repr(made.result(job_id)) == expected
        assert made.job(job_id).outcome.value is None  # type: ignore[union-attr]
    lines(tmp_path)
    assert len(large_files(tmp_path)) == 1
    assert repr(read_sweep(tmp_path).jobs[0].value) == expected
    SweepPaths(tmp_path).result(0).unlink()  # What the journal has is enough.
    with source(resume=True) as made:
        [job_id] = made.submit_jobs(points(1), "s", tmp_path, function=function)
        assert repr(made.result(job_id)) == expected


def test_a_small_value_that_looks_like_a_reference_is_a_value(tmp_path: Path) -> None:
    value = {"large": {"value": {"lost": "no"}}}
    with journal_at(tmp_path) as journal:
        job = Job(0, "demo_0", "", {"large": {"params": {"lost": "no"}}})
        journal.submit([job])
        journal.end(ended(job, Ending(JobState.COMPLETED, value=value)))
    [found] = read_sweep(tmp_path).jobs.values()
    assert (found.value, found.params) == (value, job.params)
    assert not large_files(tmp_path)


def fail_at_length(params: Mapping[str, Any]) -> None:
    raise ValueError("first line\n" + "x" * 1_000_000)


def test_a_large_error_message_is_shown_by_its_beginning_and_kept_whole(tmp_path: Path) -> None:
    with source() as made:
        [job_id] = made.submit_jobs(points(1), "s", tmp_path, function=fail_at_length)
        made.wait()
        assert len(made.job(job_id).ending()) < 1000
    lines(tmp_path)
    ending = read_sweep(tmp_path).jobs[0].outcome
    assert ending is not None
    assert ending.describe() == "ValueError: first line"
    assert ending.error_message is not None
    assert len(ending.error_message) < 1000
    assert ending.whole("error_message") == "first line\n" + "x" * 1_000_000
    [row] = collect_results(tmp_path)
    assert row["reason"] == "ValueError: first line"


def test_a_path_is_never_cut(tmp_path: Path) -> None:
    """One of 4,000 characters that are not ASCII has 24 KiB as JSON."""
    directory = "/" + "é" * 4000
    with journal_at(tmp_path) as journal:
        job = Job(0, "demo_0", "", {})
        journal.submit([job])
        journal.end(ended(job, Ending(JobState.COMPLETED, job_dir=directory)))
    lines(tmp_path)
    assert len(large_files(tmp_path)) == 1
    assert read_sweep(tmp_path).jobs[0].job_dir == Path(directory)


@pytest.mark.parametrize(
    "params",
    [
        {"x": "a" * 100_000},
        {"x": list(range(30_000)), "y": {"z": [None, True, 0.5]}},
        {f"name{i}": f"value {i}" for i in range(5000)},
    ],
    ids=["text", "list", "many"],
)
def test_large_parameters_and_labels_lie_beside_and_a_resume_knows_their_jobs(
    tmp_path: Path, params: dict[str, Any]
) -> None:
    def count(params: Mapping[str, Any]) -> int:
        with open(tmp_path / "ran", "a") as file:
            file.write("x")
        return len(params)

    other = {**params, "seed": 2}
    with source(start_method="fork") as made:
        [job_id] = made.submit_jobs([params], "s", tmp_path / "s", function=count)
        assert len(made.job(job_id).label) < 1000
    lines(tmp_path / "s")
    found = read_sweep(tmp_path / "s").jobs[0]
    assert found.params == params
    assert list(found.params) == list(params)
    assert len(found.label) < 1000
    whole = found.large_label
    assert whole is not None
    assert whole.load() == " ".join(f"{key}={value}" for key, value in params.items())
    [row] = collect_results(tmp_path / "s")
    assert row["value"] == len(params)
    for path in large_files(tmp_path / "s"):
        path.unlink()  # They are known by their hash.
    with source(start_method="fork", resume=True) as made:
        ids = made.submit_jobs([other, params], "s", tmp_path / "s", function=count)
        assert [made.job(job_id).num for job_id in ids] == [1, 0]
        assert [made.result(job_id) for job_id in ids] == [len(other), len(params)]
    assert (tmp_path / "ran").read_text() == "xx"


def test_who_shows_no_values_reads_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with source() as made:
        big = {"x": list(range(30_000))}
        made.submit_jobs([big], "s", tmp_path, function=many_floats_of_big)
    assert len(large_files(tmp_path)) == 3  # parameters, their label, the value

    def refuse(large: Large) -> None:
        raise AssertionError(large.name)

    monkeypatch.setattr(Large, "load", refuse)
    sweep = read_sweep(tmp_path)
    assert [str(job.state) for job in sweep.jobs.values()] == ["COMPLETED"]
    Resumption(sweep, "all").match([big])
    from hsm.core.engine.watched import Watched

    watched = Watched(SweepPaths(tmp_path))
    assert watched.sweep.jobs.count_states() == {"COMPLETED": 1}
    watched.close()


def many_floats_of_big(params: Mapping[str, Any]) -> list[float]:
    return many_floats({"x": 1})


def test_a_journal_with_forty_large_values_stays_small(tmp_path: Path) -> None:
    """It was 129 MB with 40 values of 200,000 floats."""
    with journal_at(tmp_path) as journal:
        jobs = [Job(num, f"demo_{num}", "", {}) for num in range(40)]
        journal.submit(jobs)
        for job in jobs:
            value = [job.num + i / 7 for i in range(5000)]
            journal.end(ended(job, Ending(JobState.COMPLETED, value=value)))
    assert sum(map(len, lines(tmp_path))) < 40 * 500
    assert len(large_files(tmp_path)) == 40


def test_records_of_many_jobs_are_split(tmp_path: Path) -> None:
    count = 5000
    with journal_at(tmp_path) as journal:
        jobs = [Job(num, f"demo_{num}", f"x={num}", {"x": num}) for num in range(count)]
        journal.submit(jobs)
    journal = Journal(SweepPaths(tmp_path), "demo", {})
    for job in jobs:
        job.end(3.0, Ending(JobState.CANCELLED))
        job.requeue()
    journal.resume(jobs)
    journal.resume(jobs[:0])
    events = journal_events(tmp_path)
    assert [event["event"] for event in events[-4:]] == ["resume", *["requeue"] * 3]
    submits = [event for event in events if event["event"] == "submit"]
    assert len(submits) > 3
    left = count
    for event in submits:
        left -= len(event["jobs"])
        assert event.get("more", 0) == left
    lines(tmp_path)
    sweep = read_sweep(tmp_path)
    assert sweep.problems == []
    assert list(sweep.jobs.values()) == jobs
    journal.close("finished")


@pytest.mark.parametrize("cut", [1, 2])
def test_a_submission_of_which_records_are_missing_says_so(tmp_path: Path, cut: int) -> None:
    with journal_at(tmp_path) as journal:
        journal.submit([Job(num, f"demo_{num}", f"x={num}", {"x": num}) for num in range(3000)])
    paths = SweepPaths(tmp_path)
    kept = [line for line in lines(tmp_path) if b'"submit"' in line][:cut]
    paths.journal.write_bytes(b"".join([lines(tmp_path)[0], *kept]))
    left = json.loads(kept[-1])["more"]
    [problem] = read_sweep(tmp_path).problems
    assert f"{left} jobs are missing" in problem


def test_what_a_launcher_says_of_itself_lies_beside_above_16_kib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ["app.py", *(f"x{i}=1" for i in range(5000))]
    monkeypatch.setattr(sys, "argv", argv)
    program = {"command": ["echo", "y" * 20_000]}
    Journal(SweepPaths(tmp_path), "demo", {"env": ["Z" * 30_000]}, program=program).close("done")
    [header, _] = lines(tmp_path)
    assert not json.loads(header).keys() & {"argv", "program", "settings"}
    sweep = read_sweep(tmp_path)
    assert sweep.header["argv"] == sweep.latest["argv"] == argv
    assert sweep.latest["program"] == program
    assert sweep.latest.get("settings") == {"env": ["Z" * 30_000]}
    journal = Journal(SweepPaths(tmp_path), "demo", {"timeout": 2}, program=program)
    journal.resume([])
    journal.close("done")
    sweep = read_sweep(tmp_path)
    assert sweep.latest["settings"] == {"timeout": 2}
    assert sweep.header["settings"] == {"env": ["Z" * 30_000]}


# --- a missing or changed file costs that value ---------------------------------------------------


def _remove(path: Path) -> None:
    path.unlink()


def _change(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"1", b"2"))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _link(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


@pytest.mark.parametrize("harm", [_remove, _change, _cut, _pipe, _link])
def test_a_file_that_is_not_what_was_recorded_costs_that_value(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    with journal_at(tmp_path) as journal:
        jobs = [Job(num, f"demo_{num}", "", {"x": num}) for num in range(2)]
        journal.submit(jobs)
        for job in jobs:
            value = [job.num] * 20_000
            journal.end(ended(job, Ending(JobState.COMPLETED, value=value)))
    value_of_1 = json.loads(lines(tmp_path)[3])["large"]["value"]["sha256"]
    harm(SweepPaths(tmp_path).large_file(value_of_1))
    sweep = read_sweep(tmp_path)
    assert sweep.problems == []
    assert [str(job.state) for job in sweep.jobs.values()] == ["COMPLETED"] * 2
    assert sweep.jobs[0].value == [0] * 20_000
    assert sweep.jobs[1].value is None
    assert sweep.jobs[1].value is None
    [problem] = sweep.problems
    assert problem.startswith("job 1: its return value cannot be read: ")
    results = collect_results(tmp_path)
    assert [row["value"] for row in results] == [[0] * 20_000, None]
    assert len(results.problems) == 1
    assert "its return value" in results[1]["note"]


@pytest.mark.parametrize(
    "reference",
    [
        {"sha256": "../../../../etc/passwd", "size": 10},
        {"sha256": "0" * 64, "size": 1e300},
        {"sha256": "0" * 64, "size": -1},
        {"sha256": ["0" * 64], "size": 1},
        {"lost": 3},
        "text",
        None,
    ],
)
def test_a_reference_that_is_none_costs_that_value(tmp_path: Path, reference: object) -> None:
    large = Large.of(SweepPaths(tmp_path), reference)
    with pytest.raises(LargeLost):
        large.load()
    assert large.load_or(7) == 7


# --- no room -----------------------------------------------------------------------------------


def test_one_record_for_which_there_is_no_room_costs_that_value_alone(tmp_path: Path) -> None:
    """Eight completed jobs read CANCELLED, because the first one's value did not fit."""
    with journal_at(tmp_path) as journal:
        jobs = [Job(num, f"demo_{num}", "", {}) for num in range(8)]
        journal.submit(jobs)
        room = journal.paths.journal.stat().st_size + 4000
        lost: list[str] = []
        with at_most(room):
            for job in jobs:
                job.start(1.0, 42)
                lost += journal.start(job)
                value = "x" * 6000 if job.num == 0 else job.num
                job.end(2.0, Ending(JobState.COMPLETED, value=value))
                lost += journal.end(job)
        assert lost == [
            f"job 0: its return value could not be recorded: {os.strerror(errno.EFBIG)}"
        ]
        assert not journal.is_behind
    sweep = read_sweep(tmp_path)
    assert sweep.problems == []
    assert [str(job.state) for job in sweep.jobs.values()] == ["COMPLETED"] * 8
    results = collect_results(tmp_path)
    assert [row["value"] for row in results] == [None, *range(1, 8)]
    assert "could not be recorded: File too large" in results[0]["note"]


def test_a_large_value_without_room_beside_is_noted_and_its_pickle_is_used(tmp_path: Path) -> None:
    def grow(params: Mapping[str, Any]) -> str:
        if params["x"] == 1:  # Its pickle fits, its JSON (six bytes a character) does not.
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        return "é" * 40_000

    recorder = Recorder()
    with source(recorder, start_method="fork") as made:
        ids = made.submit_jobs(points(0, 1), "s", tmp_path, function=grow)
        assert [made.result(job_id) for job_id in ids] == ["é" * 40_000] * 2
    assert any(
        "job 1: its return value could not be recorded" in text for text in recorder.messages
    )
    with source(start_method="fork", resume=True) as made:
        ids = made.submit_jobs(points(0, 1), "s", tmp_path, function=grow)
        assert [made.result(job_id) for job_id in ids] == ["é" * 40_000] * 2
        assert [len(made.job(job_id).attempts) for job_id in ids] == [1, 1]
    assert [row["value"] for row in collect_results(tmp_path)] == ["é" * 40_000, None]


def test_records_that_wait_for_room_are_written_in_order_and_stay_small(tmp_path: Path) -> None:
    with journal_at(tmp_path) as journal:
        jobs = [Job(num, f"demo_{num}", "", {}) for num in range(300)]
        journal.submit(jobs)
        with at_most(journal.paths.journal.stat().st_size + 50):
            for job in jobs:
                job.start(1.0, 42)
                with pytest.raises(OSError, match="too large"):
                    journal.start(job)
                job.end(2.0, Ending(JobState.COMPLETED, value="x" * 10_000))
                with pytest.raises(OSError, match="too large"):
                    journal.end(job)
        assert journal.is_behind
        assert sum(len(item.lines) for item in journal._waiting) < 2_000_000
    sweep = read_sweep(tmp_path)
    assert sweep.problems == []
    assert {str(job.state) for job in sweep.jobs.values()} == {"COMPLETED"}
    assert sweep.jobs[0].value == "x" * 10_000
    assert sweep.jobs[299].value is None


def test_a_submission_without_room_is_refused_whole(tmp_path: Path) -> None:
    with journal_at(tmp_path) as journal:
        before = journal.paths.journal.read_bytes()
        jobs = [Job(num, f"demo_{num}", "", {"x": num}) for num in range(3000)]
        with at_most(len(before) + 100_000), pytest.raises(OSError, match="too large"):
            journal.submit(jobs)
        assert journal.paths.journal.read_bytes() == before
        assert not journal.is_behind


def test_a_short_write_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    with journal_at(tmp_path) as journal:
        monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data)[:7]))
        job = Job(0, "demo_0", "", {})
        journal.submit([job])
        assert journal.end(ended(job, Ending(JobState.COMPLETED, value=[1, 2, 3]))) == []
        monkeypatch.undo()
    sweep = read_sweep(tmp_path)
    assert (sweep.problems, sweep.jobs[0].value) == ([], [1, 2, 3])


def test_a_torn_record_that_cannot_be_cut_off_is_cut_off_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    calls = iter([5])

    def tear(fd: int, data: bytes) -> int:
        for size in calls:
            return write(fd, bytes(data)[:size])
        raise OSError(errno.EIO, "torn")

    def refuse(fd: int, size: int) -> None:
        raise OSError(errno.EIO, "not now")

    with journal_at(tmp_path) as journal:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", tear)
            patch.setattr(os, "ftruncate", refuse)
            with pytest.raises(OSError, match="torn"):
                journal.submit([Job(0, "demo_0", "", {})])
        journal.submit([Job(0, "demo_0", "", {"x": 1})])
    sweep = read_sweep(tmp_path)
    assert (sweep.problems, sweep.jobs[0].params) == ([], {"x": 1})


# --- parameters that no environment holds -------------------------------------------------------

_SHOW = (
    "import json, os; name = os.environ.get('HSM_PARAMS_FILE', '');"
    "text = open(name).read() if name else os.environ['HSM_PARAMS'];"
    "print(json.dumps([bool(name), len(json.loads(text)['x']), os.environ['HSM_PARAMS'][:4]]))"
)


def test_parameters_above_64_kib_are_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HSM_PARAMS_FILE", "/of/a/sweep/around/this/one")
    most = (64 << 10) - len('HSM_PARAMS={"x": ""}\0')
    sizes = [1, most, most + 1, 10_000_000]
    with source() as made:
        command = [sys.executable, "-c", _SHOW]
        ids = made.submit_jobs(
            [{"x": "a" * size} for size in sizes], "s", tmp_path, command=command
        )
        assert set(made.wait(ids).values()) == {JobState.COMPLETED}
    seen = [json.loads(SweepPaths(tmp_path).stdout(num).read_text()) for num in range(4)]
    assert seen == [
        [False, 1, '{"x"'],
        [False, most, '{"x"'],
        [True, most + 1, "null"],
        [True, 10_000_000, "null"],
    ]


@both_methods
def test_a_function_with_large_parameters_starts_programs(
    tmp_path: Path, start_method: str
) -> None:
    with source(start_method=start_method) as made:
        [job_id] = made.submit_jobs([{"x": "a" * 10**6}], "s", tmp_path, function=_start_program)
        assert made.result(job_id) == [10**6, [True, 10**6, "null"]]


def _start_program(params: Mapping[str, Any]) -> list[Any]:
    told = subprocess.run([sys.executable, "-c", _SHOW], capture_output=True, check=True)
    return [len(params["x"]), json.loads(told.stdout)]


@pytest.mark.parametrize(
    ("program", "params", "named"),
    [
        ({"script": "fit.sh"}, {"lr": 1, "data": "x" * 140_000}, "data"),
        ({"command": ["echo", "{big}"]}, {"big": "y" * 140_000, "small": 1}, "big"),
        ({"script": "fit.sh"}, {"lr": 1, **{f"d{i}": "x" * 120_000 for i in range(60)}}, "d0"),
    ],
)
def test_arguments_that_no_kernel_takes_are_refused_before_any_job(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: dict[str, Any],
    params: dict[str, Any],
    named: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "fit.sh"
    script.write_text("#!/bin/sh\ntouch ran\n")
    script.chmod(0o755)
    with source() as made, pytest.raises(SettingsError, match=f"parameter {named} is too long"):
        made.submit_jobs([dict.fromkeys(params, "short"), params], "s", "s", **program)
    assert not (tmp_path / "ran").exists()


# --- the commands ---------------------------------------------------------------------------------


def test_a_resume_from_the_record_makes_no_parameters_up(project: Project) -> None:
    """One whose parameters are lost is left as it is, and never runs with none."""
    folder = project.folder / "outputs" / "s"
    with source(max_parallel_jobs=1, fail_fast=True) as made:
        big = [{"x": str(num) * 100_000} for num in range(3)]
        command = ["sh", "-c", 'test -e "$HSM_SWEEP_DIR/go" && test -s "$HSM_PARAMS_FILE"']
        made.submit_jobs(big, "s", folder, command=command)
        made.wait()
    first = json.loads(lines(folder)[1])["jobs"][0]["large"]["params"]["sha256"]
    SweepPaths(folder).large_file(first).unlink()
    (folder / "go").touch()
    ran = project.hsm("sweep", "--resume", "s", "--progress", "none")
    assert "job 0 is not run again: its parameters cannot be read" in ran.err
    assert [str(job.state) for job in read_sweep(folder).jobs.values()] == [
        "FAILED",
        "COMPLETED",
        "COMPLETED",
    ]
    told = project.here("show", "s", "1", "--json")
    assert told.json["params"] == big[1]
    assert "its parameters cannot be read" in project.here("show", "s", "0").err


def test_hsm_show_has_all_of_an_error_message(project: Project) -> None:
    folder = project.folder / "outputs" / "s"
    with source() as made:
        made.submit_jobs(points(1), "s", folder, function=fail_at_length)
        made.wait()
    told = project.here("show", "s", "0", "--json")
    assert told.json["attempts"][0]["error_message"] == "first line\n" + "x" * 1_000_000
    assert told.json["ending"] == "ValueError: first line"
