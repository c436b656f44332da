"""A sweep that is killed (SIGKILL) and resumed, time and again; what its journal then says."""

from __future__ import annotations

import json
import os
import subprocess
import time
from abc import ABC, abstractmethod
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

#: Seconds; far above what anything here takes.
PATIENCE = 120.0
_MARK = "BENCHMARK_KILLED_SWEEP"
_LOOK = 0.02


class KilledSweep(ABC):
    """A sweep whose directory is `sweep` below a folder, where its command runs.

    Args:
        folder: that folder. What the command prints is in its file `screen`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = folder / "sweep" / ".hsm" / "journal.jsonl"
        state = str(folder / "state")
        self.environment = {**os.environ, _MARK: folder.name, "HSM_STATE_DIR": state}

    @abstractmethod
    def words(self, *, resume: bool) -> list[str]:
        """The command line of the sweep, or of its resume."""

    def start(self, *, resume: bool) -> subprocess.Popen[bytes]:
        """Start it."""
        with (self.folder / "screen").open("ab") as screen:
            return subprocess.Popen(
                self.words(resume=resume),
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=screen,
                stderr=screen,
            )

    def run(self, *, resume: bool) -> None:
        """Run it to its end; AssertionError if that is none that is good."""
        code = self.start(resume=resume).wait(10 * PATIENCE)
        assert code == 0, f"exit code {code}: {(self.folder / 'screen').read_text()[-1000:]}"
        self.wait_until_gone()

    def kill(self, seconds: float, *, resume: bool) -> bool:
        """Start it and kill it after these seconds; False if it had ended before."""
        process = self.start(resume=resume)
        time.sleep(seconds)
        return self.end(process)

    def end(self, process: subprocess.Popen[bytes]) -> bool:
        """Kill it; False if it had ended before."""
        has_ended = process.poll() is not None
        process.kill()
        process.wait()
        self.wait_until_gone()
        return not has_ended

    def wait_until_gone(self) -> None:
        """Wait until no process of it is left; AssertionError if one stays."""
        end = time.monotonic() + PATIENCE
        while left := self._processes():
            assert time.monotonic() < end, f"{len(left)} processes are left: {left}"
            time.sleep(_LOOK)

    def _processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(_MARK) == self.folder.name:
                    found.append(process)
        return found

    def has_begun(self) -> bool:
        """Whether there is something to resume."""
        return self.journal.exists() and b'"submit"' in self.journal.read_bytes()

    def records(self) -> list[dict[str, Any]]:
        """The lines of its journal, but for a torn last one."""
        lines = self.journal.read_bytes().split(b"\n")[:-1]
        return [json.loads(line) for line in lines]

    def jobs(self) -> dict[int, str]:
        """The parameters of each completed job, as text; AssertionError if one ended twice."""
        records = self.records()
        points = {
            job["job"]: json.dumps(job["params"], sort_keys=True)
            for record in records
            if record["event"] == "submit"
            for job in record["jobs"]
        }
        ends = Counter(record["job"] for record in records if record["event"] == "end")
        completed = {
            record["job"]
            for record in records
            if record["event"] == "end" and record["state"] == "COMPLETED"
        }
        twice = [num for num, times in ends.items() if times > 1]
        assert not twice, f"jobs ended more than once: {twice}"
        assert completed == points.keys(), f"not completed: {points.keys() - completed}"
        return points
