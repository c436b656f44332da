"""The README to the letter: on a clean machine each block works in the order in which it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.docs import Page
from helpers.processes import REPOSITORY
from helpers.reader import OneShell, Reader

pytestmark = pytest.mark.install
#: Seconds that a block may take: far above what installing takes.
PATIENCE = 900.0


def test_every_block_of_the_readme(clean_env: dict[str, str]) -> None:
    shell = OneShell(Path(clean_env["HOME"]), clean_env, PATIENCE)
    try:
        reader = Reader(shell)
        for block in Page(REPOSITORY / "README.md").blocks():
            print(f"--- line {block.line}")
            try:
                reader.do(block)
            except BaseException as error:
                raise AssertionError(f"README.md, line {block.line}: {error}") from error
            print(reader.printed)
    finally:
        shell.close()
