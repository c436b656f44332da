"""Starting a command as a process of its own, without copying the process that starts it.

A keeper's memory is shared page by page with every fork of it. `posix_spawn` shares all of it until
the program is executed, and takes a tenth of the time of a fork, or of `subprocess.Popen`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress

from hsm.core.engine.obstacles import may_pass
from hsm.core.program.isolation import NO_ENDS

#: Errors of a place along PATH that does not have the program.
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR)


class CommandStarter:
    """Starts the commands of one keeper, in the keeper's working directory.

    Args:
        stdout, stderr: descriptors that become the commands' stdout and stderr.
    """

    def __init__(self, stdout: int, stderr: int) -> None:
        self._streams = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0),
            (os.POSIX_SPAWN_DUP2, stdout, 1),
            (os.POSIX_SPAWN_DUP2, stderr, 2),
        ]
        self._environment: dict[str, str] = {}  # this process's, which never changes
        self._asked: tuple[str, str, str] | None = None  # the program, PATH, and where
        self._found = ""  # where that program was found

    def start(self, command: tuple[str, ...], env: Mapping[str, str], cwd: str) -> int | None:
        """Start a command; return its pid.

        Such a process leads a process group, and has no parent-death signal. A program without a
        slash is sought along PATH once, and again when it is no longer where it was found.

        Args:
            command: its words.
            env: variables to set on top of this process's environment.
            cwd: this process's working directory.

        Returns:
            None if the program cannot be executed.

        Raises:
            OSError: there can be no other process now.
        """
        if not self._environment:
            _close_at_exec()
            self._environment = dict(os.environ)
        environment = {**self._environment, **env}
        program = command[0]
        if os.path.dirname(program):
            return self._first([program], command, environment)
        asked = program, env.get("PATH", ""), cwd
        if self._asked == asked:
            with suppress(OSError):  # it was removed, or it is replaced now
                return self._spawn(self._found, command, environment)
        folders = os.get_exec_path(os.environ | env)
        places = [os.path.join(folder, program) for folder in folders]
        self._asked = None
        pid = self._first(places, command, environment)
        if pid is not None:
            self._asked = asked
        return pid

    def _first(
        self,
        places: Sequence[str],
        command: tuple[str, ...],
        environment: Mapping[str, str],
    ) -> int | None:
        """Start the first program that can be executed. As `start` does, in the way of a shell."""
        first: OSError | None = None
        for place in places:
            try:
                os.lstat(place)  # far quicker than a process that does not find it
                pid = self._spawn(place, command, environment)
            except OSError as error:
                if error.errno not in _NOT_THERE:
                    first = first or error
            else:
                self._found = place
                return pid
        if first is not None and may_pass(first):
            raise first
        return None

    def _spawn(self, program: str, command: tuple[str, ...], environment: Mapping[str, str]) -> int:
        # Python ignores these signals; the programs that it executes should not (as in subprocess).
        return os.posix_spawn(
            program,
            command,
            environment,
            file_actions=self._streams,
            setpgroup=0,
            setsigdef=NO_ENDS,
        )


def _close_at_exec() -> None:
    """Have programs inherit no descriptors of this process but the standard streams.

    The launcher of a frozen app, of which this process is a fork then, may have inherited some.
    """
    with suppress(OSError):  # there is no such list: what hsm itself opens is closed anyway
        for name in os.listdir("/dev/fd"):
            if int(name) > 2:
                with suppress(OSError):  # the list's own
                    os.set_inheritable(int(name), False)
