"""The least that jobs in processes of their own can cost: what `launchers.py` holds hsm against.

    python floor.py 100 2 sweep     100 jobs, two at a time, in the directory sweep

It has imported what every launcher's process has: Hydra, and its plugins. Each job is a fork that
leads a session, writes the files that a job of `app.py` leaves, with content of the same size, and
exits. The launching process waits for it, and writes two lines to a journal. Nothing is composed,
checked, supervised or recovered.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import NoReturn

from hydra._internal.hydra import Hydra
from hydra.core.plugins import Plugins

#: What a job's files have in them, near enough in size: Hydra's own config, and the report.
HYDRA_YAML = "hydra:\n" + "  key_of_usual_length: and a value\n" * 150
REPORT = b"x" * 4500
LINE = json.dumps({"event": "of a job", "padding": "x" * 180}) + "\n"
LOADED = (Hydra, Plugins.instance())


def run_job(num: int, folder: str, record: str) -> NoReturn:
    """Be job `num`."""
    os.setsid()
    for fd, name in ((1, "out"), (2, "err")):
        log = os.open(f"{folder}/.hsm/logs/{num}.{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, fd)
        os.close(log)
    own = f"{folder}/{num}"
    os.makedirs(f"{own}/.hydra")
    texts = {"config": f"num: {num}\n", "hydra": HYDRA_YAML, "overrides": f"- num={num}\n"}
    for name, text in texts.items():
        Path(f"{own}/.hydra/{name}.yaml").write_text(text, encoding="utf-8")
    Path(f"{own}/app.log").touch()
    for name in ("out", "err"):
        os.symlink(f"../.hsm/logs/{num}.{name}", f"{own}/std{name}.log")
    with open(record, "a", encoding="utf-8") as file:
        job = {"num": num, "pid": os.getpid(), "imports": [], "started": time.time()}
        file.write(json.dumps(job) + "\n")
    Path(f"{folder}/.hsm/results/{num}.pkl").write_bytes(REPORT)
    os._exit(0)


def main(jobs: int, parallel_jobs: int, folder: str) -> None:
    """Run all jobs."""
    for name in ("logs", "results"):
        os.makedirs(f"{folder}/.hsm/{name}")
    gc.freeze()  # collecting garbage would copy the pages that jobs share
    running = 0
    with open(f"{folder}/.hsm/journal.jsonl", "a", buffering=1, encoding="utf-8") as journal:
        for num in range(jobs):
            if running == parallel_jobs:
                os.wait()
                journal.write(LINE)
                running -= 1
            journal.write(LINE)
            if os.fork() == 0:
                run_job(num, folder, os.environ["BENCHMARK_RECORD"])
            running += 1
        for _ in range(running):
            os.wait()
            journal.write(LINE)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
