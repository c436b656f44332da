"""A line at each new best, while a sweep runs."""

from __future__ import annotations

import io
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from helpers.displays import Rich
from hsm import LocalManager
from hsm.core.engine.watched import Watched
from hsm.core.record.job import Ending, Job, JobState
from hsm.core.record.paths import SweepPaths
from hsm.display import make_display
from hsm.display.base import Display
from hsm.display.notebook_display import NotebookDisplay
from hsm.display.plain_display import PlainDisplay

STUDY = {"chosen": {"method": "optuna", "space": {}, "metric": "loss"}}


def jobs(*objectives: float | None, **params: Any) -> list[Job]:
    """Jobs that run; what they will be told is in `objectives`."""
    made = [
        Job(num, f"s_{num}", f"lr={num}", {"lr": num, "model": "svm", **params})
        for num in range(len(objectives))
    ]
    for job in made:
        job.start(100.0, 1)
    return made


def show(display: Display, *objectives: float | None, **facts: Any) -> None:
    """Run a sweep's jobs one after another."""
    display.sweep_begun({**STUDY, **facts}, [])
    running = jobs(*objectives)
    display.jobs_submitted(running)
    for job, objective in zip(running, objectives, strict=True):
        end(display, job, objective)


def end(display: Display, job: Job, objective: float | None) -> None:
    job.end(101.0, Ending(JobState.COMPLETED, objective=objective))
    display.job_ended(job)


def lines(file: io.StringIO) -> list[str]:
    return [line for line in file.getvalue().splitlines() if line.startswith("best so far")]


@pytest.fixture
def file() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def plain(tmp_path: Path, file: io.StringIO) -> PlainDisplay:
    return PlainDisplay(SweepPaths(tmp_path), list, stream=file)


def test_a_plain_line_after_that_of_the_jobs_end(plain: PlainDisplay, file: io.StringIO) -> None:
    show(plain, 3.0, 4.0, float("nan"), 0.123456789, None)
    assert file.getvalue().splitlines()[:2] == [
        "[1/5] job 0 COMPLETED after 1.0 s (lr=0)",
        "best so far: loss 3 by job 0: lr=0",
    ]
    assert lines(file)[1:] == ["best so far: loss 0.123457 by job 3: lr=3"]


@pytest.mark.parametrize(
    "chosen", [{"method": "random"}, {"method": "optuna", "direction": ["minimize", "maximize"]}]
)
def test_no_line_without_one_direction(
    plain: PlainDisplay, file: io.StringIO, chosen: dict[str, Any]
) -> None:
    show(plain, 3.0, 2.0, chosen=chosen)
    assert lines(file) == []


def test_a_grid_with_a_direction_has_its_lines(plain: PlainDisplay, file: io.StringIO) -> None:
    facts = {"settings": {"direction": "maximize", "metric": "acc"}}
    plain.sweep_begun(facts, [])
    running = jobs(None, None)
    plain.jobs_submitted(running)
    for job, acc in zip(running, (0.5, 0.75), strict=True):
        job.end(101.0, Ending(JobState.COMPLETED, value={"acc": acc}))
        plain.job_ended(job)
    assert lines(file) == [
        "best so far: acc 0.5 by job 0: lr=0",
        "best so far: acc 0.75 by job 1: lr=1",
    ]


def test_a_trial_is_told_with_its_jobs_once(plain: PlainDisplay, file: io.StringIO) -> None:
    plain.sweep_begun({"chosen": {"method": "optuna", "repeat": {"seed": [0, 1]}}}, [])
    running = jobs(0, 0, 0, 0)
    for num, job in enumerate(running):
        job.params = {"lr": num // 2, "seed": num % 2}
    plain.jobs_submitted(running)
    for job, objective in zip(running, (3.0, 5.0, 1.0, 2.0), strict=True):
        end(plain, job, objective)
    assert lines(file) == [
        "best so far: 4.0 ± 1.4 by jobs 0-1: lr=0",
        "best so far: 1.50 ± 0.71 by jobs 2-3: lr=1",
    ]


def test_of_a_resumed_sweep_what_was_best_before_counts(
    plain: PlainDisplay, file: io.StringIO
) -> None:
    earlier = jobs(2.0)[0]
    earlier.end(101.0, Ending(JobState.COMPLETED, objective=2.0))
    plain.sweep_begun(STUDY, [earlier])
    for job, objective in zip(jobs(0, 3.0, 1.0)[1:], (3.0, 1.0), strict=True):
        end(plain, job, objective)
    assert lines(file) == ["best so far: loss 1 by job 2: lr=2"]


def test_hostile_texts_are_escaped(plain: PlainDisplay, file: io.StringIO) -> None:
    plain.sweep_begun({"chosen": {"method": "optuna", "metric": "a\u202e"}}, [])  # no name
    [first, second] = running = jobs(0, 0)
    first.params = {"a\x1b[2J": "b\nc"}
    second.params = {"a\x1b[2J": "c\rd"}
    plain.jobs_submitted(running)
    end(plain, first, 1.0)
    assert lines(file) == [r"best so far: 1 by job 0: a\x1b[2J=b\nc"]


def test_what_makes_no_sense_disturbs_nobody(plain: PlainDisplay, file: io.StringIO) -> None:
    plain.sweep_begun({"chosen": 3, "settings": []}, [])
    end(plain, jobs(0)[0], 1.0)
    assert file.getvalue() == "[1/1] job 0 COMPLETED after 1.0 s (lr=0)\n"


def test_the_live_view_prints_it_above(tmp_path: Path) -> None:
    rich = Rich(SweepPaths(tmp_path))
    with rich.display:
        show(rich.display, 3.0, 2.0)
        rich.wait_for("best so far: loss 2 by job 1: lr=1")


def test_of_many_at_once_the_live_view_prints_the_latest(tmp_path: Path) -> None:
    rich = Rich(SweepPaths(tmp_path))
    with rich.display, rich.display._drawing:  # No redraw meanwhile.
        show(rich.display, *(float(-num) for num in range(500)))
    printed = rich.file.getvalue()
    assert "loss -499 by job 499" in printed
    assert printed.count("best so far") == 1


def test_a_notebook_has_one_line_that_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs: list[str] = []
    ipython: Any = types.ModuleType("IPython.display")
    ipython.display = lambda data, **_: outputs.append(data["text/html"])
    monkeypatch.setitem(sys.modules, "IPython.display", ipython)
    display = NotebookDisplay(SweepPaths(tmp_path), list)
    with display:
        show(display, 3.0, 2.0)
    assert "<div>best so far: loss 2 by job 1: lr=1</div>" in outputs[-1]
    assert outputs[-1].count("best so far") == 1


# --- of real sweeps
# -------------------------------------------------------------------------------------------------


def squared(params: dict[str, Any]) -> dict[str, float]:
    return {"loss": (params["x"] - 3) ** 2}


def test_a_real_grid_and_who_watches_it(tmp_path: Path) -> None:
    file, watching = io.StringIO(), io.StringIO()

    def display(progress: str, **options: Any) -> Display:
        return make_display("plain", stream=file, **options)

    settings: dict[str, Any] = {"metric": "loss", "direction": "minimize", "max_parallel_jobs": 1}
    with LocalManager(display=display, **settings) as manager:
        points = [{"x": x} for x in (1, 5, 4, 3, 2)]
        manager.run(points, function=squared, sweep_dir=tmp_path / "s", sweep_id="s")
    assert lines(file) == [
        "best so far: loss 4 by job 0: x=1",
        "best so far: loss 1 by job 2: x=4",
        "best so far: loss 0 by job 3: x=3",
    ]
    watched = Watched(SweepPaths(tmp_path / "s"))
    watched.show_on(make_display("plain", stream=watching, **only(tmp_path / "s")))
    watched.close()
    assert lines(watching) == []  # All of that was before.


def only(folder: Path) -> dict[str, Any]:
    return {"show_output": False, "paths": SweepPaths(folder), "running": list}
