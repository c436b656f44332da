"""Turning a forked child of the keeper into a job.

fork --> own process group, signals, environment
              |--> a command:  exec
              `--> a function: call it, see `hsm.core.program.call`
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from hsm.core.engine.backend import Launch
from hsm.core.local.processes.note import Note
from hsm.core.local.processes.process_tree import die_with_parent
from hsm.core.program.call import call_function
from hsm.core.program.isolation import NO_ENDS, LaunchState

#: A shell's exit codes for a command that does not exist, or cannot be executed.
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126


def become_job(
    launch: Launch,
    keeper: int,
    state: LaunchState,
    function: Callable[[Any], Any] | None,
    note: Note,
) -> NoReturn:
    """Turn this process, a new child of the keeper, into the job that `launch` describes.

    Its stdout and stderr are already the job's logs, and its stdin is /dev/null, like the server's.
    """
    try:
        os.setpgrp()
        die_with_parent(signal.SIGKILL, keeper)
        state.restore_signals()
        os.environ.update(launch.env)
        os.chdir(launch.cwd)
        if launch.command is not None:
            _execute(launch.command)
        assert function is not None
        call_function(function, launch.argument, launch.result, state, note.write)
    except BaseException:
        # A bug in hsm. Print it to the job's log, where the user will look.
        traceback.print_exc()
    finally:
        os._exit(1)


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
