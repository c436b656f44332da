"""Draws the README's pictures anew: `make pictures`.

A sweep of the example runs on a terminal, and what a person would see there becomes two images:
while jobs run, and when all have ended.
"""

from __future__ import annotations

import io
import re
import shutil
import sys
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

from pyte.screens import Char
from rich.console import Console
from rich.style import Style
from rich.text import Text

from helpers.processes import REPOSITORY
from helpers.terminal import on_terminal

PICTURES = REPOSITORY / "docs" / "pictures"
#: What is typed, line by line; jobs of some seconds, so that there is something to see.
TYPED = """\
python examples/train.py -m hydra/launcher=hsm_local \\
    model=random_forest model.n_estimators=2000 model.max_depth=2,4,8,16 seed=0,1,2 \\
    hydra.launcher.metric=validation_accuracy hydra.launcher.direction=maximize
"""
COLUMNS = 100
#: rich's own would have browsers load a font from elsewhere.
FORMAT = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  font-size: {char_height}px;
  line-height: {line_height}px;
  font-variant-east-asian: full-width;
}}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def main() -> None:
    """Run the sweep and write both images."""
    with TemporaryDirectory(prefix="hsm-pictures-") as name:
        folder = Path(name)
        for part in ("examples", "conf"):
            shutil.copytree(REPOSITORY / part, folder / part)
        words = TYPED.replace("\\\n", "").split()
        with on_terminal([sys.executable, *words[1:]], folder, COLUMNS) as terminal:
            terminal.wait_until(shows_a_sweep_halfway, "a sweep that is halfway")
            draw(terminal.lines, PICTURES / "running.svg")
            code = terminal.wait()
            if code != 0:
                raise SystemExit(terminal.shown)
            draw(terminal.lines, PICTURES / "ended.svg")


def shows_a_sweep_halfway(shown: str) -> bool:
    """Whether some jobs have ended, and all that run have been measured and have printed."""
    done = re.search(r"\b(\d+) done\b.* 4 running", shown)
    measured = re.findall(r"\d% +\d+ MiB +\S", shown)
    return done is not None and int(done[1]) >= 4 and len(measured) == 4


def draw(lines: Iterable[list[Char]], path: Path) -> None:
    """Write what is typed, and `lines` as an image."""
    texts = [_text(cells) for cells in lines]
    for text in texts:
        text.rstrip()
    while texts and not texts[-1].plain:
        texts.pop()
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for number, line in enumerate(TYPED.splitlines()):
        console.print(Text(line if number else f"$ {line}", "bold"), soft_wrap=True)
    for text in texts:
        console.print(text, soft_wrap=True)
    svg = console.export_svg(title="", code_format=FORMAT, unique_id=path.stem)
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{line.rstrip()}\n" for line in svg.splitlines()), encoding="utf-8")


def _text(cells: list[Char]) -> Text:
    spans = groupby(cells, key=_style)
    return Text.assemble(*(("".join(cell.data for cell in span), style) for style, span in spans))


def _style(cell: Char) -> Style:
    colour = cell.fg.replace("brown", "yellow").replace("bright", "bright_")
    return Style(
        color=None if colour == "default" else colour,
        bold=cell.bold,
        italic=cell.italics,
        underline=cell.underscore,
        reverse=cell.reverse,
        dim=cell.blink,
    )


if __name__ == "__main__":
    main()
