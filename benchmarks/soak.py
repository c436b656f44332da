"""One launcher, for a long time, with every kind of job: nothing is left over, nothing grows.

    python benchmarks/soak.py --minutes 30 --json soak.json

Batches of jobs, mixed at random, go through one source: good and chatty ones, some that leave
children and daemons behind, that raise, that are killed, that hang (deaf to SIGTERM, too) and that
take too much memory. Failed ones get a second attempt. After each batch:

    every job has ended in the state that its kind calls for, and the good ones with their value;
    nothing runs but the launcher's own processes;
    descriptors, threads and the memory of the launcher and of its fork server are noted.

At the end nothing is left of any process or temporary file, the journal tells the same as the
source did, and what was noted in the last third of the batches is compared with the second third.
Linux only: processes are found by a mark in their environment.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from _marked import VARIABLE, marked_processes, new_mark
from apps.soak_jobs import KINDS, job
from hsm import LocalComputeSource, read_sweep
from hsm.core.settings.resolve import resolve_local

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


def take_sample(jobs: int, problems: list[str]) -> Sample:
    """Note what is held, and that nothing but the launcher's own processes runs."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        own: list[psutil.Process] = []
        others: list[psutil.Process] = []
        for process in marked_processes(os.environ[VARIABLE]):
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
            points: list[dict[str, Any]]
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


def find_growth(soak: Soak) -> dict[str, float]:
    """How much things have grown."""
    third = max(1, len(soak.samples) // 3)
    # Not the first third: caches and pools fill up at the beginning.
    first, last = soak.samples[third : 2 * third], soak.samples[-third:]
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
    parser.add_argument("--launch", type=Path, help=argparse.SUPPRESS)  # be the launcher, there
    options = parser.parse_args()
    if options.launch is not None:
        launch(options)
        return 0
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        (folder / "tmp").mkdir()
        # A process of its own: a fork shows the environment that its ancestor was started with.
        mark = new_mark()
        places = {"TMPDIR": str(folder / "tmp"), "HSM_STATE_DIR": str(folder / "state")}
        subprocess.run(
            [sys.executable, *sys.argv, "--launch", name],
            env={**os.environ, **places, VARIABLE: mark},
            check=True,
        )
        figures = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
        if left := marked_processes(mark):
            figures["problems"].append(f"left: {[process.name() for process in left]}")
        if left_files := os.listdir(folder / "tmp"):
            figures["problems"].append(f"left in the temporary directory: {left_files}")
    text = json.dumps(figures, indent=2)
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")
    return 1 if figures["problems"] else 0


def launch(options: argparse.Namespace) -> None:
    """Be the launcher; the figures go to a file in the folder."""
    began = time.monotonic()
    soak = run(options, options.launch)
    figures = {
        "minutes": round((time.monotonic() - began) / 60, 1),
        "seed": options.seed,
        "jobs": sum(soak.states.values()),
        "attempts": soak.attempts,
        "states": dict(sorted(soak.states.items())),
        "last_sample": asdict(soak.samples[-1]),
        "grown_from_second_to_last_third": find_growth(soak),
        "problems": soak.problems,
    }
    (options.launch / "figures.json").write_text(json.dumps(figures), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
