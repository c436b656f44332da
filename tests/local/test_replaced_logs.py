"""A job that puts something else in its log's place hangs nobody; a retry writes through none."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from helpers.processes import PATIENCE, App, wait_for
from helpers.reliability import Recorder, points, source
from hsm.core.engine.compute_source import SweepObserver
from hsm.core.record.job import Job, JobState
from hsm.core.record.paths import SweepPaths

pytestmark = pytest.mark.thorough

#: What a job may put there, its log having gone.
REPLACEMENTS = {
    "a pipe": "os.mkfifo(log)",
    "a link": "os.symlink(elsewhere, log)",
    "a link to a device": "os.symlink('/dev/zero', log)",
    "a socket": "socket.socket(socket.AF_UNIX).bind(os.path.basename(log))",
    "a folder": "os.mkdir(log); open(log + '/kept', 'w').write('kept')",
    "another file": "open(log, 'w').write('other')",
    "nothing": "pass",
}


class _Shown(SweepObserver):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def job_output(self, job: Job, stream: str, line: str) -> None:
        self.lines.append(line)


def _command(replacement: str, elsewhere: Path) -> list[str]:
    """Its first attempt replaces both logs, prints and fails; the second one prints."""
    lines = [
        "import os, socket, sys, time",
        "os.chdir(os.environ['HSM_SWEEP_DIR'] + '/.hsm/logs')",
        f"elsewhere = {str(elsewhere)!r}",
        "print('before', flush=True)",
        "if os.environ['HSM_ATTEMPT'] == '1':",
        "    for log in ('0.out', '0.err'):",
        "        os.unlink(log)",
        f"        {replacement}",
        "    while not os.path.exists('../go'):",
        "        time.sleep(0.02)",
        "print('after', flush=True)",
        "print('error', file=sys.stderr)",
        "sys.exit(os.environ['HSM_ATTEMPT'] == '1')",
    ]
    return [sys.executable, "-c", "\n".join(lines)]


@pytest.mark.parametrize("kind", REPLACEMENTS)
def test_a_job_that_replaces_its_log_hangs_nobody(tmp_path: Path, kind: str) -> None:
    paths = SweepPaths(tmp_path / "sweep")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("somebody's")
    shown = _Shown()
    command = _command(REPLACEMENTS[kind], elsewhere)
    with source(shown, max_retries=1, retry_delay=0, show_output=True) as made:
        (job_id,) = made.submit_jobs(points(0), "s", paths.sweep_dir, command=command)
        wait_for(made.running, "the job")
        made.running()  # looks for its last line
        (paths.hsm_dir / "go").touch()
        assert made.wait(timeout=PATIENCE) == {job_id: JobState.COMPLETED}
    out = paths.stdout(0).read_text()
    assert out.endswith("before\nafter\n")
    assert "---- attempt 2" in out
    assert paths.stderr(0).read_text().endswith("error\n")
    assert elsewhere.read_text() == "somebody's"
    assert shown.lines[-3:].count("after") == 1
    if kind == "a folder":  # What the job has put there is not lost.
        assert (paths.logs / "0.out.1" / "kept").read_text() == "kept"


def test_a_job_whose_logs_cannot_be_opened_does_not_start_and_says_why(tmp_path: Path) -> None:
    """The folder of all logs leads elsewhere: nothing is written there."""
    paths = SweepPaths(tmp_path / "sweep")
    (tmp_path / "elsewhere").mkdir()
    script = f"cd $HSM_SWEEP_DIR/.hsm && mv logs moved && ln -s {tmp_path}/elsewhere logs"
    with source(Recorder(), max_parallel_jobs=1) as made:
        made.submit_jobs(points(0), "s", paths.sweep_dir, command=["sh", "-c", script])
        made.submit_jobs(points(1), "s", paths.sweep_dir, command=["true"])
        assert [str(state) for state in made.wait(timeout=PATIENCE).values()] == [
            "COMPLETED",
            "CANCELLED",
        ]
        reason = made.jobs()[1].ending()
    assert reason == f"never started: cannot write logs in {paths.logs}: it is a link, not a folder"
    assert os.listdir(tmp_path / "elsewhere") == []


def test_logs_that_a_job_has_removed_cost_the_next_one_nothing(tmp_path: Path) -> None:
    paths = SweepPaths(tmp_path)
    with source(max_parallel_jobs=1) as made:
        for script in ("rm -r $HSM_SWEEP_DIR/.hsm/logs", "echo next"):
            made.submit_jobs(points(0), "s", tmp_path, command=["sh", "-c", script])
        assert set(made.wait(timeout=PATIENCE).values()) == {JobState.COMPLETED}
    assert paths.stdout(1).read_text() == "next\n"


@pytest.mark.slow
def test_a_failed_job_under_hydra_whose_stderr_is_a_pipe_by_then(tmp_path: Path) -> None:
    """The end of its stderr is shown when it has failed."""
    body = """
        def job(cfg):
            if cfg.job == 0:
                log = Path(os.environ["HSM_SWEEP_DIR"], ".hsm", "logs", "0.err")
                log.unlink()
                os.mkfifo(log)
                raise ValueError("boom")
            return cfg.job
    """
    done = App(tmp_path, body).run("job=0,1", show_output="true")
    assert done.states == ["FAILED", "COMPLETED"]
    assert "ValueError: boom" in done.screen
