"""The part of `commands.py` that is hsm's command line: its sweeps, and a look at a large one."""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from _harness import STDOUT, Incomplete, Run, interleave, measure
from _report import Result, Target, any_failed, measured, ratio, summarise_runs

#: So many times as long as the small one may the large sweep take, if it has ten times its jobs.
LARGEST_GROWTH = 11.0
#: Seconds in which `hsm monitor --once` and `hsm collect-results` answer.
LONGEST_ANSWER = 1.5
#: The list of known sweeps lies in the benchmark's own directory, too.
HSM_ENVIRONMENT = {"HSM_STATE_DIR": "state"}

_HSM = [sys.executable, "-m", "hsm.cli.main"]


def hsm_sweep(jobs: int, parallel_jobs: int, sweep_dir: str) -> list[str]:
    """The command line of a sweep of so many commands ``true``."""
    points = f"num=range({jobs})"
    options = ["--parallel-jobs", str(parallel_jobs), "--sweep-dir", sweep_dir]
    return [*_HSM, "sweep", points, *options, "--", "true"]


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


def large_sweep(few: int, many: int, parallel_jobs: int, rounds: int) -> Result:
    """Run sweeps of `few` and of `many` jobs, and look at the large ones.

    Args:
        few, many: jobs.
        parallel_jobs: that run at the same time.
        rounds: measurements of each.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark-large-") as name:
        larges: list[Path] = []

        def sweep(directory: Path, jobs: int) -> Run:
            return measure(
                hsm_sweep(jobs, parallel_jobs, str(directory)),
                lambda _: inspect_sweep(directory, jobs),
                HSM_ENVIRONMENT,
            )

        def measure_one(what: str) -> Run:
            if what == "few":
                return sweep(Path(tempfile.mkdtemp(dir=name)) / "few", few)
            if what == "many":
                larges.append(Path(tempfile.mkdtemp(dir=name)) / "many")
                return sweep(larges[-1], many)
            line = ["monitor", "--once"] if what == "monitor" else ["collect-results"]
            command = [*_HSM, *line, str(larges[-1])]
            return measure(command, _inspect_answer(many), HSM_ENVIRONMENT)

        runs = interleave(["few", "many", "monitor", "collect"], rounds, measure_one)
    growth = ratio(runs["many"], runs["few"])
    names = {
        "few": f"hsm sweep, {few} jobs",
        "many": f"hsm sweep, {many} jobs",
        "monitor": "hsm monitor --once",
        "collect": "hsm collect-results",
    }
    seconds = {what: summarise_runs(own, lambda run: run.seconds) for what, own in runs.items()}
    return Result(
        f"A sweep of {many} commands `true`, and looking at it",
        ["command", "seconds"],
        [[names[what], measured(seconds[what], runs[what])] for what in names],
        [
            Target(f"{many} jobs / {few} jobs", growth, LARGEST_GROWTH * many / few / 10),
            Target(f"{names['monitor']}, seconds", seconds["monitor"], LONGEST_ANSWER),
            Target(f"{names['collect']}, seconds", seconds["collect"], LONGEST_ANSWER),
        ],
        {"few": few, "many": many, "seconds": seconds, "growth": growth, "runs": runs},
        any_failed(runs.values()),
    )


def _inspect_answer(jobs: int) -> Any:
    """See that the answer is about all jobs."""

    def inspect(directory: Path) -> dict[str, Any]:
        answer = (directory / STDOUT).read_text(encoding="utf-8")
        if f"{jobs} completed" not in answer and answer.count("COMPLETED") != jobs:
            raise Incomplete(f"the answer is not about {jobs} completed jobs: {answer[:80]!r}")
        return {}

    return inspect
