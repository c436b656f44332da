"""How long the launcher waits for an unresponsive process, and how it then kills it.

    one look per second --stopped?--> SIGCONT --still stopped, repeatedly--> kill the whole tree
                        `--running, but silent?--> much later --------------'

The launcher counts looks instead of seconds: while it was stopped itself, or the machine slept, the
other process had no time to respond either.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from hsm.core.local.processes.process_tree import is_stopped, is_zombie, kill_below, send_signal

if TYPE_CHECKING:
    import psutil

#: Seconds between looks at a process that must respond.
LOOK_INTERVAL = 1.0
#: A process found stopped by this many looks, although each continues it, is given up.
_MAX_STOPS = 3
#: Seconds to wait for killed processes; those stuck in the kernel die later.
_UNKILLABLE = 10.0


class Patience:
    """Patience with one process that must respond.

    Args:
        process: a keeper or a fork server.
        looks: the number of looks after which it is given up.
    """

    def __init__(self, process: psutil.Process, looks: int) -> None:
        self._process = process
        self._left = looks
        self._stops = 0

    def look(self) -> bool:
        """Continue the process if it is stopped; return whether to give it up."""
        self._left -= 1
        self._stops += continue_stopped(self._process)
        return self._left <= 0 or self._stops >= _MAX_STOPS or is_zombie(self._process)


def continue_stopped(process: psutil.Process) -> bool:
    """Continue the process if it is stopped; return whether it was."""
    stopped = is_stopped(process)
    if stopped:
        send_signal([process], signal.SIGCONT)
    return stopped


def kill_tree(root: psutil.Process) -> None:
    """Kill a keeper or a fork server and all its descendants."""
    kill_below(root, _UNKILLABLE)
    send_signal([root], signal.SIGKILL)
