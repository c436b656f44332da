"""The short form of benchmarks/chaos.py: random kills, and nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import REPOSITORY, _environment

BENCHMARKS = REPOSITORY / "benchmarks"
CHAOS = BENCHMARKS / "chaos.py"
VICTIMS = {"launcher", "fork server", "keeper", "job", "process group", "everything"}


@pytest.mark.parametrize("mode", ["function", "command", "hydra"])
def test_random_kills_lose_nothing(tmp_path: Path, mode: str) -> None:
    figures = tmp_path / "figures.json"
    # Which process is hit at which moment depends on the machine; whom to hit next does not.
    words = ["--modes", mode, "--kills", str(len(VICTIMS)), "--jobs", "8", "--seed", "3"]
    done = subprocess.run(
        [sys.executable, str(CHAOS), *words, "--json", str(figures)],
        env={**_environment(), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert figures.exists(), done.stderr
    told = json.loads(figures.read_text())
    assert (told["violations"], done.returncode) == ([], 0)
    assert told["kills"] == dict.fromkeys(VICTIMS, 1)
    assert told["checks"] > told["kills_in_all"]  # one after each kill, and one at the end
    assert told["jobs"] >= 8
    assert (told["sweeps_in_a_git_repository"] > 0) == (shutil.which("git") is not None)
    assert os.listdir(tmp_path) == ["figures.json"]


@pytest.mark.parametrize(("last", "again"), [("FAILED", []), ("COMPLETED", [1])])
def test_a_job_that_starts_again_after_its_completion_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str, again: list[int]
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    from chaos import started_after_completion

    events = [
        *({"event": "start", "job": job} for job in (0, 1)),
        {"event": "end", "job": 1, "state": last},
        {"event": "start", "job": 1},
        {"event": "end", "job": 0, "state": "COMPLETED"},
    ]
    lines = [json.dumps(event) for event in events]
    (tmp_path / "journal").write_text("\n".join([*lines[:3], "damaged", *lines[3:], ""]))
    assert started_after_completion(tmp_path / "journal") == again
