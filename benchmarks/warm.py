"""What it saves to do a script's imports once for all its jobs.

    python benchmarks/warm.py --rounds 5 --json warm.json

The same script, twenty times, two at a time:

    warm      `hsm sweep --script`, as it comes
    cold      the same with --warm false: each job does all imports
    parallel  GNU parallel running the script, if it is installed

The script imports what the option --imports names and notes that it ran; that takes about a second
where those of the default are installed. Each measurement is one fresh process in a fresh
directory, and rounds are interleaved. CPU time is that of the jobs alone, from hsm's journal.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from _harness import Incomplete, Run, interleave, measure
from _hsm_sweep import HSM, HSM_ENVIRONMENT, cpu_of_jobs, inspect_sweep
from _report import any_failed, count, finish, new_document, show_share, versions

OURS, REFERENCE = "warm", "cold"
#: Of the wall time of a sweep whose jobs do all imports.
LARGEST_SHARE = 0.3
IMPORTS = ("pandas", "scipy.stats")
_END = "import sys\nopen(f'{sys.argv[1]}.done', 'w').close()\n"


def command(driver: str, script: Path, jobs: int, parallel_jobs: int) -> list[str]:
    """The command line that runs the script `jobs` times."""
    slots = str(parallel_jobs)
    if driver == "parallel":
        python = [sys.executable, str(script), "num={}", ":::", *map(str, range(jobs))]
        return ["parallel", "--will-cite", "--jobs", slots, *python]
    hsm = [*HSM, "sweep", f"num=range({jobs})"]
    how = "auto" if driver == OURS else "false"
    options = ["--parallel-jobs", slots, "--sweep-dir", "sweep", "--warm", how]
    return [*hsm, "--script", str(script), "--args-style", "hydra", *options]


def inspect(driver: str, jobs: int, directory: Path) -> dict[str, Any]:
    """See that each job ran; returns the CPU seconds of all, if they are known."""
    done = len(list(directory.glob("num=*.done")))
    if done != jobs:
        raise Incomplete(f"{done} jobs have run, expected {jobs}")
    if driver == "parallel":
        return {}
    inspect_sweep(directory / "sweep", jobs)
    return {"jobs_cpu": cpu_of_jobs(directory / "sweep")}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(description="A script's imports, done once or in each job.")
    parser.add_argument("--jobs", type=count, metavar="N", default=20, help="default 20")
    parser.add_argument("--rounds", type=count, metavar="N", default=5, help="default 5")
    parser.add_argument("--parallel-jobs", type=count, metavar="N", default=2, help="default 2")
    parser.add_argument("--imports", default=",".join(IMPORTS), help=f"default {','.join(IMPORTS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to FILE")
    given = parser.parse_args(arguments)
    given.imports = given.imports.split(",")
    for name in given.imports:
        if importlib.util.find_spec(name.partition(".")[0]) is None:
            parser.error(f"--imports: {name} is not installed")
    return given


def main() -> int:
    """Run the drivers; returns 1 if a run failed, since its numbers are missing then."""
    options = parse()
    drivers = [OURS, REFERENCE]
    if shutil.which("parallel") is not None:
        drivers.append("parallel")
    else:
        print("left out: parallel: no program `parallel`")
    with tempfile.TemporaryDirectory(prefix="benchmark-warm-") as folder:
        script = Path(folder, "imports.py")
        script.write_text(f"import {', '.join(options.imports)}\n{_END}", encoding="utf-8")

        def measure_one(driver: str, jobs: int = options.jobs) -> Run:
            line = command(driver, script, jobs, options.parallel_jobs)
            return measure(line, partial(inspect, driver, jobs), HSM_ENVIRONMENT)

        for driver in drivers:  # files into the page cache, byte code onto the disk
            measure_one(driver, 2)
        runs = interleave(drivers, options.rounds, measure_one)
    installed = versions(("hpc-sweep-manager", *(n.partition(".")[0] for n in options.imports)))
    title = f"A script that imports {', '.join(options.imports)}"
    document = {
        **new_document("warm", installed),
        "jobs": options.jobs,
        "rounds": options.rounds,
        "parallel_jobs": options.parallel_jobs,
        "imports": options.imports,
        "drivers": show_share(runs, title, "driver", (OURS, REFERENCE), LARGEST_SHARE),
    }
    return finish(document, options.json, any_failed(runs.values()))


if __name__ == "__main__":
    sys.exit(main())
