"""From a forked child to a job's process.

This is what happens between the keeper's fork and the job's first line of code, and at its end:

    fork --> own session, signals, environment
                  |--> a command:  exec
                  `--> a function: call it --> report --> exit
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from hsm.core.local import report
from hsm.core.local.isolation import LaunchState, enter_job, leave_job
from hsm.core.local.note import Note
from hsm.core.local.process import die_with_parent
from hsm.core.local.wire import Start

#: What a shell exits with when a command is not there, or is there and cannot be executed.
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126


def become_job(
    start: Start,
    keeper: int,
    state: LaunchState,
    function: Callable[[Any], Any] | None,
    note: Note,
) -> NoReturn:
    """Turn this process, a fresh child of the keeper, into the job that `start` describes.

    What it prints goes to the job's logs already, and it has nothing to read, as the server had.
    """
    try:
        os.setsid()
        die_with_parent(signal.SIGKILL, keeper)
        state.restore_signals()
        os.environ.update(start.env)
        os.chdir(start.cwd)
        if start.command is not None:
            _execute(start.command)
        assert function is not None
        call_function(function, start.argument, start.result, state, note)
    except BaseException:
        # It is hsm that has failed to start the job; people will look into the job's log.
        traceback.print_exc()
    finally:
        os._exit(1)


def _execute(command: tuple[str, ...]) -> NoReturn:
    # The interpreter ignores these two; the programs that it starts should not, as with subprocess.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"hsm: {command[0]}: {error.strerror}\n".encode())
        missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
        os._exit(_NOT_FOUND if missing else _NOT_EXECUTABLE)


def call_function(
    function: Callable[[Any], Any],
    argument: bytes | None,
    result: str,
    state: LaunchState,
    note: Note | None = None,
) -> NoReturn:
    """Call `function`, report how it went and exit accordingly."""
    exit_code = 1
    attempt = int(os.environ["HSM_ATTEMPT"])  # While it is as hsm has set it.
    try:
        enter_job(state)
        outcome = _outcome(function, argument)
        exit_code = _exit_code(outcome)
        facts = report.write(result, outcome, attempt)
        if note is not None:
            note.write(facts)
    except BaseException:
        traceback.print_exc()
        exit_code = exit_code or 1
    finally:
        leave_job(state, exit_code)


def _outcome(function: Callable[[Any], Any], argument: bytes | None) -> report.Outcome:
    try:
        returned = function(pickle.loads(argument) if argument is not None else None)
        return returned if isinstance(returned, report.Outcome) else report.Outcome(returned)
    except SystemExit as exit_request:
        return report.Outcome(exit_code=system_exit_code(exit_request))
    except BaseException as error:
        print_error(error)
        return report.Outcome(error=error)


def system_exit_code(exit_request: SystemExit) -> int:
    """The exit code that the interpreter would end with; prints the text of a sys.exit("text")."""
    code = exit_request.code
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1


def print_error(error: BaseException) -> None:
    """Print a job's exception to its stderr."""
    print(report.format_error(error), end="", file=sys.stderr)


def _exit_code(outcome: report.Outcome) -> int:
    if outcome.exit_code is not None:
        return outcome.exit_code
    return 0 if outcome.error is None else 1
