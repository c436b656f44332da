"""The command that runs when a sweep has ended, and what it is told."""

from __future__ import annotations

import errno
import json
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from helpers.processes import (
    App,
    RunningSweep,
    first_fast,
    is_running,
    let_burst_pass,
    start_program,
    wait_for,
)
from helpers.reliability import (
    Recorder,
    points,
    source,
    start_driver,
    write_driver,
)
from hsm.core.engine.compute_source import SweepObserver
from hsm.core.engine.end_hook import environment, run_hook
from hsm.core.engine.interrupts import Interrupts
from hsm.core.local import LocalManager
from hsm.core.record.job import Ending, Job, JobState
from hsm.core.record.journal import Journal
from hsm.core.record.paths import SweepPaths
from hsm.core.record.sweep import Sweep, read_sweep

pytestmark = pytest.mark.thorough


def tell(folder: Path) -> list[str]:
    """A command that appends what it is told to a file, one line of words."""
    words = "$HSM_SWEEP_END|$HSM_JOBS|$HSM_COMPLETED|$HSM_FAILED|$HSM_TIMEOUT|$HSM_CANCELLED"
    return ["sh", "-c", f'echo "{words}|$HSM_SWEEP_DIR" >> {shlex.quote(str(folder / "told"))}']


def told(folder: Path) -> list[str]:
    path = folder / "told"
    return path.read_text().splitlines() if path.exists() else []


def hydra_words(folder: Path) -> str:
    """`tell` as an override of the command line."""
    script = folder / "tell.sh"
    script.write_text(tell(folder)[2] + "\n")
    return f"[sh,{script}]"


def test_it_is_told_the_counts_and_where_the_sweep_is() -> None:
    jobs = {num: Job(num, f"s_{num}") for num in range(5)}
    for job, state in zip(
        jobs.values(), ["COMPLETED", "COMPLETED", "FAILED", "OUT_OF_MEMORY", "TIMEOUT"], strict=True
    ):
        job.start(1.0, 1)
        job.end(2.0, Ending(JobState(state)))
    sweep = Sweep("s", SweepPaths("/sweeps/s"), {}, closed="finished")
    assert all(map(sweep.jobs.add, jobs.values()))
    assert environment(sweep) == {
        "HSM_SWEEP_ID": "s",
        "HSM_SWEEP_DIR": "/sweeps/s",
        "HSM_SWEEP_END": "finished",
        "HSM_JOBS": "5",
        "HSM_BEST_JOB": "",
        "HSM_BEST_VALUE": "",
        "HSM_COMPLETED": "2",
        "HSM_PRUNED": "0",
        "HSM_FAILED": "1",
        "HSM_TIMEOUT": "1",
        "HSM_OUT_OF_MEMORY": "1",
        "HSM_CANCELLED": "0",
    }


def test_it_runs_once_when_the_source_is_closed(tmp_path: Path) -> None:
    command = ["sh", "-c", "[ {x} = 0 ] || [ {x} = 1 ] && exit {x}; sleep 60"]
    with source(on_sweep_end=tell(tmp_path), timeout=3, kill_grace=0.2) as made:
        made.submit_jobs(points(0, 1, 2), "s", tmp_path / "sweep", command=command)
        made.wait()
        assert told(tmp_path) == []
    assert told(tmp_path) == [f"finished|3|1|1|1|0|{tmp_path / 'sweep'}"]


def test_it_sees_a_record_that_is_closed_and_a_lock_that_is_free(tmp_path: Path) -> None:
    see = ["sh", "-c", 'tail -n 1 "$HSM_SWEEP_DIR/.hsm/journal.jsonl" > "$HSM_SWEEP_DIR/seen"']
    with source(on_sweep_end=see) as made:
        made.submit_jobs(points(0), "s", tmp_path, command=["true"])
    assert '"event":"close","reason":"finished"' in (tmp_path / "seen").read_text()
    assert not read_sweep(tmp_path).alive


def test_of_a_resumed_sweep_all_jobs_are_counted(tmp_path: Path) -> None:
    sweep_dir = tmp_path / "sweep"
    with source() as made:
        made.submit_jobs(points(0, 0, 1), "s", sweep_dir, command=["sh", "-c", "exit {x}"])
    with source(on_sweep_end=tell(tmp_path), resume=True) as made:
        made.submit_jobs(points(1), "s", sweep_dir, command=["sh", "-c", "exit {x}"])
    assert told(tmp_path) == [f"finished|3|2|1|0|0|{sweep_dir}"]


@pytest.mark.parametrize(
    ("settings", "reason", "counts"),
    [
        ({"fail_fast": True}, "fail_fast: job 1 did not complete", "6|1|1|0|4"),
        ({"max_failures": 2}, "max_failures: 2 jobs did not complete", "6|1|2|0|3"),
        (
            {"max_consecutive_failures": 3},
            "max_consecutive_failures: 3 jobs in a row did not complete",
            "6|1|3|0|2",
        ),
    ],
)
def test_it_is_told_which_policy_stopped_the_sweep(
    tmp_path: Path, settings: dict[str, int], reason: str, counts: str
) -> None:
    sweep_dir = tmp_path / "sweep"
    exits = ["sh", "-c", "exit {x}"]
    with source(on_sweep_end=tell(tmp_path), max_parallel_jobs=1, **settings) as made:
        made.submit_jobs(points(0, 1, 1, 1, 1, 1), "s", sweep_dir, command=exits)
    assert told(tmp_path) == [f"{reason}|{counts}|{sweep_dir}"]
    assert read_sweep(sweep_dir).jobs[5].ending() == f"never started: {reason}"


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (["sh", "-c", "exit 3"], "on_sweep_end: sh ended with exit code 3"),
        (["sh", "-c", "kill -9 $$"], "on_sweep_end: sh was killed by SIGKILL"),
        (["not-there"], "on_sweep_end: [Errno 2] No such file or directory: 'not-there'"),
    ],
)
def test_what_goes_wrong_with_it_is_told_and_changes_nothing(
    tmp_path: Path, command: list[str], problem: str
) -> None:
    recorder = Recorder()
    with source(recorder, on_sweep_end=command) as made:
        (job_id,) = made.submit_jobs(points(0), "s", tmp_path, command=["true"])
    assert recorder.messages == [problem]
    assert made.get_job_status(job_id) is JobState.COMPLETED


def test_a_sweep_that_is_not_there_is_told(tmp_path: Path) -> None:
    went = run_hook(["true"], SweepPaths(tmp_path), Interrupts(), grace=1)
    assert str(went.problem).startswith("on_sweep_end: no sweep in")


def test_under_hydra_it_runs_once_after_the_last_batch(tmp_path: Path) -> None:
    app = App(tmp_path, "def job(cfg): return cfg.job")
    words = hydra_words(tmp_path)
    done = app.run("job=range(5)", "hydra.sweeper.max_batch_size=2", on_sweep_end=words)
    assert done.code == 0
    assert told(tmp_path) == [f"finished|5|5|0|0|0|{tmp_path / 'sweep'}"]


@pytest.mark.slow
def test_under_hydra_it_is_told_of_a_failure_and_the_exit_code_stays(tmp_path: Path) -> None:
    app = App(tmp_path, "def job(cfg): return 1 // cfg.job")
    done = app.run("job=range(3)", on_sweep_end=hydra_words(tmp_path))
    assert done.code == 1
    assert told(tmp_path) == [f"finished|3|2|1|0|0|{tmp_path / 'sweep'}"]


@pytest.mark.slow
def test_under_hydra_it_is_told_of_a_ctrl_c(tmp_path: Path) -> None:
    app = App(
        tmp_path,
        """
        def job(cfg):
            note(f"started-{cfg.job}")
            stay()
        """,
    )
    with app.start("job=range(3)", on_sweep_end=hydra_words(tmp_path), kill_grace=0.5) as sweep:
        sweep.wait_for_files("started-0", "started-1")
        sweep.process.send_signal(signal.SIGINT)
        assert sweep.finish().code == 130
    wait_for(lambda: told(tmp_path), "the command")
    assert told(tmp_path) == [f"interrupted by SIGINT|3|0|0|0|3|{tmp_path / 'sweep'}"]


@pytest.mark.slow
def test_under_hydra_no_job_runs_it(tmp_path: Path) -> None:
    """It hangs on the exit of the launching process, of which forked jobs are copies."""
    app = App(tmp_path, "def job(cfg): return cfg.job")
    app.run("job=range(3)", on_sweep_end=hydra_words(tmp_path), start_method="fork")
    assert len(told(tmp_path)) == 1


# --- signals to the launcher while it runs ----------------------------------------------------

#: Notes that it runs, also from a child, and stays; the first form is deaf to SIGTERM.
DEAF, HEARING = (
    f'{trap}echo $$ > "$1/hook"; sleep 60 & echo $! > "$1/child"; while :; do wait; sleep 1; done'
    for trap in ("""trap ': > "$1/heard"' TERM; """, "")
)


@contextmanager
def hook_running(
    folder: Path, hook: str, **settings: Any
) -> Iterator[tuple[RunningSweep, list[int]]]:
    """A sweep whose command runs: the launcher, and the pids of the command and its child."""
    write_driver(
        folder,
        """
        from hsm.core.local import LocalManager
        manager = LocalManager(**json.loads(sys.argv[1]))
        manager.run([{"x": 1}], command=["true"], sweep_dir="sweep")
        print("went on")
        """,
    )
    given = {"on_sweep_end": ["sh", "-c", hook, "sh", str(folder)], "progress": "plain"}
    with start_driver(folder, {**given, **settings}) as running:
        files = [folder / "hook", folder / "child"]
        wait_for(lambda: all(f.exists() and f.read_text() for f in files), "the command")
        yield running, [int(file.read_text()) for file in files]


def test_a_signal_ends_it_and_then_the_program(tmp_path: Path) -> None:
    with hook_running(tmp_path, HEARING, kill_grace=600) as (running, pids):
        running.process.send_signal(signal.SIGTERM)
        done = running.finish()
    assert done.code == 143
    assert "on_sweep_end: sh was stopped by SIGTERM" in done.out
    assert "went on" not in done.out
    assert not any(map(is_running, pids))
    assert done.states == ["COMPLETED"]


def test_one_that_is_deaf_is_killed_when_the_grace_is_over(tmp_path: Path) -> None:
    with hook_running(tmp_path, DEAF, kill_grace=0.5) as (running, pids):
        running.process.send_signal(signal.SIGHUP)
        assert running.finish().code == 129
    assert not any(map(is_running, pids))


def test_a_second_signal_kills_it_at_once(tmp_path: Path) -> None:
    with hook_running(tmp_path, DEAF, kill_grace=600) as (running, pids):
        running.process.send_signal(signal.SIGINT)
        running.wait_for_files("heard")
        let_burst_pass()
        running.process.send_signal(signal.SIGINT)
        assert running.finish().code == -signal.SIGINT
    assert not any(map(is_running, pids))


@pytest.mark.parametrize(
    ("job", "states"),
    [(1, ["COMPLETED"]), pytest.param(0, ["FAILED"], marks=pytest.mark.slow)],
)
def test_under_hydra_a_signal_ends_it_too(tmp_path: Path, job: int, states: list[str]) -> None:
    app = App(tmp_path, "def job(cfg): return 1 / cfg.job")
    script = tmp_path / "stay.sh"
    script.write_text(HEARING)
    words = f"[sh,{script},{tmp_path}]"
    with app.start(f"job={job}", on_sweep_end=words, kill_grace=600) as running:
        wait_for((tmp_path / "child").exists, "the command")
        running.process.send_signal(signal.SIGINT)
        done = running.finish()
    assert done.code == 130
    assert "was stopped by SIGINT" in done.screen
    assert "Interrupted" not in done.screen
    assert f"1 job: 1 {states[0].lower()}" in done.out
    assert done.states == states


@pytest.mark.parametrize("hook", first_fast(HEARING, DEAF))
def test_it_dies_with_a_killed_launcher(tmp_path: Path, hook: str) -> None:
    with hook_running(tmp_path, hook, kill_grace=600) as (running, pids):
        if hook is DEAF:  # A service manager sends SIGTERM first.
            running.process.send_signal(signal.SIGTERM)
            running.wait_for_files("heard")
        running.process.kill()
        running.assert_all_gone()
    assert not any(map(is_running, pids))


@pytest.mark.slow
def test_it_dies_with_a_launcher_whose_own_children_stay(tmp_path: Path) -> None:
    """They are forks, and have copies of everything that the launcher had open."""
    write_driver(
        tmp_path,
        """
        import os, threading, time
        from hsm.core.local import LocalManager

        def fork():
            while not os.path.exists("hook"):
                time.sleep(0.01)
            if os.fork() == 0:
                time.sleep(600)
                os._exit(0)
            open("forked", "w").close()

        threading.Thread(target=fork, daemon=True).start()
        LocalManager(**json.loads(sys.argv[1])).run([{"x": 1}], command=["true"], sweep_dir="s")
        """,
    )
    command = ["sh", "-c", "sleep 600 & echo $! > child; echo $$ > hook; wait"]
    with start_driver(tmp_path, {"on_sweep_end": command}) as running:
        running.wait_for_files("forked")
        running.process.kill()
        wait_for(lambda: not is_running(running.pid("hook")), "the command's end")
        wait_for(lambda: not is_running(running.pid("child")), "its child's end")


@pytest.mark.slow
def test_what_it_starts_as_a_daemon_stays(tmp_path: Path) -> None:
    """The next sweep, say, which `hsm sweep --detach` starts."""
    start = "import os; os.setsid(); open('daemon', 'w').write(str(os.getpid())); "
    daemon = [sys.executable, "-c", start + "os.execlp('sleep', 'sleep', '600')"]
    hook = f"{shlex.join(daemon)} & while ! test -s daemon; do sleep 0.02; done; {HEARING}"
    with hook_running(tmp_path, hook) as (running, pids):
        running.process.kill()
        wait_for(lambda: not any(map(is_running, pids)), "the end of the command")
        assert is_running(running.pid("daemon"))


def test_json_is_all_that_is_on_stdout(tmp_path: Path) -> None:
    hook = "sh -c 'echo hello; not-there'"
    words = ["--json", "--progress", "none", "--on-sweep-end", hook, "--", "true"]
    command = [sys.executable, "-m", "hsm.cli.main", "sweep", "x=1", "--sweep-dir", "sweep"]
    with start_program(tmp_path, [*command, *words]) as running:
        done = running.finish()
    assert json.loads(done.out)["states"] == {"COMPLETED": 1}
    assert "hello\n" in done.err
    assert "on_sweep_end: sh ended with exit code 127" in done.err


# --- what nobody shows -------------------------------------------------------------------------


class Silent(SweepObserver):
    """Shows nothing."""


@pytest.mark.parametrize("observers", [[], [Silent()]])
def test_what_goes_wrong_is_logged_if_nobody_shows_it(
    tmp_path: Path, observers: list[SweepObserver], caplog: pytest.LogCaptureFixture
) -> None:
    with source(*observers, on_sweep_end=["not-there"]) as made:
        made.submit_jobs(points(0), "s", tmp_path, command=["true"])
    told = [record for record in caplog.records if "on_sweep_end" in record.message]
    assert [(record.levelname, record.name.split(".")[0]) for record in told] == [
        ("WARNING", "hsm")
    ]


@pytest.mark.parametrize(("progress", "times"), [("none", 1), ("plain", 0)])
def test_a_display_that_shows_nothing_leaves_it_to_the_log(
    tmp_path: Path, progress: str, times: int, caplog: pytest.LogCaptureFixture
) -> None:
    manager = LocalManager(2, progress=progress, on_sweep_end=["not-there"])
    manager.run([{"x": 1}], command=["true"], sweep_dir=tmp_path / "s")
    told = [record for record in caplog.records if "on_sweep_end" in record.message]
    assert len(told) == times


def test_lost_records_are_logged_if_nobody_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_room(self: Journal, job: Job) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Journal, "start", no_room)
    with source() as made:
        made.submit_jobs(points(0), "s", tmp_path, command=["true"])
    assert "No space left on device" in caplog.text
