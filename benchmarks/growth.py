"""What becomes of hsm in sweeps of very many jobs, through each of its doors.

    python benchmarks/growth.py --jobs 100000 --rounds 3 --json benchmarks/results/growth.json

Doors:
    commands   `hsm sweep 'num=range(N)' -- true`
    functions  `LocalManager.run` with a Python function
    hydra      a Hydra app whose sweeper hands all points over at once
    submitted  the same; the sweeper submits them one by one

Of a sweep of N jobs: the seconds until its first job starts, the memory of its launcher per job,
and the seconds from Ctrl-C to its exit; its record must then tell of every job. Of a record of N
jobs that have ended: seconds and memory of what reads it. With --linear, of sweeps that run to
their end: CPU time and journal per job.
"""

from __future__ import annotations

import argparse
import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _harness import STDOUT, Incomplete, Run, interleave, measure
from _hsm_sweep import HSM, HSM_ENVIRONMENT, hsm_sweep
from _report import (
    Result,
    Summary,
    Target,
    any_failed,
    cell,
    count,
    finish,
    new_document,
    summarise,
    summarise_runs,
    versions,
)
from hsm import read_sweep
from hsm.core.record.job import Ending, Job, JobState
from hsm.core.record.journal import Journal
from hsm.core.record.paths import SweepPaths

APPS = Path(__file__).resolve().parent / "apps" / "growing"
DISTRIBUTIONS = ("hpc-sweep-manager", "hydra-core")
_HYDRA = [
    *(sys.executable, str(APPS / "app.py"), "-m", "hydra/launcher=hsm_local"),
    *("hydra/sweeper=growing", "hydra.launcher.max_parallel_jobs=2"),
]
#: Limits: bytes of the launcher per job, seconds, and CPU time or journal of the most jobs to that
#: of the fewest.
LARGEST_JOB = {"commands": 2500, "functions": 2500, "hydra": 4000, "submitted": 4000}
LONGEST_START = LONGEST_END = 2.0
LONGEST_ANSWER = {"monitor --once": 1.0, "collect-results": 5.0}
LARGEST_ANSWER = {"monitor --once": 100e6}
LARGEST_GROWTH = 1.1
#: Seconds that a sweep runs before it is interrupted, and that anything takes at most.
_RUNS, _LIMIT = 3.0, 600.0
_POLL = 0.01


def command(door: str, jobs: int, sweep_dir: str) -> list[str]:
    """The command line of a sweep."""
    if door == "commands":
        return hsm_sweep(jobs, 2, sweep_dir)
    if door == "functions":
        return [sys.executable, str(APPS / "functions.py"), str(jobs), sweep_dir]
    size = [f"hydra.sweeper.jobs={jobs}", f"hydra.sweeper.singly={door == 'submitted'}"]
    return [*_HYDRA, *size, f"hydra.sweep.dir={sweep_dir}"]


def environment() -> dict[str, str]:
    """Variables for all commands; the apps' sweeper is found along PYTHONPATH."""
    path = [str(APPS), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**HSM_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(path)}


def interrupted(door: str, jobs: int) -> Run:
    """Start a sweep, wait for its first job, and press Ctrl-C a little later."""
    directory = Path(tempfile.mkdtemp(prefix="benchmark-growth-"))
    variables = {**os.environ, **environment()}
    with (directory / STDOUT).open("wb") as out:
        began = time.perf_counter()
        process = subprocess.Popen(
            command(door, jobs, "sweep"), cwd=directory, env=variables, stdout=out, stderr=out
        )
        problem = _wait_for_start(process, directory / "sweep", began)
        started, memory = time.perf_counter() - began, _memory(process.pid)
        if problem is None:
            time.sleep(_RUNS)
        pressed = time.perf_counter()
        process.send_signal(signal.SIGINT if problem is None else signal.SIGKILL)
        while process.poll() is None:
            memory = max(memory, _memory(process.pid))
            time.sleep(_POLL)
    facts = {"first_job": started, "exit": time.perf_counter() - pressed, "peak_memory": memory}
    problem = problem or _incomplete(directory / "sweep", jobs, process.returncode, door)
    if problem is None:
        shutil.rmtree(directory, ignore_errors=True)
    return Run(time.perf_counter() - began, process.returncode, 0.0, memory, problem, facts)


def _wait_for_start(process: subprocess.Popen[bytes], sweep_dir: Path, began: float) -> str | None:
    """Return when a job has started: None, or what went wrong."""
    position, journal = 0, SweepPaths(sweep_dir).journal
    while time.perf_counter() - began < _LIMIT:
        if process.poll() is not None:
            return f"exit code {process.returncode} before a job has started"
        if journal.exists():
            with journal.open("rb") as file:
                file.seek(max(0, position - 100))
                if b'"event":"start"' in file.read():
                    return None
                position = file.tell()
        time.sleep(_POLL)
    return f"no job has started in {_LIMIT:g} s"


def _memory(pid: int) -> int:
    """Most resident bytes of a process so far; 0 if it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    lines = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return next((int(line.split()[1]) * 1024 for line in lines), 0)


def _incomplete(sweep_dir: Path, jobs: int, exit_code: int, door: str) -> str | None:
    """What the record of an interrupted sweep does not tell; None if it is complete."""
    sweep = read_sweep(sweep_dir)
    states = sweep.jobs.by_state()
    ended = states[JobState.COMPLETED] + states[JobState.CANCELLED]
    # Who submits one by one was interrupted before all were; and points that are made when their
    # turn comes have no jobs before.
    expected = len(sweep.jobs) if door == "submitted" else jobs - (sweep.to_come or 0)
    if sweep.problems or ended != expected or sweep.closed != "interrupted by SIGINT":
        return f"{ended} of {expected} jobs ended, {sweep.closed}: {sweep.problems[:1]}"
    usual = (-signal.SIGINT, 128 + signal.SIGINT)
    return None if exit_code in usual or door == "functions" else f"exit code {exit_code}"


def write_record(sweep_dir: Path, jobs: int) -> None:
    """Write the record of a sweep whose jobs have completed, as hsm does, and their directories."""
    paths = SweepPaths(sweep_dir)
    journal = Journal(paths, "growth", {}, program={"command": ["true"]})
    made = [Job(num, f"growth_{num}", f"num={num}", {"num": num}) for num in range(jobs)]
    journal.submit(made)
    facts = {"exit_code": 0, "seconds": 0.002512, "cpu_seconds": 0.001234, "max_memory": 1654784}
    for job in made:
        paths.job_dir(job.num).mkdir()
        job.start(time.time(), 4711)
        journal.start(job)
        job.end(time.time(), Ending(JobState.COMPLETED, **facts))  # type: ignore[arg-type]
        journal.end(job)
    journal.close("finished")


def read_record(sweep_dir: Path, jobs: int, what: str) -> Run:
    """Run a command that reads a record."""

    def inspect(directory: Path) -> dict[str, Any]:
        answer = (directory / STDOUT).read_text(encoding="utf-8")
        if f"{jobs} completed" not in answer and answer.count("COMPLETED") != jobs:
            raise Incomplete(f"the answer is not about {jobs} completed jobs: {answer[:80]!r}")
        return {}

    return measure([*HSM, *what.split(), str(sweep_dir)], inspect, HSM_ENVIRONMENT)


def waiting(doors: Sequence[str], jobs: int, rounds: int) -> Result:
    """First job, memory and Ctrl-C, by door."""
    small = {door: interrupted(door, 50).peak_memory for door in doors}
    runs = interleave(list(doors), rounds, lambda door: interrupted(door, jobs))
    rows, targets = [], []
    figures: dict[str, dict[str, Summary | None]] = {}
    for door, own in runs.items():
        counted = [run for run in own if run.problem is None]
        figures[door] = {
            "first_job": summarise([run.facts["first_job"] for run in counted]),
            "exit": summarise([run.facts["exit"] for run in counted]),
            "job_bytes": summarise([(run.peak_memory - small[door]) / jobs for run in counted]),
        }
        rows.append([door, *(cell(figure) for figure in figures[door].values())])
        targets += [
            Target(f"{door}, first job, seconds", figures[door]["first_job"], LONGEST_START),
            Target(f"{door}, Ctrl-C to exit, seconds", figures[door]["exit"], LONGEST_END),
            Target(f"{door}, bytes per job", figures[door]["job_bytes"], LARGEST_JOB[door]),
        ]
    return Result(
        f"A sweep of {jobs} jobs that is interrupted",
        ["door", "first job, s", "Ctrl-C to exit, s", "bytes per job"],
        rows,
        targets,
        {"jobs": jobs, "figures": figures, "runs": runs},
        any_failed(runs.values()),
    )


def readers(jobs: int, rounds: int) -> Result:
    """What reads the record of a large sweep."""
    commands = [*LONGEST_ANSWER, "collect-results --format csv", "show"]
    sweep_dir = Path(tempfile.mkdtemp(prefix="benchmark-growth-")) / "growth"
    atexit.register(shutil.rmtree, sweep_dir.parent, ignore_errors=True)  # which takes long
    write_record(sweep_dir, jobs)
    runs = interleave(commands, rounds, lambda what: read_record(sweep_dir, jobs, what))
    seconds = {what: summarise_runs(own, lambda run: run.seconds) for what, own in runs.items()}
    peaks = {what: summarise_runs(own, lambda run: run.peak_memory) for what, own in runs.items()}
    targets = [
        Target(f"{what}, seconds", seconds[what], LONGEST_ANSWER[what]) for what in LONGEST_ANSWER
    ]
    targets += [
        Target(f"{what}, bytes", peaks[what], LARGEST_ANSWER[what]) for what in LARGEST_ANSWER
    ]
    return Result(
        f"Reading the record of {jobs} jobs",
        ["command", "seconds", "peak MB"],
        [[what, cell(seconds[what]), cell(peaks[what], 1e-6, 0)] for what in commands],
        targets,
        {"jobs": jobs, "seconds": seconds, "peaks": peaks, "runs": runs},
        any_failed(runs.values()),
    )


def linear(doors: Sequence[str], sizes: Sequence[int], rounds: int) -> Result:
    """CPU time and journal per job, of sweeps of each size that run to their end."""

    def run(key: tuple[str, int]) -> Run:
        door, jobs = key

        def inspect(directory: Path) -> dict[str, Any]:
            states = read_sweep(directory / "sweep").jobs.by_state()
            if states[JobState.COMPLETED] != jobs:
                raise Incomplete(f"{states[JobState.COMPLETED]} of {jobs} jobs completed")
            return {"journal": SweepPaths(directory / "sweep").journal.stat().st_size / jobs}

        return measure(command(door, jobs, "sweep"), inspect, environment(), limit=3600)

    runs = interleave([(door, jobs) for door in doors for jobs in sizes], rounds, run)
    counted = {key: [run for run in own if run.problem is None] for key, own in runs.items()}
    cpu = {
        key: summarise([run.cpu_seconds / key[1] for run in own]) for key, own in counted.items()
    }
    journal = {
        key: summarise([run.facts["journal"] for run in own]) for key, own in counted.items()
    }
    targets = []
    for door in doors:
        few, many = cpu[door, sizes[0]], cpu[door, sizes[-1]]
        growth = summarise([many.median / few.median]) if few and many else None
        targets.append(Target(f"{door}, CPU per job, most jobs / fewest", growth, LARGEST_GROWTH))
    return Result(
        "Sweeps that run to their end",
        ["door", "jobs", "CPU, ms per job", "journal, bytes per job"],
        [[key[0], str(key[1]), cell(cpu[key], 1e3), cell(journal[key], digits=0)] for key in runs],
        targets,
        {"runs": {f"{door} {jobs}": own for (door, jobs), own in runs.items()}},
        any_failed(runs.values()),
    )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(description="Sweeps of very many jobs.")
    parser.add_argument("--jobs", type=count, metavar="N", default=100_000, help="default 100000")
    parser.add_argument("--rounds", type=count, metavar="N", default=3, help="default 3")
    parser.add_argument("--door", action="append", choices=list(LARGEST_JOB), help="repeatable")
    parser.add_argument(
        "--linear",
        type=count,
        nargs="+",
        metavar="N",
        help="also run sweeps of so many to their end",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to FILE")
    return parser.parse_args(arguments)


def main() -> int:
    """Run all; returns 1 if a run failed, since its numbers are missing then."""
    options = parse()
    # A shell has what it runs in the background ignore it, and so would the sweeps.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    doors = options.door or list(LARGEST_JOB)
    results = {
        "waiting": waiting(doors, options.jobs, options.rounds),
        "readers": readers(options.jobs, options.rounds),
    }
    if options.linear:
        results["linear"] = linear(doors, sorted(options.linear), options.rounds)
    for result in results.values():
        result.show()
    document = new_document("growth", versions(DISTRIBUTIONS))
    document |= {name: result.document for name, result in results.items()}
    return finish(document, options.json, any(result.failed for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
