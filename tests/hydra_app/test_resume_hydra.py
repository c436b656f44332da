"""A Hydra sweep that is resumed: by the same command, the one that it names, and the README's."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import socket
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from helpers.docs import Page
from helpers.processes import REPOSITORY, App, start_program, wait_for
from helpers.reliability import side_lines
from hsm.core.record.sweep import read_sweep

pytestmark = pytest.mark.thorough

_APP = """
    def job(cfg):
        with open("side", "a") as file:
            file.write(f'{{"x": {cfg.job}}}\\n')
        note(f"started-{cfg.job}")
        while not (os.path.exists("go") or os.path.exists(f"go-{cfg.job}")):
            time.sleep(0.02)
        if os.path.exists(f"fail-{cfg.job}"):
            raise ValueError(f"cannot do {cfg.job}")
        return {"square": cfg.job ** 2, "not for JSON": {1, 2}}
"""


def let_go(folder: Path, *numbers: int) -> None:
    for number in numbers:
        (folder / f"go-{number}").touch()


def ran(folder: Path) -> list[int]:
    return sorted(line["x"] for line in side_lines(folder))


def kill_at_half(app: App, *overrides: str, **settings: Any) -> None:
    """Start a sweep of eight jobs and kill its launcher when four of them have completed."""
    with app.start("job=range(8)", *overrides, **settings) as sweep:
        let_go(app.folder, 0, 1, 2, 3)
        sweep.wait_for_files("started-4", "started-5")
        for num in range(4):
            sweep.wait_until_ended(num)
        sweep.wait_until_running(4, 5)  # A resume knows of no other attempts.
        sweep.process.kill()
        sweep.assert_all_gone()
    (app.folder / "go").touch()


def test_a_hydra_sweep_killed_at_half_is_resumed_by_the_same_command(tmp_path: Path) -> None:
    app = App(tmp_path, _APP)
    kill_at_half(app)
    done = app.run("job=range(8)", resume="true")
    assert (done.code, done.states) == (0, ["COMPLETED"] * 8)
    counts = Counter(ran(tmp_path))
    assert counts == {**dict.fromkeys(range(8), 1), 4: 2, 5: 2}  # these two were killed
    assert [len(job.attempts) for job in done.jobs.values()] == [1, 1, 1, 1, 2, 2, 1, 1]
    assert "4 of 8 jobs are already done" in done.screen
    assert "resume" in {event["event"] for event in app.events()}


@pytest.mark.slow
def test_what_was_changed_holds_unless_an_override_names_it(tmp_path: Path) -> None:
    app = App(tmp_path, "def job(cfg): pass")
    app.run("job=range(2)")
    change = {"max_parallel_jobs": 1, "timeout": 50.0, "max_retries": 3}
    record = {"event": "control", "request": "set", **change, "time": 1.0}
    with (tmp_path / "sweep" / ".hsm" / "journal.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")
    done = app.run("job=range(3)", resume="true", timeout=40)  # and max_parallel_jobs=2
    assert (done.code, done.states) == (0, ["COMPLETED"] * 3)
    assert "3 retries per job from now on" in done.screen
    assert read_sweep(tmp_path / "sweep").asked.changes == {"max_retries": 3}


@pytest.mark.slow
def test_a_resumed_hydra_sweep_in_batches_returns_every_value(tmp_path: Path) -> None:
    """BasicSweeper stops at a batch with a failed job: that it goes on shows that none failed."""
    app = App(tmp_path, _APP)
    kill_at_half(app, "hydra.sweeper.max_batch_size=3")
    done = app.run("job=range(8)", "hydra.sweeper.max_batch_size=3", resume="true")
    assert (done.code, done.states) == (0, ["COMPLETED"] * 8)
    assert sorted(done.jobs) == list(range(8))
    assert [job.params["job"] for _, job in sorted(done.jobs.items())] == list(range(8))
    assert {num for num, count in Counter(ran(tmp_path)).items() if count > 1} <= {4, 5}


@pytest.mark.slow
def test_a_hydra_sweep_is_resumed_with_other_points(tmp_path: Path) -> None:
    app = App(tmp_path, _APP)
    (tmp_path / "go").touch()
    assert app.run("job=1,2,3").code == 0
    done = app.run("job=4,3,1,4", resume="true")
    assert (done.code, done.states) == (0, ["COMPLETED"] * 5)
    assert ran(tmp_path) == [1, 2, 3, 4, 4]
    assert (tmp_path / "sweep" / "4" / ".hydra" / "overrides.yaml").read_text() == "- job=4\n"


@pytest.mark.slow
def test_ctrl_c_says_how_to_resume_and_that_command_does_it(tmp_path: Path) -> None:
    app = App(tmp_path, _APP)
    with app.start("job=range(4)") as sweep:
        let_go(tmp_path, 0)
        sweep.wait_for_files("started-1", "started-2")
        sweep.wait_until_ended(0)
        sweep.process.send_signal(signal.SIGINT)
        interrupted = sweep.finish()
    assert (interrupted.code, interrupted.states) == (130, ["COMPLETED"] + ["CANCELLED"] * 3)
    (line,) = [line for line in interrupted.screen.splitlines() if line.startswith("To resume: ")]
    (tmp_path / "go").touch()
    with start_program(tmp_path, ["sh", "-c", line.partition(": ")[2]]) as sweep:
        done = sweep.finish()
    assert (done.code, done.states) == (0, ["COMPLETED"] * 4)
    assert Counter(ran(tmp_path)) == {0: 1, 1: 2, 2: 2, 3: 1}


@pytest.mark.slow
@pytest.mark.parametrize("changed", ["train.py", "conf/config.yaml"])
def test_a_hydra_sweep_whose_files_have_changed_is_refused(tmp_path: Path, changed: str) -> None:
    app = App(tmp_path, _APP)
    (tmp_path / "go").touch()
    assert app.run("job=0,1").code == 0
    path = tmp_path / changed
    path.write_text(path.read_text() + ("\nRATE = 2\n" if changed == "train.py" else "rate: 2\n"))
    refused = app.run("job=0,1,2", resume="true")
    assert refused.code == 1
    assert "Traceback" not in refused.screen
    assert f"{Path(changed).name} has changed" in refused.screen
    assert ("+RATE = 2" if changed == "train.py" else "+rate: 2") in refused.screen
    assert ran(tmp_path) == [0, 1]
    done = app.run("job=0,1,2", resume="true", accept_changes="true")
    assert (done.code, done.states) == (0, ["COMPLETED"] * 3)
    assert ran(tmp_path) == [0, 1, 2]


def app_with_models(folder: Path) -> App:
    """An app with a config group `model` of two, whose jobs do not wait."""
    app = App(folder, _APP)
    (folder / "go").touch()
    (folder / "conf" / "model").mkdir()
    for name in ("svm", "tree"):
        (folder / "conf" / "model" / f"{name}.yaml").write_text(f"name: {name}\n")
    return app


@pytest.mark.slow
def test_a_config_that_no_point_uses_any_more_is_no_change(tmp_path: Path) -> None:
    app = app_with_models(tmp_path)
    assert app.run("job=0", "+model=svm,tree").code == 0
    done = app.run("job=0,1", "+model=tree", resume="true")
    assert (done.code, done.states) == (0, ["COMPLETED"] * 3)
    assert ran(tmp_path) == [0, 0, 1]


@pytest.mark.slow
def test_a_config_that_only_a_later_batch_uses_is_compared_too(tmp_path: Path) -> None:
    app = app_with_models(tmp_path)
    batches = ("job=0", "+model=svm,tree", "hydra.sweeper.max_batch_size=1")
    assert app.run(*batches).code == 0
    (tmp_path / "conf" / "model" / "tree.yaml").write_text("name: oak\n")
    refused = app.run(*batches, resume="true")
    assert refused.code == 1
    assert "tree.yaml has changed" in refused.screen


@pytest.mark.slow
def test_a_second_hydra_launcher_that_would_resume_is_refused(tmp_path: Path) -> None:
    app = App(tmp_path, _APP)
    with app.start("job=range(2)") as sweep:
        sweep.wait_for_files("started-0")
        with app.start("job=range(2)", resume="true") as second:
            refused = second.finish()
        assert refused.code == 1
        assert "Traceback" not in refused.screen
        assert f"process {sweep.process.pid} on {socket.gethostname()}" in refused.screen
        (tmp_path / "go").touch()
        assert sweep.process.wait(60) == 0
    assert ran(tmp_path) == [0, 1]
    wait_for(lambda: not read_sweep(tmp_path / "sweep").alive, "the lock to be free")


# --- as a reader of the README does it ------------------------------------------------------------


def readme_commands(heading: str) -> list[list[str]]:
    """The words of each command in the first block of shell below a heading of the README."""
    page = Page(REPOSITORY / "README.md")
    line = page.text[: page.text.index(f"## {heading}\n")].count("\n")
    block = next(b for b in page.blocks() if b.line > line and b.language == "bash")
    return [shlex.split(command) for command in block.text.replace("\\\n", "").splitlines()]


@pytest.mark.slow
def test_a_sweep_killed_at_half_goes_on_as_the_readme_says(tmp_path: Path) -> None:
    """The first sweep of the README, with more points; `hsm list` names its directory."""
    pytest.importorskip("sklearn")
    ignored = shutil.ignore_patterns("__pycache__", "hsm.yaml")  # It asks for more jobs at a time.
    for name in ("examples", "conf"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=ignored)
    (first,) = readme_commands("First sweep")
    command = [re.sub(r"^model\.C=.*", "model.C=0.1,0.3,1,3", word) for word in first]
    env = {"HSM_STATE_DIR": str(tmp_path / "state"), "HSM_LOCAL_MAX_JOBS": "1"}
    with start_program(tmp_path, [sys.executable, *command[1:]], env=env) as sweep:
        (sweep.sweep_dir,) = wait_for(lambda: _begun(tmp_path), "the sweep")
        for num in range(4):
            sweep.wait_until_ended(num)
        sweep.process.kill()
        sweep.assert_all_gone()
        half = sweep.read().jobs
    completed = {num for num, job in half.items() if str(job.state) == "COMPLETED"}
    assert 4 <= len(completed) < len(half) == 8
    with start_program(
        tmp_path, [sys.executable, "-m", "hsm.cli.main", "list", "--json"], env=env
    ) as listing:
        (listed,) = json.loads(listing.finish().out)
    assert listed["sweep_dir"] == str(sweep.sweep_dir)
    resume = readme_commands("When it is interrupted")[-1]
    added = [word for word in resume if word.startswith("hydra.")]
    added = [
        re.sub(r"^hydra\.sweep\.dir=.*", f"hydra.sweep.dir={listed['sweep_dir']}", word)
        for word in added
    ]
    with start_program(tmp_path, [sys.executable, *command[1:], *added], env=env) as again:
        again.sweep_dir = sweep.sweep_dir
        done = again.finish()
    assert (done.code, done.states) == (0, ["COMPLETED"] * 8)
    assert all(isinstance(value, float) for value in done.values)
    attempts = {num: len(job.attempts) for num, job in done.jobs.items()}
    # The one that ran when the launcher was killed is run again: no other is.
    killed = {num for num in attempts if num not in completed and half[num].attempts}
    assert attempts == {num: 2 if num in killed else 1 for num in range(8)}
    assert len(killed) <= 1


def _begun(folder: Path) -> list[Path]:
    """The directories of sweeps below multirun/ whose jobs are in their journals."""
    journals = folder.glob("multirun/*/*/.hsm/journal.jsonl")
    return [path.parents[1] for path in journals if '"event":"submit"' in path.read_text()]
