"""The public Optuna sweeper over hsm_local: trials that crash or hang, and a killed launcher."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from helpers.optuna_sweeper import needs_optuna_sweeper
from helpers.processes import Finished, RunningSweep, start_program, wait_for
from helpers.reliability import side_lines
from hsm.core.record.job import JobState
from hsm.core.record.sweep import read_sweep

pytestmark = [pytest.mark.slow, pytest.mark.thorough, *needs_optuna_sweeper]

_CONFIG = """\
x: 0.0
y: 0.0
defaults:
  - override hydra/sweeper: optuna
  - override hydra/launcher: hsm_local
  - _self_
hydra:
  sweep:
    dir: sweep
  sweeper:
    n_trials: 20
    n_jobs: 2
    max_failure_rate: 1.0
    sampler:
      seed: 7
    params:
      x: interval(-5.0, 5.0)
      y: interval(-5.0, 5.0)
  launcher:
    max_parallel_jobs: 2
    timeout: 3
    kill_grace: 0.5
"""

_SCRIPT = """\
import json
import os
import signal
import time

import hydra


@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg):
    num = int(os.environ["HSM_JOB_NUM"])
    if num == 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    if num == 6:
        time.sleep(60)
    with open("side", "a") as file:
        file.write(json.dumps({"num": num, "x": cfg.x, "y": cfg.y}) + "\\n")
    return (cfg.x - 1) ** 2 + (cfg.y + 2) ** 2


if __name__ == "__main__":
    main()
"""


def write_app(folder: Path) -> Path:
    (folder / "conf").mkdir()
    (folder / "conf" / "config.yaml").write_text(_CONFIG)
    (folder / "train.py").write_text(_SCRIPT)
    return folder


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return write_app(tmp_path)


def run(folder: Path, *overrides: str) -> Finished:
    with start_program(folder, [sys.executable, "train.py", "-m", *overrides]) as sweep:
        return sweep.finish(180)


def best(folder: Path) -> float:
    text = (folder / "sweep" / "optimization_results.yaml").read_text()
    match = re.search(r"best_value: (\S+)", text)
    assert match is not None
    return float(match[1])


def trials(folder: Path) -> dict[int, Any]:
    return {num: job.params for num, job in read_sweep(folder / "sweep").jobs.items()}


def check(folder: Path, done: Finished) -> None:
    """Twenty trials, of which 3 crashed and 6 timed out; the best of the others was found."""
    assert done.code == 0
    states = dict(enumerate(done.states))
    assert (states.pop(3), states.pop(6)) == ("FAILED", "TIMEOUT")
    assert (len(states), set(states.values())) == (18, {"COMPLETED"})
    assert done.jobs[3].attempts[-1].signal == "SIGSEGV"
    assert best(folder) == min(job.value for job in done.jobs.values() if job.value is not None)


def killed_after(sweep: RunningSweep, num: int) -> None:
    """Kill the launcher once job `num` has ended."""
    journal = sweep.sweep_dir / ".hsm" / "journal.jsonl"

    def has_ended() -> bool:
        return journal.exists() and f'"event":"end","job":{num},' in journal.read_text()

    wait_for(has_ended, f"the end of trial {num}", 120)
    sweep.process.send_signal(signal.SIGKILL)
    sweep.assert_all_gone()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Finished]:
    """The study with its seed, from its beginning to its end."""
    folder = write_app(tmp_path_factory.mktemp("undisturbed"))
    return folder, run(folder)


def test_twenty_trials_of_which_one_crashes_and_one_times_out(
    undisturbed: tuple[Path, Finished],
) -> None:
    check(*undisturbed)
    assert sorted(line["num"] for line in side_lines(undisturbed[0])) == [*{*range(20)} - {3, 6}]


@pytest.mark.slow
def test_after_a_sigkill_the_resumed_study_is_the_undisturbed_one(
    app: Path, undisturbed: tuple[Path, Finished]
) -> None:
    """The sampler is seeded: only the same values lead to the same trials."""
    completed, before = run_and_kill(app)
    done = run(app, "hydra.launcher.resume=true")
    check(app, done)
    assert json.dumps(trials(app)) == json.dumps(trials(undisturbed[0]))
    assert best(app) == best(undisturbed[0])
    after = Counter(line["num"] for line in side_lines(app))
    assert all(after[num] == before[num] == 1 for num in completed)
    assert done.jobs[3].attempts[0].signal == "SIGSEGV"
    assert len(done.jobs[3].attempts) == 2  # what crashed and what timed out is tried again


@pytest.mark.slow
def test_a_sampler_without_a_seed_draws_other_trials_after_a_sigkill(app: Path) -> None:
    """They are new points, so new jobs: what the first life completed stays as it was."""
    completed, _ = run_and_kill(app, "hydra.sweeper.sampler.seed=null")
    before = {num: run_params for num, run_params in trials(app).items() if num in completed}
    done = run(app, "hydra.sweeper.sampler.seed=null", "hydra.launcher.resume=true")
    assert done.code == 0
    after = trials(app)
    assert {num: after[num] for num in completed} == before
    assert len(after) > 20
    assert all(done.jobs[num].state is JobState.COMPLETED for num in completed)


def run_and_kill(app: Path, *overrides: str) -> tuple[set[int], Counter[int]]:
    """Kill the launcher after trial 11: what had completed, and how often each had worked."""
    with start_program(app, [sys.executable, "train.py", "-m", *overrides]) as sweep:
        killed_after(sweep, 11)
    completed = {n for n, job in sweep.read().jobs.items() if job.state is JobState.COMPLETED}
    return completed, Counter(line["num"] for line in side_lines(app))
