"""docs/compare.md: what it says that hsm has, another page describes."""

from __future__ import annotations

import re

import pytest

from helpers.docs import Page
from helpers.processes import REPOSITORY

pytestmark = pytest.mark.thorough

TABLES = Page(REPOSITORY / "docs/compare.md").tables()
#: What a cell may say, with the number of a note.
_THEIRS = re.compile(r"((yes|partly|no|\((yes|partly|no)\))( [⁰¹²³⁴⁵⁶⁷⁸⁹]+)?)?")
_OURS = re.compile(r"no|\[(yes|partly)\]\([\w-]+\.md(#[\w-]+)?\)( [⁰¹²³⁴⁵⁶⁷⁸⁹]+)?")


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("name", ["compare-hydra", "compare-queues", "compare-optimisers"])
def test_every_claim_about_hsm_has_a_page(name: str) -> None:
    header, _, *rows = map(_cells, TABLES[name])
    assert header[1] == "hsm"
    for row in rows:
        assert len(row) == len(header), row
        assert _OURS.fullmatch(row[1]), row
        assert all(map(_THEIRS.fullmatch, row[2:])), row


def test_a_row_says_the_same_of_hsm_in_every_table() -> None:
    said: dict[str, str] = {}
    for lines in TABLES.values():
        for what, ours, *_ in map(_cells, lines[2:]):
            assert said.setdefault(what, ours) == ours
