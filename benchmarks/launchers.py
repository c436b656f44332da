"""What a sweep costs under each Hydra launcher, side by side.

    python benchmarks/launchers.py --case a --rounds 5 --json launchers.json

Cases:
    a       wall time of 100 jobs that return at once
    b       wall time of 20 such jobs of a script with heavy imports
    cpu     CPU time per job, of all processes, beside the least that it can be
    first   time until the first of 2,000 jobs starts, under Hydra's own sweeper
    lazy    the same under hsm's sweeper, of one, 2,000 and 1,000,000 points
    memory  growth of the launching process's peak memory per job
    import  what the plugin package adds to the start of every Hydra application

Each measurement is one fresh process in a fresh directory: ``python app.py -m hydra/launcher=X …``.
Rounds are interleaved.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _first_job import first_of_many, first_under_hydra
from _harness import Incomplete, Run, interleave, measure
from _import_cost import import_cost
from _per_job import Growth, Quantity, grow
from _report import (
    Result,
    Target,
    any_failed,
    available_memory,
    cell,
    count,
    finish,
    measured,
    new_document,
    ratio,
    summarise_runs,
    versions,
)

APPS = Path(__file__).resolve().parent / "apps"
APP = APPS / "app.py"
RECORD = "jobs.jsonl"
SWEEP_DIR = "sweep"
REFERENCES = ("joblib", "submitit_local")
OURS = "hsm_local"
# The same with hsm's own sweeper, which composes next to nothing before the first job.
CHOOSING = "hsm"
# No launcher, but what none can do without: a fork and the files of each job.
FLOOR = "floor"
# Those that can be stopped once their first job runs.
STOPPABLE = ("basic", "joblib", OURS)

# What OURS must not exceed: wall time as a ratio, by case and reference; CPU per job as a multiple
# of the floor; seconds to the first job; growth of memory; import.
RATIO_LIMITS = {
    "a": {OURS: {"joblib": 0.35}, CHOOSING: {"joblib": 0.30}},
    "b": {OURS: {"joblib": 0.55, "submitit_local": 0.15}, CHOOSING: {"joblib": 0.5}},
}
CPU_LIMIT = 8.0
KILOBYTES_PER_JOB_LIMIT = 100.0
IMPORT_MILLISECONDS_LIMIT = 5.0

# What the script of case b imports, as far as it is installed.
HEAVY = ("pandas", "scipy.stats", "sklearn.ensemble")
CPU = Quantity(
    "Case cpu: CPU time of all processes of a sweep whose jobs return at once, and its growth",
    lambda run: run.cpu_seconds,
    *("seconds", 1.0, "milliseconds", 1e3),
)
MEMORY = Quantity(
    "Case memory: peak resident size of the launching process, and its growth per job",
    lambda run: run.peak_memory,
    *("MB", 1e-6, "kilobytes", 1e-3),
)
DISTRIBUTIONS = (
    "hpc-sweep-manager",
    "hydra-core",
    "omegaconf",
    "hydra-joblib-launcher",
    "joblib",
    "hydra-submitit-launcher",
    "submitit",
    "cloudpickle",
    "scikit-learn",
    "pandas",
    "scipy",
)


@dataclass(frozen=True)
class Launcher:
    """A contender.

    Attributes:
        name: the Hydra config, ``hydra/launcher=<name>``; or `FLOOR`, or `CHOOSING`.
        package: its plugin package, which tells whether it is installed; None for a part of Hydra.
        setting: the setting that bounds the jobs in parallel; None if it has none.
        all_at_once: starts every job of the sweep at the same time.
        sweeper: the Hydra config of the sweeper, if the launcher is `OURS` with another one.
    """

    name: str
    package: str | None = None
    setting: str | None = None
    all_at_once: bool = False
    sweeper: str = ""

    def groups(self) -> list[str]:
        """The Hydra configs that choose it."""
        if self.sweeper:
            return [f"hydra/launcher={OURS}", f"hydra/sweeper={self.sweeper}"]
        return [f"hydra/launcher={self.name}"]

    def installed(self) -> bool:
        """Whether this interpreter can use it."""
        if self.package is None:
            return True
        try:
            return importlib.util.find_spec(self.package) is not None
        except ModuleNotFoundError:  # no plugin of any kind is installed
            return False


LAUNCHERS = {
    launcher.name: launcher
    for launcher in (
        Launcher(FLOOR),
        Launcher("basic"),
        Launcher("joblib", "hydra_plugins.hydra_joblib_launcher", "n_jobs"),
        Launcher("submitit_local", "hydra_plugins.hydra_submitit_launcher", all_at_once=True),
        Launcher(OURS, "hydra_plugins.hsm_local_launcher", "max_parallel_jobs"),
        Launcher(CHOOSING, "hydra_plugins.hsm_sweeper", "max_parallel_jobs", sweeper="hsm"),
    )
}


@dataclass(frozen=True)
class Options:
    """The command line; `jobs` None for each case's own count."""

    case: str
    rounds: int
    launchers: dict[str, Launcher]
    jobs: int | None
    two_sizes: tuple[int, int]
    parallel_jobs: int
    json: Path | None


def sweep_command(launcher: Launcher, jobs: int, parallel_jobs: int) -> list[str]:
    """The command line of one sweep, run in the directory that shall hold its output."""
    if launcher.name == FLOOR:
        return [sys.executable, str(APPS / "floor.py"), str(jobs), str(parallel_jobs), SWEEP_DIR]
    command = [sys.executable, str(APP), "-m", *launcher.groups()]
    if launcher.setting is not None:
        command.append(f"hydra.launcher.{launcher.setting}={parallel_jobs}")
    return [*command, f"hydra.sweep.dir={SWEEP_DIR}", f"num=range({jobs})"]


def inspect_sweep(directory: Path, jobs: int, modules: Sequence[str]) -> dict[str, Any]:
    """The number of processes that the jobs ran in.

    Raises:
        Incomplete: a job did not leave exactly one line in the record, its imports, its directory.
    """
    record = directory / RECORD
    lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
    done = [json.loads(line) for line in lines]
    if sorted(job["num"] for job in done) != list(range(jobs)):
        completed = len({job["num"] for job in done})
        raise Incomplete(f"{completed} of {jobs} jobs left a record, {len(done)} in all")
    if any(job["imports"] != list(modules) for job in done):
        raise Incomplete(f"a job ran without {' '.join(modules)}")
    for num in range(jobs):
        if not (directory / SWEEP_DIR / str(num) / ".hydra").is_dir():
            raise Incomplete(f"job {num} has no directory")
    return {"job_processes": len({job["pid"] for job in done})}


def measure_sweep(
    launcher: Launcher, jobs: int, parallel_jobs: int, modules: Sequence[str] = ()
) -> Run:
    """One sweep in a fresh process and directory; not started if it would exhaust the memory."""
    needed = jobs * (400e6 if modules else 100e6) if launcher.all_at_once else 0.0
    if needed > 0.7 * available_memory():
        reason = f"not started: {jobs} processes at once need about {needed / 1e9:.0f} GB"
        return Run(0.0, 0, 0.0, 0, reason)
    return measure(
        sweep_command(launcher, jobs, parallel_jobs),
        lambda directory: inspect_sweep(directory, jobs, modules),
        {"BENCHMARK_RECORD": RECORD, "BENCHMARK_IMPORTS": " ".join(modules)},
    )


def wall_time(case: str, jobs: int, modules: Sequence[str], options: Options) -> Result:
    """Cases a and b: wall time of the whole command, for every launcher."""

    def measure_one(name: str, size: int = jobs) -> Run:
        return measure_sweep(options.launchers[name], size, options.parallel_jobs, modules)

    names = list(options.launchers) if not modules else launchers_of_hydra(options)
    for name in names:  # files into the page cache, byte code onto the disk
        measure_one(name, 2)
    runs = interleave(names, options.rounds, measure_one)
    seconds = {name: summarise_runs(own, lambda run: run.seconds) for name, own in runs.items()}
    ratios = {
        f"{name} / {reference}": ratio(own, runs[reference])
        for name, own in runs.items()
        for reference in REFERENCES
        if reference in runs and reference != name
    }
    of_what = f", of a script that imports {' and '.join(modules)}" if modules else ""
    return Result(
        f"Case {case}: {jobs} jobs that return at once{of_what}; seconds for the whole command",
        ["launcher", "seconds", *(f"/ {reference}" for reference in REFERENCES)],
        [
            [
                name,
                measured(seconds[name], own),
                *(cell(ratios.get(f"{name} / {reference}")) for reference in REFERENCES),
            ]
            for name, own in runs.items()
        ],
        [
            Target(f"{name} / {reference}", ratios.get(f"{name} / {reference}"), limit)
            for name, limits in RATIO_LIMITS[case].items()
            for reference, limit in limits.items()
        ],
        {
            "jobs": jobs,
            "imports": list(modules),
            "seconds": seconds,
            "ratios": ratios,
            "runs": runs,
        },
        any_failed(runs.values()),
    )


def launchers_of_hydra(options: Options) -> list[str]:
    """The contenders that run a Hydra app."""
    return [name for name in options.launchers if name != FLOOR]


def case_a(options: Options) -> Result:
    """Many jobs of a small script: the launcher's own cost."""
    return wall_time("a", options.jobs or 100, [], options)


def case_b(options: Options) -> Result:
    """Fewer jobs of a script that takes long to import."""
    modules = heavy_modules()
    if not modules:
        sys.exit(f"case b needs one of {', '.join(HEAVY)}: none is installed")
    return wall_time("b", options.jobs or 20, modules, options)


def heavy_modules() -> list[str]:
    """The modules that case b's script imports; empty if nothing heavy is installed."""
    return [name for name in HEAVY if importlib.util.find_spec(name.split(".")[0]) is not None]


def growth(quantity: Quantity, names: Sequence[str], options: Options) -> Growth:
    """Sweeps of two sizes, for these launchers."""

    def measure_one(name: str, jobs: int) -> Run:
        return measure_sweep(options.launchers[name], jobs, options.parallel_jobs)

    return grow(quantity, names, options.two_sizes, options.rounds, measure_one)


def case_cpu(options: Options) -> Result:
    """CPU time per job, which a busy machine changes less than wall time."""
    found = growth(CPU, list(options.launchers), options)
    ratios = {name: found.ratio(name, FLOOR) for name in options.launchers if name != FLOOR}
    shown = [f"{name} / {FLOOR}: {cell(value)}" for name, value in ratios.items() if value]
    print(*shown, sep="\n")
    target = Target(f"{OURS} / {FLOOR}, CPU per job", ratios.get(OURS), CPU_LIMIT)
    return found.result([target], over_floor=ratios)


def case_memory(options: Options) -> Result:
    """Peak memory of the launching process at two sizes of sweep, and the slope between them."""
    found = growth(MEMORY, launchers_of_hydra(options), options)
    target = Target(f"{OURS}, kB per job", found.per_job(OURS), KILOBYTES_PER_JOB_LIMIT)
    return found.result([target])


def case_first(options: Options) -> Result:
    """Time until the first job of a large sweep starts, under Hydra's own sweeper."""
    names = [name for name in options.launchers if name in STOPPABLE]
    jobs = options.jobs or 2000
    commands = {
        name: sweep_command(options.launchers[name], jobs, options.parallel_jobs) for name in names
    }
    return first_under_hydra(commands, jobs, options.rounds, OURS)


def case_lazy(options: Options) -> Result:
    """The same under hsm's sweeper, whatever the size of the sweep."""

    def command(points: int) -> list[str]:
        return sweep_command(options.launchers[CHOOSING], points, options.parallel_jobs)

    return first_of_many(command, options.rounds)


def case_import(options: Options) -> Result:
    """Import time of the plugin packages; cheap, so measured five times or more."""
    packages = {
        name: one.package for name, one in options.launchers.items() if one.package is not None
    }
    return import_cost(packages, max(options.rounds, 5), OURS, IMPORT_MILLISECONDS_LIMIT)


CASES: dict[str, Callable[[Options], Result]] = {
    "a": case_a,
    "b": case_b,
    "cpu": case_cpu,
    "first": case_first,
    "lazy": case_lazy,
    "memory": case_memory,
    "import": case_import,
}


def parse(arguments: Sequence[str] | None = None) -> Options:
    """The command line, checked."""
    parser = argparse.ArgumentParser(description="What a sweep costs under each Hydra launcher.")
    parser.add_argument("--case", choices=[*CASES, "all"], default="all")
    parser.add_argument("--rounds", type=count, metavar="N", default=5, help="default 5")
    parser.add_argument("--launchers", help="comma-separated; default: all that are installed")
    parser.add_argument(
        "--jobs",
        type=count,
        metavar="N",
        help="of cases a, b and first; default: a 100, b 20, first 2000",
    )
    parser.add_argument(
        "--two-sizes",
        type=count,
        nargs=2,
        default=[20, 200],
        metavar=("FEW", "MANY"),
        help="of cases cpu and memory; default 20 200",
    )
    parser.add_argument("--parallel-jobs", type=count, metavar="N", default=2, help="default 2")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to FILE")
    given = parser.parse_args(arguments)
    names = given.launchers.split(",") if given.launchers else list(LAUNCHERS)
    if unknown := [name for name in names if name not in LAUNCHERS]:
        parser.error(f"--launchers {','.join(unknown)}: choose from {', '.join(LAUNCHERS)}")
    missing = [name for name in names if not LAUNCHERS[name].installed()]
    if missing and given.launchers:
        parser.error(f"--launchers {','.join(missing)}: not installed for {sys.executable}")
    if missing:
        print(f"left out, not installed: {', '.join(missing)}")
    few, many = given.two_sizes
    if few >= many:
        parser.error(f"--two-sizes {few} {many}: the smaller count comes first")
    return Options(
        case=given.case,
        rounds=given.rounds,
        launchers={name: LAUNCHERS[name] for name in names if name not in missing},
        jobs=given.jobs,
        two_sizes=(few, many),
        parallel_jobs=given.parallel_jobs,
        json=given.json,
    )


def main() -> int:
    """Run the chosen cases; returns 1 if anything failed, since its numbers are missing then."""
    options = parse()
    document = {
        **new_document("launchers", versions(DISTRIBUTIONS)),
        "rounds": options.rounds,
        "parallel_jobs": options.parallel_jobs,
    }
    results = {}
    cases = [case for case in CASES if case != "lazy" or CHOOSING in options.launchers]
    for case in cases if options.case == "all" else [options.case]:
        results[case] = CASES[case](options)
        results[case].show()
    document["cases"] = {case: result.document for case, result in results.items()}
    return finish(document, options.json, any(result.failed for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
