"""Two launchers race for the GPUs of one machine, thousands of times: the long form of a test.

    python benchmarks/gpu_races.py --races 1000 --json gpu_races.json

The clock, the processes on the GPUs and what launchers see of them are played; admissions, pools
and locks are real. What each race is and what must be so throughout stands in
tests/helpers/gpu_schedules.py: no GPU is given twice, nobody waits while what it needs is free,
everybody's turn comes, and no lock is left.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent / "tests"


def main() -> int:
    """Returns 1 if something was not as it must be in any race."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--races", type=int, default=1000, help="default 1000")
    parser.add_argument("--seed", type=int, default=0, help="of the first race; default 0")
    parser.add_argument("--steps", type=int, default=25, help="events of a race; default 25")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args()
    sys.path.append(str(TESTS))
    from helpers.gpu_schedules import run_race

    starts, problems, began = 0, [], time.monotonic()
    for seed in range(options.seed, options.seed + options.races):
        with tempfile.TemporaryDirectory(prefix="gpu-race-") as folder:
            try:
                starts += run_race(seed, Path(folder) / "locks", options.steps).starts
            except AssertionError as error:
                problems.append(f"race {seed}: {error!r}")
                print(problems[-1], file=sys.stderr, flush=True)
    figures = {
        "races": options.races,
        "jobs_started": starts,
        "seconds": round(time.monotonic() - began, 1),
        "problems": problems,
    }
    text = json.dumps(figures, indent=2)
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
