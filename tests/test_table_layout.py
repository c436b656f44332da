"""Tables that fit a terminal: which columns, how wide, and where a heading is broken."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from hsm.core.printable import printable
from hsm.core.table_layout import Column, Grid, cell_width, cut_in_middle, lay_out, wrapped

_WORDS = st.lists(st.sampled_from(["a", "rate", "learning", "x" * 15]), min_size=1, max_size=6)
_HEADINGS = st.builds(lambda words, mark: mark.join(words), _WORDS, st.sampled_from("._/"))
_TEXTS = st.text(max_size=30).map(printable)
_COLUMNS = st.lists(
    st.builds(
        Column,
        _HEADINGS,
        st.tuples(_TEXTS, _TEXTS),
        is_right=st.booleans(),
        wraps=st.booleans(),
    ),
    min_size=1,
    max_size=12,
)


def _lines(columns: list[Column], width: int) -> list[list[str]]:
    grid = Grid(columns, width)
    return [*grid.headings(), *grid.body()]


@given(_COLUMNS, st.integers(10, 120), st.integers(1, 3))
def test_what_fits_is_no_wider_than_the_terminal_and_headings_stay_legible(
    columns: list[Column], width: int, lead: int
) -> None:
    layout = lay_out(columns, width, cell_len, lead=lead)
    if not layout.fits:
        assert len(layout.tables) == 1
        return
    for table in layout.tables:
        for line in _lines(table, width):
            assert sum(map(cell_len, line)) + 2 * (len(line) - 1) <= width
        for column in table:
            if not column.wraps:
                assert all(part[-1] in "._/" for part in column.heading.split("\n")[:-1])
    shown = [each.heading.replace("\n", "") for table in layout.tables for each in table]
    assert {each.heading for each in columns} == set(shown)


@given(_TEXTS, st.integers(1, 40))
def test_a_cut_text_is_no_wider_than_it_may_be(text: str, width: int) -> None:
    cut = cut_in_middle(text, width, cell_len)
    assert cell_len(cut) <= max(1, width)
    assert cut == text or "…" in cut


@given(_TEXTS, st.integers(2, 40))
def test_wrapping_loses_nothing_but_blanks(text: str, width: int) -> None:
    lines = wrapped(text, width, cell_len)
    assert max(map(cell_len, lines)) <= width
    assert re.sub(" ", "", "".join(lines)) == re.sub(" ", "", text)


def test_ids_are_cut_only_as_far_as_is_needed() -> None:
    long = "train-" + "x" * 60 + "-20261126"
    columns = [
        Column("sweep", [long, "short"], shrinks=True),
        Column("status", ["finished", "interrupted by SIGINT"], wraps=True),
        Column("age", ["3m", "12d"], is_right=True),
    ]
    for width in (40, 60, 80, 98):
        [table] = lay_out(columns, width, len).tables
        assert table[0].cells[1] == "short"
        assert table[0].cells[0].startswith("trai")
        assert table[0].cells[0].endswith("1126")
        assert max(len("  ".join(line)) for line in _lines(table, width)) <= width
    [table] = lay_out(columns, 120, len).tables
    assert table[0].cells[0] == long


@pytest.mark.parametrize(
    ("text", "width"), [("abc", 3), ("日本", 4), ("e\u0301", 1), ("", 0), ("±…─", 3)]
)
def test_how_wide_a_text_is(text: str, width: int) -> None:
    assert cell_width(text) == cell_len(text) == width


def test_a_plain_table_is_as_wide_as_it_has_to_be() -> None:
    columns = [Column("a", ["1", "22"], is_right=True), Column("text", ["x" * 90, "y"], wraps=True)]
    assert [cell.rstrip() for cell in _lines(columns, 40)[1]] == [" 1", "x" * 36]
    assert len(list(Grid(columns).body())) == 2
