"""What the live view shows of a sweep, in how much room it has."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from hsm.core.engine.compute_source import RunningJob
from hsm.core.record.job import JobState
from hsm.display.rich_view import LiveView
from hsm.display.text import clean


def view(
    rows: Sequence[RunningJob] = (),
    *,
    title: str = "digits",
    eta: float | None = 31.0,
    **counts: int,
) -> LiveView:
    by_state = {state: counts.get(state.lower(), 0) for state in JobState}
    return LiveView(title, by_state, 83.0, eta, rows)


def text_of(
    view: LiveView, width: int = 80, height: int = 23, ascii_only: bool = False
) -> list[str]:
    lines = view.lines(width, height, ascii_only)
    return ["".join(text for text, _ in line).rstrip() for line in lines]


def test_view_at_80_columns() -> None:
    rows = [
        RunningJob(7, "lr=0.1 model=svm", 12.0, 99.4, 1288490189, "epoch 3 loss 0.21"),
        RunningJob(8, "lr=0.1 model=random_forest model.max_depth=12", 4.0),
    ]
    shown = text_of(view(rows, completed=35, failed=1, timeout=1, running=2, pending=11))
    assert shown == [
        "digits " + "━" * 49 + "─" * 18 + " 37/50",
        "35 done  2 failed  2 running  11 pending" + " " * 26 + "1:23  ETA 0:31",
        " job overrides                    time    cpu   memory last output",
        "   7 lr=0.1 model=svm             0:12    99%  1.2 GiB epoch 3 loss 0.21",
        "   8 …forest model.max_depth=12   0:04",
    ]


def test_what_jobs_report_comes_before_what_they_print() -> None:
    rows = [
        replace(_row(7, line="epoch 3 has ended"), step=3, reported={"loss": 0.123456, "ok": True}),
        replace(_row(8, {"model": "forest"}, line="loading"), step=None),
        replace(_row(9, line="x"), reported={"name": "\x1b[31mred", "n": 12, "bad": math.nan}),
    ]
    shown = _table(rows, 90)
    assert [line[45:] for line in shown[1:]] == [
        " reported                      last output",
        " step 3  loss 0.1235  ok True  epoch 3 has e…",
        "                               loading",
        " name red  n 12  bad nan       x",
    ]
    # On a narrow terminal, instead.
    assert [line[45:] for line in _table(rows, 76)[1:3]] == [
        " reported",
        " step 3  loss 0.1235  ok True",
    ]
    assert "step 3  loss 0…" in _table(rows, 60)[2]


_NAMES = {"optimizer.lr": "lr", "model": "model", "seed": "seed"}


def _row(num: int, params: Mapping[str, Any] | None = None, line: str = "") -> RunningJob:
    given = {"optimizer.lr": 0.1, "model": "svm", "seed": 1, "data": "mnist", **(params or {})}
    label = " ".join(f"{name}={value}" for name, value in given.items())
    return RunningJob(num, label, 4.0, 99.4, 1 << 30, line, params=given)


def _table(
    rows: Sequence[RunningJob],
    width: int = 80,
    height: int = 23,
    *,
    names: Mapping[str, str] = _NAMES,
    ascii_only: bool = False,
) -> list[str]:
    shown = replace(view(rows, running=len(rows)), names=names, constants="data=mnist")
    return text_of(shown, width, height, ascii_only)[2:]


def test_a_parameter_that_varies_has_a_column_and_the_others_a_line() -> None:
    rows = [_row(7, line="epoch 3"), _row(8, {"model": "forest"}), _row(9, {"optimizer.lr": 0.001})]
    assert _table(rows) == [
        "all jobs: data=mnist",
        " job    lr  model   seed   time    cpu   memory last output",
        "   7   0.1  svm        1   0:04    99%  1.0 GiB epoch 3",
        "   8   0.1  forest     1   0:04    99%  1.0 GiB",
        "   9 0.001  svm        1   0:04    99%  1.0 GiB",
    ]


def test_columns_are_narrowed_and_keep_the_ends_of_values() -> None:
    models = ("a long name that ends with A", "数据集一数据集一数据集一B")
    rows = [_row(num, {"model": model}) for num, model in enumerate(models)]
    assert _table(rows)[1:] == [
        " job  lr  model              seed   time    cpu   memory last output",
        "   0 0.1  …that ends with A     1   0:04    99%  1.0 GiB",
        "   1 0.1  … 据集一数据集一B     1   0:04    99%  1.0 GiB",
    ]
    assert "…" not in "".join(_table(rows, 200))


def test_with_too_many_columns_the_label_has_what_varies_and_keeps_its_end() -> None:
    many = {f"group.parameter_{n}": n for n in range(12)}
    names = {name: name.partition(".")[2] for name in many}
    head, row = _table([_row(7, many)], names=names)[1:]
    assert head.startswith(" job overrides  ")
    assert row.startswith("   7 …")
    assert "parameter_11=11   0:04" in row
    head, row = _table([_row(7, many)], 400, names=names)[1:]
    assert head.split()[:3] == ["job", "parameter_0", "parameter_1"]


def test_a_job_whose_parameters_are_not_at_hand_shows_its_label() -> None:
    rows = [_row(7), RunningJob(8, "lr=0.3 text=very long", 4.0), _row(9)]
    del rows[2].params["seed"]  # type: ignore[union-attr]
    assert [line[:22] for line in _table(rows)[2:]] == [
        "   7 0.1  svm       1 ",
        "   8 … text=very long ",
        "   9 0.1  svm         ",
    ]


def test_a_low_terminal_shows_rows_rather_than_what_is_constant() -> None:
    rows = [_row(7), _row(8), _row(9)]
    assert _table(rows, height=5)[0].startswith(" job ")
    assert _table(rows, height=6)[0].startswith("all jobs: ")
    assert len(_table(rows, height=6)) == 4


def test_the_constants_are_cut_to_the_width() -> None:
    shown = replace(view([_row(7)], running=1), names=_NAMES, constants="x" * 300 + "…")
    assert text_of(shown)[2] == "all jobs: " + "x" * 69 + "…"
    assert "".join(text_of(shown, 400, ascii_only=True)).isascii()


def test_the_last_line_is_shown_without_its_prefix_and_a_warning_stays_one() -> None:
    rows = [
        RunningJob(7, "", 4.0, last_line="[2026-01-31 12:00:00,123][train][INFO] - epoch 3"),
        RunningJob(8, "", 4.0, last_line="WARNING:root:careful"),
        RunningJob(9, "", 4.0, last_line="ERROR:root:" + "x" * 80),
    ]
    _, _, _, *lines = view(rows, running=3).lines(80, 23, False)
    assert [line[-1][0].strip() for line in lines[:2]] == ["epoch 3", "careful"]
    assert [(text, str(style)) for text, style in lines[1][-2:-1]] == [("WARNING", "yellow")]
    assert [(text, str(style)) for text, style in lines[2][-2:-1]] == [("ERROR", "red")]
    assert cell_len("".join(text for text, _ in lines[2])) == 80
    assert lines[2][-1][0].endswith("x…")


def test_the_bar_is_as_wide_as_the_terminal() -> None:
    bar, counts = text_of(view(running=1), 200)
    assert len(bar) == 200
    assert len(counts) == 100


def test_view_at_200_columns_gives_labels_their_room() -> None:
    label = "lr=0.1 model=random_forest model.max_depth=12 seed=4"
    rows = [RunningJob(8, label, 4.0, 1600.0, 34 << 20, "x" * 300)]
    *_, row = text_of(view(rows, running=1), 200)
    assert f" 8 {label} " in row
    assert row.endswith("x…")
    assert len(row) == 200


def test_view_shows_markup_and_cleans_escapes() -> None:
    rows = [RunningJob(8, "x=[red]\x1b[31m", 4.0, None, None, "[bold]\x07 1%\r2%")]
    *_, row = text_of(view(rows, running=1))
    assert "x=[red] " in row
    assert row.endswith(" 2%")


def test_more_jobs_than_rows() -> None:
    rows = [RunningJob(num, "", 4.0) for num in range(64)]
    shown = text_of(view(rows, running=64), height=10)
    assert len(shown) == 10
    assert shown[-1] == "   +58 more running"
    assert len(text_of(view(rows[:7], running=7), height=10)) == 10
    assert "more" not in text_of(view(rows[:7], running=7), height=10)[-1]


def test_one_failure_among_thousands_is_red() -> None:
    (bar, *_) = view(completed=5000, failed=1, pending=4999).lines(80, 23)
    assert [text for text, style in bar if style and style.color and style.color.name == "red"] == [
        "━"
    ]


def test_view_in_ascii() -> None:
    rows = [RunningJob(1, "l" * 100, 4.0)]
    shown = text_of(view(rows, completed=1, running=1), ascii_only=True)
    assert "\n".join(shown).isascii()
    assert "####----" in shown[0]


def test_no_estimate_is_blank() -> None:
    assert "ETA" not in text_of(view(running=1, eta=None))[1]


def test_figures_of_a_machine_that_is_not_built_yet_fit() -> None:
    rows = [RunningJob(0, "", 0.0), RunningJob(1, "l", 4.0, cpu_percent=1e6, memory=1 << 70)]
    for width in range(1, 100):
        for line in view(rows, running=2).lines(width, 15, ascii_only=False):
            assert cell_len("".join(text for text, _ in line)) <= width


texts = st.text(max_size=120)
many = st.integers(0, 10**6)
values = st.integers() | st.floats() | texts | st.lists(st.booleans())


@given(
    st.lists(
        st.builds(
            RunningJob,
            num=many,
            label=texts,
            elapsed=st.floats(0, 1e7),
            cpu_percent=st.none() | st.floats(0, 1e5),
            memory=st.none() | st.integers(0, 1 << 50),
            last_line=texts,
            params=st.none() | st.dictionaries(st.sampled_from("abcd"), values),
        ),
        max_size=12,
    ),
    texts.map(clean),
    st.fixed_dictionaries(dict.fromkeys(JobState, many)),
    st.integers(1, 210),
    st.integers(1, 30),
    st.booleans(),
    st.dictionaries(st.sampled_from("abcd"), texts.map(clean)),
)
def test_the_view_always_fits(
    rows: list[RunningJob],
    title: str,
    by_state: dict[JobState, int],
    width: int,
    height: int,
    ascii_only: bool,
    names: dict[str, str],
) -> None:
    shown = LiveView(title, by_state, 1e6, 1e5, rows, names, "seed=1")
    lines = list(shown.lines(width, height, ascii_only))
    assert 1 <= len(lines) <= height
    for line in lines:
        assert cell_len("".join(text for text, _ in line)) <= width
