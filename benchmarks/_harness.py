"""Measuring: run one command in a fresh process and directory, and interleave many such runs.

    interleave --per round and contender--> measure --fresh directory, fresh process--> Run
                                               `--inspect: did it really do all its work?

A command that did not do all its work has a `Run.problem`; `_report` keeps it out of every figure.
Linux only: memory and left-over processes are read from /proc.
"""

from __future__ import annotations

import atexit
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

STDOUT = "command.out"
STDERR = "command.err"

_MARKER = "BENCHMARK_RUN"
# Not passed on, since they would change the result: settings of hsm, and "keep no byte code".
_WITHHELD = re.compile(r"HSM_|PYTHONDONTWRITEBYTECODE$")
_SAMPLE_SECONDS = 0.05
_GRACE_SECONDS = 5.0

_Key = TypeVar("_Key", bound=Hashable)


class Incomplete(Exception):
    """A command did not do all of its work; the message says what is missing."""


Inspect = Callable[[Path], dict[str, Any]]
"""Looks at a command's directory after its end; returns facts to keep or raises `Incomplete`."""


@dataclass(frozen=True)
class Run:
    """One measured command.

    Attributes:
        seconds: wall time from before its start to its end.
        exit_code: as a shell would say it; negative for a signal.
        cpu_seconds: user and system time of it and of the descendants that were waited for.
        peak_memory: most resident bytes of the command's own process, without its children.
        problem: why this run does not count; None if it does.
        facts: what `Inspect` found.
    """

    seconds: float
    exit_code: int
    cpu_seconds: float
    peak_memory: int
    problem: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def interleave(
    keys: Sequence[_Key], rounds: int, measure_one: Callable[[_Key], Run]
) -> dict[_Key, list[Run]]:
    """`rounds` times every key, with a line on stderr for each run.

    Every other round is in reverse (A B C C B A), so that a machine that gets slower, or a disk
    that fills, favours nobody.
    """
    runs: dict[_Key, list[Run]] = {key: [] for key in keys}
    for number in range(1, rounds + 1):
        for key in keys if number % 2 else reversed(keys):
            run = measure_one(key)
            runs[key].append(run)
            name = " ".join(str(part) for part in key) if isinstance(key, tuple) else str(key)
            outcome = f"{run.seconds:.2f} s" if run.problem is None else f"FAILED: {run.problem}"
            print(f"  round {number}/{rounds}  {name}: {outcome}", file=sys.stderr, flush=True)
    return runs


def measure(
    argv: Sequence[str],
    inspect: Inspect,
    environment: Mapping[str, str] | None = None,
    limit: float = 900.0,
) -> Run:
    """Run `argv` in a fresh directory and measure it.

    Its stdout and stderr go to the files `STDOUT` and `STDERR` there. The directory is removed, at
    this process's end, if all went well, and kept and named if not. Processes that outlive the
    command are ended, and are a problem of the run.

    Args:
        argv: the command.
        inspect: decides from the directory whether the command did its work.
        environment: added to this process's own, of which hsm's settings are not passed on.
        limit: seconds after which the command is killed.
    """
    directory = Path(tempfile.mkdtemp(prefix="benchmark-"))
    marker = f"{_MARKER}={directory.name}"
    inherited = {key: value for key, value in os.environ.items() if not _WITHHELD.match(key)}
    variables = {**inherited, **(environment or {}), _MARKER: directory.name}
    grace = 0.0
    try:
        seconds, status, usage, peak = _run_to_end(argv, directory, variables, limit)
        grace = _GRACE_SECONDS
    finally:
        left_over = _end_left_over(marker, grace)
    exit_code = os.waitstatus_to_exitcode(status)
    facts: dict[str, Any] = {}
    problem: str | None = None
    if seconds >= limit:
        problem = f"killed after {limit:g} s"
    elif exit_code != 0:
        problem = f"exit code {exit_code}: {_last_line(directory / STDERR)}"
    elif left_over:
        problem = f"{left_over} processes left {_GRACE_SECONDS:g} s after its end"
    else:
        try:
            facts = inspect(directory)
        except Incomplete as incomplete:
            problem = str(incomplete)
    if problem is None:
        # Later: ext4 looks long for an inode where thousands were deleted a moment ago.
        atexit.register(shutil.rmtree, directory, ignore_errors=True)
    else:
        problem = f"{problem} (see {directory})"
    return Run(seconds, exit_code, usage.ru_utime + usage.ru_stime, peak, problem, facts)


def _run_to_end(
    argv: Sequence[str], directory: Path, variables: Mapping[str, str], limit: float
) -> tuple[float, int, Any, int]:
    """Run it, `limit` seconds at most: wall seconds, wait status, rusage, peak resident bytes."""
    with (directory / STDOUT).open("wb") as stdout, (directory / STDERR).open("wb") as stderr:
        started = time.perf_counter()
        process = subprocess.Popen(
            argv,
            cwd=directory,
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,  # so that its whole group can be killed without this process
        )
        handle = os.pidfd_open(process.pid)
        peak = _peak_memory(process.pid)
        try:
            while not select.select([handle], [], [], _SAMPLE_SECONDS)[0]:
                peak = max(peak, _peak_memory(process.pid))
                if time.perf_counter() - started > limit:
                    os.killpg(process.pid, signal.SIGKILL)
                    break
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - started
        finally:
            os.close(handle)
    process.returncode = os.waitstatus_to_exitcode(status)  # it is reaped: Popen must not try again
    return seconds, status, usage, peak


def _peak_memory(pid: int) -> int:
    """Peak resident bytes of a process so far, 0 if it is gone.

    The kernel's ``ru_maxrss`` will not do: across fork and exec it starts from the parent's size.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _end_left_over(marker: str, grace: float) -> int:
    """Kill the processes that carry `marker` and are there after `grace` seconds; how many."""
    deadline = time.monotonic() + grace
    while (pids := _carriers(marker)) and time.monotonic() < deadline:
        time.sleep(_SAMPLE_SECONDS)
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return len(pids)


def _carriers(marker: str) -> list[int]:
    """The processes that were started with `marker` in their environment."""
    wanted = marker.encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # gone, or somebody else's
            continue
        if wanted in variables:
            found.append(int(entry.name))
    return found


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else "nothing on stderr"
