"""`hsm collect-results`: the options; the table itself is tested with `hsm.core.results`."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.cli import Project
from helpers.displays import Terminal
from helpers.terminal import Screen
from helpers.written_sweeps import Sweeps

pytestmark = pytest.mark.thorough

_SCORE = (
    "import json, os, sys; x = json.loads(os.environ['HSM_PARAMS'])['x']; "
    "open(os.environ['HSM_JOB_DIR'] + '/metrics.json', 'w').write(json.dumps({'score': x * x})); "
    "sys.exit(x == 2)"
)


@pytest.fixture
def swept(project: Project) -> Project:
    """A project with sweep s: x is 3, 1, 2, and 2 fails."""
    command = [sys.executable, "-c", _SCORE.replace("{", "{{").replace("}", "}}")]
    project.here("sweep", "x=3,1,2", "--sweep-id", "s", "--", *command, code=1)
    return project


def _rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_table(swept: Project) -> None:
    heading, *rows = swept.here("collect-results", "s").out.splitlines()
    assert heading.split()[:4] == ["job", "state", "x", "score"]
    assert rows[2].split()[:4] == ["2", "FAILED", "2", "4"]


def test_csv_json_and_markdown(swept: Project) -> None:
    assert [
        row["score"] for row in _rows(swept.here("collect-results", "--format", "csv").out)
    ] == [
        "9",
        "1",
        "4",
    ]
    told = swept.here("collect-results", "--sweep-id", "s", "--format", "json").json
    assert [row["score"] for row in told] == [9, 1, 4]
    assert swept.here("collect-results", "--format", "md").out.startswith("| job | state |")


def test_sorting(swept: Project) -> None:
    for column, expected in (("score", [1, 4, 9]), ("-score", [9, 4, 1])):
        arguments = ("collect-results", "--format", "json", "--sort-by", column)
        assert [row["score"] for row in swept.here(*arguments).json] == expected


@pytest.mark.parametrize(
    ("only", "jobs"), [("failed", [2]), ("completed", [0, 1]), ("cancelled", []), ("FAILED", [2])]
)
def test_only_some_states(swept: Project, only: str, jobs: list[int]) -> None:
    told = swept.here("collect-results", "--only", only, "--format", "json").json
    assert [row["job"] for row in told] == jobs


def test_columns(swept: Project) -> None:
    ran = swept.here("collect-results", "--columns", "score, job", "--format", "csv")
    assert ran.out.splitlines() == ["score,job", "9,0", "1,1", "4,2"]


def test_a_column_that_was_asked_for_is_shown_though_it_is_empty(swept: Project) -> None:
    assert "signal" not in swept.here("collect-results").out.splitlines()[0].split()
    ran = swept.here("collect-results", "--columns", "job,signal")
    assert ran.out.splitlines()[0].split() == ["job", "signal"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sort-by", "scor"], "--sort-by: no column 'scor'; did you mean score?"),
        (["--columns", "job,nothing"], "--columns: no column 'nothing'; there are job, "),
        (["--only", "faild"], "did you mean failed?"),
        (["--only", "fail"], "--only must be completed; failed, which"),
        (
            ["--output", "x.xls"],
            "--output must be a name that ends in .csv, .json, .md or .parquet, ",
        ),
        (["--output", "x.table"], "not 'x.table'; --format takes any name"),
        (["--output", "x.d/table"], "not 'x.d/table'"),
        (
            ["--format", "table", "--output", "x.csv"],
            "--format must be csv, json, md or parquet with --output, not 'table'",
        ),
        (["--format", "parquet"], "needs --output"),
        (["--output", "none/x.csv"], "No such file or directory"),
    ],
)
def test_bad_options(swept: Project, arguments: list[str], said: str) -> None:
    assert said in swept.refused("collect-results", "s", *arguments)


def test_a_file_says_its_format(swept: Project) -> None:
    for name in ("r.csv", "r.json", "r.md"):
        assert swept.here("collect-results", "-o", name).out == ""
    assert len(_rows((swept.folder / "r.csv").read_text())) == 3
    assert len(json.loads((swept.folder / "r.json").read_text())) == 3
    assert "| 9 |" in (swept.folder / "r.md").read_text()
    swept.here("collect-results", "-o", "R.CSV")
    assert (swept.folder / "R.CSV").read_text() == (swept.folder / "r.csv").read_text()
    swept.here("collect-results", "-o", "r", "--format", "csv")
    assert (swept.folder / "r").read_text() == (swept.folder / "r.csv").read_text()


def test_what_could_not_be_read_is_said(swept: Project) -> None:
    (swept.folder / "outputs/s/1/metrics.json").write_text("{")
    ran = swept.here("collect-results", "s", "--format", "csv")
    assert len(_rows(ran.out)) == 3
    assert ran.err.startswith("hsm: job 1: metrics.json")


# --- what varies, and groups


@pytest.fixture
def models(tmp_path: Path) -> str:
    """The directory of a sweep of two models with three seeds; its losses are seed + 10 or + 0."""
    sweep = Sweeps(tmp_path / "models")
    points: list[dict[str, Any]] = [
        {"model": m, "seed": n, "depth": 3} for m in ("svm", "forest") for n in range(3)
    ]
    sweep.submit(*points)
    for num, point in enumerate(points):
        loss = point["seed"] + 10 * (point["model"] == "forest")
        sweep.end(num, exit_code=0, value={"loss": loss, "curve": [loss] * 30})
    sweep.journal.close("finished")
    return str(sweep.paths.sweep_dir)


def _on_terminal(project: Project, *arguments: str) -> list[str]:
    """The lines that `hsm collect-results` prints on a terminal."""
    ran = project.here("collect-results", *arguments, stdout=Terminal())
    return Screen(ran.out).text.splitlines()


def test_a_terminal_shows_what_varies(
    models: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    above, _, heading, _, *rows = _on_terminal(project, models)
    assert above == "the same for all jobs: depth=3 attempts=1 duration=2.5 exit_code=0"
    assert heading.split() == ["job", "state", "model", "seed", "value.loss", "value.curve"]
    assert rows[4].split() == ["4", "COMPLETED", "forest", "1", "11", "[30", "values]"]
    assert len(rows) == 6


def test_all_columns_and_named_ones_are_shown_though_they_do_not_vary(
    models: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = _on_terminal(project, models, "--all-columns")
    for name in ("depth", "attempts", "cpu_seconds", "signal", "reason"):
        assert name in shown[0].split()
    [heading, _, *rows] = _on_terminal(project, models, "--columns", "job,depth")
    assert heading.split() == ["job", "depth"]
    assert rows[0].split() == ["0", "3"]


def test_what_is_no_terminal_gets_all_columns_but_empty_ones(models: str, project: Project) -> None:
    heading = project.here("collect-results", models).out.splitlines()[0].split()
    assert heading == [
        *("job", "state", "model", "seed", "depth", "value.loss", "value.curve"),
        *("attempts", "duration", "exit_code"),
    ]
    whole = project.here("collect-results", models, "--format", "json").json
    assert whole[1]["value.curve"] == [1] * 30


def test_groups_have_means_deviations_and_counts(models: str, project: Project) -> None:
    def lines(*arguments: str) -> list[list[str]]:
        out = project.here("collect-results", models, *arguments).out
        return [line.split() for line in out.splitlines()]

    assert lines("--group-by", "model") == [
        ["model", "value.loss", "n"],
        ["svm", "1.0", "±", "1.0", "3"],
        ["forest", "11.0", "±", "1.0", "3"],
    ]
    assert lines("--over", "seed", "--sort-by=-value.loss", "--columns", "model,value.loss") == [
        ["model", "value.loss"],
        ["forest", "11.0", "±", "1.0"],
        ["svm", "1.0", "±", "1.0"],
    ]
    assert lines("--group-by", "seed", "--format", "csv", "--columns", "seed,value.loss,n") == [
        ["seed,value.loss,n"],
        *([f"{seed},{seed + 5.0},2"] for seed in range(3)),
    ]
    [first, _] = project.here("collect-results", models, "--over=seed", "--format=json").json
    assert first == {"model": "svm", "depth": 3, "value.loss": 1, "value.loss_std": 1, "n": 3}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--group-by", "modl"], "--group-by: no column 'modl'; did you mean model?"),
        (["--group-by", "model,"], "--group-by: no column ''"),
        (["--over", "state"], "--over: no parameter 'state'; there are model, seed, depth"),
        (["--over", "sed"], "--over: no parameter 'sed'; did you mean seed?"),
        (["--over", "seed", "--group-by", "model"], "give either --group-by or --over, not both"),
        (["--all-columns", "--columns", "job"], "give either --columns or --all-columns, not both"),
        (["--over", "seed", "--sort-by", "seed"], "--sort-by: no column 'seed'; there are model"),
    ],
)
def test_bad_groups(models: str, project: Project, arguments: list[str], said: str) -> None:
    assert said in project.refused("collect-results", models, *arguments)
