"""Commands and programs that are started without stdin, stdout or stderr, as by some daemons.

The next files that such a process opens get the numbers 0, 1 and 2, unless something is done.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from helpers.cli import Project
from helpers.processes import PATIENCE, child_environment, first_fast, wait_for
from hsm.cli import _detach
from hsm.core.record.sweep import read_sweep

pytestmark = pytest.mark.thorough

CLOSINGS = ("<&- >&- 2>&-", "2>&-", ">&-", "<&-", ">&- 2>&-", "<&- 2>&-", "<&- >&-")


def run_closed(
    folder: Path, closing: str, *words: str, code: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run Python with these words and some standard streams closed."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closing}', "sh", sys.executable, *words],
        cwd=folder,
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def hsm(project: Project, closing: str, *words: str, code: int = 0) -> str:
    return run_closed(project.folder, closing, "-m", "hsm.cli.main", *words, code=code).stdout


@pytest.mark.parametrize("closing", first_fast(*CLOSINGS))
def test_a_sweep_is_detached_although_streams_are_closed(project: Project, closing: str) -> None:
    job = ("--", "sh", "-c", "echo out; echo err >&2")
    hsm(project, closing, "sweep", "x=1,2", "--sweep-id", "s", "--detach", *job)
    assert "2 completed" in project.hsm("monitor", "s").out
    paths = project.sweep("s").paths
    assert (paths.stdout(0).read_text(), paths.stderr(0).read_text()) == ("out\n", "err\n")
    assert "job 1 COMPLETED" in paths.launcher_log.read_text()
    assert project.sweep("s").problems == []


@pytest.mark.slow
@pytest.mark.parametrize("closing", CLOSINGS[:3])
def test_commands_work_although_streams_are_closed(project: Project, closing: str) -> None:
    sweep = ("sweep", "x=1,2", "--sweep-id", "s", "--", "sh", "-c", "echo out")
    hsm(project, closing, *sweep)
    for command in ("list", "monitor s", "logs s 0", "collect-results s", "cancel s"):
        shown = hsm(project, closing, *command.split())
        normal = project.hsm(*command.split()).out
        expected = "" if ">&-" in closing.split() else normal
        # A sweep's age goes on between two looks at it.
        assert re.sub(r"\b\d+s\b", "", shown) == re.sub(r"\b\d+s\b", "", expected), command
    assert hsm(project, closing, "show", "nope", code=2) == ""  # An error is never on stdout.


PROGRAM = """
import os, sys
from pathlib import Path
from hsm import LocalManager
from hsm.core.engine.compute_source import SweepObserver

class Look(SweepObserver):
    def job_ended(self, job):
        Path("streams").write_text("\\n".join(os.readlink(f"/proc/self/fd/{n}") for n in range(3)))

def job(params):
    return params["x"]

if __name__ == "__main__":
    manager = LocalManager(observers=[Look()], progress="none", start_method=sys.argv[1])
    results = manager.run([{"x": 1}, {"x": 2}], function=job, sweep_dir="sweep")
    assert [row["value"] for row in results] == [1, 2]
"""


@pytest.mark.parametrize("method", first_fast("fork", "spawn"))
def test_no_journal_gets_the_number_of_a_closed_stream(tmp_path: Path, method: str) -> None:
    """Else what C code or an app's child writes to stderr is in the journal."""
    (tmp_path / "program.py").write_text(PROGRAM)
    run_closed(tmp_path, "<&- >&- 2>&-", "program.py", method)
    assert (tmp_path / "streams").read_text().split() == ["/dev/null"] * 3
    assert read_sweep(tmp_path / "sweep").problems == []


APP = """
import os, hydra

@hydra.main(version_base=None, config_path=None)
def main(cfg):
    print("out", flush=True)
    os.write(2, b"err\\n")

main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("closing", CLOSINGS)
def test_a_hydra_app_runs_although_streams_are_closed(tmp_path: Path, closing: str) -> None:
    (tmp_path / "app.py").write_text(APP)
    words = ("-m", "+x=1,2", "hydra/launcher=hsm_local", "hydra.sweep.dir=sweep")
    run_closed(tmp_path, closing, "app.py", *words)
    sweep = read_sweep(tmp_path / "sweep")
    assert [str(job.state) for job in sweep.jobs.values()] == ["COMPLETED"] * 2
    paths = sweep.paths
    assert (paths.stdout(0).read_text(), paths.stderr(0).read_text()) == ("out\n", "err\n")
    assert sweep.problems == []


# --- a detached launcher that does not say that the sweep has begun --------------------------


class Launcher:
    """A process that says its pid, and nothing more; this process holds its end of the pipe."""

    def __init__(self) -> None:
        ours, self.theirs = os.pipe()
        self.pipe = open(ours, "rb", buffering=0)  # noqa: SIM115
        self.process = subprocess.Popen(["sleep", "600"])
        os.write(self.theirs, b"%d\n" % self.process.pid)

    def say(self, answer: bytes) -> None:
        os.write(self.theirs, answer)

    def answer(self) -> bytes:
        return _detach.wait_for_answer(self.pipe, Path("launcher.log"))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.pipe.close()
        os.close(self.theirs)


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Launcher]:
    monkeypatch.setattr(_detach, "_LOOK", 0.02)
    made = Launcher()
    yield made
    made.close()


def test_a_dead_launcher_is_not_waited_for(launcher: Launcher) -> None:
    launcher.process.kill()
    assert launcher.answer() == b""


def test_what_a_launcher_says_before_it_dies_is_heard(launcher: Launcher) -> None:
    launcher.say(b"a disk is full")
    launcher.process.kill()
    assert launcher.answer() == b"a disk is full"


def test_a_launcher_that_lives_is_waited_for_and_people_hear_of_it(
    launcher: Launcher, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_detach, "_TELL", 0.0)
    launcher.process.send_signal(signal.SIGSTOP)
    stopped = psutil.Process(launcher.process.pid)
    wait_for(lambda: stopped.status() == psutil.STATUS_STOPPED, "its stop")
    answers: list[bytes] = []
    thread = threading.Thread(target=lambda: answers.append(launcher.answer()))
    thread.start()
    told = wait_for(lambda: capsys.readouterr().err, "words about it")
    assert (
        told == f"hsm: the launcher, process {stopped.pid}, is stopped; its log is launcher.log\n"
    )
    assert answers == []
    launcher.say(b"+")
    thread.join(PATIENCE)
    assert answers == [b"+"]


def test_ctrl_c_while_it_starts_reaches_the_launcher(
    launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_detach, "_TELL", 0.0)
    monkeypatch.setattr(_detach, "_tell", interrupted)
    with pytest.raises(KeyboardInterrupt):
        launcher.answer()
    assert launcher.process.wait(PATIENCE) == -signal.SIGINT
