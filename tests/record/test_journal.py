from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hsm.core.plain_json import json_value
from hsm.core.record.job import Ending, Job, JobState
from hsm.core.record.journal import Journal, SweepInUse
from hsm.core.record.journal_header import JournalError
from hsm.core.record.paths import SweepPaths
from hsm.core.record.sweep import read_sweep


def write(directory: Path, *, close: str | None = "finished") -> tuple[SweepPaths, list[Job]]:
    """A journal of three jobs: completed, failed, and one that never started."""
    paths = SweepPaths(directory)
    journal = Journal(paths, "demo", {"timeout": 2.0})
    jobs = [Job(num, f"demo_{num}", f"x={num}", {"x": num}) for num in range(3)]
    journal.submit(jobs)
    for job, ending in zip(
        jobs,
        [Ending(JobState.COMPLETED, exit_code=0, value=[1]), Ending(JobState.FAILED, exit_code=3)],
        strict=False,
    ):
        job.start(100.0, 42)
        journal.start(job)
        job.end(101.0, ending)
        journal.end(job)
    if close is not None:
        journal.close(close)
    return paths, jobs


def states(directory: Path) -> list[str]:
    return [str(job.state) for job in read_sweep(directory).jobs.values()]


def test_a_replay_gives_what_was_written(tmp_path: Path) -> None:
    _, jobs = write(tmp_path, close=None)
    sweep = read_sweep(tmp_path)
    assert list(sweep.jobs.values()) == jobs
    assert (sweep.sweep_id, sweep.closed, sweep.alive, sweep.problems) == ("demo", None, True, [])
    assert sweep.header["settings"] == {"timeout": 2.0}


def test_a_job_that_a_closed_sweep_never_started_reads_as_cancelled(tmp_path: Path) -> None:
    write(tmp_path, close="interrupted by SIGINT")
    sweep = read_sweep(tmp_path)
    assert sweep.jobs[2].state is JobState.CANCELLED
    assert sweep.jobs[2].ending() == "never started: interrupted by SIGINT"


def test_a_sweep_whose_launcher_died_says_so(tmp_path: Path) -> None:
    program = (
        "import os, sys; from test_journal import *; from pathlib import Path\n"
        "paths, jobs = write(Path(sys.argv[1]), close=None); os._exit(0)"
    )
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    sweep = read_sweep(tmp_path)
    assert (sweep.alive, sweep.closed) == (False, None)
    assert sweep.jobs[2].ending() == "launcher died"


def test_every_prefix_of_a_journal_loads_and_can_be_continued(tmp_path: Path) -> None:
    paths, _ = write(tmp_path / "whole")
    data = paths.journal.read_bytes()
    header = data.index(b"\n") + 1
    for length in range(header, len(data) + 1, 7):
        directory = tmp_path / str(length)
        torn = SweepPaths(directory)
        torn.create()
        torn.journal.write_bytes(data[:length])
        before = states(directory)
        journal = Journal(torn, "demo", {})
        journal.close("again")
        assert states(directory) == before
        for line in torn.journal.read_bytes().splitlines():
            json.loads(line)


def test_a_damaged_line_is_reported_and_the_rest_is_used(tmp_path: Path) -> None:
    paths, _ = write(tmp_path)
    lines = paths.journal.read_bytes().split(b"\n")
    lines.insert(3, b'{"event": "end", "job"')
    lines.insert(5, b'{"event": "start", "job": 77, "time": 1, "pid": 1}')
    paths.journal.write_bytes(b"\n".join(lines))
    sweep = read_sweep(tmp_path)
    assert [problem.split(":")[0] for problem in sweep.problems] == ["line 4", "line 6"]
    assert [str(job.state) for job in sweep.jobs.values()] == ["COMPLETED", "FAILED", "CANCELLED"]


@pytest.mark.parametrize("content", [b"", b"\n", b"nonsense\n", b"[]\n", b'{"v": 1'])
def test_a_journal_without_a_first_line_is_refused(tmp_path: Path, content: bytes) -> None:
    paths = SweepPaths(tmp_path)
    paths.create()
    paths.journal.write_bytes(content)
    expected = "does not describe a sweep" if b"\n" in content else "its journal is empty"
    with pytest.raises(JournalError, match=expected):
        read_sweep(tmp_path)


def test_a_journal_of_a_newer_version_is_refused_by_name(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path)
    paths.create()
    paths.journal.write_text('{"v": 99, "event": "sweep", "sweep_id": "x", "hsm": "9.9"}\n')
    with pytest.raises(JournalError, match="format 99 by hsm 9"):
        read_sweep(tmp_path)


def test_no_sweep_there(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="no sweep in"):
        read_sweep(tmp_path / "nowhere")


def test_one_launcher_at_a_time(tmp_path: Path) -> None:
    write(tmp_path, close=None)
    with pytest.raises(SweepInUse, match="in use by this process"):
        Journal(SweepPaths(tmp_path), "demo", {})
    program = (
        "import sys; from hsm.core.record.journal import Journal, SweepInUse\n"
        "from hsm.core.record.paths import SweepPaths\n"
        "try: Journal(SweepPaths(sys.argv[1]), 'demo', {})\n"
        "except SweepInUse as error: print(error)"
    )
    output = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ).stdout
    assert f"in use by process {os.getpid()} on" in output
    assert read_sweep(tmp_path).alive


@pytest.mark.parametrize(
    "value", [None, True, 3, 0.1, math.inf, "text", [1, [2.5, None]], {"a": {"b": [1]}}]
)
def test_what_json_can_hold_is_kept(value: Any) -> None:
    assert json_value(value) == value


@pytest.mark.parametrize("value", [object(), {1: 2}, b"bytes", 1 + 2j, {"a": {1, 2}}])
def test_what_json_would_change_is_not(value: Any) -> None:
    assert json_value(value) is None


def test_nan_and_scalars_of_numpy_are_kept() -> None:
    numpy = pytest.importorskip("numpy")
    assert math.isnan(json_value(math.nan))
    assert json_value(numpy.float64(0.25)) == 0.25
    assert json_value(numpy.int32(7)) == 7
    nested = {
        "loss": numpy.float64(0.25),
        "hits": [numpy.int64(7), True],
        "best": numpy.bool_(True),
    }
    assert json_value(nested) == {"loss": 0.25, "hits": [7, True], "best": True}
    assert type(json_value(nested)["loss"]) is float
    assert json_value({"loss": numpy.float32(0.5), "weights": numpy.zeros(3)}) is None
    assert json_value(numpy.zeros(3)) is None
