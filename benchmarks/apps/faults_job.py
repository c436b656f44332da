"""The jobs of faults.py: number 1 of them misbehaves.

    python faults_job.py FAULT NUM        as a command

Each notes ``started-NUM`` when it starts and appends its number to the file ``ran`` when its work
is done.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

#: Seconds; far beyond any limit of the benchmark.
_LONG = 1000


def work(fault: str, num: int) -> Any:
    """Do the work of job `num`, or, for number 1, commit the fault."""
    Path(f"started-{num}").touch()
    if fault == "signal":
        subprocess.Popen(["sleep", str(_LONG)])
        time.sleep(_LONG)
    if fault == "half" and num >= 3:
        while not Path("go").exists():
            time.sleep(0.05)
    result = _misbehave(fault) if num == 1 else None
    time.sleep(0.2)
    fd = os.open("ran", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.write(fd, f"{num}\n".encode())
    os.close(fd)
    return num if result is None else result


def _misbehave(fault: str) -> Any:
    if fault == "raises":
        raise ValueError("boom")
    if fault == "exits with 3":
        sys.exit(3)
    if fault == "os._exit(7)":
        os._exit(7)
    if fault == "segmentation fault":
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)
    if fault == "hangs":
        time.sleep(_LONG)
    if fault == "returns a lock":
        return threading.Lock()
    if fault == "leaves a daemon":
        _start_daemon()
    if fault == "fails twice":
        tries = Path("tries")
        count = len(tries.read_text()) if tries.exists() else 0
        tries.write_text("x" * (count + 1))
        if count < 2:
            raise ValueError("not yet")
    return None


def _start_daemon() -> None:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execvp("sleep", ["sleep", str(_LONG)])
        os._exit(0)


if __name__ == "__main__":
    work(sys.argv[1], int(sys.argv[2]))
