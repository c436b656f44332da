"""Turning a forked child of the keeper into a job.

fork --> own process group, signals, environment
              |--> a command:  exec
              |--> a function: call it, see `hsm.core.program.call`
              `--> a warm script: leave all calls of hsm's, and go on with it
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from hsm.core.engine.backend import Launch
from hsm.core.local.processes.loaded_pools import LoadedPools
from hsm.core.local.processes.note import Note
from hsm.core.local.processes.process_tree import die_with_parent
from hsm.core.program.isolation import NO_ENDS, LaunchState

if TYPE_CHECKING:
    from types import TracebackType

#: Calls a function, given its argument, the path of its report, the launcher's state, and what
#: takes the report to the keeper. The server of commands imports nothing that does so.
CallFunction: TypeAlias = Callable[
    [bytes | None, str, LaunchState, Callable[[bytes], bool]], NoReturn
]

#: A shell's exit codes for a command that does not exist, or cannot be executed.
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126


class ScriptBegins(BaseException):
    """Raised in a job that is to go on with the script which the server has begun to run.

    Args:
        argument: the argument of its `Launch`.
    """

    def __init__(self, argument: bytes | None) -> None:
        super().__init__(argument)
        self.argument = argument


class EndsProcess:
    """Ends this process if an error leaves a `with` block, unless a script's job goes on there."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, ScriptBegins):
            return
        try:
            # A bug in hsm. Print it where the user will look: to its log, if this is a job. As the
            # interpreter does, since `traceback` takes a server long to import.
            if kind is not None and error is not None:
                sys.__excepthook__(kind, error, trace)
        finally:
            os._exit(1)


def become_job(
    launch: Launch,
    keeper: int,
    state: LaunchState,
    call: CallFunction | None,
    note: Note,
    pools: LoadedPools,
) -> NoReturn:
    """Turn this process, a new child of the keeper, into the job that `launch` describes.

    Its stdout and stderr are already the job's logs, and its stdin is /dev/null, like the server's.

    Raises:
        ScriptBegins: the job is a warm script's.
    """
    with EndsProcess():
        os.setpgrp()
        die_with_parent(signal.SIGKILL, keeper)
        state.restore_signals()
        os.environ.update(launch.env)
        os.chdir(launch.cwd)
        if launch.command is not None:
            _execute(launch.command)
        if pools.are_any:
            pools.bound_job(launch.env)
        if call is None:
            raise ScriptBegins(launch.argument)
        call(launch.argument, launch.result, state, note.write)


def _execute(command: tuple[str, ...]) -> NoReturn:
    # Python ignores these signals; the programs that it executes should not (as in subprocess).
    for number in NO_ENDS:
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"hsm: {command[0]}: {error.strerror}\n".encode())
        missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
        os._exit(_NOT_FOUND if missing else _NOT_EXECUTABLE)
