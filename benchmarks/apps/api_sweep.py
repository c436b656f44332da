"""A sweep of commands that end at once through `LocalComputeSource`; checks that nothing is left.

    python api_sweep.py JOBS MAX_PARALLEL_JOBS SWEEP_DIR

Prints what it did as a JSON object. Exit code 1, with a line on stderr for each thing that is
wrong, if a job did not complete or is recorded other than once, or if a thread, a file descriptor
or a child process is left after `close`.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from hsm.core.local import LocalComputeSource
from hsm.core.record.job import JobState
from hsm.core.record.paths import SweepPaths
from hsm.core.record.sweep import read_sweep


def held() -> dict[str, set[str]]:
    """What this process holds now: its threads, open files and children, zombies among them."""
    children: set[str] = set()
    for task in Path("/proc/self/task").iterdir():
        children.update((task / "children").read_text(encoding="ascii").split())
    files = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            files.add(f"{descriptor.name} -> {descriptor.readlink()}")
        except FileNotFoundError:  # the one that lists this directory
            continue
    return {
        "thread": {f"{thread.name} ({thread.ident})" for thread in threading.enumerate()},
        "file descriptor": files,
        "child process": children,
    }


def wrong_records(sweep_dir: Path, jobs: int) -> list[str]:
    """How the journal differs from `jobs` jobs that each started once, ended once and completed."""
    problems = []
    lines = SweepPaths(sweep_dir).journal.read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    for event in ("start", "end"):
        counts = Counter(record["job"] for record in records if record["event"] == event)
        if counts != Counter(range(jobs)):
            wrong = [num for num in range(jobs) if counts[num] != 1]
            problems.append(f"{len(wrong)} jobs without exactly one {event!r} record: {wrong[:5]}")
    sweep = read_sweep(sweep_dir)
    incomplete = [job.num for job in sweep.jobs.values() if job.state is not JobState.COMPLETED]
    if incomplete or len(sweep.jobs) != jobs:
        problems.append(f"{len(sweep.jobs)} jobs in the journal, not completed: {incomplete[:5]}")
    if sweep.closed is None:
        problems.append("the journal was not closed")
    return problems


def main(jobs: int, max_parallel_jobs: int, sweep_dir: Path) -> int:
    """Run the sweep; returns the exit code."""
    before = held()
    started = time.perf_counter()
    with LocalComputeSource(max_parallel_jobs=max_parallel_jobs) as source:
        combinations = [{"num": num} for num in range(jobs)]
        job_ids = source.submit_jobs(combinations, "benchmark", sweep_dir, command=["true"])
        states = source.wait(job_ids)
    seconds = time.perf_counter() - started
    after = held()
    problems = wrong_records(sweep_dir, jobs)
    if Counter(states.values()) != Counter({JobState.COMPLETED: jobs}):
        problems.append(f"wait() returned {dict(Counter(str(state) for state in states.values()))}")
    for kind, names in after.items():
        problems += [f"left over: {kind} {name}" for name in sorted(names - before[kind])]
    print(json.dumps({"jobs": len(states), "source_seconds": seconds}))
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
