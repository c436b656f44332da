"""The README's pictures, as `make pictures` draws them."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from helpers.pictures import PICTURES, TYPED, draw
from helpers.terminal import Screen

SVG = "{http://www.w3.org/2000/svg}"
every_picture = pytest.mark.parametrize("name", ["running", "ended"])


def words(path: Path) -> str:
    text = "".join(part.text or "" for part in ElementTree.parse(path).iter(f"{SVG}text"))
    return text.replace("\N{NO-BREAK SPACE}", " ")


@every_picture
def test_a_picture_loads_nothing_and_tells_nothing_of_the_machine(name: str) -> None:
    svg = (PICTURES / f"{name}.svg").read_text(encoding="utf-8")
    assert re.findall(r"https?:[^\s\"]+", svg) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"url\((?!#)|@import|@font-face|<script", svg)
    assert not re.search(r"/(home|root|tmp|Users)/", words(PICTURES / f"{name}.svg"))


@every_picture
def test_a_picture_begins_with_what_is_typed(name: str) -> None:
    typed = "".join(f"{line}\n" for line in TYPED.splitlines())
    assert words(PICTURES / f"{name}.svg").startswith(f"$ {typed}")


def test_colours_and_dim_text_are_kept(tmp_path: Path) -> None:
    screen = Screen("\x1b[1;31mred\x1b[0m \x1b[2mdim\x1b[0m plain\n", columns=20, lines=2)
    draw(screen.lines, tmp_path / "drawn.svg")
    assert words(tmp_path / "drawn.svg").rstrip().endswith("reddim plain")
    parts = list(ElementTree.parse(tmp_path / "drawn.svg").iter(f"{SVG}text"))
    looks = {(part.text or "").strip("\N{NO-BREAK SPACE}\n"): part.get("class") for part in parts}
    assert len({looks["red"], looks["dim"], looks["plain"]}) == 3
