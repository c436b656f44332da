"""A sweep of Python functions that return at once, for `before_after.py`; prints their values."""

from __future__ import annotations

import json
import sys
from typing import Any

from hsm import LocalComputeSource


def square(params: dict[str, Any]) -> int:
    """What a job does."""
    number: int = params["num"]
    return number * number


def main() -> None:
    """Run the number of jobs that the command line says, two at a time."""
    with LocalComputeSource(max_parallel_jobs=2, function=square) as source:
        points = [{"num": num} for num in range(int(sys.argv[1]))]
        job_ids = source.submit_jobs(points, "functions", "sweep")
        source.wait()
        print(json.dumps([source.result(job_id) for job_id in job_ids]))


if __name__ == "__main__":
    main()
