"""The configs of all but a sweep's first JobReturns are read from the jobs' results."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from hsm import LocalComputeSource
from hsm.core.program.reports import Outcome
from hsm.hydra_app.hydra_job import LightJobReturn
from hsm.hydra_app.returns import JobReturns


def of(source: LocalComputeSource, num: int, room: int | None = None) -> Any:
    """The JobReturn of a job; its type does not tell that its configs are there."""
    returns = JobReturns(source) if room is None else JobReturns(source, room)
    return returns.of(f"s_{num}", [])


def answer(params: dict[str, Any]) -> Outcome:
    """What a Hydra job's process reports."""
    result = JobReturn(
        overrides=[f"x={params['x']}"],
        cfg=OmegaConf.create({"x": params["x"], "long": list(range(1000))}),
        hydra_cfg=OmegaConf.create({"hydra": {"job": {"num": params["x"]}}}),
        status=JobStatus.COMPLETED,
    )
    return Outcome(value=10 * params["x"], extra=LightJobReturn.of(result))


@pytest.fixture
def source(tmp_path: Path) -> Iterator[LocalComputeSource]:
    with LocalComputeSource(max_parallel_jobs=2) as source:
        source.submit_jobs([{"x": num} for num in range(3)], "s", tmp_path, function=answer)
        source.wait()
        yield source


def test_a_config_that_was_put_away_is_there_when_asked_for(source: LocalComputeSource) -> None:
    results = [of(source, num, room=0) for num in range(3)]
    for num, result in enumerate(results):
        assert len(pickle.dumps(vars(result))) < 2500
        assert "_packed" not in vars(result)
        assert (result.return_value, result.overrides) == (10 * num, [f"x={num}"])
        assert result.cfg == {"x": num, "long": list(range(1000))}
        assert result.hydra_cfg.hydra.job.num == num
        assert result.cfg is result.cfg


def test_the_first_configs_stay_in_memory(source: LocalComputeSource, tmp_path: Path) -> None:
    returns = JobReturns(source)
    results: list[Any] = [returns.of(f"s_{num}", []) for num in range(3)]
    for file in (tmp_path / ".hsm" / "results").iterdir():
        file.unlink()
    assert [result.cfg.x for result in results] == [0, 1, 2]


def test_there_is_room_for_some_of_them(source: LocalComputeSource) -> None:
    size = of(source, 0).packed_size
    returns = JobReturns(source, room=2 * size + size // 2)
    results = [returns.of(f"s_{num}", []) for num in range(3)]
    assert ["_packed" in vars(result) for result in results] == [True, True, False]


@pytest.mark.parametrize("take", [lambda it: pickle.loads(pickle.dumps(it)), copy.copy])
def test_a_copy_has_its_configs_in_it(
    source: LocalComputeSource, tmp_path: Path, take: Any
) -> None:
    copied = take(of(source, 1, room=0))
    (tmp_path / ".hsm" / "results" / "1.pkl").unlink()
    assert (copied.cfg.x, copied.hydra_cfg.hydra.job.num, copied.return_value) == (1, 1, 10)


def test_a_config_whose_result_was_removed_is_none_and_a_line_says_so(
    source: LocalComputeSource, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result = of(source, 1, room=0)
    (tmp_path / ".hsm" / "results" / "1.pkl").unlink()
    with caplog.at_level(logging.WARNING):
        assert result.cfg is None
    assert "job 1: its config is gone" in caplog.text
    assert result.return_value == 10


def test_a_sweeper_may_set_a_config(source: LocalComputeSource) -> None:
    result = of(source, 1, room=0)
    result.cfg = OmegaConf.create({"own": 1})
    assert result.cfg == {"own": 1}
    assert result.hydra_cfg.hydra.job.num == 1
    assert result.cfg == {"own": 1}
