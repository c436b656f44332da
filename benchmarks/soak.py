"""One launcher, for a long time, with every kind of job: nothing is left over, nothing grows.

    python benchmarks/soak.py --minutes 30 --json soak.json

Batches of jobs, mixed at random, go through one source: good and chatty ones, some that leave
children and daemons behind, that raise, that are killed, that hang (deaf to SIGTERM, too) and that
take too much memory. Failed ones get a second attempt. After each batch:

    every job has ended in the state that its kind calls for, and the good ones with their value;
    nothing runs but the launcher's own processes;
    descriptors, threads and the memory of the launcher and of its fork server are noted.

At the end nothing is left of any process or temporary file, the journal tells the same as the
source did, and what was noted in the last third of the batches is compared with the first third.
Linux only: processes are found by a mark in their environment.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_MARK = "SOAK_MARK"
#: What may be kept for each job that has ended: its record, in memory.
BYTES_PER_JOB = 8000
#: Seconds that processes get to be gone.
_PATIENCE = 5.0


@dataclass(frozen=True)
class Sample:
    """What was held after a batch. Memory is each process's own (USS), in bytes."""

    jobs: int
    fds: int
    threads: int
    launcher_memory: int
    server_memory: int
    processes: int


@dataclass
class Soak:
    """What happened.

    Attributes:
        states: how jobs of each kind ended.
    """

    samples: list[Sample] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    attempts: int = 0
    problems: list[str] = field(default_factory=list)


def marked_processes() -> list[Any]:
    """What this process has started and is still there; no zombies."""
    import psutil

    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(_MARK) == os.environ[_MARK] and process.pid != os.getpid():
                found.append(process)
    return found


def take_sample(jobs: int, problems: list[str]) -> Sample:
    """Note what is held, and that nothing but the launcher's own processes runs."""
    import psutil

    deadline = time.monotonic() + _PATIENCE
    while True:
        own, others = [], []
        for process in marked_processes():
            with suppress(psutil.Error):
                (own if process.name().startswith("hsm-") else others).append(process)
        if not others or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    if others:
        problems.append(f"left behind after {jobs} jobs: {[process.name() for process in others]}")
    server_memory = 0
    for process in own:
        with suppress(psutil.Error):
            if process.name() == "hsm-server":
                server_memory += process.memory_full_info().uss
    me = psutil.Process()
    return Sample(
        jobs,
        me.num_fds(),
        me.num_threads(),
        me.memory_full_info().uss,
        server_memory,
        len(own),
    )


def run(options: argparse.Namespace, folder: Path) -> Soak:
    """Batch after batch until the time is over."""
    from apps.soak_jobs import KINDS, job
    from hsm import LocalComputeSource, read_sweep
    from hsm.core.config import resolve_local

    settings = {
        "max_parallel_jobs": options.parallel_jobs,
        "timeout": 3,
        "kill_grace": 0.5,
        "memory_limit": "250MB",
        "max_retries": 1,
        "retry_delay": 0.2,
        "retry_on": ["failed", "crashed"],
        "start_method": "fork",
    }
    chance, soak, number = random.Random(options.seed), Soak(), 0
    end = time.monotonic() + options.minutes * 60
    with LocalComputeSource.from_conf(resolve_local(settings).conf) as source:
        while time.monotonic() < end:
            kinds = [chance.choice([*KINDS, "good", "good"]) for _ in range(options.batch)]
            points = [{"kind": kind, "number": number + n} for n, kind in enumerate(kinds)]
            number += len(points)
            job_ids = source.submit_jobs(points, "soak", folder / "sweep", function=job)
            states = source.wait(job_ids)
            for point, job_id in zip(points, job_ids, strict=True):
                state, kind = str(states[job_id]), point["kind"]
                soak.states[f"{kind}: {state}"] += 1
                soak.attempts += len(source.job(job_id).attempts)
                if state != KINDS[kind]:
                    how = source.job(job_id).ending()
                    soak.problems.append(f"job {point['number']} ({kind}) is {state}: {how}")
                elif state == "COMPLETED" and source.result(job_id) != point["number"]:
                    soak.problems.append(f"job {point['number']} has another's value")
            soak.samples.append(take_sample(number, soak.problems))
            print(f"{number} jobs: {soak.samples[-1]}", file=sys.stderr, flush=True)
        live = {job.num: str(job.state) for job in source.jobs()}
    sweep = read_sweep(folder / "sweep")
    if sweep.problems or {num: str(job.state) for num, job in sweep.jobs.items()} != live:
        soak.problems.append(f"the journal does not tell what happened: {sweep.problems}")
    return soak


def check_end(soak: Soak, folder: Path) -> dict[str, float]:
    """That nothing is left, and how much things have grown."""
    if left := marked_processes():
        soak.problems.append(f"left at the end: {[process.name() for process in left]}")
    if left_files := os.listdir(folder / "tmp"):
        soak.problems.append(f"left in the temporary directory: {left_files}")
    third = max(1, len(soak.samples) // 3)
    first, last = soak.samples[:third], soak.samples[-third:]
    jobs = statistics.mean(s.jobs for s in last) - statistics.mean(s.jobs for s in first)
    grown = {
        name: statistics.median(getattr(s, name) for s in last)
        - statistics.median(getattr(s, name) for s in first)
        for name in ("fds", "threads", "processes", "launcher_memory", "server_memory")
    }
    for name in ("fds", "threads", "processes"):
        if grown[name] > 0:
            soak.problems.append(f"{name} have grown by {grown[name]:g}")
    for name in ("launcher_memory", "server_memory"):
        grown[f"{name}_per_job"] = round(grown[name] / jobs, 1) if jobs else 0.0
        if grown[f"{name}_per_job"] > BYTES_PER_JOB:
            soak.problems.append(f"{name} grows by {grown[f'{name}_per_job']:g} bytes a job")
    return grown


def main() -> int:
    """Returns 1 if anything was left over, grew, or ended as it should not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30, help="default 30")
    parser.add_argument("--seed", type=int, default=1, help="default 1")
    parser.add_argument("--batch", type=int, default=40, help="jobs of a batch; default 40")
    parser.add_argument("--parallel-jobs", type=int, default=4, help="default 4")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        (folder / "tmp").mkdir()
        # Before anything is started, and before tempfile has looked at it.
        os.environ |= {
            _MARK: uuid.uuid4().hex,
            "TMPDIR": str(folder / "tmp"),
            "HSM_STATE_DIR": str(folder / "state"),
        }
        tempfile.tempdir = None
        soak = run(options, folder)
        grown = check_end(soak, folder)
    figures = {
        "minutes": round((time.monotonic() - began) / 60, 1),
        "seed": options.seed,
        "jobs": sum(soak.states.values()),
        "attempts": soak.attempts,
        "states": dict(sorted(soak.states.items())),
        "last_sample": soak.samples[-1].__dict__,
        "grown_from_first_to_last_third": grown,
        "problems": soak.problems,
    }
    text = json.dumps(figures, indent=2)
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")
    return 1 if soak.problems else 0


if __name__ == "__main__":
    sys.exit(main())
