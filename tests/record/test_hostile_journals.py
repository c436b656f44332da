"""A journal may hold anything: what cannot be used is named by its line, and costs little."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from helpers.cli import Project
from hsm.core.record import journal_lines
from hsm.core.record.journal_header import JournalError, has_begun
from hsm.core.record.journal_lines import JournalLines
from hsm.core.record.paths import SweepPaths
from hsm.core.record.replay import Replay
from hsm.core.record.sweep import Sweep, read_sweep

pytestmark = pytest.mark.thorough

HEADER: dict[str, Any] = {"v": 1, "event": "sweep", "sweep_id": "s", "time": 1.0}
JOB: dict[str, Any] = {"job": 0, "id": "s_0", "label": "x=1", "params": {"x": 1}}
SUBMIT: dict[str, Any] = {"event": "submit", "jobs": [JOB], "time": 2.0}
START: dict[str, Any] = {"event": "start", "job": 0, "attempt": 1, "pid": 7, "time": 3.0}
END: dict[str, Any] = {
    "event": "end",
    "job": 0,
    "attempt": 1,
    "state": "COMPLETED",
    "exit_code": 0,
    "time": 4.0,
}


@pytest.fixture
def paths(tmp_path: Path) -> SweepPaths:
    made = SweepPaths(tmp_path / "sweep")
    made.create()
    return made


def _write(paths: SweepPaths, *records: Any) -> None:
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    paths.journal.write_text("".join(f"{line}\n" for line in lines))


def _read(paths: SweepPaths, *records: Any) -> Sweep:
    _write(paths, *records)
    sweep = read_sweep(paths.sweep_dir)
    with Replay(paths) as replay:
        replay.catch_up()
        assert (replay.sweep.problems, replay.sweep.jobs) == (sweep.problems, sweep.jobs)
    return sweep


_ANYTHING = [
    *(True, -1, 1.5, 10**9, 1 << 63, 10**400, float("nan"), float("inf"), -float("inf")),
    *("text", "a\nb\x1b[2J", "\ud800", "\0", [], {}, [[]], {"a": None}),
]


@pytest.mark.parametrize("value", _ANYTHING, ids=repr)
def test_any_value_in_any_field_is_used_or_named_by_its_line(paths: SweepPaths, value: Any) -> None:
    for number, record in enumerate((SUBMIT, START, END), start=2):
        for field in (*record, "pid", "job_dir", "max_memory", "cpu_seconds", "reason"):
            records = [HEADER, SUBMIT, START, END]
            records[number - 1] = {**record, field: value}
            problems = _read(paths, *records).problems
            assert all(int(text.split(":")[0].removeprefix("line ")) >= number for text in problems)
            assert all(text.isprintable() and len(text) < 200 for text in problems)


@pytest.mark.parametrize(
    ("damaged", "why"),
    [
        ({**START, "time": float("inf")}, "time is inf, not a time"),
        ({**START, "time": 1e30}, "time is 1e+30, not a time"),
        ({**START, "job": True}, "job is True, not an integer from 0 to"),
        ({**START, "job": 10**4000}, "job is an integer of 13288 bits, not"),
        ({**START, "job": 3}, "no job 3"),
        ({**START, "time": None}, "time is missing"),
        ('{"a":' + "[" * 100_000 + "]" * 100_000 + "}", "too large or nested too deeply"),
        ('{"event":"x","a":' + "1" * 10_000 + "}", "it is not JSON"),
        ({**SUBMIT, "jobs": [{**JOB, "job": 1}]}, "job 1 was submitted before"),
        ("[]", "it is a list, not an object"),
        ("", "it is empty"),
    ],
)  # fmt: skip
def test_a_bad_line_is_one_problem_in_plain_words(
    paths: SweepPaths, damaged: Any, why: str
) -> None:
    sweep = _read(paths, HEADER, SUBMIT, damaged, START, END)
    (problem,) = sweep.problems
    assert problem.startswith("line 3: ")
    assert why in problem
    assert str(sweep.jobs[0].state) == "COMPLETED"


def test_one_bad_job_among_those_submitted_costs_no_other(paths: SweepPaths) -> None:
    jobs = [JOB, {**JOB, "job": -1}, "x", JOB, {**JOB, "job": 2, "id": "s_2"}]
    sweep = _read(paths, HEADER, {**SUBMIT, "jobs": jobs})
    assert list(sweep.jobs) == [0, 2]
    assert [text.split(":")[0] for text in sweep.problems] == ["line 2"] * 3


@pytest.mark.slow
def test_a_million_bad_lines_are_counted_and_not_all_told(paths: SweepPaths) -> None:
    with paths.journal.open("wb") as file:
        file.write(json.dumps(HEADER).encode() + b"\n" + b"{}\n" * 1_000_000)
    sweep = read_sweep(paths.sweep_dir)
    assert sweep.problem_count == 1_000_000
    assert len(sweep.problems) == 100


@pytest.mark.parametrize("read", [read_sweep, lambda path: Replay(SweepPaths(path)).catch_up()])
def test_a_sparse_journal_is_read_at_once(paths: SweepPaths, read: Callable[[Path], Any]) -> None:
    _write(paths, HEADER, SUBMIT)
    os.truncate(paths.journal, 1 << 42)
    began = time.process_time()
    read(paths.sweep_dir)
    assert time.process_time() - began < 20  # reading all of it takes hours
    paths.journal.write_bytes(b"")
    os.truncate(paths.journal, 1 << 42)
    assert not has_begun(paths)
    with pytest.raises(JournalError, match="its journal is empty"):
        read(paths.sweep_dir)


def test_a_line_that_is_too_long_is_passed_over(
    paths: SweepPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_lines, "MAX_LINE", 3 << 20)
    long = {**START, "reason": "x" * (8 << 20)}
    sweep = _read(paths, HEADER, SUBMIT, long, END)
    assert sweep.problems == ["line 3: it is too long"]
    assert str(sweep.jobs[0].state) == "COMPLETED"


def test_a_line_of_millions_of_values_is_not_taken_apart(paths: SweepPaths) -> None:
    many = '{"event":"close","reason":"x","a":[' + "[]," * 2_000_000 + "0]}"
    assert _read(paths, HEADER, SUBMIT, many).problems == ["line 3: it has too many values"]


@pytest.mark.parametrize("value", [[1], "text", 7, {"command": 3}], ids=repr)
def test_what_lies_beside_a_journal_is_checked_as_what_lies_in_it(
    project: Project, value: Any
) -> None:
    paths = SweepPaths(project.folder / "s")
    paths.create()
    data = json.dumps(value).encode()
    sha256 = hashlib.sha256(data).hexdigest()
    paths.large.mkdir()
    paths.large_file(sha256).write_bytes(data)
    reference = {"sha256": sha256, "size": len(data)}
    for record, field in [
        *((HEADER, name) for name in ("time", "cwd", "host", "settings", "program", "argv", "x")),
        *((JOB, name) for name in ("params", "label", "job", "id")),
        *((END, name) for name in ("value", "error_message", "job_dir", "exit_code", "state")),
    ]:
        spoilt = {**record, "large": {field: reference}}
        lines = [spoilt if each is record else each for each in (HEADER, JOB, START, END)]
        lines[1] = {**SUBMIT, "jobs": [lines[1]]}
        _write(paths, *lines)
        for command in ("show ./s 0", "monitor ./s --once", "sweep --resume ./s --dry-run"):
            ran = project.here(*command.split(), code=None)
            assert ran.code in (0, 2), (field, command)
            assert all(line.startswith("hsm: ") for line in ran.err.splitlines())


def test_lines_come_whole_however_the_file_grows(paths: SweepPaths) -> None:
    with paths.journal.open("ab", buffering=0) as file:
        file.write(b"one\ntw")
        with JournalLines(paths.sweep_dir, paths.journal) as lines:
            assert list(lines.read()) == [(1, b"one")]
            file.write(b"o\n\nfour")
            assert next(lines.read()) == (2, b"two")
            assert list(lines.read()) == [(3, b"")]
            assert list(lines.read()) == []
            file.write(b"\n")
            assert list(lines.read()) == [(4, b"four")]


def test_blocks_have_the_lines_that_were_not_read_singly(paths: SweepPaths) -> None:
    expected = [(1 + num, b"x" * (num * 37 % 70_000)) for num in range(100)]  # beyond a chunk, too
    paths.journal.write_bytes(b"".join(line + b"\n" for _, line in expected) + b"torn")
    for singly in (0, 1, 50, 100):
        with JournalLines(paths.sweep_dir, paths.journal) as lines:
            found: list[tuple[int, bytes | None]] = list(islice(lines.read(), singly))
            for first, block in lines.read_blocks():
                found += enumerate(block, first)
            assert found == expected
            assert not list(lines.read())
            assert not list(lines.read_blocks())


def test_many_batches_take_no_longer_than_one(paths: SweepPaths) -> None:
    records: list[Any] = [HEADER]
    for num in range(20_000):
        entry = {**JOB, "job": num, "id": f"s_{num}"}
        records += [{**SUBMIT, "jobs": [entry]}, {"event": "close", "reason": "x", "time": 2.0}]
    _write(paths, *records)
    began = time.process_time()
    assert len(read_sweep(paths.sweep_dir).jobs) == 20_000
    assert time.process_time() - began < 20  # each looking at all jobs so far takes minutes
