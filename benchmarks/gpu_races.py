"""Two launchers race for the GPUs of one machine, thousands of times: the long form of a test.

    python benchmarks/gpu_races.py --races 1000 --json gpu_races.json

The clock, the processes on the GPUs and what launchers see of them are played; admissions, pools
and locks are real. What happens in a race stands in tests/helpers/gpu_schedules.py, what must be so
throughout in gpu_rules.py beside it: no GPU is given twice, nobody waits while what it needs is
free, everybody's turn comes, and no lock is left. It ends with the smallest schedule in which
something is otherwise.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent / "tests"


def main() -> int:
    """Returns 1 if something was not as it must be in any race."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--races", type=int, default=1000, help="default 1000")
    parser.add_argument("--seed", type=int, default=0, help="of the schedules; default 0")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args()
    sys.path.append(str(TESTS))
    from helpers.gpu_schedules import run_races

    try:
        figures = run_races(options.races, options.seed)
    except AssertionError:
        traceback.print_exc()
        return 1
    text = json.dumps(figures, indent=2)
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
