"""A program that ends with this process, however that ends: the command of on_sweep_end.

    this process --starts--> sh --exec--> the program, which leads a session and a process group
          `--------socket------> guard: an orphan in that group; at the socket's end it kills all

Nobody can handle SIGKILL, but the kernel closes the sockets of whoever gets it. The guard belongs
to the group from the start, so there is no moment without it, and no group that it might mistake.
What leaves the group, as a daemon does with setsid, is meant to stay, and does.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from hsm.core.at_fork import in_child
from hsm.core.engine.interrupts import Interrupts
from hsm.core.own_sockets import own_pair

#: Seconds between two checks whether the program has ended.
_INTERVAL = 0.05
_NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)  # no SIGPIPE; macOS has no such flag
#: Becomes the program, with the guard's end of the socket as stdin. The guard is nobody's child, so
#: the program never meets it in a wait(). A line ends it; without one, the socket has ended.
_GUARDED = """\
( (trap "" HUP INT TERM; read _ || kill -9 0) <&3 >/dev/null 2>&1 & ) 3<&0
exec "$@" </dev/null"""


class GuardedProgram:
    """Runs a program in a session of its own.

    Args:
        command: program and arguments.
        env: its environment.
        stdout: a descriptor; None for this process's stdout.

    Attributes:
        returncode: as `subprocess` gives it, once the program has ended.

    Raises:
        OSError: the program cannot be started.
    """

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str], stdout: int | None = None
    ) -> None:
        _check(command[0])
        self._line, theirs = own_pair()
        in_child(self, GuardedProgram._close)  # A forked process must not outlive it with a copy.
        try:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _GUARDED, "sh", *command],
                env=env,
                stdin=theirs.fileno(),
                stdout=stdout,
                start_new_session=True,
            )
        except BaseException:
            self._close()
            raise
        finally:
            theirs.close()

    @property
    def returncode(self) -> int:
        code = self._process.returncode
        assert code is not None
        return code

    def wait(self, interrupts: Interrupts, grace: float) -> int | None:
        """Wait for the program; a signal to this process ends it. Returns the first signal.

        The first signal sends SIGTERM to all of the program's processes; a second signal, or the
        end of `grace`, sends SIGKILL.

        Args:
            interrupts: has caught signals since before the program started, so none is missed.
            grace: seconds between SIGTERM and SIGKILL.
        """
        first: int | None = None
        kill_at = math.inf
        try:
            while not self._has_ended() or (first is not None and self._has_left_processes()):
                event = interrupts.within(_INTERVAL)
                if event is not None and first is None:
                    first, kill_at = event.signum, time.monotonic() + grace
                    self._signal(signal.SIGTERM)
                    self._signal(signal.SIGCONT)  # A stopped process could not act on SIGTERM.
                elif event is not None or time.monotonic() >= kill_at:
                    self._signal(signal.SIGKILL)
        except BaseException:
            self._signal(signal.SIGKILL)
            self._process.wait()
            raise
        finally:
            self._close()
        return first

    def _has_ended(self) -> bool:
        """Whether the program has ended; then its guard ends, too."""
        if self._process.poll() is None:
            return False
        with suppress(OSError):  # The guard has gone.
            self._line.send(b"\n", _NO_SIGNAL)
        return True

    def _has_left_processes(self) -> bool:
        """Whether a process of its group lives; zombies, which await only their parent, do not."""
        import psutil

        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                in_group = os.getpgid(process.pid) == self._process.pid
                if in_group and process.status() != psutil.STATUS_ZOMBIE:
                    return True
        return False

    def _signal(self, signum: signal.Signals) -> None:
        """Signal whatever is left of the process group."""
        with suppress(ProcessLookupError, PermissionError):  # macOS refuses where all are zombies
            os.killpg(self._process.pid, signum)

    def _close(self) -> None:
        self._line.close()


def _check(name: str) -> None:
    """Raise OSError if there is no such program: the shell would say it in its own way."""
    if shutil.which(name) is None:
        number = errno.EACCES if os.sep in name and os.path.exists(name) else errno.ENOENT
        raise OSError(number, os.strerror(number), name)
