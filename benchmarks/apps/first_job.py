"""Runs a command until its first job has started, and prints after how many seconds that was.

    python first_job.py RECORD COMMAND …

The job writes a line with the time of its start to RECORD. The command then gets SIGINT, and what
is left of it after a while SIGKILL.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

_LOOK, _GRACE = 0.02, 30.0


def main(record: Path, command: list[str]) -> int:
    """Run it; returns 1 if no job started."""
    began = time.time()
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    first = ""
    while not first.endswith("\n") and process.poll() is None:
        time.sleep(_LOOK)
        with suppress(FileNotFoundError), record.open(encoding="utf-8") as file:
            first = file.readline()
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if not first.endswith("\n"):
        return 1
    print(json.dumps({"first_job": json.loads(first)["started"] - began}))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
