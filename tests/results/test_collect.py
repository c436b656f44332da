from __future__ import annotations

import csv
import io
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.processes import App
from helpers.written_sweeps import Sweeps
from hsm.core.errors import HsmError, SettingsError
from hsm.core.record.job import Ending, JobState
from hsm.core.record.journal_header import JournalError
from hsm.core.results.collect import collect_results
from hsm.core.results.results_table import Results

# --- rows and columns
# -------------------------------------------------------------------------------------------------


def test_columns_are_parameters_metrics_or_facts(sweep: Sweeps) -> None:
    sweep.submit({"lr": 1, "seed": 0, "model": "svm"}, {"lr": 1.0, "seed": 0, "depth": 3})
    sweep.end(0, exit_code=0, value={"loss": 0.75})
    sweep.end(1, exit_code=0, value=0.5)
    sweep.write(0, "metrics.json", {"f1": 0.9})
    results = sweep.results()
    assert results.parameters == ["lr", "seed", "model", "depth"]
    assert results.metrics == ["value.loss", "value", "f1"]
    assert results.varying == ["lr", "model", "depth"]
    chosen = results.select(["f1", "lr", "state"])
    assert (chosen.parameters, chosen.metrics) == (["lr"], ["f1"])
    assert results.only("failed").varying == []


def test_a_row_tells_all_that_is_known_of_a_job(sweep: Sweeps) -> None:
    sweep.submit({"lr": 0.1, "model.depth": 3}, {"lr": 0.2, "model.depth": None})
    sweep.end(0, exit_code=0, value=0.75, cpu_seconds=1.5, max_memory=1 << 20)
    sweep.end(1, JobState.FAILED, signal="SIGSEGV")
    sweep.write(0, "results.json", {"loss": 0.5})
    sweep.write(0, "metrics.json", {"val": {"f1": 0.9}})
    results = sweep.results()
    assert results.columns == [
        *("job", "state", "lr", "model.depth", "value", "loss", "val.f1"),
        *("attempts", "duration", "cpu_seconds", "max_memory", "exit_code", "signal", "reason"),
    ]
    assert list(results) == [
        {
            "job": 0,
            "state": "COMPLETED",
            "lr": 0.1,
            "model.depth": 3,
            "value": 0.75,
            "loss": 0.5,
            "val.f1": 0.9,
            "attempts": 1,
            "duration": 2.5,
            "cpu_seconds": 1.5,
            "max_memory": 1 << 20,
            "exit_code": 0,
            "signal": None,
            "reason": None,
        },
        {
            "job": 1,
            "state": "FAILED",
            "lr": 0.2,
            "model.depth": None,
            "value": None,
            "loss": None,
            "val.f1": None,
            "attempts": 1,
            "duration": 2.5,
            "cpu_seconds": None,
            "max_memory": None,
            "exit_code": None,
            "signal": "SIGSEGV",
            "reason": "killed by SIGSEGV",
        },
    ]
    assert results.problems == []
    assert (len(results), results[1]["job"], results.sweep_id) == (2, 1, "demo")


def test_rows_come_by_number_and_columns_by_first_appearance(sweep: Sweeps) -> None:
    sweep.submit({"b": 1}, {"a": 2, "b": 3})
    sweep.end(1, exit_code=0)
    sweep.end(0, exit_code=0)
    results = sweep.results()
    assert [row["job"] for row in results] == [0, 1]
    assert results.columns[:4] == ["job", "state", "b", "a"]
    assert results[0]["a"] is None


def test_a_returned_dict_is_flattened_and_a_list_is_one_value(sweep: Sweeps) -> None:
    sweep.submit({}, {}, {}, {})
    sweep.end(0, exit_code=0, value={"acc": 1, "by": {"class": [1, 2], "none": {}}})
    sweep.end(1, exit_code=0, value=[1, {"a": 2}])
    sweep.end(2, exit_code=0, value=False)
    sweep.end(3, exit_code=0, value=None)
    results = sweep.results()
    found = [name for name in results.columns if name.startswith("value")]
    assert found == ["value.acc", "value.by.class", "value.by.none", "value"]
    assert [results[0][name] for name in found] == [1, [1, 2], {}, None]
    assert [row["value"] for row in results] == [None, [1, {"a": 2}], False, None]


def test_without_a_returned_value_there_is_no_column_for_it(sweep: Sweeps) -> None:
    sweep.submit({"x": 1})
    sweep.end(0, exit_code=0)
    assert "value" not in sweep.results().columns


def test_a_parameter_and_a_metric_of_one_name_are_both_kept(sweep: Sweeps) -> None:
    sweep.submit({"lr": 0.1}, {"lr": 0.2})
    sweep.end(0, exit_code=0)
    sweep.end(1, exit_code=0)
    sweep.write(0, "results.json", {"lr": 0.05, "acc": 1})
    sweep.write(1, "metrics.json", {"lr": 0.01, "acc": 2})
    rows = list(sweep.results())
    assert [row["lr"] for row in rows] == [0.1, 0.2]
    assert [row["results.lr"] for row in rows] == [0.05, None]
    assert [row["metrics.lr"] for row in rows] == [None, 0.01]
    assert [row["acc"] for row in rows] == [1, None]
    assert [row["metrics.acc"] for row in rows] == [None, 2]


def test_names_that_are_hsms_own_are_prefixed(sweep: Sweeps) -> None:
    sweep.submit({"job": "svm", "params.job": 1, "value": 2, "": 3})
    sweep.end(0, exit_code=0, value=4)
    sweep.write(0, "metrics.json", {"state": "fine", "duration": 9, "note": "n", "": 5})
    (row,) = sweep.results()
    assert (row["job"], row["state"], row["duration"]) == (0, "COMPLETED", 2.5)
    assert (row["params.job"], row["params.params.job"]) == ("svm", 1)
    assert (row["value"], row["returned.value"]) == (2, 4)
    assert (row["metrics.state"], row["metrics.duration"]) == ("fine", 9)
    assert (row["metrics.note"], row["params."], row["metrics."]) == ("n", 3, 5)


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        (
            Ending(JobState.TIMEOUT, signal="SIGTERM", reason="timeout after 2 s"),
            "timeout after 2 s",
        ),
        (Ending(JobState.FAILED, exit_code=3), "exit code 3"),
        (
            Ending(JobState.FAILED, 1, error_type="ValueError", error_message="one\ntwo"),
            "ValueError: one",
        ),
        (Ending(JobState.FAILED, reason="first\nsecond\r\nthird"), "first second third"),
        (Ending(JobState.COMPLETED, 0), None),
        (Ending(JobState.COMPLETED, 0, reason="its value is lost"), "its value is lost"),
    ],
)
def test_the_reason_is_one_line(sweep: Sweeps, ending: Ending, reason: str | None) -> None:
    sweep.submit({})
    sweep.start(0)
    sweep.jobs[0].end(101.0, ending)
    sweep.journal.end(sweep.jobs[0])
    assert sweep.results()[0]["reason"] == reason


# --- sweeps in every condition
# -------------------------------------------------------------------------------------------------


def test_a_running_sweep_shows_what_there_is_so_far(sweep: Sweeps) -> None:
    sweep.submit({"x": 0}, {"x": 1}, {"x": 2})
    sweep.end(0, exit_code=0)
    sweep.start(1)
    sweep.write(1, "metrics.json", {"epoch": 7})
    results = collect_results(sweep.paths.sweep_dir)
    assert [row["state"] for row in results] == ["COMPLETED", "RUNNING", "PENDING"]
    assert [row["epoch"] for row in results] == [None, 7, None]
    assert [row["attempts"] for row in results] == [1, 1, 0]
    assert results[1]["duration"] is results[1]["reason"] is None


def test_an_interrupted_sweep_says_which_jobs_never_started(sweep: Sweeps) -> None:
    sweep.submit({"x": 0}, {"x": 1})
    sweep.end(0, exit_code=0, value=1)
    results = sweep.results("interrupted by SIGINT")
    assert [row["value"] for row in results] == [1, None]
    assert (results[1]["state"], results[1]["attempts"]) == ("CANCELLED", 0)
    assert results[1]["reason"] == "never started: interrupted by SIGINT"


def test_a_sweep_without_jobs_has_no_rows(sweep: Sweeps) -> None:
    results = sweep.results()
    assert (list(results), results.to_csv().count("\n")) == ([], 1)


def test_a_directory_without_a_sweep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="no sweep in"):
        collect_results(tmp_path)


def test_nothing_is_unpickled(sweep: Sweeps, tmp_path: Path) -> None:
    sweep.submit({})
    sweep.end(0, exit_code=0, value=1)
    # Unpickled, this would make a directory.
    bomb = f"cos\nmkdir\n(V{tmp_path / 'exploded'}\ntR."
    sweep.paths.result(0).write_text(bomb)
    assert sweep.results()[0]["value"] == 1
    assert not (tmp_path / "exploded").exists()


def test_a_sweep_that_was_moved_finds_its_jobs_files(sweep: Sweeps, tmp_path: Path) -> None:
    sweep.submit({}, {})
    elsewhere = tmp_path / "named by hydra"
    elsewhere.mkdir()
    (elsewhere / "metrics.json").write_text('{"acc": 1}')
    sweep.end(0, exit_code=0, job_dir=str(elsewhere))
    sweep.end(1, exit_code=0, job_dir=str(sweep.paths.job_dir(1)))
    sweep.write(1, "metrics.json", {"acc": 2})
    assert [row["acc"] for row in sweep.results()] == [1, 2]
    moved = shutil.move(sweep.paths.sweep_dir, tmp_path / "moved")
    assert [row["acc"] for row in collect_results(moved)] == [1, 2]


def test_a_sweep_started_through_hydra(tmp_path: Path) -> None:
    body = """
        def job(cfg):
            from hydra.core.hydra_config import HydraConfig
            output = Path(HydraConfig.get().runtime.output_dir)
            (output / "metrics.json").write_text('{"double": %d}' % (2 * cfg.job))
            return {"half": cfg.job / 2}
    """
    app = App(tmp_path, body)
    app.run("job=1,2,3")
    results = collect_results(tmp_path / "sweep")
    # `job` is hsm's own column, so the parameter of that name moves.
    assert [row["params.job"] for row in results] == [1, 2, 3]
    assert [row["value.half"] for row in results] == [0.5, 1.0, 1.5]
    assert [row["double"] for row in results] == [2, 4, 6]
    assert [row["state"] for row in results] == ["COMPLETED"] * 3


# --- files that are not what they should be
# -------------------------------------------------------------------------------------------------


def a_directory(path: Path) -> None:
    path.mkdir()


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_large_file(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 30)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"acc": 1', "Expecting"),
        ("", "Expecting value"),
        ("[1, 2]", "holds a list, not an object"),
        ('{"a": {"b": 1}, "a.b": 2, "acc": 1}', "holds a.b twice; the first is shown"),
        ('{"a":' * 100_000, "is nested too deeply"),
        (a_directory, "it is a folder, not a regular file"),
        (a_pipe, "it is a pipe, not a regular file"),
        (a_large_file, "is larger than 16 MiB"),
    ],
)
def test_a_file_that_cannot_be_used_is_a_note(
    sweep: Sweeps, content: str | Callable[[Path], None], reason: str
) -> None:
    sweep.submit({"x": 0}, {"x": 1})
    sweep.end(0, exit_code=0)
    sweep.end(1, exit_code=0)
    sweep.write(0, "metrics.json", {"other": 3})
    if isinstance(content, str):
        sweep.write(0, "results.json", content)
    else:
        content(sweep.paths.job_dir(0) / "results.json")
    results = sweep.results()
    (problem,) = results.problems
    assert problem.startswith("job 0: results.json: ")
    assert reason in problem
    assert [row["note"] for row in results] == [problem.removeprefix("job 0: "), None]
    assert results[0]["other"] == 3
    assert results.columns[-1] == "note"


def test_two_bad_files_are_two_problems_and_one_note(sweep: Sweeps) -> None:
    sweep.submit({})
    sweep.end(0, exit_code=0)
    sweep.write(0, "results.json", "1")
    sweep.write(0, "metrics.json", "2")
    results = sweep.results()
    assert len(results.problems) == 2
    assert results[0]["note"] == (
        "results.json: holds a int, not an object; metrics.json: holds a int, not an object"
    )


def test_a_damaged_line_of_the_journal_is_a_problem(sweep: Sweeps) -> None:
    sweep.submit({"x": 1})
    sweep.end(0, exit_code=0)
    sweep.journal.close("finished")
    with sweep.paths.journal.open("a") as file:
        file.write("garbage\n")
    results = sweep.results()
    assert len(results) == 1
    assert [problem.split(":")[0] for problem in results.problems] == ["line 6"]


# --- choosing
# -------------------------------------------------------------------------------------------------


@pytest.fixture
def table(sweep: Sweeps) -> Results:
    sweep.submit(*({"lr": lr, "model": "svm"} for lr in (0.1, 0.001, 0.01, 1.0, 10.0)))
    sweep.end(0, exit_code=0, value=0.5)
    sweep.end(1, JobState.FAILED, exit_code=1)
    sweep.end(2, exit_code=0, value=math.nan)
    sweep.end(3, JobState.TIMEOUT, signal="SIGTERM")
    sweep.end(4, exit_code=0, value=0.25)
    return sweep.results()


def numbers(results: Results) -> list[int]:
    return [row["job"] for row in results]


def test_sorting_puts_what_is_missing_last(table: Results) -> None:
    assert numbers(table.sorted_by("value")) == [4, 0, 1, 2, 3]
    assert numbers(table.sorted_by("value", descending=True)) == [0, 4, 1, 2, 3]
    assert numbers(table.sorted_by("lr")) == [1, 2, 0, 3, 4]
    assert numbers(table) == [0, 1, 2, 3, 4]


def test_values_of_any_types_can_be_sorted(sweep: Sweeps) -> None:
    values = ["b", 2, None, [1], "a", True, {"x": 1}, 1.5]
    sweep.submit(*({"v": value} for value in values))
    ordered = [row["v"] for row in sweep.results().sorted_by("v")]
    assert ordered == [True, 1.5, 2, "a", "b", [1], {"x": 1}, None]


def test_jobs_can_be_chosen_by_state(table: Results) -> None:
    assert numbers(table.only("failed")) == [1]
    assert numbers(table.only("Failed", JobState.TIMEOUT)) == [1, 3]
    assert numbers(table.only(["completed", "timeout"])) == [0, 2, 3, 4]
    assert numbers(table.only("out-of-memory")) == []
    with pytest.raises(SettingsError, match=r"did you mean COMPLETED\?"):
        table.only("complete")
    with pytest.raises(SettingsError, match=r"only: column must be one of .*, not 'state'"):
        table.select(["lr"]).only("failed")


def test_columns_can_be_chosen(table: Results) -> None:
    chosen = table.select(["value", "lr"])
    assert chosen.columns == ["value", "lr"]
    assert chosen[0] == {"value": 0.5, "lr": 0.1}
    assert (chosen.sweep_id, chosen.paths) == (table.sweep_id, table.paths)


@pytest.mark.parametrize(
    "use",
    [
        lambda table: table.sorted_by("valeu"),
        lambda table: table.select(["job", "valeu"]),
    ],
)
def test_an_unknown_column_is_refused_with_the_near_one(
    table: Results, use: Callable[[Results], Results]
) -> None:
    with pytest.raises(SettingsError, match=r"did you mean value\?") as caught:
        use(table)
    assert "\n" not in str(caught.value)
    assert "one of job, state, lr" in str(caught.value)


# --- writing
# -------------------------------------------------------------------------------------------------

AWKWARD = {
    "nan": math.nan,
    "inf": -math.inf,
    "none": None,
    "true": True,
    "list": [1, math.nan, None],
    "text": 'a "b", c\nd|e',
    "tiny": 1e-300,
    "third": 1 / 3,
}


@pytest.fixture
def awkward(sweep: Sweeps) -> Results:
    sweep.submit(AWKWARD)
    return sweep.results().select(list(AWKWARD))


def test_csv(awkward: Results) -> None:
    names, cells = csv.reader(io.StringIO(awkward.to_csv()))
    assert names == list(AWKWARD)
    assert dict(zip(names, cells, strict=True)) == {
        "nan": "nan",
        "inf": "-inf",
        "none": "",
        "true": "true",
        "list": "[1, null, null]",
        "text": 'a "b", c\nd|e',
        "tiny": "1e-300",
        "third": repr(1 / 3),
    }


def test_json_is_what_every_parser_reads(awkward: Results) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    (row,) = json.loads(awkward.to_json(), parse_constant=refuse)
    null = {"nan": None, "inf": None, "list": [1, None, None]}
    assert row == {**AWKWARD, **null}


def test_markdown(awkward: Results) -> None:
    head, rule, row = awkward.to_markdown().splitlines()
    assert head == "| nan | inf | none | true | list | text | tiny | third |"
    assert rule == "| ---: | ---: | ---: | ---: | --- | --- | ---: | ---: |"
    assert row == (
        '| nan | -inf |  | true | \\[1, null, null\\] | a "b", c d\\|e | 1e-300 | 0.333333 |'
    )


def test_a_table_is_written_to_paths_and_files(table: Results, tmp_path: Path) -> None:
    text = table.to_csv(tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == text == table.to_csv()
    stream = io.StringIO()
    table.to_json(stream)
    assert json.loads(stream.getvalue())[0]["lr"] == 0.1
    table.to_markdown(str(tmp_path / "a.md"))
    assert (tmp_path / "a.md").read_text().startswith("| job | state |")
    with pytest.raises(FileNotFoundError):
        table.to_csv(tmp_path / "missing" / "a.csv")


def test_without_the_extra_the_error_names_it(
    table: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(HsmError, match=r"pip install 'hpc-sweep-manager\[parquet\]'"):
        table.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(HsmError, match=r"pip install 'hpc-sweep-manager\[pandas\]'"):
        table.to_pandas()
    assert not (tmp_path / "a.parquet").exists()


def test_parquet(sweep: Sweeps, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    mixed: list[Any] = [1, "two", None, 10**30]
    sweep.submit(*({"x": 0.5 * n, "mixed": value, "list": [n]} for n, value in enumerate(mixed)))
    sweep.results().select(["job", "x", "mixed", "list"]).to_parquet(tmp_path / "a.parquet")
    assert parquet.read_table(tmp_path / "a.parquet").to_pydict() == {
        "job": [0, 1, 2, 3],
        "x": [0.0, 0.5, 1.0, 1.5],
        "mixed": ["1", "two", None, str(10**30)],
        "list": ["[0]", "[1]", "[2]", "[3]"],
    }


def test_pandas(table: Results) -> None:
    pytest.importorskip("pandas")
    frame = table.to_pandas()
    assert list(frame.columns) == table.columns
    assert frame["lr"].tolist() == [0.1, 0.001, 0.01, 1.0, 10.0]
    assert frame["value"].isna().tolist() == [False, True, True, True, False]


@pytest.mark.slow
def test_ten_thousand_jobs_are_collected_in_seconds(sweep: Sweeps) -> None:
    sweep.submit(*({"x": num, "model": "svm"} for num in range(10_000)))
    for num in range(10_000):
        sweep.end(num, exit_code=0, cpu_seconds=0.1, max_memory=1 << 20)
        sweep.write(num, "metrics.json", {"acc": num / 2})
    sweep.journal.close("finished")
    started = time.process_time()  # Not wall time: the machine may have other things to do.
    results = collect_results(sweep.paths.sweep_dir)
    assert time.process_time() - started < 10  # less than one, on an idle machine
    assert results[9_999]["acc"] == 4999.5


def test_lone_surrogates_are_written_as_escapes(sweep: Sweeps, tmp_path: Path) -> None:
    """JSON can hold them, and UTF-8 cannot."""
    sweep.submit({"x": 1})
    sweep.end(0)
    sweep.write(0, "results.json", '{"a": "\\ud800", "b\\udfff": ["\\ud801"], "c": 1}')
    results = sweep.results().select(["a", "b\udfff", "c"])
    assert results.to_csv().splitlines()[0] == "a,b\\udfff,c"
    results.to_csv(tmp_path / "r.csv")
    assert (tmp_path / "r.csv").read_text().splitlines()[1].startswith("\\ud800,")
    results.to_json(tmp_path / "r.json")
    [row] = json.loads((tmp_path / "r.json").read_text())
    assert row == {"a": "\ud800", "b\udfff": ["\ud801"], "c": 1}
    results.to_markdown(tmp_path / "r.md")
    assert r"| \\ud800 |" in (tmp_path / "r.md").read_text()
    with io.BytesIO() as stream, io.TextIOWrapper(stream, encoding="utf-8") as text:
        results.to_csv(text)


def test_lone_surrogates_fit_into_parquet(sweep: Sweeps, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    sweep.submit({"x": 1})
    sweep.end(0)
    sweep.write(0, "results.json", '{"a": "\\ud800", "b\\udfff": ["\\ud801"]}')
    sweep.results().select(["a", "b\udfff"]).to_parquet(tmp_path / "r.parquet")
    table = parquet.read_table(tmp_path / "r.parquet")
    assert table.column_names == ["a", "b\\udfff"]
    assert table.column("a").to_pylist() == ["\\ud800"]
