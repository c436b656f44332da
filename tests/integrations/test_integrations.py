"""The callbacks of hsm.integrations, in trainings by the real libraries.

Each training is a program of its own, as users write it: `PROGRAMS`. Its validation loss is
what its first argument says, in each of as many epochs as the second says.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from helpers.cli import Project
from helpers.processes import child_environment
from hsm.core.record.paths import SweepPaths
from hsm.core.record.sweep import read_sweep

pytestmark = [pytest.mark.heavy, pytest.mark.thorough]

#: Seconds; importing these libraries takes many of them.
PATIENCE = 300.0

HEAD = """
import os, sys, warnings

warnings.simplefilter("ignore")
loss, epochs = float(sys.argv[1].split("=")[-1]), int(sys.argv[2].split("=")[-1])
metrics = sys.argv[3] if len(sys.argv) > 3 else None
"""

LIGHTNING = """
import torch
from torch.utils.data import DataLoader, TensorDataset
import {package} as pl
from hsm.integrations.{module} import HsmCallback


class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch, _):
        error = (self.layer(batch[0]) ** 2).mean()
        self.log("train_loss", error, on_step=True, on_epoch=True)
        return error

    def validation_step(self, batch, _):
        self.log("val_loss", torch.tensor(loss), sync_dist=True)
        self.log("step", 1.0, sync_dist=True)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


data = DataLoader(TensorDataset(torch.zeros(8, 2)), batch_size=2)
trainer = pl.Trainer(
    max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
    enable_progress_bar=False, callbacks=[HsmCallback(metrics)], {more}
)
trainer.fit(Model(), data, data)
trainer.validate(trainer.model, data, verbose=False)
print("epochs:", trainer.current_epoch, flush=True)
"""

KERAS = """
os.environ["KERAS_BACKEND"] = "torch"
import keras, numpy
from hsm.integrations.keras import HsmCallback

inputs = keras.Input((2,))
model = keras.Model(inputs, keras.layers.Dense(1, kernel_initializer="zeros")(inputs))
model.compile(optimizer=keras.optimizers.SGD(0.0), loss="mae")
x, y = numpy.zeros((8, 2)), numpy.full((8, 1), loss)
history = model.fit(
    x, y, epochs=epochs, validation_data=(x, y), verbose=0, callbacks=[HsmCallback(metrics)]
)
print("epochs:", len(history.epoch), flush=True)
"""

TRANSFORMERS = """
import torch
from transformers import Trainer, TrainingArguments
from hsm.integrations.transformers import HsmCallback


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, x, labels=None):
        out = self.layer(x)
        return dict(loss=0 * out.sum() + loss, logits=out)


data = [dict(x=torch.zeros(2), labels=torch.zeros(1)) for _ in range(8)]
options = TrainingArguments(
    output_dir="trained", num_train_epochs=epochs, per_device_train_batch_size=2, use_cpu=True,
    report_to=[], save_strategy="no", disable_tqdm=True, logging_strategy="epoch", {more}
)
trainer = Trainer(
    Model(), options, train_dataset=data, eval_dataset=data, callbacks=[HsmCallback(metrics)]
)
trainer.train()
trainer.evaluate()
print("epochs:", round(trainer.state.epoch), flush=True)
"""

BY_EPOCH, BY_STEP = "eval_strategy='epoch'", "eval_strategy='steps', eval_steps=2"

PROGRAMS = {
    "lightning": LIGHTNING.format(package="lightning.pytorch", module="lightning", more=""),
    "pytorch_lightning": LIGHTNING.format(
        package="pytorch_lightning", module="pytorch_lightning", more=""
    ),
    "keras": KERAS,
    "transformers": TRANSFORMERS.format(more=BY_EPOCH),
}
#: What each calls the validation loss.
LOSS = {name: "eval_loss" if name == "transformers" else "val_loss" for name in PROGRAMS}
each_library = pytest.mark.parametrize(
    "library",
    [
        pytest.param(
            name, marks=pytest.mark.skipif(find_spec(name) is None, reason="it is not installed")
        )
        for name in PROGRAMS
    ],
)


def write(folder: Path, program: str) -> Path:
    path = folder / "train.py"
    path.write_text(HEAD + program)
    return path


def train(
    path: Path,
    *arguments: object,
    env: Mapping[str, str] | None = None,
    starter: tuple[str, ...] = (),
    exit_code: int = 0,
) -> str:
    """Run a program; returns what it printed."""
    command = [sys.executable, *starter, path.name, *map(str, arguments)]
    done = subprocess.run(
        command,
        cwd=path.parent,
        env=child_environment(**(env or {})),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == exit_code, done.stdout
    return done.stdout


@pytest.fixture
def reports(tmp_path: Path) -> SweepPaths:
    """A sweep, whose job 0 reports."""
    paths = SweepPaths(tmp_path / "sweep")
    paths.create()
    return paths


def as_job(paths: SweepPaths, *, prunes: bool | None = None) -> dict[str, str]:
    """The variables of that job; `prunes` is the answer when it asks whether to end early."""
    metrics = Path(paths.metrics_text(0))
    env = {"HSM_METRICS": str(metrics), "HSM_ATTEMPT": "1"}
    if prunes is not None:
        answer = metrics.with_suffix(".answer")
        answer.write_text(f"{1 << 40} {prunes:d}")
        env["HSM_PRUNES"] = str(answer)
    return env


def told(paths: SweepPaths) -> list[Any]:
    return [json.loads(line) for line in Path(paths.metrics_text(0)).read_text().splitlines()]


def steps(paths: SweepPaths, name: str) -> list[tuple[int, Any]]:
    """Steps and values of a metric."""
    lines = [line for line in told(paths) if isinstance(line, dict) and name in line]
    return [(line["step"], pytest.approx(line[name])) for line in lines]


@each_library
def test_each_epoch_is_reported(library: str, tmp_path: Path, reports: SweepPaths) -> None:
    env = as_job(reports, prunes=False)
    assert "epochs: 3" in train(write(tmp_path, PROGRAMS[library]), 0.25, 3, env=env)
    found = steps(reports, LOSS[library])
    if library == "transformers":  # evaluated once more after the training
        assert found.pop() == (2, 0.25)
    assert found == [(0, 0.25), (1, 0.25), (2, 0.25)]
    assert [line for line in told(reports) if isinstance(line, str)] == ["asks"]
    names = {name for line in told(reports) if isinstance(line, dict) for name in line}
    train_loss = "loss" if library in ("keras", "transformers") else "train_loss_epoch"
    assert {"step", train_loss} <= names
    assert "epoch" not in names


@each_library
def test_a_job_that_is_pruned_stops_and_ends_as_the_library_does(
    library: str, tmp_path: Path, reports: SweepPaths
) -> None:
    env = as_job(reports, prunes=True)
    screen = train(write(tmp_path, PROGRAMS[library]), 0.25, 5, env=env)
    assert "epochs: 1" in screen
    assert [line for line in told(reports) if isinstance(line, str)] == ["asks", "pruned"]


@each_library
def test_a_study_prunes(library: str, tmp_path: Path) -> None:
    write(tmp_path, PROGRAMS[library])
    Project(tmp_path).hsm(
        *("sweep", "loss=0.125,0.875", "epochs=3", "--sweep-id=s", "--sweep-dir=sweep"),
        *("--method=optuna", "--sampler=grid", f"--objective={LOSS[library]}"),
        *("--pruner", "{name: threshold, upper: 0.5}", "--parallel-jobs=1"),
        *("--", sys.executable, "train.py", "{loss}", "{epochs}"),
    )
    jobs = {job.params["loss"]: job for job in read_sweep(tmp_path / "sweep").jobs.values()}
    assert {loss: str(job.state) for loss, job in jobs.items()} == {
        0.125: "COMPLETED",
        0.875: "PRUNED",
    }
    logs = tmp_path / "sweep" / ".hsm" / "logs"
    printed = {loss: (logs / f"{job.num}.out").read_text() for loss, job in jobs.items()}
    assert "epochs: 3" in printed[0.125]
    assert "epochs: 1" in printed[0.875]
    ends = [job.outcome for _, job in sorted(jobs.items())]
    assert [end and end.objective for end in ends] == [0.125, 0.875]


@each_library
def test_metrics_may_be_chosen(library: str, tmp_path: Path, reports: SweepPaths) -> None:
    train(write(tmp_path, PROGRAMS[library]), 0.25, 2, LOSS[library], env=as_job(reports))
    assert {name for line in told(reports) for name in line} == {"step", LOSS[library]}


@each_library
def test_a_misspelt_metric_fails_even_outside_of_hsm(library: str, tmp_path: Path) -> None:
    screen = train(write(tmp_path, PROGRAMS[library]), 0.25, 2, "los", exit_code=1)
    assert "ValueError: HsmCallback: nothing was logged as los; logged: " in screen
    assert LOSS[library] in screen.partition("logged as los")[2]


def test_lightning_validates_several_times_an_epoch(tmp_path: Path, reports: SweepPaths) -> None:
    pytest.importorskip("lightning")
    more = "val_check_interval=0.5"
    program = LIGHTNING.format(package="lightning.pytorch", module="lightning", more=more)
    train(write(tmp_path, program), 0.25, 2, env=as_job(reports))
    assert [step for step, _ in steps(reports, "val_loss")] == [2, 4, 6, 8]


def test_lightning_validates_every_second_epoch(tmp_path: Path, reports: SweepPaths) -> None:
    pytest.importorskip("lightning")
    more = "check_val_every_n_epoch=2"
    program = LIGHTNING.format(package="lightning.pytorch", module="lightning", more=more)
    train(write(tmp_path, program), 0.25, 4, "val_loss", env=as_job(reports))
    assert [step for step, _ in steps(reports, "val_loss")] == [1, 3]


def test_transformers_evaluates_by_steps(tmp_path: Path, reports: SweepPaths) -> None:
    pytest.importorskip("transformers")
    program = TRANSFORMERS.format(more=BY_STEP)
    env = as_job(reports, prunes=True)
    assert "epochs: 0" in train(write(tmp_path, program), 0.25, 3, env=env)  # half of one
    assert [step for step, _ in steps(reports, "eval_loss")] == [2, 2]


def test_transformers_without_evaluations_asks_after_logs(
    tmp_path: Path, reports: SweepPaths
) -> None:
    pytest.importorskip("transformers")
    program = TRANSFORMERS.format(more="eval_strategy='no'")
    env = as_job(reports, prunes=True)
    assert "epochs: 1" in train(write(tmp_path, program), 0.25, 3, "loss", env=env)
    assert [step for step, _ in steps(reports, "loss")] == [4]


def test_of_several_ranks_the_first_reports_and_all_stop(
    tmp_path: Path, reports: SweepPaths
) -> None:
    """Otherwise this waits for ever: a rank trains on, and waits for the other."""
    pytest.importorskip("lightning")
    more = "devices=2, strategy='ddp'"
    program = LIGHTNING.format(package="lightning.pytorch", module="lightning", more=more)
    screen = train(write(tmp_path, program), 0.25, 3, env=as_job(reports, prunes=True))
    assert screen.count("epochs: 1") == 2
    assert [step for step, _ in steps(reports, "val_loss")] == [0]


def test_of_several_ranks_of_a_trainer_the_first_reports_and_all_stop(
    tmp_path: Path, reports: SweepPaths
) -> None:
    pytest.importorskip("transformers")
    screen = train(
        write(tmp_path, PROGRAMS["transformers"]),
        *(0.25, 3),
        starter=("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
        env=as_job(reports, prunes=True),
    )
    assert screen.count("epochs: 1") == 2
    assert [step for step, _ in steps(reports, "eval_loss")] == [0, 0]
