"""Describes what ran: versions, host, command line and the state of the source code.

This goes into a journal's first line and into each `resume` record. The environment is never
recorded, because it may hold secrets.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

#: Seconds before a git command is given up; there are at most three of them.
_GIT_TIMEOUT = 5.0
#: How many bytes of a diff are kept.
MAX_DIFF = 1 << 20
_CUT = b"\n(cut here: the difference is longer)\n"


def describe(program: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Facts about this process, for the journal.

    Args:
        program: what its jobs run, as `hsm.core.program.program.Program.record` returns it.
    """
    from hsm._version import __version__

    facts: dict[str, Any] = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "hsm": __version__,
        "python": platform.python_version(),
        "argv": list(sys.argv),
        "cwd": os.getcwd(),
    }
    with suppress(importlib.metadata.PackageNotFoundError):
        facts["hydra"] = importlib.metadata.version("hydra-core")
    git = _git_state(program)
    if git is not None:
        facts["git"] = git
    return facts


def uncommitted_changes(program: Mapping[str, Any] | None = None) -> bytes | None:
    """The diff of the working tree against HEAD; None if there is none.

    A diff of more than `MAX_DIFF` bytes is cut there, with a note at its end.
    """
    diff = _git(_repository(program), "diff", "HEAD", "--no-color", "--no-ext-diff")
    if not diff:
        return None
    return diff if len(diff) <= MAX_DIFF else diff[:MAX_DIFF] + _CUT


def recorded_words(record: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
    """The command line that a program's record has under `name`, as words; None if it has none.

    Raises:
        ValueError: it is not a command line.
    """
    words = record.get(name)
    if words is None:
        return None
    is_list = isinstance(words, (list, tuple)) and len(words) > 0
    if not is_list or any(not isinstance(word, str) or "\0" in word for word in words):
        raise ValueError(f"{name} is not a command line")
    return tuple(words)


def describe_program(record: Mapping[str, Any]) -> str:
    """Describe what `Program.record` recorded; the same program gives the same words."""
    try:
        command, script = (recorded_words(record, name) for name in ("command", "script"))
    except ValueError:
        return "something that the journal does not name"
    if command:
        return f"the command {shlex.join(command)}"
    if script:  # Only its name: the interpreter and the directory may have changed since.
        return f"the script {Path(script[-1]).name}"
    text = f"the function {record.get('function')}"
    return f"{text} with {record['config']}" if record.get("config") else text


def _git_state(program: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The commit (None before the first), and whether tracked files differ from it.

    Also whether git tracks the script, if that lies in the repository. None without git, or outside
    a repository.
    """
    directory = _repository(program)
    status = _git(directory, "status", "--porcelain=v2", "--branch", "--untracked-files=no")
    if status is None:
        return None
    lines = status.decode(errors="replace").splitlines()
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid")), None)
    state: dict[str, Any] = {
        "commit": None if commit == "(initial)" else commit,
        "dirty": any(not line.startswith("#") for line in lines),
    }
    script = _script(program)
    if script is not None and directory is not None and directory in script.parents:
        found = _git(directory, "ls-files", "--error-unmatch", "--", str(script))
        state["script_is_tracked"] = found is not None
    return state


def _repository(program: Mapping[str, Any] | None) -> Path | None:
    """The root of the script's repository, else of the current directory's; None if neither."""
    script = _script(program)
    for place in ([script.parent] if script is not None else []) + [Path.cwd()]:
        for directory in (place, *place.parents):
            if os.path.exists(directory / ".git"):  # Also False without permission to look.
                return directory
    return None


def _script(program: Mapping[str, Any] | None) -> Path | None:
    """The sweep's script; if it sweeps functions, this process's script; None for commands."""
    if program is not None and program.get("script"):
        return Path(program["script"][-1]).resolve()
    if program is not None and program.get("command"):
        return None
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    if not file or not os.path.exists(file):
        return None
    path = Path(file).resolve()
    # An installed program (pytest, a notebook's kernel) runs the user's code but is not part of it.
    return None if Path(sys.prefix).resolve() in path.parents else path


def _git(directory: Path | None, *arguments: str) -> bytes | None:
    """The output of a git command; None if it fails, or if there is no repository."""
    if directory is None:
        return None
    try:
        answer = subprocess.run(
            ["git", "--no-optional-locks", *arguments],
            cwd=directory,
            capture_output=True,
            check=True,
            stdin=subprocess.DEVNULL,
            timeout=_GIT_TIMEOUT,
        )
    except (OSError, subprocess.SubprocessError):
        return None  # No git, no commit yet, or a repository owned by another user.
    return answer.stdout
