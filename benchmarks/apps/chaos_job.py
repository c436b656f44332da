"""The jobs of chaos.py: what one point does, as a function, as a command and under Hydra.

    python chaos_job.py X                 a command: exits with 1 where the function raises
    python chaos_job.py --sweep N         a sweep of N points through the API, new or resumed
    python chaos_job.py --sweep N --command   the same, with commands

Each attempt leaves ``start X`` in the side file, and ``done X`` once its work is done; in between
it has a child and a daemon, which never end by themselves. Of each line that it has printed it
leaves ``said X`` there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

SIDE = "side"
#: Points with this remainder of 7 raise, always.
FAILING = 3


def value_of(x: int) -> int:
    """What point `x` gives; for one that fails, what it would have given."""
    return x * x + 1


def fails(x: int) -> bool:
    """Whether point `x` raises."""
    return x % 7 == FAILING


def work(x: int) -> int:
    """Do what point `x` does."""
    note(f"start {x}")
    say(x)
    subprocess.Popen(["sleep", "1000"])
    _start_daemon()
    time.sleep(0.1 + 0.05 * (x % 5))
    if fails(x):
        raise ValueError(f"point {x} fails")
    say(x)
    note(f"done {x}")
    return value_of(x)


def said(x: int) -> str:
    """The line that point `x` prints, at its beginning and at its end."""
    return f"this is point {x}"


def say(x: int) -> None:
    """Print that line, in one write."""
    os.write(1, f"{said(x)}\n".encode())
    note(f"said {x}")


def note(text: str) -> None:
    """Append a line to the side file, in one write."""
    fd = os.open(os.environ["CHAOS_SIDE"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.write(fd, f"{text}\n".encode())
    os.close(fd)


def _start_daemon() -> None:
    """As daemons are started: in a session of its own, and without a parent."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execvp("sleep", ["sleep", "1000"])
        os._exit(0)


def job(params: dict[str, Any]) -> int:
    """One point of a sweep through the API."""
    return work(params["x"])


def sweep(count: int, *, commands: bool) -> None:
    """Run the sweep in ./sweep, or go on with it."""
    from hsm import LocalComputeSource
    from hsm.core.settings.resolve import resolve_local

    settings = {"max_parallel_jobs": 3, "kill_grace": 1.0, "resume": True, "timeout": 8.0}
    program: dict[str, Any] = {"function": job}
    if commands:
        program = {"command": [sys.executable, __file__, "{x}"]}
    with LocalComputeSource.from_conf(resolve_local(settings).conf) as source:
        source.submit_jobs([{"x": x} for x in range(count)], "chaos", "sweep", **program)
        source.wait()


if __name__ == "__main__":
    if sys.argv[1] == "--sweep":
        sweep(int(sys.argv[2]), commands="--command" in sys.argv)
    else:
        work(int(sys.argv[1]))
