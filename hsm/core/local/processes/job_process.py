"""From a forked child to a job's process.

This is what happens between the keeper's fork and the job's first line of code:

    fork --> own session, signals, environment
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

#: What a shell exits with when a command is not there, or is there and cannot be executed.
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126


def become_job(
    launch: Launch,
    keeper: int,
    state: LaunchState,
    function: Callable[[Any], Any] | None,
    note: Note,
) -> NoReturn:
    """Turn this process, a fresh child of the keeper, into the job that `launch` describes.

    What it prints goes to the job's logs already, and it has nothing to read, as the server had.
    """
    try:
        os.setsid()
        die_with_parent(signal.SIGKILL, keeper)
        state.restore_signals()
        os.environ.update(launch.env)
        os.chdir(launch.cwd)
        if launch.command is not None:
            _execute(launch.command)
        assert function is not None
        call_function(function, launch.argument, launch.result, state, note.write)
    except BaseException:
        # It is hsm that has failed to start the job; people will look into the job's log.
        traceback.print_exc()
    finally:
        os._exit(1)


def _execute(command: tuple[str, ...]) -> NoReturn:
    # The interpreter ignores them; the programs that it starts should not, as with subprocess.
    for number in NO_ENDS:
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"hsm: {command[0]}: {error.strerror}\n".encode())
        missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
        os._exit(_NOT_FOUND if missing else _NOT_EXECUTABLE)
