"""What it saves that jobs which run at once share the machine's CPUs.

    python benchmarks/threads.py --rounds 5 --json threads.json

The same script, as many jobs at once as there are:

    auto  `hsm sweep --script`, as it comes: each job's libraries start its share of threads
    none  the same with --cpus none: they start one for each CPU, in each job

The script multiplies matrices in NumPy, whose BLAS does so in threads. Each measurement is one
fresh process in a fresh directory, and rounds are interleaved. CPU time is that of the jobs alone,
from hsm's journal.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from _harness import Run, interleave, measure
from _hsm_sweep import HSM, HSM_ENVIRONMENT, cpu_of_jobs, inspect_sweep
from _report import any_failed, count, finish, new_document, show_share, versions

OURS, REFERENCE = "auto", "none"
#: Of the wall time of a sweep whose jobs start threads as they like.
LARGEST_SHARE = 1.0
_SCRIPT = """\
import numpy

matrix = numpy.random.default_rng(0).random(({size}, {size}))
for _ in range({times}):
    matrix = matrix @ matrix
    matrix /= numpy.abs(matrix).max()
"""
#: Variables that would bound the threads of both.
_BOUNDS = re.compile(r"\w+_THREADS")


def command(cpus: str, script: Path, jobs: int) -> list[str]:
    """The command line that runs the script `jobs` times at once."""
    what = [f"num=range({jobs})", "--script", str(script), "--args-style", "hydra"]
    how = ["--parallel-jobs", str(jobs), "--sweep-dir", "sweep", "--cpus", cpus]
    return [*HSM, "sweep", *what, *how]


def inspect(jobs: int, directory: Path) -> dict[str, Any]:
    """See that each job ran; returns the CPU seconds of all."""
    inspect_sweep(directory / "sweep", jobs)
    return {"jobs_cpu": cpu_of_jobs(directory / "sweep")}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(description="Jobs that share the CPUs, and jobs that do not.")
    parser.add_argument("--jobs", type=count, metavar="N", default=4, help="default 4")
    parser.add_argument("--rounds", type=count, metavar="N", default=5, help="default 5")
    parser.add_argument("--size", type=count, metavar="N", default=1000, help="default 1000")
    parser.add_argument("--times", type=count, metavar="N", default=40, help="default 40")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to FILE")
    given = parser.parse_args(arguments)
    if importlib.util.find_spec("numpy") is None:
        parser.error("NumPy is not installed")
    return given


def main() -> int:
    """Run both; returns 1 if a run failed, since its numbers are missing then."""
    options = parse()
    for name in filter(_BOUNDS.fullmatch, list(os.environ)):
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="benchmark-threads-") as folder:
        script = Path(folder, "multiply.py")
        text = _SCRIPT.format(size=options.size, times=options.times)
        script.write_text(text, encoding="utf-8")

        def measure_one(cpus: str, jobs: int = options.jobs) -> Run:
            return measure(command(cpus, script, jobs), partial(inspect, jobs), HSM_ENVIRONMENT)

        for cpus in (OURS, REFERENCE):  # files into the page cache, byte code onto the disk
            measure_one(cpus, 1)
        runs = interleave([OURS, REFERENCE], options.rounds, measure_one)
    title = f"{options.jobs} jobs at once that multiply matrices"
    document = {
        **new_document("threads", versions(("hpc-sweep-manager", "numpy"))),
        "jobs": options.jobs,
        "rounds": options.rounds,
        "size": options.size,
        "times": options.times,
        "cpus": show_share(runs, title, "cpus", (OURS, REFERENCE), LARGEST_SHARE),
    }
    return finish(document, options.json, any_failed(runs.values()))


if __name__ == "__main__":
    sys.exit(main())
