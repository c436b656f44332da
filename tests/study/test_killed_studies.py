"""A launcher that is killed wherever it is: no trial is lost, told twice, or numbered twice."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest

import journaling_launcher
from helpers.processes import PATIENCE, REPOSITORY, child_environment, wait_for

pytestmark = pytest.mark.thorough

COUNT = 24
ROUNDS = 5


def start(folder: Path, sampler: Any) -> subprocess.Popen[bytes]:
    tests = REPOSITORY / "tests"
    return subprocess.Popen(
        [
            sys.executable,
            journaling_launcher.__file__,
            str(folder),
            json.dumps(sampler),
            str(COUNT),
        ],
        env=child_environment(PYTHONPATH=f"{tests}:{tests / 'study'}"),
        stderr=subprocess.PIPE,
    )


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def kill_once(folder: Path, sampler: Any, until: int) -> None:
    """Kill a launcher when the study's file has so many bytes."""
    process = start(folder, sampler)
    study_file = folder / ".hsm" / "optuna.journal"
    wait_for(
        lambda: size(study_file) > until or process.poll() is not None, "a few lines of the study"
    )
    process.kill()
    process.communicate(timeout=PATIENCE)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", {"name": "nsgaii", "population_size": 4}])
def test_no_trial_is_lost_or_told_twice(tmp_path: Path, sampler: Any) -> None:
    chance = random.Random(11)
    study_file = tmp_path / ".hsm" / "optuna.journal"
    for _ in range(ROUNDS):
        kill_once(tmp_path, sampler, size(study_file) + chance.randrange(4000))
    process = start(tmp_path, sampler)
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, error.decode()
    jobs = journaling_launcher.read(tmp_path)
    assert sorted(jobs) == list(range(COUNT))
    assert all(job.state.is_final for job in jobs.values())
    backend = optuna.storages.journal.JournalFileBackend(str(study_file))
    study = optuna.load_study(study_name="study", storage=optuna.storages.JournalStorage(backend))
    told = Counter(trial.user_attrs["hsm"] for trial in study.trials)
    assert told == {f"s1/{index}": 1 for index in range(COUNT)}
    for trial in study.trials:
        job = jobs[int(trial.user_attrs["hsm"].partition("/")[2])]
        assert trial.params == {k: v for k, v in job.params.items() if k != "k"}
        assert job.outcome is not None
        assert trial.value == job.outcome.objective
        assert trial.state.is_finished()
