"""Sweeps that run at the same time on one machine: each has GPUs of its own, and its turn."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from helpers.cli import Project
from helpers.fake_nvml.fake_gpus import FakeNvml
from helpers.gpus import needs_drivers_pids
from helpers.processes import PATIENCE

JOBS = 24
#: Takes memory of its GPUs for a moment, and notes when.
_JOB = """\
import json, os, time
from fake_gpus import GIB, FakeNvml

begun, driver = time.monotonic(), FakeNvml()
mine = [gpu["index"] for gpu in json.loads(os.environ["HSM_GPUS"])]
for index in mine:
    driver.add_process(index, os.getpid(), 6 * GIB)
time.sleep(0.2)
line = {"sweep": os.environ["SWEEP"], "gpus": mine, "begun": begun, "ended": time.monotonic()}
with open("noted", "a") as file:
    print(json.dumps(line), file=file)
"""
#: What jobs need, and how many of them there is room for on a GPU of 24 GiB.
WHOLE, TWO, PART = ("--gpus", "1"), ("--gpus", "2"), ("--gpu-memory", "8GiB")
ROOM = {WHOLE: 1, TWO: 1, PART: 2}


def run_all(project: Project, sweeps: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Run these sweeps at once to their ends; returns what their jobs noted, in order of starts."""
    project.write("job.py", _JOB)
    driver = FakeNvml(project.folder / "nvml.json", 4)
    env = {**driver.env(), "HSM_GPU_LOCKS": str(project.folder / "locks")}
    with ExitStack() as stack:
        launchers = [
            stack.enter_context(
                project.start(
                    *("sweep", "--script", "job.py", "--sweep-id", f"s{number}", *words),
                    f"x=range({JOBS})",
                    **env,
                    SWEEP=str(number),
                )
            )
            for number, words in enumerate(sweeps)
        ]
        for launcher in launchers:
            _finish(launcher)
    text = Path(project.folder / "noted").read_text()
    return sorted(map(json.loads, text.splitlines()), key=lambda note: float(note["begun"]))


def _finish(launcher: subprocess.Popen[str]) -> None:
    out, err = launcher.communicate(timeout=4 * PATIENCE)
    assert launcher.returncode == 0, out + (err or "")


def _overlap(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return bool(one["begun"] < other["ended"] and other["begun"] < one["ended"])


@needs_drivers_pids
@pytest.mark.slow
@pytest.mark.parametrize("sweeps", [(WHOLE, TWO), (WHOLE, TWO, PART)], ids=["two", "three"])
def test_each_sweep_has_gpus_of_its_own_and_its_turn(
    project: Project, sweeps: Sequence[tuple[str, str]]
) -> None:
    notes = run_all(project, sweeps)
    assert len(notes) == JOBS * len(sweeps)
    for gpu in range(4):
        here = [note for note in notes if gpu in note["gpus"]]
        for one, other in combinations(here, 2):
            assert one["sweep"] == other["sweep"] or not _overlap(one, other)
        for one in here:
            at_once = sum(other["begun"] <= one["begun"] < other["ended"] for other in here)
            assert at_once <= ROOM[sweeps[int(one["sweep"])]]
    for number in range(len(sweeps)):
        starts = [place for place, note in enumerate(notes) if note["sweep"] == str(number)]
        # Nobody waits for the end of another sweep, nor for most of it.
        most_passing = max(b - a - 1 for a, b in zip([-1, *starts[:-1]], starts, strict=True))
        assert most_passing <= JOBS // 2 * (len(sweeps) - 1)
