"""The short form of benchmarks/studies.py: studies that are killed and damaged go on unchanged."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.processes import REPOSITORY, child_environment

pytestmark = pytest.mark.thorough

BENCHMARKS = REPOSITORY / "benchmarks"


@pytest.mark.slow
@pytest.mark.parametrize("door", ["command", "hydra"])
def test_random_kills_and_torn_files_change_nothing(project_dir: Path, door: str) -> None:
    figures = project_dir / "figures.json"
    # When a study is hit depends on the machine; what has to come of it does not.
    words = ["--doors", door, "--ways", "tpe", "--kills", "3", "--trials", "16", "--seed", "1"]
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "studies.py"), *words, "--json", str(figures)],
        env=child_environment(TMPDIR=str(project_dir)),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert figures.exists(), done.stderr
    found = json.loads(figures.read_text())["found"]
    assert [study["problem"] for study in found] == ["", ""]
    assert [study["way"] for study in found] == ["tpe", "tpe, 4 slots"]
    assert done.returncode == 0
    assert os.listdir(project_dir) == ["figures.json"]


@pytest.mark.parametrize(
    ("values", "wrong"),
    [([3.0, 1.0], []), ([3.0], [1]), ([3.0, 1.5], [1]), ([3.0, 1.0, 1.0], [1])],
    ids=["right", "not told", "told wrongly", "told twice"],
)
def test_what_is_wrong_with_a_study_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: list[float], wrong: list[int]
) -> None:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    monkeypatch.syspath_prepend(BENCHMARKS)
    from studies import told_wrongly

    file = tmp_path / "optuna.journal"
    storage = JournalStorage(JournalFileBackend(str(file)))
    study = optuna.create_study(storage=storage, study_name="s")
    for at, value in enumerate(values):
        trial = study.ask()
        trial.set_user_attr("hsm", f"s/{min(at, 1)}")
        study.tell(trial, value)
    assert told_wrongly(file, {0: 3.0, 1: 1.0}) == wrong


def test_damage_is_at_the_end_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    from studies import SMALL

    file, whole, last = tmp_path / "file", b'{"first": 1}\n', b'{"second": 2}\n'
    for deed in SMALL:
        for seed in range(20):
            file.write_bytes(whole + last)
            deed(file, random.Random(seed))
            data = file.read_bytes()
            assert data.startswith(whole)
            assert data != whole + last
            assert not data.endswith(b"\n")
