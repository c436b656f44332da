"""A job is not lost with a keeper or server that died before it could start it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from helpers.processes import first_fast, wait_for
from hsm.core.engine.backend import Launch
from hsm.core.local.local_source import LocalComputeSource
from hsm.core.local.processes.slot import Slot

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def _note(params: dict[str, Any]) -> None:
    with open(params["to"], "a") as file:
        file.write(f"{params['x']}\n")


def _kill_before_it_reads(monkeypatch: pytest.MonkeyPatch, victims: list[str], times: int) -> None:
    """Kill keepers or servers that have been told to start a job and have not read it yet."""
    start, left = Slot.start, [victims] * times

    def start_and_kill(slot: Slot, launch: Launch) -> None:
        if not left:
            start(slot, launch)
            return
        keeper = psutil.Process(slot.keeper)
        pids = {"keeper": keeper.pid, "server": keeper.ppid()}
        keeper.suspend()
        wait_for(lambda: keeper.status() == psutil.STATUS_STOPPED, "the keeper to stop")
        start(slot, launch)
        for victim in left.pop():
            os.kill(pids[victim], signal.SIGKILL)

    monkeypatch.setattr(Slot, "start", start_and_kill)


@pytest.mark.parametrize("victims", first_fast("server", "keeper", "keeper server"))
@pytest.mark.parametrize("kind", first_fast("fork", "command", "spawn"))
def test_a_job_that_was_not_started_runs_once_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, victims: str
) -> None:
    work: dict[str, Any] = {"function": _note}
    if kind == "command":
        work = {"command": ["sh", "-c", "echo {x} >> {to}"]}
    options: dict[str, Any] = {} if kind == "command" else {"start_method": kind}
    ran = tmp_path / "ran"
    _kill_before_it_reads(monkeypatch, victims.split(), times=2)
    with LocalComputeSource(1, show_output=False, fail_fast=True, **options) as made:
        points = [{"x": x, "to": str(ran)} for x in range(2)]
        made.submit_jobs(points, "s", tmp_path / "sweep", **work)
        assert [str(state) for state in made.wait().values()] == ["COMPLETED"] * 2
        assert [len(job.attempts) for job in made.jobs()] == [1, 1]
    assert ran.read_text() == "0\n1\n"
