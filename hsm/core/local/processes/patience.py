"""How long the launcher waits for a process that must act and does not, and how it then ends it.

    a look each second --stands still?--> SIGCONT --again and again--> killed, with all below
                       `--runs, and does nothing?--> much later ----'

Looks are counted, not seconds: where the launcher itself was stopped for a while, or the whole
machine slept, the others have had no time to act either.
"""

from __future__ import annotations

import signal

import psutil

from hsm.core.local.processes.process_tree import is_stopped, is_zombie, kill_below, send_signal

#: Seconds between looks at a process that must act.
LOOK_INTERVAL = 1.0
#: A process that so many looks find standing still, though each continues it, is given up.
_MAX_STOPS = 3
#: Seconds in which what is killed has to be gone. What is stuck in the kernel goes later.
_UNKILLABLE = 10.0


class Patience:
    """With one process, a keeper or a fork server.

    Args:
        process: it.
        looks: so many may find it running and doing nothing.
    """

    def __init__(self, process: psutil.Process, looks: int) -> None:
        self._process = process
        self._left = looks
        self._stops = 0

    def look(self) -> bool:
        """Continue the process if it stands still. Whether it is to be given up."""
        self._left -= 1
        self._stops += continue_stopped(self._process)
        return self._left <= 0 or self._stops >= _MAX_STOPS or is_zombie(self._process)


def continue_stopped(process: psutil.Process) -> bool:
    """Continue a process that stands still; whether it did."""
    stopped = is_stopped(process)
    if stopped:
        send_signal([process], signal.SIGCONT)
    return stopped


def kill_tree(root: psutil.Process) -> None:
    """Kill a keeper or a fork server, and all that is below it."""
    kill_below(root, _UNKILLABLE)
    send_signal([root], signal.SIGKILL)
