"""What a change of hsm costs: two installations of it run the same sweeps, side by side.

    python benchmarks/before_after.py --before /path/to/old/python --rounds 11

Cases:
    hydra      100 jobs of a Hydra app that return at once, under hsm_local
    functions  500 jobs that are Python functions, through LocalComputeSource
    commands   1,000 jobs that are the command ``true``, through ``hsm sweep``
    lines      4 jobs that print 200,000 lines each and flush every one
    bulk       4 jobs that print 256 MiB each

The figure is the CPU time, user and system, of the whole process tree; the ratio is that of the
medians, after over before. Each measurement is one fresh process in a fresh directory. Rounds are
interleaved, so that a machine that is slower for a while moves both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _harness import STDOUT, Incomplete, Run, interleave, measure
from _hsm_sweep import HSM_ENVIRONMENT, inspect_sweep
from _report import any_failed, count, finish, machine, print_table, summarise
from launchers import APP, RECORD, SWEEP_DIR
from launchers import inspect_sweep as inspect_hydra

APPS = Path(__file__).resolve().parent / "apps"
#: What the ratio of the medians must not exceed.
LIMIT = 1.05
_LINES = "for i in range(200000): print('a line of the usual length, number', i, flush=True)"
_BULK = "import sys\nfor _ in range(256): sys.stdout.write(('x' * 127 + chr(10)) * 8192)"


@dataclass(frozen=True)
class Case:
    """A sweep to measure.

    Attributes:
        command: what follows the interpreter; run in the directory that gets the sweep.
        inspect: tells from that directory whether all was done.
        environment: variables that it needs.
    """

    command: list[str]
    inspect: Callable[[Path], dict[str, Any]]
    environment: dict[str, str]


def _hydra(jobs: int) -> Case:
    options = ["hydra/launcher=hsm_local", "hydra.launcher.max_parallel_jobs=2"]
    command = [str(APP), "-m", *options, f"hydra.sweep.dir={SWEEP_DIR}", f"num=range({jobs})"]
    environment = {"BENCHMARK_RECORD": RECORD, "BENCHMARK_IMPORTS": ""}
    return Case(command, lambda directory: inspect_hydra(directory, jobs, []), environment)


def _functions(jobs: int) -> Case:
    def inspect(directory: Path) -> dict[str, Any]:
        values = json.loads((directory / STDOUT).read_text(encoding="utf-8"))
        if values != [num * num for num in range(jobs)]:
            raise Incomplete("not every function returned its value")
        return {}

    return Case([str(APPS / "functions_sweep.py"), str(jobs)], inspect, HSM_ENVIRONMENT)


def _commands(jobs: int, words: Sequence[str], logged: int = 0) -> Case:
    """`jobs` commands through the command line, each of which prints `logged` bytes."""

    def inspect(directory: Path) -> dict[str, Any]:
        for num in range(jobs):
            size = (directory / "sweep" / ".hsm" / "logs" / f"{num}.out").stat().st_size
            if size < logged:
                raise Incomplete(f"the log of job {num} has {size} bytes, expected {logged}")
        return inspect_sweep(directory / "sweep", jobs)

    main = "import sys; from hsm.cli.main import main; sys.exit(main())"
    options = ["--sweep-dir", "sweep", "--parallel-jobs", "2"]
    command = ["-c", main, "sweep", f"num=range({jobs})", *options, "--", *words]
    return Case(command, inspect, HSM_ENVIRONMENT)


CASES = {
    "hydra": _hydra(100),
    "functions": _functions(500),
    "commands": _commands(1000, ["true"]),
    "lines": _commands(4, [sys.executable, "-c", _LINES], 200_000 * 40),
    "bulk": _commands(4, [sys.executable, "-c", _BULK], 256 << 20),
}


def hsm_of(python: Path) -> str:
    """Which hsm an interpreter has: its version and where it lies. Raises SystemExit."""
    code = "import hsm; print(hsm.__version__, hsm.__file__)"
    asked = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        sys.exit(f"{python} has no hsm: {asked.stderr.strip()}")
    return asked.stdout.strip()


def compare(name: str, before: Path, after: Path, rounds: int) -> dict[str, Any]:
    """Measure one case under both; returns its figures and all runs."""
    case = CASES[name]

    def measure_one(side: str) -> Run:
        python = before if side == "before" else after
        return measure([str(python), *case.command], case.inspect, case.environment)

    for side in ("before", "after"):  # files into the page cache, byte code onto the disk
        measure_one(side)
    runs = interleave(["before", "after"], rounds, measure_one)
    document: dict[str, Any] = {"runs": runs}
    for figure in ("cpu_seconds", "seconds", "peak_memory"):
        values = {
            side: [float(getattr(run, figure)) for run in own if run.problem is None]
            for side, own in runs.items()
        }
        document[figure] = {side: summarise(numbers) for side, numbers in values.items()}
        document[f"{figure}_ratio"] = (
            statistics.median(values["after"]) / statistics.median(values["before"])
            if all(values.values())
            else None
        )
    return document


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(description="What a change of hsm costs.")
    parser.add_argument(
        "--before", type=Path, required=True, help="an interpreter with the old hsm"
    )
    parser.add_argument(
        "--after", type=Path, default=Path(sys.executable), help="with the new one; default: this"
    )
    parser.add_argument("--rounds", type=count, metavar="N", default=11, help="default 11")
    parser.add_argument("--cases", default=",".join(CASES), help="comma-separated; default: all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to FILE")
    given = parser.parse_args(arguments)
    given.cases = given.cases.split(",")
    if unknown := [name for name in given.cases if name not in CASES]:
        parser.error(f"--cases {','.join(unknown)}: choose from {', '.join(CASES)}")
    return given


def main() -> int:
    """Compare; returns 1 if a run failed or a ratio is above the limit."""
    options = parse()
    document: dict[str, Any] = {
        "benchmark": "before_after",
        "machine": machine(),
        "before": hsm_of(options.before),
        "after": hsm_of(options.after),
        "rounds": options.rounds,
        "cases": {},
    }
    for name in options.cases:
        document["cases"][name] = compare(name, options.before, options.after, options.rounds)
    rows, missed = [], False
    for name, case in document["cases"].items():
        cpu, share = case["cpu_seconds"], case["cpu_seconds_ratio"]
        held = share is not None and share <= LIMIT
        missed |= not held
        texts = [cpu[side].text() if cpu[side] else "FAILED" for side in ("before", "after")]
        verdict = "holds" if held else "MISSED"
        rows.append([name, *texts, "-" if share is None else f"{share:.3f}", verdict])
    print(f"\nCPU seconds of the whole tree; limit of the ratio of medians: {LIMIT}\n")
    print_table(["case", "before", "after", "ratio", ""], rows)
    failed = any_failed(own for case in document["cases"].values() for own in case["runs"].values())
    return max(finish(document, options.json, failed), int(missed))


if __name__ == "__main__":
    sys.exit(main())
