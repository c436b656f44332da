"""hsm's command line as a contender: how a sweep is started, and whether its record is complete."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from _harness import Incomplete

#: The list of known sweeps lies in the benchmark's own directory, too.
HSM_ENVIRONMENT = {"HSM_STATE_DIR": "state"}

HSM = [sys.executable, "-m", "hsm.cli.main"]


def hsm_sweep(jobs: int, parallel_jobs: int, sweep_dir: str) -> list[str]:
    """The command line of a sweep of so many commands ``true``."""
    points = f"num=range({jobs})"
    options = ["--parallel-jobs", str(parallel_jobs), "--sweep-dir", sweep_dir]
    return [*HSM, "sweep", points, *options, "--", "true"]


def inspect_sweep(sweep_dir: Path, jobs: int) -> dict[str, Any]:
    """See that the journal tells of each job's start and completion once. Raises Incomplete."""
    lines = (sweep_dir / ".hsm" / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    for event in ("start", "end"):
        counts = Counter(record["job"] for record in records if record["event"] == event)
        if counts != Counter(range(jobs)):
            raise Incomplete(f"{event} of {len(counts)} jobs in the journal, expected {jobs}")
    failed = [r["job"] for r in records if r["event"] == "end" and r["state"] != "COMPLETED"]
    if failed:
        raise Incomplete(f"{len(failed)} jobs failed, job {failed[0]} for one")
    return {}


def cpu_of_jobs(sweep_dir: Path) -> float:
    """The CPU seconds of a sweep's jobs, from its journal."""
    lines = (sweep_dir / ".hsm" / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    return float(sum(json.loads(line).get("cpu_seconds", 0.0) for line in lines))
