"""What test_docs.py knows of Markdown: blocks of code, marks, tables, headings and links.

    <!-- test: file=train.py; exit=1 -->        a mark: it stands on the line before its block
    ```python
    <!-- table: settings -->                    a name for the table that follows

Marks are comments in HTML, so readers do not see them.

    file=PATH     the block is written there; a script is then not run by itself
    run=COMMAND   is run when the block is written
    exit=N        the exit code of a block of commands; 0 without this mark
    output        the block of text shows what the block before it prints
    tree=PATH     the block of text lists files that are there, below PATH (a glob)
    drawing       the block of text is no output; files of the repository that it names are there
    install       the block installs: it is run on a clean machine, by tests/install
    skip=WHAT     the block needs hardware that the machine which tests may not have
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from helpers.processes import REPOSITORY

MARKS = {"file", "run", "exit", "output", "tree", "drawing", "install", "skip"}
_MARK = re.compile(r"<!-- test: (.+?) -->\s*$")
_TABLE = re.compile(r"<!-- table: ([\w-]+) -->\n((?:\|.*\n)+)")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
#: What differs from run to run: times, ids, dates, process ids and places.
_VARIES = (
    (re.compile(r"\d+(?:\.\d+)? s\b"), "# s"),
    (re.compile(r"\[\d+/(?=\d+\])"), "[#/"),
    (re.compile(r"speed-up \d+\.\d"), "speed-up #"),
    (re.compile(r"\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d"), "#DATE"),
    (re.compile(r"\d{8}-\d{6}-[0-9a-f]{6}"), "#ID"),
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?"), "#TIME"),
    (re.compile(r"\b\d+(?:\.\d+)? (?:KiB|MiB|GiB|kB|MB|GB)\b"), "#SIZE"),
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        line: of its opening fence, from 1.
        language: after the fence.
        text: its content.
        marks: those that stand before it.
    """

    line: int
    language: str
    text: str
    marks: dict[str, str]


class Page:
    """A Markdown file of this repository."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.relative_to(REPOSITORY).as_posix()
        self.text = path.read_text(encoding="utf-8")

    @property
    def prose(self) -> str:
        """The text without its blocks."""
        return _CODE.sub("", self.text)

    def blocks(self) -> list[Block]:
        """Every fenced block, in order."""
        return list(_blocks(self.text.split("\n")))

    def tables(self) -> dict[str, list[str]]:
        """The lines of every table that has a name."""
        return {name: table.splitlines() for name, table in _TABLE.findall(self.text)}

    def replace_table(self, name: str, lines: list[str]) -> None:
        """Write another table of that name."""
        start = f"<!-- table: {name} -->\n"
        table = "".join(line + "\n" for line in lines)
        self.text = re.sub(
            re.escape(start) + r"(?:\|.*\n)*", lambda _: start + table, self.text, count=1
        )
        self.path.write_text(self.text, encoding="utf-8")

    def links(self) -> list[str]:
        """The targets of all links."""
        return _LINK.findall(self.prose)

    def anchors(self) -> set[str]:
        """What a link can point to after a ``#``: the headings, as GitHub spells them."""
        return {_slug(heading) for heading in _HEADING.findall(self.prose)}


def pages() -> list[Page]:
    """The README, everything in docs/, and what contributors read."""
    docs = sorted(REPOSITORY.glob("docs/*.md"))
    paths = [REPOSITORY / "README.md", *docs, REPOSITORY / "CONTRIBUTING.md"]
    return [Page(path) for path in paths]


def _blocks(lines: list[str]) -> Iterator[Block]:
    number = 0
    while number < len(lines):
        if lines[number].startswith("```"):
            end = lines.index("```", number + 1)
            text = "".join(line + "\n" for line in lines[number + 1 : end])
            mark = _MARK.match(lines[number - 1]) if number else None
            marks = _marks(mark[1]) if mark else {}
            yield Block(number + 1, lines[number].removeprefix("```"), text, marks)
            number = end
        number += 1


def _marks(text: str) -> dict[str, str]:
    pairs = (part.strip().partition("=") for part in text.split(";"))
    return {key: value for key, _, value in pairs}


def _slug(heading: str) -> str:
    plain = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
    return plain.strip().replace(" ", "-")


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """The lines of a Markdown table."""
    return ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows)]


def steady(text: str) -> list[str]:
    """An output's lines, less their spacing, and with marks for what differs from run to run."""
    for pattern, mark in _VARIES:
        text = pattern.sub(mark, text)
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def missing_line(shown: str, printed: str) -> str | None:
    """The first line of `shown` that `printed` does not have; None if it has all, in any order.

    A line ``…`` stands for any number of lines, and an ellipsis in a line for any text. Jobs run in
    parallel, so their lines come in no fixed order; but each line must be there as often as shown.
    """
    left = steady(printed)
    for line in steady(shown):
        if line == "…":
            continue
        pattern = re.compile(".*".join(map(re.escape, re.split("…", line))))
        found = next((each for each in left if pattern.fullmatch(each)), None)
        if found is None:
            return line
        left.remove(found)
    return None
