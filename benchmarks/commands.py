"""How fast commands that end at once go through hsm, next to GNU parallel and xargs.

    python benchmarks/commands.py --json commands.json

Drivers:
    api       `LocalComputeSource.submit_jobs(..., command=["true"])`, in apps/api_sweep.py
    cli       `hsm sweep 'num=range(1000)' -- true`
    parallel  GNU parallel with --joblog, if it is installed
    xargs     `xargs -P 2`, which keeps no record: the floor, since it does nothing but run them

Each measurement is one fresh process in a fresh directory. Rounds are interleaved. The record of
hsm and of GNU parallel must show each job exactly once; all that xargs tells is its exit code, so a
run of it counts if no command failed. `api` checks besides that no thread, file descriptor or child
process is left.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _harness import STDOUT, Incomplete, Run, interleave, measure
from _hsm_sweep import HSM_ENVIRONMENT, hsm_sweep, inspect_sweep
from _report import (
    Target,
    any_failed,
    cell,
    count,
    finish,
    measured,
    new_document,
    print_table,
    ratio,
    summarise_runs,
    versions,
)

APPS = Path(__file__).resolve().parent / "apps"
OURS, REFERENCE = "cli", "parallel"
#: Of the wall time of GNU parallel that hsm sets itself, for 1,000 jobs.
LARGEST_SHARE = 0.5
DISTRIBUTIONS = ("hpc-sweep-manager", "hydra-core", "psutil")


class Driver(ABC):
    """A way to run many commands. A new one is a subclass and a line in `DRIVERS`."""

    name: str

    def missing(self) -> str | None:
        """Why it cannot run here; None if it can."""
        return None

    @abstractmethod
    def command(self, jobs: int, parallel_jobs: int) -> list[str]:
        """The command line that runs ``true`` `jobs` times and leaves its record in the cwd."""

    def environment(self) -> dict[str, str]:
        """Variables that it needs."""
        return {}

    @abstractmethod
    def inspect(self, directory: Path, jobs: int) -> dict[str, Any]:
        """Facts about a finished run.

        Raises:
            Incomplete: the run's record does not show every job once, and successful.
        """


class ApiDriver(Driver):
    """hsm's Python interface."""

    name = "api"

    def missing(self) -> str | None:
        return None if importlib.util.find_spec("hsm") else "hsm is not installed"

    def command(self, jobs: int, parallel_jobs: int) -> list[str]:
        program = str(APPS / "api_sweep.py")
        return [sys.executable, program, str(jobs), str(parallel_jobs), "sweep"]

    def inspect(self, directory: Path, jobs: int) -> dict[str, Any]:
        # The program has compared everything else itself; its exit code would have told.
        facts: dict[str, Any] = json.loads((directory / STDOUT).read_text(encoding="utf-8"))
        if facts["jobs"] != jobs:
            raise Incomplete(f"{facts['jobs']} jobs, expected {jobs}")
        return facts


class CliDriver(Driver):
    """hsm's command line, as it comes: it prints a line per start and end, here to a file."""

    name = "cli"

    def missing(self) -> str | None:
        return None if importlib.util.find_spec("hsm") else "hsm is not installed"

    def command(self, jobs: int, parallel_jobs: int) -> list[str]:
        return hsm_sweep(jobs, parallel_jobs, "sweep")

    def environment(self) -> dict[str, str]:
        return HSM_ENVIRONMENT

    def inspect(self, directory: Path, jobs: int) -> dict[str, Any]:
        return inspect_sweep(directory / "sweep", jobs)


class ParallelDriver(Driver):
    """GNU parallel: gets an argument per job, and keeps it off the job's command line (-n0)."""

    name = "parallel"

    def missing(self) -> str | None:
        program = shutil.which("parallel")
        if program is None:
            return "no program `parallel`"
        if "GNU parallel" not in parallel_version():
            return f"{program} is not GNU parallel"
        return None

    def command(self, jobs: int, parallel_jobs: int) -> list[str]:
        numbers = [str(num) for num in range(jobs)]
        options = ["--will-cite", "--jobs", str(parallel_jobs), "--joblog", "job.log", "-n0"]
        return ["parallel", *options, "true", ":::", *numbers]

    def inspect(self, directory: Path, jobs: int) -> dict[str, Any]:
        # Seq Host Starttime JobRuntime Send Receive Exitval Signal Command
        rows = [line.split("\t") for line in (directory / "job.log").read_text().splitlines()[1:]]
        if sorted(int(row[0]) for row in rows) != list(range(1, jobs + 1)):
            raise Incomplete(f"{len(rows)} jobs in the job log, expected {jobs}")
        if failed := [row[0] for row in rows if row[6:8] != ["0", "0"]]:
            raise Incomplete(f"{len(failed)} jobs failed, job {failed[0]} for one")
        return {}


class XargsDriver(Driver):
    """xargs: reads a line per job, and has no use for it (-I), as `ParallelDriver` has none."""

    name = "xargs"

    def missing(self) -> str | None:
        return None if shutil.which("xargs") and shutil.which("seq") else "no program `xargs`"

    def command(self, jobs: int, parallel_jobs: int) -> list[str]:
        return ["sh", "-c", f"seq {jobs} >lines && exec xargs -a lines -P {parallel_jobs} -I@ true"]

    def inspect(self, directory: Path, jobs: int) -> dict[str, Any]:
        # Its exit code was 0: no command failed. It does not tell how many ran; its input does.
        lines = len((directory / "lines").read_text().splitlines())
        if lines != jobs:
            raise Incomplete(f"{lines} lines of input, expected {jobs}")
        return {"record": "exit code"}


DRIVERS: dict[str, Driver] = {
    driver.name: driver for driver in (ApiDriver(), CliDriver(), ParallelDriver(), XargsDriver())
}


def parallel_version() -> str:
    """First line of ``parallel --version``, empty if there is no such program."""
    if shutil.which("parallel") is None:
        return ""
    answer = subprocess.run(["parallel", "--version"], capture_output=True, text=True, check=False)
    return answer.stdout.partition("\n")[0]


def measure_driver(driver: Driver, jobs: int, parallel_jobs: int) -> Run:
    """One run of `jobs` commands."""
    return measure(
        driver.command(jobs, parallel_jobs),
        lambda directory: driver.inspect(directory, jobs),
        driver.environment(),
    )


def show(runs: dict[str, list[Run]], jobs: int, parallel_jobs: int) -> dict[str, Any]:
    """Print the table; returns the same figures and all runs for the JSON file."""
    rows = []
    document: dict[str, Any] = {}
    for name, own in runs.items():
        seconds = summarise_runs(own, lambda run: run.seconds)
        rate = summarise_runs(own, lambda run: jobs / run.seconds)
        cpu = summarise_runs(own, lambda run: 1000 * run.cpu_seconds / jobs)
        peak = summarise_runs(own, lambda run: run.peak_memory / 1e6)
        against = ratio(own, runs[REFERENCE]) if REFERENCE in runs and name != REFERENCE else None
        rows.append(
            [
                name,
                measured(seconds, own),
                cell(rate, digits=0),
                cell(cpu),
                cell(peak, digits=1),
                cell(against),
            ]
        )
        document[name] = {
            "seconds": seconds,
            "jobs_per_second": rate,
            "cpu_milliseconds_per_job": cpu,
            "peak_megabytes": peak,
            f"ratio_to_{REFERENCE}": against,
            "runs": own,
        }
    print(f"\n{jobs} commands `true`, {parallel_jobs} in parallel\n")
    print_table(["driver", "seconds", "jobs/s", "CPU ms/job", "peak MB", f"/ {REFERENCE}"], rows)
    if OURS in runs and REFERENCE in runs:
        share = ratio(runs[OURS], runs[REFERENCE])
        print(Target(f"{OURS} / {REFERENCE}", share, LARGEST_SHARE).text())
    return document


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, checked; `drivers` is the list of those to run."""
    parser = argparse.ArgumentParser(description="Many short commands through hsm and others.")
    parser.add_argument("--jobs", type=count, metavar="N", default=1000, help="default 1000")
    parser.add_argument("--rounds", type=count, metavar="N", default=9, help="default 9")
    parser.add_argument("--parallel-jobs", type=count, metavar="N", default=2, help="default 2")
    parser.add_argument("--drivers", help="comma-separated; default: all that can run here")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to FILE")
    given = parser.parse_args(arguments)
    names = given.drivers.split(",") if given.drivers else list(DRIVERS)
    if unknown := [name for name in names if name not in DRIVERS]:
        parser.error(f"--drivers {','.join(unknown)}: choose from {', '.join(DRIVERS)}")
    reasons = {name: reason for name in names if (reason := DRIVERS[name].missing())}
    for name, reason in reasons.items():
        if given.drivers:
            parser.error(f"--drivers {name}: {reason}")
        print(f"left out: {name}: {reason}")
    given.drivers = [DRIVERS[name] for name in names if name not in reasons]
    return given


def main() -> int:
    """Run the drivers; returns 1 if a run failed, since its numbers are missing then."""
    options = parse()
    drivers: dict[str, Driver] = {driver.name: driver for driver in options.drivers}
    for driver in drivers.values():  # files into the page cache, byte code onto the disk
        measure_driver(driver, 2, options.parallel_jobs)
    runs = interleave(
        list(drivers),
        options.rounds,
        lambda name: measure_driver(drivers[name], options.jobs, options.parallel_jobs),
    )
    document = {
        **new_document(
            "commands", {**versions(DISTRIBUTIONS), "parallel": parallel_version() or None}
        ),
        "jobs": options.jobs,
        "rounds": options.rounds,
        "parallel_jobs": options.parallel_jobs,
        "drivers": show(runs, options.jobs, options.parallel_jobs),
    }
    return finish(document, options.json, any_failed(runs.values()))


if __name__ == "__main__":
    sys.exit(main())
