"""A sweep of functions that return at once through `LocalManager`, for `growth.py`.

python functions.py JOBS SWEEP_DIR
"""

from __future__ import annotations

import sys
from typing import Any

from hsm import LocalManager


def number(params: dict[str, Any]) -> int:
    """What a job does."""
    return int(params["num"])


def main() -> None:
    """Run the sweep, two jobs at a time."""
    points = [{"num": num} for num in range(int(sys.argv[1]))]
    with LocalManager(max_parallel_jobs=2) as manager:
        manager.run(points, function=number, sweep_id="functions", sweep_dir=sys.argv[2])


if __name__ == "__main__":
    main()
