"""What a sweep's end says: the best jobs, the failures, and where to look further."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from helpers.written_sweeps import Sweeps
from hsm.core.record.job import JobState
from hsm.core.record.registry import register
from hsm.core.results.collect import results_of
from hsm.core.results.goal import Goal
from hsm.core.settings.resolve import Direction
from hsm.core.table_layout import cell_width
from hsm.display.counts import Counts
from hsm.display.summary import Shown, grouped_failures, summary

LOWEST, HIGHEST = Direction.minimize, Direction.maximize
NAN = float("nan")


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sweeps]:
    monkeypatch.chdir(tmp_path)
    sweeps = Sweeps(tmp_path / "out" / "demo")
    yield sweeps
    sweeps.journal.close("finished")


def lines(sweep: Sweeps, **shown: Any) -> list[str]:
    """The summary, of which each line fits the width and all fit on a screen."""
    counts = Counts()
    counts.submitted(sweep.jobs, 100.0)
    told = summary(counts, sweep.paths, 103.0, Shown("demo", **shown))
    assert len(told) <= 20
    assert all(line.isprintable() for line in told)
    assert all(cell_width(line) <= shown.get("width", 80) for line in told)
    return told


def outcome(sweep: Sweeps, **shown: Any) -> str:
    """What stands between the times and where the results are."""
    return "\n".join(lines(sweep, **shown)[2:-2]) + "\n"


def completed(sweep: Sweeps, *values: Any, **params: Any) -> None:
    sweep.submit(*({"lr": round(0.1 * num, 3), **params} for num in range(len(values))))
    for num, value in enumerate(values):
        sweep.end(num, value=value)


def test_the_best_jobs_with_what_varies(sweep: Sweeps) -> None:
    completed(sweep, 0.5, 0.25, 0.125, 1, 2, 3, model="svm")
    assert lines(sweep, goal=Goal(direction=LOWEST)) == [
        "demo: 6 jobs: 6 completed",
        "wall time 2.5 s, sum of job times 15 s (speed-up 6.0)",
        "best by value (lowest of 6):",
        "  job   lr  value",
        "    2  0.2  0.125",
        "    1  0.1   0.25",
        "    0    0    0.5",
        "    3  0.3      1",
        "    4  0.4      2",
        "table:   hsm collect-results out/demo",
        "results: out/demo",
        "logs:    out/demo/.hsm/logs",
    ]


def test_without_a_direction_both_ends_and_no_best(sweep: Sweeps) -> None:
    completed(sweep, *range(7))
    assert outcome(sweep) == dedent("""\
        value of 7 jobs, highest and lowest:
          job   lr  value
            6  0.6      6
            5  0.5      5
            4  0.4      4
            …
            2  0.2      2
            1  0.1      1
            0    0      0
        table:   hsm collect-results out/demo
        """)


def test_six_jobs_are_all_shown_and_one_is_no_jobs(sweep: Sweeps) -> None:
    completed(sweep, 1, {"value": 1}, 3, NAN, 2, "text")
    assert outcome(sweep).startswith("value of 4 jobs (2 have none):\n  job   lr  value\n    2 ")
    assert "best" not in outcome(sweep)


def test_one_job(sweep: Sweeps) -> None:
    completed(sweep, 0.5)
    assert outcome(sweep).startswith("value of 1 job:\n  job  value\n    0    0.5\n")
    told = outcome(sweep, goal=Goal(direction=HIGHEST))
    assert told.startswith("best by value (highest of 1):\n")


def test_what_the_sweep_has_on_record_holds_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = Sweeps(tmp_path / "s", metric="acc", direction="maximize")
    completed(sweep, {"acc": 1, "loss": 5}, {"acc": 2, "loss": 6})
    assert outcome(sweep).startswith("best by acc (highest of 2):\n")
    told = outcome(sweep, goal=Goal("loss", LOWEST))
    assert told.startswith("best by loss (lowest of 2):\n  job   lr  loss\n    0    0     5\n")


def test_files_are_read_where_values_do_not_answer(sweep: Sweeps) -> None:
    completed(sweep, None, {"loss": 0.5}, None, None)
    sweep.write(0, "metrics.json", {"loss": 0.25})
    sweep.write(2, "results.json", "not JSON\x1b[2J")
    (sweep.paths.job_dir(3)).mkdir()
    os.mkfifo(sweep.paths.job_dir(3) / "metrics.json")
    told = outcome(sweep, goal=Goal("loss", LOWEST))
    assert told.startswith("best by loss (lowest of 2; 2 have none):\n  job   lr  loss\n    0 ")


def test_no_metric_says_nothing_and_several_say_which(sweep: Sweeps) -> None:
    sweep.submit({}, {})
    sweep.end(0)
    assert outcome(sweep) == "table:   hsm collect-results out/demo\n"
    sweep.end(1, value={"loss": 1, "acc": 2})
    assert outcome(sweep).startswith(
        "there are several metrics: loss, acc\nranked:  hsm monitor out/demo --metric loss\ntable: "
    )


def test_a_name_that_no_job_has_is_one_line(sweep: Sweeps) -> None:
    completed(sweep, {"loss": 1}, {"loss": 2})
    assert outcome(sweep, goal=Goal("los", LOWEST)).startswith(
        "no completed job has a number for 'los' (did you mean loss?); there are: loss\n"
    )
    hostile = Goal("\x1b[2J" + "x" * 200, LOWEST)
    assert outcome(sweep, goal=hostile).startswith("no completed job has a number for '\\x1b[2J")


def test_many_wide_parameters_are_cut_to_the_width(sweep: Sweeps) -> None:
    names = [f"model.layers.{num}.width" for num in range(30)]
    sweep.submit(
        *({"text": "\u65e5\u672c\u8a9e" * 20 + str(n), **dict.fromkeys(names, n)} for n in range(9))
    )
    for num in range(9):
        sweep.end(num, value=num / 7)
    told = outcome(sweep, goal=Goal(direction=LOWEST)).splitlines()
    assert told[0] == "best by value (lowest of 9; 27 parameters not shown):"
    assert told[1].startswith("  job  text")
    assert told[1].endswith("\u2026ers.2.width   value")
    assert told[2].startswith("    0  \u65e5\u672c\u8a9e\u65e5\u672c\u2026 ")
    wide = outcome(sweep, goal=Goal(direction=LOWEST), width=200).splitlines()
    assert cell_width(wide[1]) > 120


def test_a_parameters_name_is_whole_where_there_is_room(sweep: Sweeps) -> None:
    sweep.submit({"model.max_depth": 8}, {"model.max_depth": 16})
    for num in range(2):
        sweep.end(num, value=num)
    assert "  job  model.max_depth  value\n" in outcome(sweep)


def test_values_are_told_apart_in_few_digits(sweep: Sweeps) -> None:
    completed(sweep, 0.123456789, 0.123466789, 12345.6789, 1e-9, 10**12)
    cells = [line.split()[-1] for line in outcome(sweep).splitlines()[2:7]]
    assert cells == ["1e+12", "12346", "0.12347", "0.12346", "1e-09"]


def test_texts_of_jobs_cannot_steer_the_terminal(sweep: Sweeps) -> None:
    sweep.submit({"a\x1b[2J": "x\ny"}, {"a\x1b[2J": "\u202ez"})
    sweep.end(0, value={"\x9bm": 1})
    sweep.end(1, JobState.FAILED, error_type="E\x1b[2J", error_message="b\u202eoom")
    sweep.paths.stderr(1).write_text("\x1b[2Jred\n")
    assert "\\x1b[2J" in outcome(sweep)


# --- failures
# -------------------------------------------------------------------------------------------------


def failed(sweep: Sweeps, count: int, **facts: Any) -> None:
    """Some more jobs, which failed."""
    first = len(sweep.jobs)
    sweep.submit(*({"n": num} for num in range(first, first + count)))
    for num in range(first, first + count):
        sweep.end(num, JobState.FAILED, **facts)


def test_eight_jobs_with_one_error_are_one_line_and_one_traceback(sweep: Sweeps) -> None:
    failed(sweep, 8, exit_code=1)
    for num in range(8):
        sweep.paths.stderr(num).write_text(f"Traceback\n  line 7\nValueError: the seed {num}\n")
    assert outcome(sweep) == dedent("""\
        8 jobs FAILED: exit code 1: ValueError: the seed 0 (0-7)
            Traceback
              line 7
            ValueError: the seed 0
        table:   hsm collect-results out/demo
        failure: hsm show out/demo 0
        """)
    (group,) = grouped_failures(sweep.read())
    kinds = {f"{group.state} exit code #: ValueError: the seed #"}
    assert "Traceback" not in outcome(sweep, kinds=kinds)


def test_many_kinds_of_failure_beside_the_best_jobs_fit_on_a_screen(sweep: Sweeps) -> None:
    completed(sweep, *range(10))
    for num in range(12):
        failed(sweep, 13 - num, error_type=f"Error{'ABCDEFGHIJKL'[num]}", error_message="x " * 200)
    for job in sweep.jobs[10:]:
        sweep.paths.stderr(job.num).write_text("a\n" * 30)
    told = lines(sweep)
    assert [line for line in told if "failed in" in line] == ["54 jobs failed in 9 other ways"]
    (first,) = (line for line in told if "ErrorA" in line)
    assert first.startswith("13 jobs FAILED: ErrorA: x x")
    assert first.endswith("\u2026 (10-22)")


def test_numbers_of_many_jobs_are_cut_between_two(sweep: Sweeps) -> None:
    sweep.submit(*({"n": num} for num in range(1001)))
    for num in range(0, 1001, 2):
        sweep.end(num, JobState.FAILED, reason="boom")
    assert "501 jobs FAILED: boom (0,2,4,6,8,10,\u2026)\n" in outcome(sweep)


def test_a_sweep_that_cannot_be_read_has_the_counts_still(sweep: Sweeps) -> None:
    failed(sweep, 25, exit_code=1)
    sweep.paths.journal.write_text("\x00broken\n")
    assert lines(sweep) == [
        "demo: 25 jobs: 25 failed",
        "failed jobs: 0-19 and 5 more",
        "wall time 2.5 s, sum of job times 1:03 (speed-up 25.0)",
        "results: out/demo",
        "logs:    out/demo/.hsm/logs",
    ]


# --- what to type next
# -------------------------------------------------------------------------------------------------


def test_commands_name_the_id_if_hsm_finds_it_else_the_directory(sweep: Sweeps) -> None:
    failed(sweep, 1, reason="boom")
    assert "table:   hsm collect-results out/demo\nfailure: hsm show out/demo 0\n" in outcome(sweep)
    register("demo", sweep.paths.sweep_dir)
    assert "table:   hsm collect-results demo\nfailure: hsm show demo 0\n" in outcome(sweep)


def test_a_directory_is_quoted_and_looks_like_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = Sweeps(tmp_path / "a b")
    completed(sweep, 1)
    monkeypatch.chdir(tmp_path)
    assert "hsm collect-results './a b'\n" in outcome(sweep)


@pytest.mark.slow
def test_ten_thousand_jobs_are_summarized_in_seconds(sweep: Sweeps) -> None:
    completed(sweep, *range(10_000))
    assert results_of(sweep.read(), files=False).ranking().needs_files is False
    assert "value of 10000 jobs, highest and lowest" in outcome(sweep)
