"""What jobs of the contract's tests do; it imports little, since each fresh interpreter does."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

#: Leaves a note of its pid and stays.
STAY = ["sh", "-c", "echo $$ > tmp-{x}; mv tmp-{x} pid-{x}; exec sleep 60"]
#: The same, deaf to SIGTERM.
DEAF = [
    *("sh", "-c"),
    'trap "" TERM; echo $$ > tmp-{x}; mv tmp-{x} pid-{x}; while :; do sleep 0.05; done',
]
#: Fails until the attempt whose number is the parameter x.
FLAKY = [
    "sh",
    "-c",
    'echo "out $HSM_ATTEMPT"; echo "err $HSM_ATTEMPT" >&2; [ $HSM_ATTEMPT -ge {x} ]',
]


def double(params: dict[str, Any]) -> int:
    print("doubling", params["x"])
    return 2 * int(params["x"])


def flaky(params: dict[str, Any]) -> str:
    attempt = int(os.environ["HSM_ATTEMPT"])
    if attempt < params["x"]:
        raise RuntimeError(f"not yet: {attempt}")
    return f"done at {attempt}"


def end_somehow(params: dict[str, Any]) -> None:
    how = params["x"]
    if how == "error":
        raise ValueError("bad luck")
    if how == "signal":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "exit":
        sys.exit(7)
    if how == "no return":
        os._exit(0)


def stay(params: dict[str, Any]) -> None:
    note = Path(f"tmp-{params['x']}")
    note.write_text(str(os.getpid()))
    note.rename(f"pid-{params['x']}")
    time.sleep(60)
