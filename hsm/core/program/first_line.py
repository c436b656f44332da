"""What runs a Python script: its first line, if that names another program than hsm's own Python.

    first line                               the script is run by
    #!/usr/bin/env python3                   any Python, so the one that runs hsm
    #!/usr/bin/env -S uv run --script        uv, if the script is executable
    #!/opt/env/bin/python                    that Python, if the script is executable

Where hsm's own Python runs a script although something else was meant, people are told.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

from hsm.core.errors import shown

#: Characters; the kernel reads no more.
_MAX_LINE = 255
#: Where a Python is the system's, which a script names if it does not care which one it gets.
_USUAL_PLACES = ("/usr/bin", "/usr/local/bin", "/bin")
#: The start of the metadata that PEP 723 defines: the packages that a script needs.
_METADATA = re.compile(r"^# /// script\s*$", re.MULTILINE)


def first_line(path: str, python: str) -> tuple[bool, str]:
    """Whether the Python script at `path` is to be run by its own first line, and not by `python`.

    Also why it may surprise people that `python` runs it, as a sentence; "" if there is no reason.
    """
    try:
        source = Path(path).read_bytes().decode("utf-8", "replace")
    except OSError:
        return False, ""
    program = _program(source)
    if program is not None and not _is_any_python(program, python):
        if not os.access(path, os.X_OK):
            why = f"its first line names {shown(program)}, but it is not executable"
        elif shutil.which(program) is None:
            why = f"its first line names {shown(program)}, which is not there"
        else:
            return True, ""
    elif _METADATA.search(source):
        why = "it lists the packages that it needs (PEP 723), which hsm does not install"
    else:
        return False, ""
    return False, f"{path}: {why}: it runs with {python}"


def _program(source: str) -> str | None:
    """The program that the first line of a script names, if it does."""
    line = source[:_MAX_LINE].partition("\n")[0]
    words = line.removeprefix("#!").split()
    if not line.startswith("#!") or not words:
        return None
    if os.path.basename(words[0]) != "env":
        return words[0]
    split = (word.removeprefix("--split-string=").removeprefix("-S") for word in words[1:])
    programs = (word for word in split if word and word[0] != "-" and "=" not in word)
    return next(programs, None)


def _is_any_python(program: str, python: str) -> bool:
    """Whether a program's name means Python, of no version or place other than `python`."""
    folder, name = os.path.split(program)
    version = re.fullmatch(r"python(?:3(?:\.(\d+))?)?", name)
    if version is None or version[1] not in (None, str(sys.version_info.minor)):
        return False
    own = os.path.realpath(os.path.dirname(python))
    return not folder or folder in _USUAL_PLACES or os.path.realpath(folder) == own
