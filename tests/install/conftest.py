"""A machine that is new to hsm: an empty home, no environment, and what stands at the address."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.address import address
from helpers.processes import REPOSITORY
from helpers.reader import write_python

#: What tells pip and git how to reach the outside from here.
_REACH = ("PIP_", "SSL_", "http", "HTTP", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy")


@pytest.fixture
def clean_env(tmp_path: Path) -> dict[str, str]:
    """The environment of someone who has just logged in; the address leads to this repository."""
    if shutil.which("git") is None:
        pytest.skip("the README begins with git clone")
    published = tmp_path / "published"
    git = ["git", f"--git-dir={published}/.git", f"--work-tree={REPOSITORY}"]
    name = ["-c", "user.name=tests", "-c", "user.email=tests@example.org"]
    subprocess.run(["git", "init", "--quiet", published], check=True)
    subprocess.run([*git, "add", "--all"], cwd=REPOSITORY, check=True)
    subprocess.run([*git, *name, "commit", "--quiet", "--message", "all"], check=True)
    # Beside the programs of the system there is the Python that is tested, as python3.
    programs = tmp_path / "bin"
    write_python(programs / "python3", getattr(sys, "_base_executable", sys.executable))
    path = [
        folder
        for folder in os.environ["PATH"].split(os.pathsep)
        if not Path(folder).parent.joinpath("pyvenv.cfg").exists()
    ]
    home = tmp_path / "home"
    home.mkdir()
    return {
        **{name: value for name, value in os.environ.items() if name.startswith(_REACH)},
        "HOME": str(home),
        "PATH": os.pathsep.join([str(programs), *path]),
        "LANG": "C.UTF-8",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{published}.insteadOf",
        "GIT_CONFIG_VALUE_0": address(),
    }
