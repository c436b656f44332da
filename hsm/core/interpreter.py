"""The Python interpreter that runs this process, for starting it afresh."""

from __future__ import annotations

import os
import subprocess
import sys

#: Why `interpreter` returns None, as the beginning of a clause.
NO_INTERPRETER = "this program, a frozen app or one that embeds Python, has no interpreter"


def interpreter() -> str | None:
    """Return the path of this process's interpreter; None if it has none that could be started.

    PyInstaller and the like make one executable of the interpreter and an app. It is what
    `sys.executable` names, and it starts the app again, whatever its arguments.
    """
    if getattr(sys, "frozen", False) or not os.access(sys.executable or "", os.X_OK):
        return None
    return sys.executable


def interpreter_options() -> list[str]:
    """Return the options that this interpreter was started with: -O, -W and the like."""
    return subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined,no-any-return]
