"""On a terminal: the live view, drawn tables, and Ctrl-C from the keyboard."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from contextlib import AbstractContextManager

import pytest

from helpers.cli import STAY, Project
from helpers.terminal import Terminal, on_terminal

pytestmark = pytest.mark.thorough


def _terminal(
    project: Project, *arguments: str, columns: int = 100
) -> AbstractContextManager[Terminal]:
    command = [sys.executable, "-m", "hsm.cli.main", *arguments]
    return on_terminal(command, project.folder, columns)


def test_the_live_view_of_a_sweep_and_of_its_monitor_are_one(project: Project) -> None:
    command = ("--", "sh", "-c", f"echo INFO:root:hello {{p.x}} {{p.y}}; {STAY}")
    with _terminal(
        project,
        "sweep",
        "p.x=range(3)",
        "p.y=7",
        "--parallel-jobs",
        "2",
        "--sweep-id",
        "s",
        *command,
    ) as sweep:
        texts = ("2 running", "1 pending", "all jobs: y=7", " job x   time", " hello 1 7")
        for text in texts:
            sweep.wait_for(text)
        with _terminal(project, "monitor", "s") as monitor:
            for text in texts:
                monitor.wait_for(text)
            for num in (0, 1):
                (project.folder / f"outputs/s/{num}/go").touch()
            project.wait_for("outputs/s/2/runs")
            (project.folder / "outputs/s/2/go").touch()
            assert monitor.wait() == 0
        assert sweep.wait() == 0
    for shown in (sweep.shown, monitor.shown):
        assert "s: 3 jobs: 3 completed" in shown


def test_ctrl_c_on_the_keyboard(project: Project) -> None:
    with _terminal(
        project, "sweep", "x=range(3)", "--sweep-id", "s", "--", "sh", "-c", STAY
    ) as sweep:
        project.wait_for("outputs/s/1/runs")
        sweep.wait_for("running")
        sweep.type("\x03")
        assert sweep.wait() == 130
        assert "Interrupted by SIGINT: 0 of 3 jobs completed" in sweep.shown
    assert project.states("s") == ["CANCELLED"] * 3


@pytest.mark.slow
def test_a_closed_terminal_ends_its_sweep(project: Project) -> None:
    with _terminal(
        project, "sweep", "x=range(3)", "--sweep-id", "s", "--", "sh", "-c", STAY
    ) as sweep:
        project.wait_for("outputs/s/1/runs")
        os.kill(sweep.pid, signal.SIGHUP)
        assert sweep.wait() == 129


@pytest.mark.slow
def test_tables_are_drawn(project: Project) -> None:
    project.here("sweep", "x=1,2", "--sweep-id", "a-sweep-with-a-long-name", "--", "true")
    for arguments, text in (
        (["list"], "a-sweep-with-a-long-name"),
        (["collect-results", "last"], "COMPLETED"),
        (["config"], "local.max_parallel_jobs"),
    ):
        with _terminal(project, *arguments) as terminal:
            assert terminal.wait() == 0
        assert text in terminal.shown
        assert "───" in terminal.shown
        assert max(map(len, terminal.shown.splitlines())) <= 100


#: A job with results of long names, which are the reason why tables become wide; x=1 fails.
_WIDE = (
    "mkdir -p {job_dir}; echo '{{\"validation_accuracy_of_all\": 0.25}}' > {job_dir}/results.json; "
    "test {x} != 1"
)


def _wide(project: Project) -> None:
    arguments = ("x=0,1", "optimizer.weight_decay=0.001", "text=some-text-that-is-long")
    name = ("--sweep-id", "a-sweep-of-which-the-id-is-long")
    project.here("sweep", *arguments, *name, "--", "sh", "-c", _WIDE, code=1)


def _shown(project: Project, *arguments: str, columns: int) -> str:
    with _terminal(project, *arguments, columns=columns) as terminal:
        assert terminal.wait() == 0
    return terminal.shown


def test_a_narrow_terminal_gets_whole_columns_or_is_told_which_it_does_not_get(
    project: Project,
) -> None:
    _wide(project)
    shown = _shown(project, "collect-results", columns=50)
    above, _, *table, last = shown.splitlines()
    assert above.startswith("the same for all jobs: attempts=1")
    assert above.endswith(" more")
    heads = table[: next(n for n, line in enumerate(table) if "───" in line)]
    row = table[len(heads) + 2].split()
    assert row[:4] == ["1", "FAILED", "1", "0.25"]
    assert max(map(len, [above, *table])) <= 50
    headings = " ".join(heads).split()
    for part in ("job", "state", "x", "accuracy_", "validation_"):
        assert part in headings
    assert last.startswith("too narrow for ")
    assert last.endswith(": --all-columns shows them")
    assert "cpu_" not in headings


def test_columns_that_were_asked_for_are_never_left_out(project: Project) -> None:
    _wide(project)
    names = ("job", "text", "cpu_seconds", "max_memory", "attempts", "duration", "exit_code")
    shown = _shown(project, "collect-results", "--columns", ",".join(names), columns=40)
    assert "narrow" not in shown
    tables = shown.split("\n\n")
    heads = [table.partition("───")[0].split() for table in tables]
    assert len(tables) > 1
    assert all("job" in words for words in heads)
    assert all(table.splitlines()[-1].split()[0] == "1" for table in tables)
    assert max(map(len, shown.splitlines())) <= 40
    wanted = {"text", "cpu_", "max_", "attempts", "duration", "exit_"}
    assert wanted <= {word for words in heads for word in words}


@pytest.mark.slow
@pytest.mark.parametrize("columns", [40, 60, 80, 160])
def test_the_list_is_one_table_whatever_the_width(project: Project, columns: int) -> None:
    _wide(project)
    shown = _shown(project, "list", columns=columns)
    head, rule, first, *_ = shown.splitlines()
    wanted = ["sweep", "status", "jobs", "age"]
    assert head.split() == (wanted if columns < 100 else [*wanted, "started", "directory"])
    assert set(rule) == {"─"}
    assert shown.count("───") // len(rule) <= 1
    assert max(map(len, shown.splitlines())) <= columns
    name = "a-sweep-of-which-the-id-is-long"
    shown_name = first.split()[0]
    assert shown_name == name or columns == 40
    assert re.fullmatch(r"a-sweep-of-which-the-id-is-long|a-swe.*….*-long", shown_name)
    assert first.split()[1] == "finished"


def test_what_a_job_calls_its_results_is_neither_markup_nor_control(project: Project) -> None:
    write = "mkdir -p {job_dir}; cp named.json {job_dir}/results.json"
    named = {"a[/b]": 0.25, "loss[val]": 1, "c\x1b[2Jd": 2, "e\nf": 3}
    project.write("named.json", json.dumps(named))
    project.here("sweep", "x=1", "--sweep-id", "s", "--", "sh", "-c", write)
    drawn = _shown(project, "collect-results", columns=200)
    plain = project.here("collect-results").out
    for shown in (drawn, plain):
        assert shown.splitlines()[0].split()[3:7] == ["a[/b]", "loss[val]", "c\\x1b[2Jd", "e\\nf"]
