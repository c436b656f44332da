"""Where a job's warnings say that they come from.

A library that warns names its caller, or that one's caller: `warnings.warn(…, stacklevel=2)`. In a
job this may be the line of hsm that calls the job's function, which tells nobody anything.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any

_OWN_FILES = os.path.dirname(os.path.dirname(os.path.dirname(__file__))) + os.sep
_OWN_MODULES = ("hsm.", "hydra_plugins.hsm_")


def pass_over_hsm() -> None:
    """From now on, show a warning that names a line of hsm as one from where that was called."""
    # What the interpreter calls with a warning that no filter ignores. Not the documented
    # `showwarning`, which is not told of the object that a ResourceWarning is about.
    module: Any = warnings
    show: Callable[[warnings.WarningMessage], None] | None
    if (show := getattr(module, "_showwarnmsg", None)) is None:
        return

    def show_elsewhere(warning: warnings.WarningMessage) -> None:
        if warning.filename.startswith(_OWN_FILES):
            warning.filename, warning.lineno = _caller(warning.filename, warning.lineno)
            warning.line = None
        show(warning)

    module._showwarnmsg = show_elsewhere


def _caller(filename: str, lineno: int) -> tuple[str, int]:
    """Return the place from which the code at this place was called, outside of hsm."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and (frame.f_code.co_filename, frame.f_lineno) != (filename, lineno):
        frame = frame.f_back
    while frame is not None and frame.f_globals.get("__name__", "").startswith(_OWN_MODULES):
        frame = frame.f_back
    if frame is None:
        return "sys", 1  # as the interpreter has it for a stack that is not deep enough
    return frame.f_code.co_filename, frame.f_lineno
