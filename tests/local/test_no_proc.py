"""A machine without /proc, or with that of another one, as in a chroot or a container half made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.cli import Project
from helpers.processes import PATIENCE, child_environment
from helpers.reliability import points, source
from hsm.core.errors import HsmError

SENTENCE = "hsm cannot run jobs without /proc: mount it (mount -t proc proc /proc)"

_APP = """
import hydra

@hydra.main(version_base=None, config_path=None)
def main(cfg):
    return cfg.x

if __name__ == "__main__":
    main()
"""
_MANAGER = """
from hsm import HsmError, LocalManager

try:
    LocalManager().run([{"x": 1}], command=["true"], sweep_dir="other")
except HsmError as error:
    print(error)
"""
_SWEEP = ("-m", "hsm.cli.main", "sweep", "--sweep-id", "other", "x=1", "--", "true")


def run_without_proc(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python where nothing is in /proc; skips the test where that cannot be had."""
    script = 'mount -t tmpfs tmpfs /proc || exit 99; exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, *words],
        cwd=folder,
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    if done.returncode in (99, 1) and ("mount:" in done.stderr or "unshare:" in done.stderr):
        pytest.skip(f"no /proc can be taken away here: {done.stderr.strip()}")
    return done


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        _SWEEP,
        (*_SWEEP[:3], "--detach", *_SWEEP[3:]),
        ("-m", "hsm.cli.main", "sweep", "--resume", "s"),
        ("app.py", "-m", "hydra/launcher=hsm_local", "x=1,2", "hydra.sweep.dir=outputs/other"),
        ("manager.py",),
    ],
)
def test_every_door_says_in_a_sentence_what_is_missing(
    project: Project, words: tuple[str, ...]
) -> None:
    project.hsm("sweep", "--sweep-id", "s", "x=1", "--", "false", code=1)
    project.write("app.py", _APP)
    project.write("manager.py", _MANAGER)
    done = run_without_proc(project.folder, *words)
    lines = (done.stdout + done.stderr).splitlines()
    assert sum(SENTENCE in line for line in lines) == 1, lines
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in (project.folder / "outputs").iterdir()) == ["s"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("list", "finished"),
        ("show s", "1 completed"),
        ("logs s 0", "hello"),
        ("collect-results s", "COMPLETED"),
        ("monitor s --once", "1 completed"),
        ("cancel s", "is not running"),
    ],
)
def test_what_runs_no_job_goes_on_without_it(project: Project, command: str, shown: str) -> None:
    project.hsm("sweep", "--sweep-id", "s", "x=1", "--", "echo", "hello")
    done = run_without_proc(project.folder, "-m", "hsm.cli.main", *command.split())
    assert shown in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("found", [None, "1"])
def test_a_proc_that_is_missing_or_of_another_machine(
    monkeypatch: pytest.MonkeyPatch, found: str | None
) -> None:
    """With a process namespace of one's own, /proc may still show the other one's processes."""

    def readlink(path: str) -> str:
        assert path == "/proc/self"
        if found is None:
            raise FileNotFoundError(2, "No such file or directory", path)
        return found

    monkeypatch.setattr(os, "readlink", readlink)
    with pytest.raises(HsmError) as error, source() as made:
        made.submit_jobs(points(0), "s", "s", command=["true"])
    assert str(error.value) == SENTENCE
