"""The display in a notebook: one output that is replaced in place, and no scripts in it."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from helpers.displays import ended, pending, running
from helpers.html import Elements
from helpers.processes import PATIENCE, child_environment, wait_for
from hsm import LocalManager
from hsm.core.engine.compute_source import RunningJob
from hsm.core.record.job import Job, JobState
from hsm.core.record.paths import SweepPaths
from hsm.display import make_display
from hsm.display.notebook_display import NotebookDisplay
from hsm.display.plain_display import PlainDisplay
from hsm.display.rich_display import RichDisplay

HOSTILE = "<script>alert(1)</script>\x1b[2J\u202e&amp; $x^2$ '\""


class Notebook:
    """What IPython is to a display: the outputs of a cell, by id, and how often each was shown."""

    def __init__(self) -> None:
        self.outputs: dict[str, dict[str, str]] = {}
        self.updates: list[tuple[str, bool]] = []

    def display(
        self, data: dict[str, str], *, raw: bool, display_id: str, update: bool = False
    ) -> None:
        assert raw
        assert update == (display_id in self.outputs)
        self.outputs[display_id] = data
        self.updates.append((display_id, update))

    @property
    def html(self) -> str:
        [output] = self.outputs.values()
        return output["text/html"]


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Notebook:
    """This process takes itself for a notebook's kernel."""

    class ZMQInteractiveShell: ...

    class ColabShell(ZMQInteractiveShell): ...

    shown = Notebook()
    ipython: Any = types.ModuleType("IPython")
    ipython.get_ipython = ColabShell
    ipython.display = types.ModuleType("IPython.display")
    ipython.display.display = shown.display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", ipython.display)
    return shown


def _display(
    folder: Path, jobs: Sequence[RunningJob] = (), *, show_output: bool = False
) -> NotebookDisplay:
    display = make_display(
        "auto", show_output=show_output, paths=SweepPaths(folder), running=lambda: jobs, title="s"
    )
    assert isinstance(display, NotebookDisplay)
    return display


@pytest.mark.usefixtures("notebook")
@pytest.mark.parametrize(
    ("progress", "stream", "kind"),
    [
        ("auto", None, NotebookDisplay),
        ("rich", None, NotebookDisplay),
        ("plain", None, PlainDisplay),
        ("auto", io.StringIO(), PlainDisplay),
        ("rich", io.StringIO(), RichDisplay),
    ],
)
def test_the_live_display_of_a_kernel_is_the_notebooks(
    tmp_path: Path, progress: str, stream: io.StringIO | None, kind: type
) -> None:
    paths = SweepPaths(tmp_path)
    display = make_display(progress, show_output=False, paths=paths, running=list, stream=stream)
    assert type(display) is kind


def test_ipython_in_a_terminal_is_no_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notebook: Notebook
) -> None:
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: None)
    display = make_display("auto", show_output=False, paths=SweepPaths(tmp_path), running=list)
    assert type(display) is PlainDisplay
    assert notebook.outputs == {}


def test_one_output_is_replaced_until_the_summary(tmp_path: Path, notebook: Notebook) -> None:
    jobs = [RunningJob(1, "lr=0.2", 3.0, 99.0, 1 << 30, "[INFO] epoch 3")]
    display = _display(tmp_path, jobs)
    display.jobs_submitted([pending(num) for num in range(3)])
    with display:
        display.job_started(running(1, "lr=0.2"))
        display.job_ended(ended(0))
        display.job_ended(ended(2, JobState.FAILED, reason="not finite"))
        wait_for(lambda: "1 failed" in notebook.html, "the failure in the notebook")
        live = notebook.html
    display.job_ended(ended(1))
    display.summary()
    for text in ("<b>s</b> 2/3", "1 done, 1 failed, 1 running", "lr=0.2", "1.0 GiB", "epoch 3"):
        assert text in live
    assert "job 2 FAILED: not finite" in live
    assert "<details>" not in live
    for text in ("<b>s</b> 3/3", "<details>", "3 jobs: 2 completed, 1 failed"):
        assert text in notebook.html
    assert "epoch 3" not in notebook.html
    [output] = notebook.outputs.values()
    assert output["text/plain"].startswith("s: 3 jobs: 2 completed, 1 failed")


def test_what_jobs_report_has_a_column(tmp_path: Path, notebook: Notebook) -> None:
    jobs = [RunningJob(1, "lr=0.2", 3.0, step=3, reported={"loss": 0.25, "<b>": "<i>"})]
    with _display(tmp_path, jobs) as display:
        display.jobs_submitted([pending(1)])
        display.job_started(running(1, "lr=0.2"))
        wait_for(lambda: "step 3  loss 0.25  &lt;b&gt; &lt;i&gt;" in notebook.html, "the report")
        assert "reported" in notebook.html


def test_running_jobs_have_a_column_for_each_parameter_that_varies(
    tmp_path: Path, notebook: Notebook
) -> None:
    points = [{"optimizer.lr": lr, "data.seed": 0} for lr in (0.1, 0.2)]
    jobs = [RunningJob(n, "", 1.0, params=points[n], last_line="[WARNING] odd") for n in (0, 1)]
    display = _display(tmp_path, jobs)
    display.jobs_submitted([Job(n, f"s_{n}", "", points[n]) for n in (0, 1)])
    with display:
        wait_for(lambda: "odd" in notebook.html, "the running jobs")
        texts = Elements(notebook.html).texts
    shown = [text for text in texts if text.strip()]
    assert "all jobs: seed=0" in shown
    assert shown[shown.index("job") :][:5] == ["job", "lr", "time", "cpu", "memory"]
    assert "WARNING odd" in shown


def test_nothing_is_sent_that_changes_nothing(tmp_path: Path, notebook: Notebook) -> None:
    display = _display(tmp_path)
    display.message("one")
    display.message("two")
    assert len(notebook.updates) == 2
    display.summary()
    display.summary()
    assert len(notebook.updates) == 3


def test_failures_of_one_kind_are_one_line(tmp_path: Path, notebook: Notebook) -> None:
    display = _display(tmp_path)
    display.jobs_submitted([pending(num) for num in range(20)])
    for num in range(20):
        display.job_ended(ended(num, JobState.FAILED, reason="too high" if num else "odd"))
    display.summary()
    assert notebook.html.count("<details>") == 2
    assert "job 0 FAILED: odd" in notebook.html
    assert "19 jobs FAILED: too high (1-19)" in notebook.html


def test_no_text_becomes_html_or_a_formula(tmp_path: Path, notebook: Notebook) -> None:
    paths = SweepPaths(tmp_path)
    jobs = [RunningJob(1, HOSTILE, 3.0, 99.0, 1 << 30, HOSTILE)]
    display = make_display(
        "auto", show_output=True, paths=paths, running=lambda: jobs, title=HOSTILE
    )
    paths.logs.mkdir(parents=True)
    paths.stderr(0).write_text(HOSTILE)
    display.jobs_submitted([pending(0, HOSTILE), pending(1, HOSTILE)])
    display.message(HOSTILE)
    with display:
        display.job_ended(ended(0, JobState.FAILED, HOSTILE, reason=HOSTILE))
        wait_for(lambda: "FAILED" in notebook.html, "the failure in the notebook")
        live = notebook.html
    display.summary()
    for html in (live, notebook.html):
        assert not re.search(r"[\x1b\u202e]", html)
        assert html.startswith('<div class="tex2jax_ignore')
        assert "<script>alert(1)</script>" in "".join(Elements(html).texts)
    tags = {*Elements(live).tags, *Elements(notebook.html).tags}
    assert tags == {*"b div details pre span summary table tbody td th thead tr".split()}


def test_jobs_output_is_what_the_cell_prints(
    tmp_path: Path, notebook: Notebook, capsys: pytest.CaptureFixture[str]
) -> None:
    display = _display(tmp_path, show_output=True)
    with display:
        display.job_output(running(3), "stdout", "epoch \x1b[31m3\x1b[0m")
    assert capsys.readouterr().out == "[3] epoch 3\n"
    assert len(notebook.outputs) == 1


def test_a_forked_child_shows_nothing(tmp_path: Path, notebook: Notebook) -> None:
    display = _display(tmp_path)
    with display:
        pid = os.fork()
        if pid == 0:
            before = len(notebook.updates)
            display.message("from the child")
            display.summary()
            os._exit(len(notebook.updates) - before)
        assert os.waitpid(pid, 0)[1] == 0


def test_a_sweep_in_a_notebook(notebook: Notebook, capsys: pytest.CaptureFixture[str]) -> None:
    with LocalManager(max_parallel_jobs=1) as manager:
        results = manager.run([{"x": 1}, {"x": 2}], command=["sh", "-c", "exit $(({x} - 1))"])
    assert [row["state"] for row in results] == ["COMPLETED", "FAILED"]
    assert "2 jobs: 1 completed, 1 failed" in notebook.html
    assert "job 1 FAILED: exit code 1" in notebook.html
    assert capsys.readouterr().out == ""


#: Runs a notebook, of which each argument is a cell, and prints the outputs of each cell as JSON.
_RUN = """
import json, sys
import nbformat
from nbclient import NotebookClient
book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in sys.argv[1:]])
NotebookClient(book, timeout=60, kernel_name="python3").execute()
print(json.dumps([cell.outputs for cell in book.cells]))
"""
_SWEEP = """
import math
from hsm import LocalManager

SCALE = 10

def train(params):
    print("epoch 1")
    if params["lr"] > 0.5:
        raise ValueError("<b>diverged</b>")
    return {"loss": SCALE * params["lr"] + math.sqrt(params["seed"]), "curve": [1.0] * 30}

points = [{"lr": lr, "seed": seed, "depth": 3} for lr in (0.1, 0.2, 1) for seed in (0, 1)]
with LocalManager(max_parallel_jobs=2, direction="minimize", metric="loss") as manager:
    results = manager.run(points, function=train)
"""


@pytest.mark.slow
@pytest.mark.thorough
def test_a_notebook_that_is_really_executed() -> None:
    """A function typed into a cell, a display that updates in place, and tables as HTML."""
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    cells = (
        *(_SWEEP, "results", "print(results)", "results.best()['value.loss']"),
        *("results.group_by(over='seed')", "1 / len(results)"),
    )
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *cells],
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    sweep, table, text, best, groups, _ = json.loads(done.stdout.splitlines()[-1])
    [display] = sweep
    assert display["output_type"] == "display_data"
    html = display["data"]["text/html"]
    assert "4 done, 2 failed" in html
    assert "2 jobs FAILED: ValueError: &lt;b&gt;diverged&lt;/b&gt; (4-5)" in html
    assert "6 jobs: 4 completed, 2 failed" in display["data"]["text/plain"]
    [output] = table
    assert output["data"]["text/html"].count("<tr>") == 1 + 6
    assert "the same for all jobs: depth=3 value.curve=[30 values]" in output["data"]["text/html"]
    assert "COMPLETED" in text[0]["text"]
    assert best[0]["data"]["text/plain"] == "1.0"
    assert "1.50 ± 0.71" in groups[0]["data"]["text/html"]
