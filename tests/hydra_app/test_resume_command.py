"""The command that an interrupted sweep prints is run as it is: by any shell, without a PATH."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import venv
import zipapp
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from helpers.hydra import clean_environment, write_files
from helpers.processes import PATIENCE, first_fast, wait_for
from hsm.core.record.sweep import read_sweep

pytestmark = pytest.mark.thorough

#: How an app is started: the first words of its command line, made with the folder's files.
_START: dict[str, Callable[[Path], list[str]]] = {
    "python": lambda folder: [sys.executable, "app.py"],
    "options": lambda folder: [
        sys.executable,
        "-O",
        "-uX",
        "dev",
        "-W",
        "error::Warning:app",
        "app.py",
    ],
    "isolated": lambda folder: [sys.executable, "-I", "-Wdefault", "./app.py"],
    "module": lambda folder: [sys.executable, "-qm", "pkg.app"],
    "code": lambda folder: [sys.executable, "-c", "import sys\nfrom pkg.app import main; main()"],
    "no suffix": lambda folder: [_executable(folder, "train")],
    "odd name": lambda folder: [_executable(folder, "a'b = \\' $x\n\x1b[1m!/-train")],
    "leading dash": lambda folder: [sys.executable, "--", _executable(folder, "-train")[2:]],
    "zip": lambda folder: [sys.executable, _zipped(folder)],
    "folder": lambda folder: [sys.executable, "pkg"],
    "environment": lambda folder: [_environment(folder), "app.py"],
}
_APP = """
    import os, sys, time
    from pathlib import Path

    import hydra


    @hydra.main(version_base=None, config_path=None)
    def main(cfg):
        Path(f"started-{cfg.x}").touch()
        while not Path("go").exists():
            time.sleep(0.02)
        return {
            "prefix": sys.prefix,
            "optimize": sys.flags.optimize,
            "isolated": sys.flags.isolated,
            "dev_mode": sys.flags.dev_mode,
            "warnings": sys.warnoptions,
        }


    if __name__ == "__main__":
        main()
"""
_SWEEP = (
    *("-m", "hydra/launcher=hsm_local", "+x=1,2", "hydra.launcher.max_parallel_jobs=1"),
    "hydra.sweep.dir=sweep",
)


def _executable(folder: Path, name: str) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable}\n{(folder / 'app.py').read_text()}")
    path.chmod(0o700)
    return f"./{name}"


def _zipped(folder: Path) -> str:
    zipapp.create_archive(folder / "pkg", folder / "app.pyz")
    return "app.pyz"


def _environment(folder: Path) -> str:
    """A virtual environment, whose interpreter is a link to the same file as this one's."""
    venv.create(folder / "env", symlinks=True)
    (packages,) = (folder / "env").glob("lib/python*/site-packages")
    (packages / "more.pth").write_text("\n".join(filter(None, sys.path)))
    return "env/bin/python"


def _write_app(folder: Path) -> None:
    write_files(
        folder, {"app.py": _APP, "pkg/__init__.py": "", "pkg/app.py": _APP, "pkg/__main__.py": _APP}
    )


def _interrupt(folder: Path, words: Sequence[str], where: Path | None = None) -> str:
    """Start a sweep, interrupt its first job, and return the command that it prints."""
    started = (where or folder) / "started-1"
    process = subprocess.Popen(
        words,
        cwd=folder,
        env=clean_environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        wait_for(lambda: started.exists() or process.poll() is not None, "the job")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 130, err
    (line,) = [line for line in err.splitlines() if line.startswith("To resume: ")]
    return line.removeprefix("To resume: ")


def _resume(command: str, shell: str = "sh") -> None:
    """Run a command as it was printed, in a shell without a PATH, in another directory."""
    kept = {name: os.environ[name] for name in ("XDG_STATE_HOME", "HOME")}
    env = {**kept, "PYTHONPATH": clean_environment()["PYTHONPATH"]}
    path = shutil.which(shell)
    assert path is not None
    done = subprocess.run(
        [path, "-c", command], cwd="/", env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def _resumed(folder: Path, words: Sequence[str], shell: str = "sh") -> list[Any]:
    """Interrupt a sweep of two, and resume it as it says; return the jobs' values."""
    command = _interrupt(folder, words)
    (folder / "go").touch()
    _resume(command, shell)
    return [job.value for job in read_sweep(folder / "sweep").jobs.values()]


@pytest.mark.parametrize("how", first_fast("options", *(how for how in _START if how != "options")))
def test_it_starts_the_same_app_with_the_same_interpreter_and_options(
    tmp_path: Path, how: str
) -> None:
    _write_app(tmp_path)
    start = _START[how](tmp_path)
    value, other = _resumed(tmp_path, [*start, *_SWEEP])
    assert (
        value
        == other
        == {
            "prefix": str(tmp_path / "env") if how == "environment" else sys.prefix,
            "optimize": int(how == "options"),
            "isolated": int(how == "isolated"),
            "dev_mode": how == "options",
            "warnings": {"options": ["default", "error::Warning:app"], "isolated": ["default"]}.get(
                how, []
            ),
        }
    )


@pytest.mark.slow
def test_overrides_stay_in_one_piece_where_an_option_follows_them(tmp_path: Path) -> None:
    """Hydra accepts no override after `-m` if there was one before it."""
    _write_app(tmp_path)
    words = [
        sys.executable,
        "-X",
        "utf8=1",
        "app.py",
        *_SWEEP[1:],
        "-m",
        "--config-dir",
        str(tmp_path),
    ]
    assert len(_resumed(tmp_path, words)) == 2


_CHANGING = """
    import argparse, os, sys
    from pkg import app

    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True)
    known, sys.argv[1:] = parser.parse_known_args()
    os.chdir(known.folder)
    app.main()
"""


@pytest.mark.slow
def test_an_app_that_changes_its_arguments_and_directory(tmp_path: Path) -> None:
    _write_app(tmp_path)
    write_files(tmp_path, {"here/there/keep": "", "here/start": _CHANGING})
    (tmp_path / "here" / "pkg").symlink_to(tmp_path / "pkg")
    start = [sys.executable, "here/start", "--folder", "here/there"]
    command = _interrupt(tmp_path, [*start, *_SWEEP], tmp_path / "here" / "there")
    (tmp_path / "here" / "there" / "go").touch()
    _resume(command)
    assert len(read_sweep(tmp_path / "here" / "there" / "sweep").jobs) == 2


_DEFAULTING = f"""
    import sys

    if not sys.argv[1:]:
        sys.argv[1:] = {list(_SWEEP)}

    from pkg.app import main

    main()
"""


@pytest.mark.slow
def test_an_app_without_arguments_that_gives_itself_some(tmp_path: Path) -> None:
    _write_app(tmp_path)
    write_files(tmp_path, {"own.py": _DEFAULTING})
    assert len(_resumed(tmp_path, [sys.executable, "own.py"])) == 2
