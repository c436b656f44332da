"""Environments for contenders that cannot be installed beside each other.

made(folder, name, requirements) --python -m venv, pip--> folder/name/bin/python
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]

_VERSIONS = """
import importlib.metadata, json, platform, sys
found = {name.metadata["Name"].lower(): name.version for name in importlib.metadata.distributions()}
print(json.dumps({"python": platform.python_version(), **{n: found.get(n) for n in sys.argv[1:]}}))
"""


def made(folder: Path, name: str, requirements: Sequence[str]) -> Path | None:
    """The Python of an environment with hsm, as it is in this repository, and the requirements.

    Args:
        folder: where environments are. One that is there already is taken as it is.
        name: the environment's.
        requirements: what pip installs besides hsm; pre-releases only where a requirement is one.

    Returns None, and says so on stderr, if it could not be made.
    """
    environment = folder / name
    python = environment / "bin" / "python"
    if python.exists():
        return python
    print(f"making {environment} ...", file=sys.stderr, flush=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    try:
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        subprocess.run([*pip, str(REPOSITORY), *requirements], check=True)
    except subprocess.CalledProcessError as error:
        print(f"left out: {name}: {error}", file=sys.stderr, flush=True)
        return None
    return python


def installed(python: Path, distributions: Sequence[str]) -> dict[str, str | None]:
    """Versions of Python and of the named distributions there; None for what is not installed."""
    done = subprocess.run(
        [str(python), "-c", _VERSIONS, *distributions], check=True, capture_output=True, text=True
    )
    found: dict[str, str | None] = json.loads(done.stdout)
    return found
