"""The short form of benchmarks/chaos.py: random kills, and nothing is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import REPOSITORY, _environment

CHAOS = REPOSITORY / "benchmarks" / "chaos.py"


@pytest.mark.parametrize("mode", ["function", "command", "hydra"])
def test_random_kills_lose_nothing(tmp_path: Path, mode: str) -> None:
    figures = tmp_path / "figures.json"
    # Which process is hit at which moment depends on the machine; whom to hit next does not.
    words = ["--modes", mode, "--kills", "5", "--seconds", "12", "--jobs", "8", "--seed", "3"]
    done = subprocess.run(
        [sys.executable, str(CHAOS), *words, "--json", str(figures)],
        env={**_environment(), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert figures.exists(), done.stderr
    told = json.loads(figures.read_text())
    assert (told["violations"], done.returncode) == ([], 0)
    assert told["kills_in_all"] >= 1
    assert told["jobs"] >= 8
    assert os.listdir(tmp_path) == ["figures.json"]
