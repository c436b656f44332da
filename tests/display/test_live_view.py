"""What the live view shows of a sweep, in how much room it has."""

from __future__ import annotations

from collections.abc import Sequence

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
        "   8 lr=0.1 model=random_fores…   0:04",
    ]


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
        ),
        max_size=12,
    ),
    texts.map(clean),
    st.fixed_dictionaries(dict.fromkeys(JobState, many)),
    st.integers(1, 210),
    st.integers(1, 30),
    st.booleans(),
)
def test_the_view_always_fits(
    rows: list[RunningJob],
    title: str,
    by_state: dict[JobState, int],
    width: int,
    height: int,
    ascii_only: bool,
) -> None:
    lines = list(LiveView(title, by_state, 1e6, 1e5, rows).lines(width, height, ascii_only))
    assert 1 <= len(lines) <= height
    for line in lines:
        assert cell_len("".join(text for text, _ in line)) <= width
