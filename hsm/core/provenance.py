"""What ran: versions, host, command line and the state of the source code.

It goes into a journal's first line. Never the environment: that holds secrets.
"""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

#: Seconds that git may take for one answer; it is asked two at most.
_GIT_PATIENCE = 5.0
#: Bytes of a diff that are kept.
LONGEST_DIFF = 1 << 20


def describe() -> dict[str, Any]:
    """Facts about this process, for the record."""
    from hsm._version import __version__

    facts: dict[str, Any] = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "hsm": __version__,
        "python": platform.python_version(),
        "argv": list(sys.argv),
        "cwd": os.getcwd(),
    }
    hydra = sys.modules.get("hydra")
    if hydra is not None:
        facts["hydra"] = getattr(hydra, "__version__", None)
    git = _git_state(Path.cwd())
    if git is not None:
        facts["git"] = git
    return facts


def uncommitted_changes() -> bytes | None:
    """The diff of the working tree against its commit; None if there is none.

    It is cut at `LONGEST_DIFF` bytes.
    """
    diff = _git("diff", "HEAD", "--no-color", "--no-ext-diff")
    return diff[:LONGEST_DIFF] if diff else None


def _git_state(directory: Path) -> dict[str, Any] | None:
    """Commit, and whether tracked files differ from it; None outside a repository."""
    if not any((parent / ".git").exists() for parent in (directory, *directory.parents)):
        return None
    status = _git("status", "--porcelain=v2", "--branch", "--untracked-files=no")
    if status is None:
        return None
    lines = status.decode(errors="replace").splitlines()
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid")), None)
    return {"commit": commit, "dirty": any(not line.startswith("#") for line in lines)}


def _git(*arguments: str) -> bytes | None:
    try:
        answer = subprocess.run(
            ["git", "--no-optional-locks", *arguments],
            capture_output=True,
            check=True,
            stdin=subprocess.DEVNULL,
            timeout=_GIT_PATIENCE,
        )
    except (OSError, subprocess.SubprocessError):
        return None  # No git, no commit yet, or a repository that is not ours.
    return answer.stdout
