"""In a frozen app, `sys.executable` is the app: hsm must not start it as if it were Python."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from helpers.processes import PATIENCE, REPOSITORY, both_methods
from helpers.reliability import points, source
from hsm.core.engine.backend import CannotStart
from hsm.core.errors import SettingsError
from hsm.core.program.payload import CannotSpawn
from hsm.core.record.sweep import read_sweep


@pytest.fixture
def frozen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make this process one of a frozen app, which leaves this file when it is started."""
    started, app = tmp_path / "started", tmp_path / "app"
    app.write_text(f"#!/bin/sh\ntouch {started}\n")
    app.chmod(0o755)
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", str(app))
    return started


def endings(sweep_dir: Path) -> list[str]:
    return [job.ending() for job in read_sweep(sweep_dir).jobs.values()]


@both_methods
def test_commands_do_not_start_a_frozen_app_again(
    tmp_path: Path, frozen: Path, start_method: str
) -> None:
    read_fd, write_fd = os.pipe()  # What the app has open is no concern of a command's.
    command = ["sh", "-c", f"cat; ! test -e /proc/$$/fd/{write_fd}; exit {{x}}"]
    with source(start_method=start_method) as made:
        made.submit_jobs(points(0, 3), "s", tmp_path / "s", command=command)
        made.wait(timeout=PATIENCE)
    os.close(read_fd)
    os.close(write_fd)
    assert endings(tmp_path / "s") == ["completed", "exit code 3"]
    assert not frozen.exists()


def test_a_killed_server_of_a_frozen_app_is_replaced(tmp_path: Path, frozen: Path) -> None:
    """By a fork of a process that has hsm's threads by then."""
    kill_server = "read -r stat < /proc/$PPID/stat; set -- ${{stat##*) }}; kill -KILL $2; sleep 100"
    with source(max_parallel_jobs=1) as made:
        commands = points(kill_server, "exit 0")
        made.submit_jobs(commands, "s", tmp_path / "s", command=["sh", "-c", "eval '{x}'"])
        made.wait(timeout=PATIENCE)
    assert endings(tmp_path / "s")[1] == "completed"
    assert not frozen.exists()


@pytest.mark.parametrize("start_method", ["auto", "fork"])
def test_functions_of_a_frozen_app_are_forked(
    tmp_path: Path, frozen: Path, start_method: str
) -> None:
    """Also with a thread, for which `auto` would otherwise spawn."""
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        with source(start_method=start_method) as made:
            made.submit_jobs(points(0), "s", tmp_path / "s", function=str)
            made.wait(timeout=PATIENCE)
    finally:
        over.set()
        thread.join()
    assert endings(tmp_path / "s") == ["completed"]
    assert not frozen.exists()


def test_spawn_is_refused_in_a_frozen_app(tmp_path: Path, frozen: Path) -> None:
    with (
        source(start_method="spawn") as made,
        pytest.raises(CannotSpawn, match=r"a frozen app .* Use start_method=fork.$"),
    ):
        made.submit_jobs(points(0), "s", tmp_path / "s", function=str)
    assert not frozen.exists()
    assert not (tmp_path / "s" / ".hsm" / "journal.jsonl").exists()


def test_a_harmful_fork_is_refused_in_a_frozen_app(tmp_path: Path, frozen: Path) -> None:
    read_fd, write_fd = os.pipe()
    try:
        with source(start_method="auto") as made, pytest.raises(CannotStart) as refused:
            made.submit_jobs(points(0), "s", tmp_path / "s", function=str)
    finally:
        os.close(read_fd)
        os.close(write_fd)
    for part in ("a pipe open", "a frozen app", "Create the former", "start_method=fork"):
        assert part in str(refused.value)
    assert not frozen.exists()


def test_a_python_script_in_a_frozen_app_needs_a_first_line(tmp_path: Path, frozen: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("#!/bin/sh\nexit 3\n")
    with source() as made:
        with pytest.raises(SettingsError, match=r"a frozen app .* chmod"):
            made.submit_jobs(points(0), "s", tmp_path / "s", script=script)
        script.chmod(0o755)
        made.submit_jobs(points(0), "s", tmp_path / "s", script=script)
        made.wait(timeout=PATIENCE)
    assert endings(tmp_path / "s") == ["exit code 3"]
    assert not frozen.exists()


def test_a_program_that_embeds_python_may_know_of_no_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "")
    with source() as made:
        made.submit_jobs(points(0), "s", tmp_path / "s", command=["true"])
        made.wait(timeout=PATIENCE)
    assert endings(tmp_path / "s") == ["completed"]


_APP = """
import sys
from hsm import LocalManager

def square(params):
    return params["x"] ** 2

if __name__ == "__main__":
    programs = {"function": {"function": square}, "command": {"command": ["sh", "-c", "exit {x}"]}}
    manager = LocalManager(2, start_method=sys.argv[2], progress="none")
    sweep_dir, program = "-".join(sys.argv[1:]), programs[sys.argv[1]]
    results = manager.run([{"x": 0}, {"x": 3}], sweep_dir=sweep_dir, **program)
    print(*(row["state"] for row in results))
"""


@pytest.mark.long
@pytest.mark.parametrize("kind", ["--onedir", "--onefile"])
def test_an_app_made_by_pyinstaller(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("PyInstaller")
    (tmp_path / "app.py").write_text(_APP)
    options = [kind, "--paths", str(REPOSITORY)]
    command = [sys.executable, "-m", "PyInstaller", *options, "app.py"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    app = tmp_path / "dist" / "app"
    app = app / "app" if app.is_dir() else app
    expected = {"function": "COMPLETED COMPLETED\n", "command": "COMPLETED FAILED\n"}
    for words in (["function", "auto"], ["command", "spawn"]):
        done = subprocess.run(
            [app, *words], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert done.stdout == expected[words[0]]
    refused = subprocess.run(
        [app, "function", "spawn"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "a frozen app" in refused.stderr
