"""The sweep file that a command line names, or that is in a usual place."""

from __future__ import annotations

import os
import sys

from hsm.core.errors import HsmError

#: Sweep files to look for if the command line names none.
SWEEP_FILES = ("conf/sweep.yaml", "sweeps/sweep.yaml")
#: Stands for standard input where a sweep file is named, and its name in messages.
STDIN, STDIN_NAME = "-", "standard input"


def usual_file() -> str:
    """The sweep file in a usual place. Raises HsmError: there is none."""
    for name in SWEEP_FILES:
        if os.path.isfile(name):
            return name
    raise HsmError(
        "nothing to sweep over: give overrides, such as lr=0.1,0.01, or a sweep file with "
        f"--config (there is no {' or '.join(SWEEP_FILES)}; hsm init writes one)"
    )


def read_named(config: str) -> str:
    """Read a sweep file, or standard input for ``-``. Raises HsmError."""
    # PyYAML, which these read files with, is slow to import.
    from hsm.core.space.sweep_file import sweep_file_text
    from hsm.core.space.sweep_text import decoded

    if config != STDIN:
        return sweep_file_text(config)
    if sys.stdin is None:
        raise HsmError("--config -: there is no standard input")
    if sys.stdin.isatty():
        raise HsmError(
            "--config - reads standard input, which is a terminal here: pipe the sweep into it, as "
            "in (echo lr; seq 10) | hsm sweep --config - …"
        )
    try:
        data = sys.stdin.buffer.read()
    except OSError as error:
        raise HsmError(f"--config -: cannot read standard input: {error.strerror}") from error
    if not data.strip():
        raise HsmError("--config -: standard input is empty")
    return decoded(data, STDIN_NAME)
