"""`hsm monitor`, `list`, `show`, `logs`: a sweep seen from another process."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from helpers.cli import STAY, Project
from helpers.processes import PATIENCE, SOURCE, wait_for
from hsm.core.record.sweep import read_sweep

pytestmark = pytest.mark.thorough

FAIL_1 = ("--", "sh", "-c", "echo out {x}; echo err {x} >&2; exit {x}")


def _run(project: Project) -> None:
    """Sweep s of two jobs; the second fails."""
    project.here("sweep", "x=0,1", "--sweep-id", "s", *FAIL_1, code=1)


# --- monitor


def test_monitor_once_of_an_ended_sweep(project: Project) -> None:
    _run(project)
    ran = project.here("monitor", "s", "--once")
    assert "s: 2 jobs: 1 completed, 1 failed" in ran.out
    assert "status:  finished" in ran.out


def test_monitor_returns_what_the_sweep_returned(project: Project) -> None:
    _run(project)
    assert "1 failed" in project.here("monitor", "s", code=1).out
    project.here("sweep", "x=1", "--sweep-id", "good", "--", "true")
    assert "good: 1 job: 1 completed" in project.here("monitor").out


@pytest.mark.parametrize("named", ["s", "outputs/s", "last", "./outputs/s"])
def test_a_sweep_has_many_names(project: Project, named: str) -> None:
    _run(project)
    assert "s: 2 jobs" in project.here("monitor", named, "--once").out
    assert "s: 2 jobs" in project.here("monitor", "--sweep-id", named, "--once").out


@pytest.mark.slow
def test_monitor_of_a_running_sweep(project: Project) -> None:
    with project.detached(
        "x=range(3)", "--parallel-jobs", "2", "--", "sh", "-c", f"echo hi; {STAY}"
    ):
        once = project.here("monitor", "--once").out
        assert "bg: 3 jobs: 2 running, 1 pending" in once
        assert "status:  running" in once
        told = project.here("monitor", "bg", "--json").json
        assert told["states"] == {"PENDING": 1, "RUNNING": 2}
        assert [(job["num"], job["label"], job["last_line"]) for job in told["running"]] == [
            (0, "x=0", "hi"),
            (1, "x=1", "hi"),
        ]
        assert all(job["memory"] > 0 for job in told["running"])


def _reads_a_journal(process: psutil.Process) -> bool:
    return any(file.path.endswith("journal.jsonl") for file in process.open_files())


def test_monitor_follows_a_sweep_to_its_end(project: Project) -> None:
    with project.detached("x=range(2)", "--", "sh", "-c", f"{STAY}; echo last words"):
        with project.start("monitor", "bg", "--show-output") as monitor:
            follower = psutil.Process(monitor.pid)
            wait_for(lambda: _reads_a_journal(follower), "a monitor that watches")
            for num in (0, 1):
                (project.folder / f"outputs/bg/{num}/go").touch()
            out, err = monitor.communicate(timeout=PATIENCE)
        assert monitor.returncode == 0, err
        assert "bg: 2 jobs: 2 completed" in out


@pytest.mark.slow
def test_monitor_joins_late_and_tells_what_happens_from_then_on(project: Project) -> None:
    with project.detached("x=range(2)", "--", "sh", "-c", f"{STAY}; echo last words"):
        (project.folder / "outputs/bg/0/go").touch()
        wait_for(lambda: project.states("bg")[0] == "COMPLETED", "job 0")
        with project.start("monitor", "bg", "--show-output") as monitor:
            assert monitor.stdout is not None
            wait_for(lambda: _watches(monitor.pid), "the monitor")
            (project.folder / "outputs/bg/1/go").touch()
            out, _ = monitor.communicate(timeout=PATIENCE)
        assert "job 0" not in out
        assert "[1] last words\n[2/2] job 1 COMPLETED" in out


def _watches(pid: int) -> bool:
    """Whether the process follows a job's output: it has a log file open."""
    links = []
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            links.append(str(fd.readlink()))
        except OSError:
            continue
    return any("/logs/" in link for link in links)


@pytest.mark.slow
def test_ctrl_c_ends_the_watching_and_not_the_sweep(project: Project) -> None:
    with project.detached("x=range(2)", "--", "sh", "-c", STAY):
        with project.start("monitor", "bg", "--show-output") as monitor:
            wait_for(lambda: _watches(monitor.pid), "the monitor")
            monitor.send_signal(signal.SIGINT)
            _, err = monitor.communicate(timeout=PATIENCE)
        assert monitor.returncode == 130
        assert "Traceback" not in err
        assert project.states("bg") == ["RUNNING", "RUNNING"]


@pytest.mark.slow
def test_monitor_of_a_sweep_whose_launcher_was_killed(project: Project) -> None:
    with project.start("sweep", "x=range(2)", "--sweep-id", "s", "--", "sh", "-c", STAY) as sweep:
        project.wait_for("outputs/s/0/runs")
        with project.start("monitor", "s") as monitor:
            sweep.kill()
            sweep.communicate()
            out, _ = monitor.communicate(timeout=PATIENCE)
    assert monitor.returncode == 1
    assert "The sweep ended: launcher died" in out
    assert "s: 2 jobs: 2 cancelled" in out
    assert project.here("monitor", "s", "--json").json["status"] == "launcher died"


def test_monitor_says_what_it_could_not_read(project: Project) -> None:
    _run(project)
    journal = project.sweep("s").paths.journal
    lines = journal.read_text().splitlines()
    lines[2] = lines[2][:20]
    journal.write_text("\n".join(lines) + "\n")
    assert "line 3" in project.here("monitor", "s", code=None).out


def test_a_journal_of_a_newer_hsm_is_refused(project: Project) -> None:
    _run(project)
    journal = project.sweep("s").paths.journal
    journal.write_text(journal.read_text().replace('"v":2', '"v":99', 1))
    assert "written in format 99" in project.refused("monitor", "s")


# --- list


def test_list_shows_the_newest_first(project: Project) -> None:
    assert "no sweeps yet" in project.here("list").out
    _run(project)
    project.here("sweep", "x=1", "--sweep-id", "t", "--", "true")
    heading, first, second = project.here("list").out.splitlines()
    assert heading.split() == "sweep status jobs age started directory".split()
    assert re.match(r"t +finished +1 completed +\d+s +20[-0-9: ]+ outputs/t$", first)
    assert re.match(r"s +finished +1 completed, 1 failed +\d+s +20[-0-9: ]+ outputs/s$", second)
    assert [entry["sweep_id"] for entry in project.here("list", "--json", "-n", "1").json] == ["t"]


def test_list_leaves_out_what_is_gone(project: Project) -> None:
    _run(project)
    (project.folder / "outputs").rename(project.folder / "gone")
    assert "no sweeps yet" in project.here("list").out


# --- show


def test_show_tells_all_of_a_job(project: Project) -> None:
    _run(project)
    out = project.here("show", "s", "1").out
    for text in ("1 of s, s_1", "FAILED: exit code 1", "x = 1", "sh -c", "CPU time", "outputs/s/1"):
        assert text in out, text
    told = project.here("show", "s", "1", "--json").json
    assert told["command"][:2] == ["sh", "-c"]
    assert told["params"] == {"x": 1}
    assert told["attempts"][0]["exit_code"] == 1
    assert told["attempts"][0]["max_memory"] > 0


def test_show_tells_each_attempt(project: Project) -> None:
    project.here(
        *("sweep", "x=0", "--sweep-id", "s", "--max-retries", "1", "--retry-delay", "0", "--"),
        *("sh", "-c", "test $HSM_ATTEMPT = 2"),
    )
    told = project.here("show", "s", "0", "--json").json
    assert [attempt["state"] for attempt in told["attempts"]] == ["FAILED", "COMPLETED"]
    assert "attempt 2" in project.here("show", "s", "0").out


@pytest.mark.slow
def test_show_of_a_job_that_has_not_started(project: Project) -> None:
    with project.detached("x=range(2)", "--parallel-jobs", "1", "--", "sh", "-c", STAY, runs=(0,)):
        out = project.here("show", "bg", "1").out
        assert "PENDING" in out
        assert "(not there)" in out


def test_what_a_job_says_cannot_steer_the_terminal(project: Project) -> None:
    project.here("sweep", "x='a\x1b[2Jb'", "--sweep-id", "s", "--", "true")
    for command in (["show", "s", "0"], ["list"], ["monitor", "--once"], ["collect-results", "s"]):
        assert "\x1b" not in project.here(*command).out


# --- logs


def test_logs_prints_what_a_job_wrote(project: Project) -> None:
    _run(project)
    assert project.hsm("logs", "s", "1").out == "out 1\n"
    assert project.hsm("logs", "s", "1", "--stderr").out == "err 1\n"


@pytest.mark.parametrize("end", ["", "\n"])
def test_logs_prints_the_last_lines(project: Project, end: str) -> None:
    _run(project)
    project.sweep("s").paths.stdout(0).write_text("a\nb\nc" + end)
    assert project.hsm("logs", "s", "0", "--lines", "2").out == "b\nc" + end
    assert project.hsm("logs", "s", "0", "--lines", "0").out == ""


def test_logs_prints_bytes_as_they_are(project: Project) -> None:
    _run(project)
    project.sweep("s").paths.stdout(0).write_bytes(b"\xff\x00\r" + b"x" * 3_000_000)
    done = subprocess.run(
        [sys.executable, "-m", "hsm.cli.main", "logs", "s", "0"],
        cwd=project.folder,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        check=True,
        timeout=PATIENCE,
    )
    assert done.stdout == b"\xff\x00\r" + b"x" * 3_000_000


def test_logs_follows_until_the_job_has_ended(project: Project) -> None:
    with project.detached("x=0", "--", "sh", "-c", f"echo one; {STAY}; echo two", runs=(0,)):
        with project.start("logs", "bg", "0", "-f") as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "one\n"
            (project.folder / "outputs/bg/0/go").touch()
            out, _ = process.communicate(timeout=PATIENCE)
        assert out == "two\n"
        assert process.returncode == 0


@pytest.mark.slow
def test_logs_of_a_job_that_has_not_started(project: Project) -> None:
    with project.detached("x=0,1", "--parallel-jobs", "1", "--", "sh", "-c", STAY, runs=(0,)):
        ran = project.here("logs", "bg", "1", code=2)
        assert "job 1 of bg is PENDING" in ran.err
        with project.start("logs", "bg", "1", "--follow") as process:
            (project.folder / "outputs/bg/0/go").touch()
            project.wait_for("outputs/bg/1/runs")
            (project.folder / "outputs/bg/1/go").touch()
            out, _ = process.communicate(timeout=PATIENCE)
        assert out == ""
        assert process.returncode == 0


# --- what is of no use any more


def test_a_sweep_with_a_torn_last_line(project: Project) -> None:
    _run(project)
    journal = project.sweep("s").paths.journal
    with journal.open("ab") as file:
        file.write(json.dumps({"event": "close"}).encode()[:7])
    assert "status:  finished" in project.here("monitor", "s", "--once").out
    assert read_sweep(project.folder / "outputs/s").problems == []


@pytest.mark.slow
def test_logs_say_where_the_cause_of_a_failure_is(project: Project) -> None:
    (project.folder / "fail.py").write_text(
        "import sys\n"
        "kind = sys.argv[1].split('=')[1]\n"
        "if kind != 'none': print('out')\n"
        "if kind == 'both': print('err', file=sys.stderr)\n"
        "if kind == 'warn': print('warn', file=sys.stderr)\n"
        "sys.exit(kind != 'warn')\n"
    )
    project.here("sweep", "--script", "fail.py", "k=out,both,none,warn", "--sweep-id", "f", code=1)
    assert project.hsm("logs", "f", "0").err == ""
    assert (
        project.hsm("logs", "f", "0", "-e").err
        == "hsm: job 0: no stderr; for its stdout: hsm logs f 0\n"
    )
    shown = project.hsm("logs", "f", "1")
    assert shown.out == "out\n"
    assert shown.err == "hsm: job 1: FAILED: exit code 1; for its stderr: hsm logs f 1 --stderr\n"
    assert project.hsm("logs", "f", "1", "-e").err == ""
    assert project.hsm("logs", "f", "2", "--follow").err == "hsm: job 2 of f printed nothing\n"
    assert project.hsm("logs", "f", "3").err == ""
    shown = project.here("show", "f", "0")
    assert re.search(r"^stderr +outputs/f/.hsm/logs/0.err \(empty\)$", shown.out, re.MULTILINE)
    assert re.search(
        r"^last output +out\n +log: outputs/f/.hsm/logs/0.out$", shown.out, re.MULTILINE
    )
    assert "last output" not in project.here("show", "f", "3").out
