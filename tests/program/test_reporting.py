"""What `hsm.report` and its like write, and what they refuse."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import hsm
from helpers.processes import child_environment
from hsm.core.program import reporting
from hsm.core.record.paths import SweepPaths


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepPaths:
    """A sweep, whose job 3 this process seems to be."""
    paths = SweepPaths(tmp_path / "sweep")
    paths.create()
    monkeypatch.setenv("HSM_METRICS", paths.metrics_text(3))
    monkeypatch.setenv("HSM_ATTEMPT", "1")
    monkeypatch.setattr(reporting, "_known", {})
    return paths


def written(paths: SweepPaths) -> list[Any]:
    return [json.loads(line) for line in Path(paths.metrics_text(3)).read_text().splitlines()]


def test_outside_of_hsm_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HSM_METRICS", raising=False)
    before = list(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    hsm.report(object(), step="no step")
    hsm.log(a=object())
    assert hsm.should_prune() is False
    assert reporting.last_value() is None
    assert str(hsm.Pruned("text")) == "text"
    assert list(tmp_path.rglob("*")) == before


def test_importing_them_imports_only_a_little_of_the_standard_library() -> None:
    program = (
        "import sys, hsm; before = set(sys.modules); "
        "hsm.report(1.0); hsm.log(a=1); hsm.should_prune(); hsm.Pruned; "
        "print(*sorted(set(sys.modules) - before))"
    )
    env = child_environment()
    env.pop("HSM_METRICS", None)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=env, check=True
    )
    assert done.stdout.split() == ["hsm.core.program", "hsm.core.program.reporting"]


def test_lines(paths: SweepPaths) -> None:
    hsm.report(0.5)
    hsm.report(0.25, 7)
    hsm.report(loss=1, acc=0.5, name="svm", ok=True, nothing=None)
    hsm.report(0.125, step=2, acc=1)
    hsm.report(value=None)
    hsm.log(parameters=10, step=4)
    hsm.log(a=1)
    assert written(paths) == [
        {"step": 0, "value": 0.5},
        {"step": 7, "value": 0.25},
        {"step": 8, "loss": 1, "acc": 0.5, "name": "svm", "ok": True, "nothing": None},
        {"step": 2, "value": 0.125, "acc": 1},
        {"step": 3, "value": None},
        {"step": 4, "parameters": 10},
        {"a": 1},
    ]
    assert os.stat(paths.metrics_text(3)).st_mode & 0o777 == 0o600


def test_numbers_that_are_not_finite_are_numbers(paths: SweepPaths) -> None:
    hsm.report(a=math.nan, b=math.inf, c=-math.inf)
    [line] = written(paths)
    assert math.isnan(line["a"])
    assert (line["b"], line["c"]) == (math.inf, -math.inf)


class Tensor:
    """As those of PyTorch, JAX and TensorFlow."""

    def __init__(self, *values: float) -> None:
        self.values = values

    def item(self) -> float:
        if len(self.values) != 1:
            raise RuntimeError("a Tensor with 2 elements cannot be converted to Scalar")
        return self.values[0]


def test_scalars_of_libraries_become_numbers(paths: SweepPaths) -> None:
    numpy = pytest.importorskip("numpy")
    hsm.report(numpy.float32(0.5), step=numpy.int64(3))
    hsm.report(step=4, a=numpy.float64(0.1), b=numpy.bool_(True), c=numpy.int8(-1))
    hsm.report(step=5, a=numpy.array(0.5), b=numpy.array([0.5]), c=numpy.str_("x"))
    hsm.report(step=6, a=Tensor(0.5), b=Decimal("0.5"), c=Fraction(1, 2))
    hsm.report(step=7, a=numpy.longdouble(0.5), b=10**30)
    assert written(paths) == [
        {"step": 3, "value": 0.5},
        {"step": 4, "a": 0.1, "b": True, "c": -1},
        {"step": 5, "a": 0.5, "b": 0.5, "c": "x"},
        {"step": 6, "a": 0.5, "b": 0.5, "c": 0.5},
        {"step": 7, "a": 0.5, "b": 1e30},
    ]


@pytest.mark.parametrize("value", [[1], {"a": 1}, object(), 1j, b"x", Tensor(1, 2), 10**400])
def test_what_is_no_scalar_is_refused(paths: SweepPaths, value: object) -> None:
    with pytest.raises(TypeError, match=r"hsm.report: loss must be a number, a text, a bool"):
        hsm.report(loss=value)
    with pytest.raises(
        TypeError, match=r"hsm.log: loss must be .*, not .*\(" + type(value).__name__
    ):
        hsm.log(loss=value)
    assert not Path(paths.metrics_text(3)).exists()


@pytest.mark.parametrize("step", ["1", 1.0, object(), [1]])
def test_a_step_is_an_integer(paths: SweepPaths, step: object) -> None:
    with pytest.raises(TypeError, match=r"hsm.report: step must be an integer, not "):
        hsm.report(1, step=step)


def test_a_step_is_not_negative_and_a_report_not_endless(paths: SweepPaths) -> None:
    with pytest.raises(ValueError, match="step must be an integer of at least 0, not -1"):
        hsm.report(1, step=-1)
    with pytest.raises(ValueError, match=r"hsm\.log: a report is at most 65536 bytes long"):
        hsm.log(text="x" * (1 << 17))
    assert not Path(paths.metrics_text(3)).exists()


def test_threads_and_children_report_whole_lines(paths: SweepPaths) -> None:
    def work(name: str) -> None:
        for step in range(200):
            hsm.report(step=step, **{name: step})

    children = [multiprocessing.get_context("fork").Process(target=work, args=(n,)) for n in "ab"]
    threads = [threading.Thread(target=work, args=(name,)) for name in "cd"]
    for child in children:
        child.start()
    for thread in threads:
        thread.start()
    for one in children:
        one.join()
    for other in threads:
        other.join()
    lines = written(paths)
    for name in "abcd":
        assert [it["step"] for it in lines if name in it] == list(range(200))


def test_steps_that_threads_count_are_all_different(paths: SweepPaths) -> None:
    def work() -> None:
        for _ in range(100):
            hsm.report(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(line["step"] for line in written(paths)) == list(range(400))


def test_a_folder_that_somebody_removed_is_made_again(paths: SweepPaths) -> None:
    paths.metrics.rmdir()
    hsm.report(1)
    assert written(paths) == [{"step": 0, "value": 1}]


@pytest.mark.parametrize("name", ["m.jsonl", "./m.jsonl", "{here}/m.jsonl"])
def test_what_a_job_would_report_can_be_tried_with_any_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HSM_METRICS", name.format(here=tmp_path))
    hsm.report(1)
    assert (tmp_path / "m.jsonl").read_text() == '{"step":0,"value":1}\n'


def test_a_report_that_cannot_be_written_is_lost_with_one_warning(
    paths: SweepPaths, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    Path(paths.metrics_text(3)).symlink_to(tmp_path / "elsewhere")
    hsm.report(1)
    hsm.report(2)
    assert not (tmp_path / "elsewhere").exists()
    err = capsys.readouterr().err
    assert err.startswith("hsm: reports are lost: cannot write ")
    assert err.count("\n") == 1


def test_without_a_pruner_nobody_is_asked(paths: SweepPaths) -> None:
    hsm.report(1)
    assert hsm.should_prune() is False
    assert written(paths) == [{"step": 0, "value": 1}]


def test_a_pruner_of_the_launcher_around_this_one_is_not_asked(
    paths: SweepPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HSM_PRUNES", paths.answer_text(4))
    Path(paths.answer_text(4)).write_text("1000 1\n")
    hsm.report(1)
    assert hsm.should_prune() is False


@pytest.fixture
def pruned(paths: SweepPaths, monkeypatch: pytest.MonkeyPatch) -> SweepPaths:
    """The same, in a sweep that has a pruner."""
    monkeypatch.setenv("HSM_PRUNES", paths.answer_text(3))
    return paths


def answer(paths: SweepPaths, text: str) -> None:
    Path(paths.answer_text(3)).write_text(text)


def test_the_answer_to_all_that_was_reported_counts(pruned: SweepPaths) -> None:
    hsm.report(1)
    answer(pruned, "1000 0\n")
    assert hsm.should_prune() is False
    answer(pruned, "1000 1\n")
    assert hsm.should_prune() is True
    answer(pruned, "1000 0\n")
    assert hsm.should_prune() is True  # it has been told
    assert written(pruned) == [{"step": 0, "value": 1}, "asks", "pruned"]


@pytest.mark.parametrize("text", [None, "", "1 0\n", "1", "nonsense 1\n", "\xff\n", "pipe", "link"])
def test_without_an_answer_the_job_goes_on_after_a_while(
    pruned: SweepPaths, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None
) -> None:
    monkeypatch.setattr(reporting, "_LONGEST_WAIT", 0.05)
    if text == "pipe":
        os.mkfifo(pruned.answer_text(3))
    elif text == "link":
        (tmp_path / "other").write_text("1000 1\n")
        Path(pruned.answer_text(3)).symlink_to(tmp_path / "other")
    elif text is not None:
        answer(pruned, text)
    hsm.report(1)
    assert hsm.should_prune() is False


def test_an_answer_that_comes_while_the_job_waits_counts(pruned: SweepPaths) -> None:
    hsm.report(1)
    timer = threading.Timer(0.05, answer, (pruned, "1000 1\n"))
    timer.start()
    assert hsm.should_prune() is True
    timer.join()


def test_pruned_is_an_exception_that_travels() -> None:
    error = pickle.loads(pickle.dumps(hsm.Pruned("too slow")))
    assert type(error) is hsm.Pruned
    assert str(error) == "too slow"
    assert repr(hsm.Pruned) == "<class 'hsm.Pruned'>"


class OwnPruned(hsm.Pruned):
    pass


def test_what_counts_as_pruned() -> None:
    assert reporting.is_pruned(hsm.Pruned())
    assert reporting.is_pruned(OwnPruned())
    assert not reporting.is_pruned(ValueError())
    trial_pruned = type("TrialPruned", (Exception,), {"__module__": "optuna.exceptions"})
    assert reporting.is_pruned(trial_pruned())
    assert not reporting.is_pruned(type("TrialPruned", (Exception,), {})())


def test_optunas_own_exception_counts() -> None:
    optuna = pytest.importorskip("optuna")
    assert reporting.is_pruned(optuna.TrialPruned())
