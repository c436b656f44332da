"""Describes what ran: versions, host, command line and the state of the source code.

This goes into a journal's first line and into each `resume` record. The environment is never
recorded, because it may hold secrets, nor are the values of the setting `env`.
"""

from __future__ import annotations

import os
import shlex
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hsm.core.masked import masked_words
from hsm.core.own_command import own_words
from hsm.core.record.installed import installed_version
from hsm.core.record.repository import Changes, Repository


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
        "python": sys.version.split()[0],  # platform is slow to import
        "argv": masked_words(sys.argv),
        "command": dict(zip(("program", "arguments"), own_words(), strict=True)),
        "cwd": os.getcwd(),
    }
    if (hydra := installed_version("hydra-core")) is not None:
        facts["hydra"] = hydra
    repository, script = _repository(program)
    git = repository.state(script) if repository is not None else None
    if git is not None:
        facts["git"] = git
    return facts


def uncommitted_changes(
    commit: str | None, program: Mapping[str, Any] | None = None
) -> Changes | None:
    """What differs from a commit of the program's repository; None if it has none any more.

    Args:
        commit: as `describe` found it.
        program: as for `describe`.
    """
    repository, _ = _repository(program)
    return None if repository is None else repository.changes(commit)


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
    style = record.get("args_style", "hydra")  # An older hsm knew no other.
    how = "" if style == "hydra" else f" with arguments in the style {style}"
    if command:
        return f"the command {shlex.join(command)}{how}"
    if script:  # Only its name: the interpreter and the directory may have changed since.
        return f"the script {Path(script[-1]).name}{how}"
    text = f"the function {record.get('function')}"
    return f"{text} with {record['config']}" if record.get("config") else text


def _repository(program: Mapping[str, Any] | None) -> tuple[Repository | None, Path | None]:
    """The repository of the script, else of the current directory; and the script, if any."""
    script = _script(program)
    places = [Path.cwd()] if script is None else [script.parent, Path.cwd()]
    return Repository.holding(*places), script


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
