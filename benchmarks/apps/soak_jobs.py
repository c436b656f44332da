"""The jobs of soak.py: good, failing, hanging, forking and hungry ones."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import Any

#: The state that each kind of job has to end in; the limits that see to it are in soak.py.
KINDS = {
    "good": "COMPLETED",
    "chatty": "COMPLETED",
    "forking": "COMPLETED",
    "failing": "FAILED",
    "crashing": "FAILED",
    "hanging": "TIMEOUT",
    "deaf": "TIMEOUT",
    "hungry": "OUT_OF_MEMORY",
}


def job(params: dict[str, Any]) -> int:
    """Do what `params["kind"]` says; the value of those that complete is their number."""
    kind, number = params["kind"], params["number"]
    if kind == "chatty":
        for line in range(2000):
            print(f"job {number}, line {line}: nothing much happens here")
    elif kind == "forking":
        _leave_processes_behind()
    elif kind == "failing":
        raise ValueError(f"job {number} fails")
    elif kind == "crashing":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "hungry":
        ballast = [b"x" * 1_000_000 for _ in range(400)]
        time.sleep(60 + len(ballast))
    elif kind in ("hanging", "deaf"):
        if kind == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        subprocess.Popen(["sleep", "1000"])
        time.sleep(1000)
    time.sleep(0.05)
    return int(number)


def _leave_processes_behind() -> None:
    """Some children, and a daemon: a session of its own, no parent, deaf to SIGTERM and SIGHUP."""
    for _ in range(3):
        subprocess.Popen(["sleep", "1000"])
    if os.fork() == 0:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if os.fork() == 0:
            time.sleep(1000)
        os._exit(0)
