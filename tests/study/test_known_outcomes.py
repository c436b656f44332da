"""Outcomes of other sweeps, and a study that is used from two threads."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import optuna
import pytest

from helpers import written_sweeps
from helpers.studies import SPACE, Sweep, space_of, told
from hsm.core.record.job import JobState
from hsm.core.record.metrics import Measurement
from hsm.core.record.sweep import read_sweep

pytestmark = pytest.mark.thorough


def written(folder: Path) -> Any:
    """A sweep of eight jobs, three of which a study of `SPACE` can use."""
    sweep = written_sweeps.Sweeps(folder)
    sweep.submit(
        {"x": 0.5, "n": 2, "kind": "a"},
        {"x": 9.0, "n": 2, "kind": "a"},
        {"x": 0.5, "n": 2},
        {"x": -1, "n": 8, "kind": "b", "k": 3},
        {"x": 0.0, "n": 1, "kind": "b"},
        {"x": 0.1, "n": 1, "kind": "b"},
        {"x": 0.1, "n": 1, "kind": "b", "k": 4},
        {"x": 0.1, "n": 1, "kind": "b", "other": 4},
    )
    for num in range(4):
        sweep.end(num, value=float(num))
    sweep.end(4, JobState.FAILED, exit_code=1)
    sweep.end(5, value={"loss": 0.25}, objective=0.75)
    sweep.end(6, value=1.0)
    sweep.end(7, value=1.0)
    sweep.journal.close("completed")
    return read_sweep(folder)


def test_outcomes_of_other_sweeps_become_trials(tmp_path: Path) -> None:
    one = Sweep(tmp_path / "new", space_of(*SPACE), {"n_trials": 3, "seed": 1, "sampler": "tpe"})
    earlier = written(tmp_path / "old")
    one.opening["warm"] = [earlier]
    trials = one.open()
    assert trials.warm == (3, 4)
    one.run(trials)
    assert told(trials) == [
        *[("None", "COMPLETE")] * 3,
        *[(f"s1/{index}", "COMPLETE") for index in range(3)],
    ]
    study: optuna.Study = trials._proposer._study  # type: ignore[attr-defined]
    assert [trial.value for trial in study.trials[:3]] == [0.0, 3.0, 0.75]
    assert sorted(one.jobs) == [0, 1, 2]
    assert trials.best()[0].job in one.jobs  # not one of the other sweep's
    trials.close()
    one.options["n_trials"] = 4
    trials = one.open()  # They are there already.
    one.run(trials)
    assert trials.warm == (3, 4)
    assert [mark for mark, _ in told(trials)].count("None") == 3


def test_a_metric_is_looked_up_in_other_sweeps(tmp_path: Path) -> None:
    one = Sweep(tmp_path / "new", space_of(*SPACE), {"n_trials": 1, "metric": "loss"})
    earlier = written(tmp_path / "old")
    one.opening["warm"] = [earlier]
    trials = one.open()
    study: optuna.Study = trials._proposer._study  # type: ignore[attr-defined]
    assert 0.25 in [trial.value for trial in study.trials]


def test_jobs_measure_while_others_are_asked_for(tmp_path: Path) -> None:
    """One thread asks and tells, another one measures: all of it is in the file."""
    one = Sweep(tmp_path, space_of(*SPACE), {"n_trials": 20, "seed": 1, "sampler": "tpe"})
    one.options["pruner"] = {"name": "median", "n_startup_trials": 3}
    trials = one.open()
    running: dict[int, Any] = {}
    is_over = threading.Event()

    def measure() -> None:
        step = 0
        while not is_over.wait(0.001):
            step += 1
            for job in list(running.values()):
                trials.measured(job, Measurement(step, {"value": float(job.num)}))

    thread = threading.Thread(target=measure)
    thread.start()
    try:
        while (asked := trials.ask()) is not None:
            running[asked.num] = one.submit(asked)
            if len(running) == 4:
                job = running[min(running)]
                one.end(trials, job)
                trials.ended(job)
                del running[job.num]
    finally:
        is_over.set()
        thread.join()
    for job in running.values():
        one.end(trials, job)
        trials.ended(job)
    trials.close()
    backend = optuna.storages.journal.JournalFileBackend(str(one.paths.study))
    study = optuna.load_study(study_name="study", storage=optuna.storages.JournalStorage(backend))
    assert [trial.value for trial in study.trials] == [job.value for job in one.jobs.values()]


def test_a_disk_that_is_full_stops_nobody(tmp_path: Path, caplog: Any, monkeypatch: Any) -> None:
    one = Sweep(tmp_path, space_of(*SPACE), {"n_trials": 6, "seed": 1, "sampler": "tpe"})
    trials = one.open()
    one.submit(trials.ask())  # type: ignore[arg-type]
    real, full = os.write, True

    def write(fd: int, data: bytes) -> int:
        if full:
            real(fd, data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        return real(fd, data)

    monkeypatch.setattr(os, "write", write)
    one.submit(trials.ask())  # type: ignore[arg-type]
    one.submit(trials.ask())  # type: ignore[arg-type]
    full = False
    one.submit(trials.ask())  # type: ignore[arg-type]
    trials.close()
    [record] = caplog.records
    assert "No space left on device" in record.getMessage()
    one.restart()
    trials = one.open()
    assert told(trials) == [(f"s1/{index}", "RUNNING") for index in range(4)]
