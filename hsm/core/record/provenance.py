"""What ran: versions, host, command line and the state of the source code.

It goes into a journal's first line, and into that of every resume. Never the environment: that
holds secrets.
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

#: Seconds that git may take for one answer; it is asked three times at most.
_GIT_TIMEOUT = 5.0
#: Bytes of a diff that are kept.
MAX_DIFF = 1 << 20
_CUT = b"\n(cut here: the difference is longer)\n"


def describe(program: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Facts about this process, for the record.

    Args:
        program: what its jobs run, as `hsm.core.program.program.Program.record` tells it.
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
    """The diff of the working tree against its commit; None if there is none.

    It is cut after `MAX_DIFF` bytes, and then says so.
    """
    diff = _git(_repository(program), "diff", "HEAD", "--no-color", "--no-ext-diff")
    if not diff:
        return None
    return diff if len(diff) <= MAX_DIFF else diff[:MAX_DIFF] + _CUT


def recorded_words(record: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
    """What a program's record has under `name`: the words of a command line, None for none.

    Raises:
        ValueError: it is no command line.
    """
    words = record.get(name)
    if words is None:
        return None
    is_list = isinstance(words, (list, tuple)) and len(words) > 0
    if not is_list or any(not isinstance(word, str) or "\0" in word for word in words):
        raise ValueError(f"{name} is no command line")
    return tuple(words)


def describe_program(record: Mapping[str, Any]) -> str:
    """What `Program.record` has recorded, in words that stay the same for the same program."""
    try:
        command, script = (recorded_words(record, name) for name in ("command", "script"))
    except ValueError:
        return "something that the journal does not tell"
    if command:
        return f"the command {shlex.join(command)}"
    if script:  # Its interpreter and its place may be others by now.
        return f"the script {Path(script[-1]).name}"
    text = f"the function {record.get('function')}"
    return f"{text} with {record['config']}" if record.get("config") else text


def _git_state(program: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Commit (None before the first), whether tracked files differ, whether the script is one.

    None without git, or outside a repository.
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
    """The top of the repository that the script is in, else of that of the current directory."""
    script = _script(program)
    for place in ([script.parent] if script is not None else []) + [Path.cwd()]:
        for directory in (place, *place.parents):
            if os.path.exists(directory / ".git"):  # False, too, where nobody lets us look.
                return directory
    return None


def _script(program: Mapping[str, Any] | None) -> Path | None:
    """The file of what runs: the script of a sweep, or of this process if it sweeps functions."""
    if program is not None and program.get("script"):
        return Path(program["script"][-1]).resolve()
    if program is not None and program.get("command"):
        return None
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    if not file or not os.path.exists(file):
        return None
    path = Path(file).resolve()
    # A program that is installed (pytest, a notebook's kernel) runs the user's code, and is none.
    return None if Path(sys.prefix).resolve() in path.parents else path


def _git(directory: Path | None, *arguments: str) -> bytes | None:
    """What git answers; None if it cannot, or if there is no repository to ask of."""
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
        return None  # No git, no commit yet, or a repository that is not ours.
    return answer.stdout
