from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from helpers.processes import PATIENCE, SOURCE, both_methods, wait_for
from hsm import HsmError, Job, LocalManager, SettingsError, SweepObserver, read_sweep
from hsm.core.local import LocalComputeSource
from hsm.core.record import requests as control
from hsm.core.record.paths import SweepPaths
from hsm.core.results.collect import collect_results
from hsm.core.results.results_table import Results


def waiting_for(name: str) -> Callable[[Any], str]:
    """What a job does: tell that it runs, then wait for a file."""

    def job(params: Mapping[str, Any]) -> str:
        Path(f"started-{params['x']}").touch()
        while not Path(name).exists():
            time.sleep(0.02)
        return name

    return job


def numbers(count: int) -> list[dict[str, Any]]:
    return [{"x": x} for x in range(count)]


# --- a sweep in one call
# -------------------------------------------------------------------------------------------------


def test_a_whole_sweep_in_one_call(capsys: pytest.CaptureFixture[str]) -> None:
    def train(params: Mapping[str, Any]) -> dict[str, float]:
        return {"loss": (params["x"] - 2) ** 2}

    with LocalManager(max_parallel_jobs=2) as manager:
        results = manager.run(numbers(5), function=train, sweep_id="mine", sweep_dir="out")
    assert results.sorted_by("value.loss")[0]["x"] == 2
    assert manager.results is results
    screen = capsys.readouterr().out
    assert "job 4 COMPLETED" in screen
    assert "mine: 5 jobs: 5 completed" in screen
    sweep = read_sweep("out")
    assert (sweep.closed, sweep.alive) == ("finished", False)


def test_several_sweeps_one_after_the_other_without_a_block() -> None:
    manager = LocalManager(max_parallel_jobs=2, progress="none")
    first = manager.run(numbers(2), command="true", sweep_dir="one")
    second = manager.run(numbers(3), function=str, sweep_dir="two")
    assert (len(first), len(second)) == (2, 3)
    assert [row["value"] for row in second] == ["{'x': 0}", "{'x': 1}", "{'x': 2}"]


def test_a_sweep_without_a_name_gets_one_and_a_directory() -> None:
    manager = LocalManager(progress="none")
    results = manager.run([{}], command="/bin/true")
    assert results.sweep_id.startswith("true-")
    assert results.paths.sweep_dir == Path.cwd() / "outputs" / results.sweep_id
    assert manager.run([{}], command="true").sweep_id != results.sweep_id


def test_hsm_yaml_says_what_runs_and_where(project_dir: Path) -> None:
    (project_dir / "hsm.yaml").write_text("command: echo {x}\noutput_dir: sweeps\n")
    results = LocalManager(progress="none").run(numbers(1), sweep_id="mine")
    assert results.paths.sweep_dir == project_dir / "sweeps" / "mine"
    assert results.paths.stdout(0).read_text() == "0\n"


def test_jobs_that_fail_raise_nothing() -> None:
    def job(params: Mapping[str, Any]) -> int:
        return 1 // int(params["x"])

    results = LocalManager(progress="none").run(numbers(3), function=job, sweep_dir="out")
    assert [row["state"] for row in results] == ["FAILED", "COMPLETED", "COMPLETED"]
    assert results[0]["reason"].startswith("ZeroDivisionError: ")


def test_as_many_jobs_as_there_are_slots_run_at_once_and_no_more() -> None:
    def meet_the_other_two(params: Mapping[str, Any]) -> None:
        with open("steps", "ab", buffering=0) as steps:
            steps.write(b"+")
            Path(f"started-{params['x']}").touch()
            while params["x"] < 3 and not all(Path(f"started-{x}").exists() for x in range(3)):
                time.sleep(0.01)
            steps.write(b"-")

    manager = LocalManager(max_parallel_jobs=3, timeout=PATIENCE, progress="none")
    results = manager.run(numbers(9), function=meet_the_other_two, sweep_dir="out")
    steps = [1 if step == "+" else -1 for step in Path("steps").read_text()]
    assert (max(accumulate(steps)), len(steps), len(results)) == (3, 18, 9)
    assert {row["state"] for row in results} == {"COMPLETED"}


def test_what_jobs_used_is_in_the_results() -> None:
    def busy(params: Any) -> None:
        data = bytearray(80 << 20)
        end = time.process_time() + 0.3
        while time.process_time() < end:
            data[::4096] = bytes(len(data[::4096]))

    (row,) = LocalManager(progress="none").run([{}], function=busy, sweep_dir="out")
    assert 0.3 <= row["cpu_seconds"] < 5
    # Linux may be some pages behind, as each processor counts for itself first.
    assert 79 << 20 <= row["max_memory"] < 1 << 30


def test_observers_are_told() -> None:
    class Ends(SweepObserver):
        def __init__(self) -> None:
            self.seen: list[int] = []

        def job_ended(self, job: Job) -> None:
            self.seen.append(job.num)

    ends = Ends()
    LocalManager(1, progress="none", observers=[ends]).run(numbers(3), command="true")
    assert ends.seen == [0, 1, 2]


def test_the_jobs_of_a_run_are_forgotten_before_its_results_are_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sources: list[LocalComputeSource] = []
    known: list[int] = []
    begin, collect = LocalComputeSource.from_conf, collect_results

    def note_source(*args: Any, **options: Any) -> LocalComputeSource:
        sources.append(begin(*args, **options))
        return sources[-1]

    def note_known(sweep_dir: Path) -> Results:
        known.append(len(sources[0].jobs()))
        return collect(sweep_dir)

    monkeypatch.setattr(LocalComputeSource, "from_conf", note_source)
    monkeypatch.setattr("hsm.core.local.manager.collect_results", note_known)
    results = LocalManager(progress="none").run(numbers(2), command="true")
    assert [row["state"] for row in results] == 2 * ["COMPLETED"]
    assert known == [0]


# --- settings
# -------------------------------------------------------------------------------------------------


def test_settings_follow_the_precedence(project_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project_dir / "hsm.yaml").write_text("local: {timeout: 20, kill_grace: 3}")
    monkeypatch.setenv("HSM_LOCAL_TIMEOUT", "30")
    monkeypatch.setenv("HSM_LOCAL_MAX_JOBS", "7")
    conf = LocalManager(kill_grace=1).conf
    assert (conf.kill_grace, conf.timeout, conf.max_parallel_jobs) == (1, 20, 7)
    assert (conf.show_output, conf.cleanup_on_exit) == (False, True)


def test_a_bad_setting_is_refused_before_anything_runs() -> None:
    with pytest.raises(SettingsError, match=r"argument timeout must be .*, not -1"):
        LocalManager(timeout=-1)


@pytest.mark.slow
def test_a_job_that_takes_too_long_is_ended() -> None:
    results = LocalManager(timeout=3, progress="none").run(
        [{"s": 60}, {"s": 0}], command="sleep {s}", sweep_dir="out"
    )
    assert [row["state"] for row in results] == ["TIMEOUT", "COMPLETED"]
    assert results[0]["reason"] == "timeout after 3 s"


def test_fail_fast_ends_the_sweep() -> None:
    results = LocalManager(1, fail_fast=True, progress="none").run(
        numbers(3), command="false", sweep_dir="out"
    )
    assert [row["state"] for row in results] == ["FAILED", "CANCELLED", "CANCELLED"]


@pytest.mark.parametrize("cleanup", [True, False])
def test_temporary_directories_are_removed_if_that_is_asked_for(cleanup: bool) -> None:
    results = LocalManager(cleanup_on_exit=cleanup, progress="none").run(
        [{}], command=["sh", "-c", 'touch "$TMPDIR/left"; echo $TMPDIR'], sweep_dir="out"
    )
    temporary = Path(results.paths.stdout(0).read_text().strip())
    assert (temporary / "left").exists() is not cleanup
    if not cleanup:
        (temporary / "left").unlink()
        temporary.rmdir()
        temporary.parent.rmdir()


def test_show_output_shows_lines_as_they_come(capsys: pytest.CaptureFixture[str]) -> None:
    LocalManager(1, show_output=True, progress="none").run(numbers(2), command="echo got {x}")
    assert capsys.readouterr().out == "[0] got 0\n[1] got 1\n"


def test_a_python_scripts_output_comes_as_it_prints(project_dir: Path) -> None:
    """Not when the script ends, as it would with a buffer."""
    (project_dir / "train.py").write_text(
        "import sys, time, pathlib\n"
        "print('epoch 1')\n"
        "while not pathlib.Path('go').exists(): time.sleep(0.02)\n"
    )

    class First(SweepObserver):
        def job_output(self, job: Job, stream: str, line: str) -> None:
            (project_dir / "go").write_text(line)

    manager = LocalManager(timeout=PATIENCE, progress="none", observers=[First()], show_output=True)
    (row,) = manager.run([{}], script="train.py")
    assert row["state"] == "COMPLETED"
    assert (project_dir / "go").read_text() == "epoch 1"


def test_a_script_gets_its_arguments_in_the_style_that_is_asked_for() -> None:
    manager = LocalManager(progress="none")
    for style, words in (("hydra", "x=0"), ("flags", "--x 0"), ("none", "")):
        manager.run(numbers(1), script="/bin/echo", args_style=style, sweep_dir=style)
        assert Path(style, "0", "stdout.log").read_text() == f"{words}\n"


# --- refusals
# -------------------------------------------------------------------------------------------------


def test_with_nothing_to_run_it_says_how_to_name_it(project_dir: Path) -> None:
    with pytest.raises(SettingsError, match=r"to LocalManager.run, or set `script:` in hsm.yaml"):
        LocalManager().run([{}])
    assert list(project_dir.iterdir()) == []


@pytest.mark.parametrize(
    ("what", "error"),
    [
        (
            {"script": "/bin/echo", "args_style": "flag"},
            "LocalManager.run: args_style must be ",
        ),
        ({"command": "echo {x}", "args_style": "flags"}, "with the word {args} in a command"),
        ({"function": print, "args_style": "none"}, "args_style goes with a script, or with"),
    ],
)
def test_a_style_of_arguments_that_does_not_suit_is_refused(
    project_dir: Path, what: dict[str, Any], error: str
) -> None:
    with pytest.raises(SettingsError, match=re.escape(error)):
        LocalManager().run(numbers(1), **what)
    assert list(project_dir.iterdir()) == []


def test_an_existing_sweep_is_refused_and_its_results_stay() -> None:
    manager = LocalManager(progress="none")
    manager.run(numbers(2), command="true", sweep_id="mine")
    with pytest.raises(SettingsError, match=r"outputs/mine holds an earlier sweep"):
        manager.run(numbers(3), command="true", sweep_id="mine")
    assert manager.results is not None
    assert len(manager.results) == 2


def test_a_closed_manager_takes_no_sweep() -> None:
    with LocalManager() as manager:
        pass
    with pytest.raises(HsmError, match="LocalManager is closed"):
        manager.run([{}], command="true")


def test_a_sweep_is_resumed_under_its_id() -> None:
    manager = LocalManager(1, progress="none", fail_fast=True)
    combinations = numbers(3)
    manager.run(combinations, command="sh -c 'test {x} = 0 || test -e go'", sweep_id="mine")
    Path("go").touch()
    results = LocalManager(progress="none").run(
        combinations, command="sh -c 'test {x} = 0 || test -e go'", sweep_id="mine", resume=True
    )
    assert [row["state"] for row in results] == ["COMPLETED"] * 3
    assert [row["attempts"] for row in results] == [1, 2, 1]


# --- threads
# -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_several_threads_and_managers_at_once() -> None:
    shared, other = (LocalManager(max_parallel_jobs=2, progress="plain") for _ in range(2))
    found: dict[str, list[Any]] = {}

    def run(manager: LocalManager, name: str) -> None:
        results = manager.run(
            numbers(4), function=lambda params: f"{name}-{params['x']}", sweep_dir=name
        )
        found[name] = [row["value"] for row in results]

    names = ["a", "b", "c", "d"]
    threads = [
        threading.Thread(target=run, args=(manager, name))
        for name, manager in zip(names, [shared, shared, other, other], strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert found == {name: [f"{name}-{x}" for x in range(4)] for name in names}


def test_closing_ends_what_runs_in_other_threads() -> None:
    done: list[str] = []

    def run(manager: LocalManager) -> None:
        results = manager.run(numbers(5), function=waiting_for("never"), sweep_dir="out")
        done.extend(row["state"] for row in results)

    with LocalManager(max_parallel_jobs=2, progress="none", start_method="fork") as manager:
        thread = threading.Thread(target=run, args=(manager,))
        thread.start()
        wait_for(lambda: Path("started-1").exists(), "two jobs")
    thread.join(PATIENCE)
    assert done == ["CANCELLED"] * 5
    sweep = read_sweep("out")
    assert (sweep.closed, sweep.alive) == ("the LocalManager was closed", False)


# --- signals and other places
# -------------------------------------------------------------------------------------------------

SWEEP = """
import signal, sys, time
from pathlib import Path
from hsm import LocalManager

def job(params):
    if params["x"] == 0:
        return "first"
    Path(f"started-{params['x']}").touch()
    time.sleep(600)

if __name__ == "__main__":
    manager = LocalManager(max_parallel_jobs=2, progress="plain", kill_grace=0.3)
    try:
        results = manager.run([{"x": x} for x in range(50)], function=job, sweep_dir="out")
        print("went on with", results[0]["value"])
    finally:
        print("left with", [row["value"] for row in manager.results][:2], flush=True)
"""


@contextmanager
def running(program: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program, once its jobs 1 and 2 run; what it prints goes to the file `screen`."""
    Path("run.py").write_text(program)
    with open("screen", "wb") as screen:
        process = subprocess.Popen(
            [sys.executable, "run.py"],
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
            stdout=screen,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(lambda: Path("started-2").exists(), "two jobs")
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("signum", "code"),
    [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
)
def test_a_signal_ends_the_jobs_and_keeps_the_results(signum: signal.Signals, code: int) -> None:
    with running(SWEEP) as process:
        process.send_signal(signum)
        assert process.wait(PATIENCE) == code
    screen = Path("screen").read_text()
    assert f"Interrupted by {signum.name}: the jobs were ended" in screen
    assert "50 jobs: 1 completed, 49 cancelled" in screen
    assert "left with ['first', None]" in screen
    assert "went on" not in screen
    assert not Path("started-3").exists()
    assert read_sweep("out").closed == f"interrupted by {signum.name}"


def test_a_handler_of_ones_own_decides_what_a_signal_means() -> None:
    handler = "signal.signal(signal.SIGTERM, lambda *_: print('handled'))\n"
    with running(SWEEP.replace("\nif __name__", f"\n{handler}\nif __name__")) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    screen = Path("screen").read_text()
    assert "handled\nwent on with first\n" in screen


CANCEL = """
def cancel():
    from hsm.core.record import requests as control
    from hsm.core.record.paths import SweepPaths
    while not Path("started-2").exists():
        time.sleep(0.01)
    control.ask(SweepPaths("out"), None)

import threading
threading.Thread(target=cancel, daemon=True).start()
signal.signal(signal.SIGTERM, lambda *_: print("a signal that nobody sent"))
"""


def test_a_cancel_ends_the_sweep_and_not_the_program() -> None:
    with running(SWEEP.replace("\nif __name__", f"\n{CANCEL}\nif __name__")) as process:
        assert process.wait(PATIENCE) == 0
    screen = Path("screen").read_text()
    assert "Cancelled: the jobs were ended" in screen
    assert "50 jobs: 1 completed, 49 cancelled" in screen
    assert "went on with first" in screen
    assert "nobody sent" not in screen
    assert read_sweep("out").closed == "cancelled"


def test_a_cancelled_run_in_another_thread_gives_its_results() -> None:
    results: list[Any] = []
    manager = LocalManager(max_parallel_jobs=2, progress="none", kill_grace=0.3)
    command = ["sh", "-c", "touch started-{x}; exec sleep 60"]

    def run() -> None:
        results.extend(manager.run(numbers(4), command=command, sweep_dir="out"))

    thread = threading.Thread(target=run)
    thread.start()
    wait_for(lambda: Path("started-1").exists(), "two jobs")
    control.ask(SweepPaths("out"), None)
    thread.join(PATIENCE)
    assert [row["state"] for row in results] == ["CANCELLED"] * 4


def test_ctrl_c_in_the_main_thread_ends_sweeps_of_other_threads() -> None:
    main = """
if __name__ == "__main__":
    import threading
    with LocalManager(max_parallel_jobs=2, progress="none", start_method="fork") as manager:
        params = [{"x": x} for x in range(50)]
        options = {"function": job, "sweep_dir": "out"}
        thread = threading.Thread(target=manager.run, args=(params,), kwargs=options)
        thread.start()
        while thread.is_alive():  # Of a signal just before a long wait, Python knows only after it.
            thread.join(0.05)
"""
    with running(SWEEP.partition("\nif __name__")[0] + main) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == -signal.SIGINT
    assert read_sweep("out").closed == "the LocalManager was closed"


def test_as_in_a_notebook() -> None:
    """No file behind `__main__`, functions that cells define, and other threads beside."""
    cell = """
        import math
        from hsm import LocalManager
        scale = 10

        def train(params):
            return helper(params["x"])

        def helper(x):
            return scale * math.sqrt(x)

        results = LocalManager(max_parallel_jobs=2).run(
            [{"x": 1}, {"x": 4}], function=train, sweep_dir="out"
        )
        import json
        print(json.dumps([row["value"] for row in results]))
    """
    kernel = f"""
        import threading
        stop = threading.Event()
        thread = threading.Thread(target=stop.wait)
        thread.start()
        exec(compile({dedent(cell)!r}, "<cell 1>", "exec"))
        stop.set()
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(kernel)],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [10.0, 20.0]
    assert "2 jobs: 2 completed" in done.stdout


@both_methods
def test_in_pythons_development_mode_nothing_is_left_to_warn_of(start_method: str) -> None:
    program = f"""
        from hsm import LocalManager

        def job(params):
            return params["x"]

        if __name__ == "__main__":
            manager = LocalManager(2, progress="none", start_method={start_method!r})
            manager.run([{{"x": 1}}, {{"x": 2}}], function=job, sweep_dir="out")
            manager.run([{{"x": 1}}, {{"x": 2}}], command=["true"], sweep_dir="out-2")
    """
    Path("run.py").write_text(dedent(program))
    done = subprocess.run(
        [sys.executable, "-X", "dev", "run.py"],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert "ResourceWarning" not in done.stderr
