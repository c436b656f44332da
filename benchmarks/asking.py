"""What it is worth not to wait for batches: a sweeper that asks and tells, and one that does not.

    python benchmarks/asking.py --rounds 3

Both run the same jobs, which take 2 s and 0.2 s in turn, two at a time, under hsm_local. One calls
the launcher with batches of two, as a launcher's interface wants it; the other submits a job to the
session as soon as one has ended. The figure is the wall time of the whole program; the ratio is
that of asking over batches.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _harness import Incomplete, Run, interleave, measure
from _report import (
    Result,
    Target,
    any_failed,
    count,
    finish,
    measured,
    new_document,
    ratio,
    summarise_runs,
    versions,
)
from hsm.core.record.sweep import read_sweep

APP = Path(__file__).resolve().parent / "apps" / "asking" / "app.py"
SLOTS = 2
#: Two slots that are never idle take 0.55 of the time.
LIMIT = 0.65


def run_one(sweeper: str, jobs: int) -> Run:
    """One sweep of so many jobs; `sweeper` is "batches" or "asking"."""
    words = ["hydra/launcher=hsm_local", f"hydra.launcher.max_parallel_jobs={SLOTS}"]
    words += ["hydra/sweeper=asking", f"hydra.sweeper.jobs={jobs}", f"hydra.sweeper.slots={SLOTS}"]
    words += [f"hydra.sweeper.batches={sweeper == 'batches'}", "hydra.sweep.dir=sweep"]

    def inspect(directory: Path) -> dict[str, Any]:
        sweep = read_sweep(directory / "sweep")
        values = {num: job.value for num, job in sweep.jobs.items()}
        if values != {num: num for num in range(jobs)}:
            raise Incomplete("not every job returned its number")
        return {}

    return measure([sys.executable, str(APP), "-m", *words], inspect)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(description="Asking and telling, and batches.")
    parser.add_argument("--rounds", type=count, metavar="N", default=3, help="default 3")
    parser.add_argument("--jobs", type=count, metavar="N", default=20, help="default 20")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to FILE")
    return parser.parse_args(arguments)


def main() -> int:
    """Compare; returns 1 if a run failed or the ratio is above the limit."""
    options = parse()
    run_one("asking", SLOTS)  # files into the page cache, byte code onto the disk
    runs = interleave(
        ["batches", "asking"], options.rounds, lambda name: run_one(name, options.jobs)
    )
    target = Target("asking / batches", ratio(runs["asking"], runs["batches"]), LIMIT)
    rows = [
        [name, measured(summarise_runs(own, lambda run: run.seconds), own)]
        for name, own in runs.items()
    ]
    failed = any_failed(runs.values())
    title = f"{options.jobs} jobs of 2 s and 0.2 s in turn, {SLOTS} at a time"
    document = {**new_document("asking", versions(["hydra-core"])), "runs": runs}
    result = Result(title, ["sweeper", "seconds"], rows, [target], document, failed)
    result.show()
    missed = target.value is not None and target.value.median > LIMIT
    return max(finish({**document, "ratio": target.value}, options.json, failed), int(missed))


if __name__ == "__main__":
    sys.exit(main())
