"""What the tests of the look before a fork share: scripts that open something, and what is seen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

from helpers.processes import PATIENCE, Finished

_BEGIN = """\
import json
from hsm.core.local.fork_safety.start_method import look
seen = {}
def see(kind):
    seen[kind] = [[finding.text, finding.is_harmful] for finding in look()]
see("nothing")
"""
Seen = dict[str, list[tuple[str, bool]]]


def look_in(script: str, folder: Path, **options: str) -> Seen:
    """Run a script in an interpreter of its own; it calls ``see("what it has now")``.

    Returns what speaks against a fork, each time: a clause, and whether it is known to do harm.
    """
    path = folder / "look.py"
    path.write_text(_BEGIN + dedent(script) + "\nprint(json.dumps(seen), flush=True)\n")
    done = subprocess.run(
        [sys.executable, str(path)],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        check=False,
        **options,  # type: ignore[call-overload]
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen.pop("nothing") == []
    return {kind: [(text, harm) for text, harm in found] for kind, found in seen.items()}


def start_methods(done: Finished) -> list[str]:
    """Of the servers that a sweep has started, as its journal tells."""
    return [server["start_method"] for server in done.sweep.servers]
