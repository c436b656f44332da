"""Which GPUs jobs have, in the live rows and in plain lines."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from helpers.displays import pending
from hsm.core.engine.compute_source import RunningJob
from hsm.core.record.job import JobState
from hsm.core.record.paths import SweepPaths
from hsm.display.notebook_view import NotebookView
from hsm.display.plain_display import PlainDisplay
from hsm.display.running_table import RunningTable
from hsm.display.text import gpu_text

NAMES = {"lr": "lr", "model": "model"}
MIG = "MIG-8f1c2d3e-0000-5555-8888-123456789abc"


def row(
    num: int,
    gpus: tuple[int | str, ...] = (),
    memory: float | None = None,
    model: str = "svm",
) -> RunningJob:
    peak = None if memory is None else int(memory * (1 << 30))
    params = {"lr": 0.1, "model": model}
    made = RunningJob(num, f"lr=0.1 model={model}", 4.0, 99.4, 1 << 30, "epoch 3", params=params)
    return replace(made, gpus=gpus, gpu_memory=peak)


def table(rows: Sequence[RunningJob], width: int) -> list[str]:
    lines = RunningTable(rows, NAMES, width, ascii_only=False).lines(20)
    return ["".join(text for text, _ in line).rstrip() for line in lines]


def test_the_gpus_follow_the_memory_with_what_a_job_has_there() -> None:
    rows = [row(0, (0,), 6.2), row(1, (2, 3)), row(2)]
    assert table(rows, 80) == [
        " job  lr  model   time    cpu   memory gpu  memory last output",
        "   0 0.1  svm     0:04    99%  1.0 GiB 0   6.2 GiB epoch 3",
        "   1 0.1  svm     0:04    99%  1.0 GiB 2,3         epoch 3",
        "   2 0.1  svm     0:04    99%  1.0 GiB             epoch 3",
    ]


def test_no_job_with_gpus_no_column() -> None:
    shown = table([row(0), row(1, memory=3.0)], 80)
    assert shown[0] == " job  lr  model   time    cpu   memory last output"


def test_as_long_as_nothing_is_known_there_is_no_memory() -> None:
    assert table([row(0, (0,))], 80) == [
        " job  lr  model   time    cpu   memory gpu last output",
        "   0 0.1  svm     0:04    99%  1.0 GiB 0   epoch 3",
    ]


def test_a_narrow_terminal_drops_first_the_memory_then_the_gpus_and_then_cuts_parameters() -> None:
    rows = [row(0, (0,), 6.2, model="a random forest of 99")]
    heads = {width: table(rows, width) for width in range(60, 120)}
    whole = [width for width, (_, line) in heads.items() if "a random forest of 99" in line]
    with_gpu = [width for width, (head, _) in heads.items() if " gpu " in head]
    with_memory = [width for width, (head, _) in heads.items() if " gpu  memory " in head]
    assert min(whole) < min(with_gpu) < min(with_memory)
    for widths in (whole, with_gpu, with_memory):  # No gaps: what fits once, fits wherever wider.
        assert widths == list(range(min(widths), 120))


def test_a_wide_terminal_shows_gpus_though_parameters_are_cut() -> None:
    rows = [row(0, (0,), 6.2, model="x" * 200)]
    assert "0   6.2 GiB" in table(rows, 140)[1]
    assert "…" in table(rows, 140)[1]


def test_parts_of_gpus_are_told_by_the_beginnings_of_their_names() -> None:
    assert gpu_text(row(0, (MIG,), 0.5)) == "MIG-8f1c2d3e  512 MiB"
    assert "MIG-8f1c2d3e 512 MiB" in table([row(0, (MIG,), 0.5)], 100)[1]
    assert gpu_text(row(0)) == ""
    assert len(gpu_text(row(0, tuple(range(100))))) <= 32


@given(
    st.integers(1, 200),
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 20) | st.text(max_size=50), max_size=20).map(tuple),
            st.none() | st.floats(0, 1000),
            st.text(max_size=30),
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_no_row_is_wider_than_the_terminal_if_that_has_room_for_a_number(
    width: int, jobs: list[tuple[tuple[int | str, ...], float | None, str]]
) -> None:
    rows = [row(num, *job) for num, job in enumerate(jobs)]
    assert all(cell_len(line) <= max(width, 20) for line in table(rows, width))


@pytest.mark.parametrize(
    ("gpus", "told"),
    [
        (None, "[0/1] job 0 started (lr=0.1)\n"),
        ([2], "[0/1] job 0 started (lr=0.1) on GPU 2\n"),
        ([2, 3], "[0/1] job 0 started (lr=0.1) on GPUs 2,3\n"),
        ([MIG], "[0/1] job 0 started (lr=0.1) on MIG-8f1c2d3e\n"),
        (["\x1b[2J"], "[0/1] job 0 started (lr=0.1) on \\x1b[2J\n"),
    ],
)
def test_a_plain_line_says_where_a_job_starts(
    paths: SweepPaths, gpus: list[int | str] | None, told: str
) -> None:
    file = io.StringIO()
    display = PlainDisplay(paths, list, stream=file)
    job = pending(0, "lr=0.1")
    display.jobs_submitted([job])
    job.start(1.0, 1).gpus = gpus
    display.job_started(job)
    assert file.getvalue() == told


def test_the_table_in_a_notebook_has_them_too() -> None:
    def html(*rows: RunningJob) -> str:
        by_state = dict.fromkeys(JobState, 0)
        return NotebookView("s", by_state, 0.0, None, rows, NAMES, "", (), (), ()).html()

    assert "0  6.2 GiB" in html(row(0, (0,), 6.2))
    assert "gpu" not in html(row(0))
