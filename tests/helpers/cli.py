"""`hsm` as a person runs it: in a project directory of its own, as a process or in this one."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.processes import PATIENCE, child_environment, wait_for
from hsm.core.record.job import JobState
from hsm.core.record.sweep import Sweep, read_sweep

#: A job that says so when it runs, and stays until it is told to go on, or ended.
STAY = "touch {job_dir}/runs; while ! test -e {job_dir}/go; do sleep 0.05; done"


@dataclass(frozen=True)
class Ran:
    """A command line that has ended: its exit code, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Project:
    """A directory in which `hsm` runs.

    Args:
        folder: it; commands run there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, text: str) -> Path:
        """Make a file of the project."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def here(self, *arguments: str, code: int | None = 0, stdout: io.StringIO | None = None) -> Ran:
        """Run a command line in this process, which is quick; its output may go to `stdout`."""
        from hsm.cli.main import run  # for those tests alone that need it

        out, err = stdout or io.StringIO(), io.StringIO()
        pipe_handler = signal.getsignal(signal.SIGPIPE)
        folder = os.getcwd()
        os.chdir(self.folder)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                result = run(arguments)
        finally:
            os.chdir(folder)
            signal.signal(signal.SIGPIPE, pipe_handler)
        return _checked(Ran(result, out.getvalue(), err.getvalue()), code)

    def hsm(self, *arguments: str, code: int | None = 0, **env: str) -> Ran:
        """Run a command line as a process of its own."""
        done = subprocess.run(
            _command(arguments),
            cwd=self.folder,
            env=child_environment(PYTHONFAULTHANDLER="1", **env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return _checked(Ran(done.returncode, done.stdout, done.stderr), code)

    @contextmanager
    def start(self, *arguments: str, **env: str) -> Iterator[subprocess.Popen[str]]:
        """Start a command line; what is left of it after the `with` is killed."""
        process = subprocess.Popen(
            _command(arguments),
            cwd=self.folder,
            env=child_environment(PYTHONFAULTHANDLER="1", **env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()

    @contextmanager
    def detached(
        self, *arguments: str, sweep_id: str = "bg", runs: tuple[int, ...] = (0, 1)
    ) -> Iterator[Sweep]:
        """Have a detached sweep whose jobs stay; wait until those in `runs` do, and end it all."""
        detach = ("--detach", "--sweep-id", sweep_id, "--kill-grace", "1")
        self.hsm("sweep", *detach, *arguments)
        with self.ending(sweep_id):
            self.wait_until_running(sweep_id, *runs)
            yield self.sweep(sweep_id)

    @contextmanager
    def ending(self, sweep_id: str) -> Iterator[None]:
        """End a detached sweep with the block, however that ends."""
        try:
            yield
        finally:
            self.hsm("cancel", sweep_id)
            wait_for(lambda: not self.sweep(sweep_id).alive, "the launcher's end")

    def wait_until_running(self, sweep_id: str, *nums: int) -> None:
        """Wait until these jobs, which note so, run, and are on record as running."""
        for num in nums:
            self.wait_for(f"outputs/{sweep_id}/{num}/runs")
        # A job may be further than its record, which is still to be written.
        wait_for(lambda: self._are_running(sweep_id, nums), "the record of their starts")

    def _are_running(self, sweep_id: str, nums: Iterable[int]) -> bool:
        jobs = self.sweep(sweep_id).jobs
        return all(jobs[num].state is JobState.RUNNING for num in nums)

    def wait_for(self, name: str) -> None:
        """Wait until a file of the project is there."""
        wait_for((self.folder / name).exists, name)

    def sweep(self, sweep_id: str) -> Sweep:
        """A sweep as its journal tells it."""
        return read_sweep(self.folder / "outputs" / sweep_id)

    def states(self, sweep_id: str) -> list[str]:
        return [str(job.state) for _, job in sorted(self.sweep(sweep_id).jobs.items())]

    def refused(self, *arguments: str) -> str:
        """Run what must be refused: in one line, before anything is written. Returns the line."""
        before = self._files()
        ran = self.here(*arguments, code=2)
        assert ran.out == ""
        assert ran.err.startswith("hsm: "), ran.err
        assert ran.err.count("\n") == 1, ran.err
        assert "Traceback" not in ran.err
        assert self._files() == before
        return ran.err

    def _files(self) -> Mapping[str, int]:
        return {
            str(path): path.stat().st_mtime_ns
            for path in self.folder.rglob("*")
            if path.is_file() and path.name != "lock"
        }


def _command(arguments: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "hsm.cli.main", *arguments]


def _checked(ran: Ran, code: int | None) -> Ran:
    assert code is None or ran.code == code, f"exit code {ran.code}\n{ran.out}{ran.err}"
    return ran
