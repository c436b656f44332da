"""Runs a Python function as a job, in the job's process: call --> report --> exit."""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from hsm.core.program import reporting, reports
from hsm.core.program.isolation import LaunchState, enter_job, leave_job


def call_function(
    function: Callable[[Any], Any],
    argument: bytes | None,
    result: str,
    state: LaunchState,
    tell: Callable[[bytes], bool],
) -> NoReturn:
    """Call `function`, write its report and exit with the matching code.

    Args:
        function: the job.
        argument: its argument, pickled; None to call it with None.
        result: where to write the report.
        state: the state of the launcher's process.
        tell: called with the facts of the report, see `reports.Written`; returns False if they are
            too long for it.
    """
    exit_code = 1
    attempt = int(os.environ["HSM_ATTEMPT"])  # Read it before the job can change it.
    try:
        enter_job(state)
        outcome = _outcome(function, argument)
        exit_code = _exit_code(outcome)
        written = reports.write(result, outcome, attempt)
        if not tell(written.facts) and written.unsaved and not tell(written.short):
            print(f"hsm: its report is lost: {written.unsaved}", file=sys.stderr)
            exit_code = exit_code or 1
    except BaseException:
        traceback.print_exc()
        exit_code = exit_code or 1
    finally:
        leave_job(state, exit_code)


def _outcome(function: Callable[[Any], Any], argument: bytes | None) -> reports.Outcome:
    try:
        returned = function(pickle.loads(argument) if argument is not None else None)
        return returned if isinstance(returned, reports.Outcome) else reports.Outcome(returned)
    except SystemExit as exit_request:
        return reports.Outcome(exit_code=system_exit_code(exit_request))
    except BaseException as error:
        if reporting.is_pruned(error):
            return reports.Outcome(pruned=reports.error_message(error))
        print_error(error)
        return reports.Outcome(error=error)


def system_exit_code(exit_request: SystemExit) -> int:
    """The exit code that the interpreter would use; prints the text of a sys.exit("text")."""
    code = exit_request.code
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1


def print_error(error: BaseException) -> None:
    """Print a job's exception to its stderr."""
    print(reports.format_error(error), end="", file=sys.stderr)


def _exit_code(outcome: reports.Outcome) -> int:
    if outcome.exit_code is not None:
        return outcome.exit_code
    return 0 if outcome.error is None else 1
