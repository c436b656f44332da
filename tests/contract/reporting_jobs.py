"""Jobs that report how they are doing; like `contract_jobs`."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

import hsm

#: Leaves a note of its pid, reports three losses, a line each, and stays.
SHELL = [
    *("sh", "-c"),
    "echo $$ > tmp-{x}; mv tmp-{x} pid-{x}; "
    'for step in 0 1 2; do echo "{{\\"step\\": $step, \\"loss\\": {x}}}" >> "$HSM_METRICS"; done; '
    "exec sleep 60",
]
#: Asks whether to go on, and ends as the parameter x says.
SCRIPT = """\
import sys, hsm
for step in range(1000):
    hsm.report(float(step), step=step)
    if hsm.should_prune():
        if sys.argv[1] == "x=raise":
            raise hsm.Pruned("too slow")
        sys.exit(int(sys.argv[1].removeprefix("x=")))
"""


class OwnPruned(hsm.Pruned):
    pass


def ask(params: dict[str, Any]) -> float:
    """Go on until it is told to end; then end as the parameter x says."""
    for step in range(1000):
        hsm.report(float(step), step=step)
        if hsm.should_prune():
            return end_as(params["x"])
    raise AssertionError("nobody prunes it")


def end_as(how: str) -> float:
    if how == "raise":
        raise hsm.Pruned("told so")
    if how == "raise Optuna's":
        raise type("TrialPruned", (Exception,), {"__module__": "optuna.exceptions"})
    if how == "fail":
        raise RuntimeError("it is over")
    if how == "exit":
        sys.exit(3)
    if how == "exit at once":
        os._exit(4)
    if how == "signal":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "stay":
        time.sleep(60)
    return 7.0


def prune_itself(params: dict[str, Any]) -> None:
    hsm.report(step=3, loss=0.25)
    if params["x"] == "own":
        raise OwnPruned
    raise hsm.Pruned(params["x"])


def three_steps(params: dict[str, Any]) -> float:
    for step in range(3):
        hsm.report(step=step, loss=params["x"] + step)
    hsm.log(parameters=12)
    return 0.5


def fail_once(params: dict[str, Any]) -> str:
    attempt = int(os.environ["HSM_ATTEMPT"])
    for step in range(2):
        hsm.report(step=step, loss=10 * attempt + step)
    if attempt == 1:
        raise RuntimeError("once")
    return "done"


def report_in_children(params: dict[str, Any]) -> None:
    children = []
    for rank in range(3):
        pid = os.fork()
        if pid == 0:
            for step in range(50):
                hsm.report(step=step, **{f"rank{rank}": step})
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    hsm.log(pid=os.getpid())


def spoil(params: dict[str, Any]) -> str:
    """Put something else in the place of what the job reports."""
    path = os.environ["HSM_METRICS"]
    hsm.report(1)
    os.unlink(path)
    if params["x"] == "pipe":
        os.mkfifo(path)
    elif params["x"] == "link":
        os.symlink("/etc/passwd", path)
    elif params["x"] == "folder":
        os.mkdir(path)
    elif params["x"] == "hole":
        with open(path, "wb") as file:
            file.truncate(1 << 40)
    hsm.report(2)
    hsm.should_prune()
    return "done"


def ask_slowly(params: dict[str, Any]) -> None:
    for step in range(10_000):
        hsm.report(float(step), step=step)
        if hsm.should_prune():
            return
        time.sleep(0.02)


def sweep_inside(params: dict[str, Any]) -> list[Any]:
    """Run a sweep that has no pruner, in a job of one that has; report in both."""
    hsm.report(1.0)
    with hsm.LocalComputeSource(1) as source:
        [job_id] = source.submit_jobs([{"x": 5}], "inner", "inner", function=report_once)
        result = source.result(job_id)
    hsm.report(2.0)
    return [result, hsm.should_prune()]


def report_once(params: dict[str, Any]) -> bool:
    hsm.report(params["x"])
    return hsm.should_prune()
