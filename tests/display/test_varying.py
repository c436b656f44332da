"""Which parameters tell the jobs of a sweep apart, and how they are called."""

from __future__ import annotations

from typing import Any

import pytest

from hsm.core.record.job import Job
from hsm.core.record.large import Large
from hsm.core.record.paths import SweepPaths
from hsm.display.varying import Varying


def _jobs(*params: Any, first: int = 0) -> list[Job]:
    return [Job(num, f"sweep_{num}", "label", its) for num, its in enumerate(params, first)]


def _varying(*params: Any) -> Varying:
    varying = Varying()
    varying.add(_jobs(*params))
    return varying


def test_what_differs_varies_and_the_rest_is_constant() -> None:
    varying = _varying({"lr": 0.1, "seed": 1, "data": "x"}, {"lr": 0.2, "seed": 1, "data": "x"})
    assert varying.names == {"lr": "lr"}
    assert varying.constants == "seed=1 data=x"


@pytest.mark.parametrize("params", [[], [{"lr": 1}], [{"lr": 1}, {"lr": 1}], [{}, {}], [{}]])
def test_where_nothing_differs_nothing_is_constant_either(params: list[Any]) -> None:
    varying = _varying(*params)
    assert (varying.names, varying.constants) == ({}, "")


@pytest.mark.parametrize("params", [({"lr": 1, "a": 2}, {"a": 2}), ({"a": 2}, {"a": 2, "lr": 1})])
def test_a_parameter_that_a_job_lacks_varies(params: tuple[dict[str, Any], ...]) -> None:
    varying = _varying(*params)
    assert varying.names == {"lr": "lr"}
    assert varying.constants == "a=2"


@pytest.mark.parametrize(
    ("one", "two"), [(1, True), (0, 0.0), (0, None), ([1], [2]), ({"a": 1}, {"a": 2}), ("1", 1)]
)
def test_values_of_different_types_differ(one: Any, two: Any) -> None:
    assert _varying({"x": one}, {"x": two}).names == {"x": "x"}


def test_a_later_batch_may_make_a_constant_vary() -> None:
    varying = _varying({"lr": 1, "seed": 1}, {"lr": 2, "seed": 1})
    assert varying.constants == "seed=1"
    varying.add(_jobs({"lr": 1, "seed": 2}, first=2))
    assert varying.names == {"lr": "lr", "seed": "seed"}
    assert varying.constants == ""
    varying.add(_jobs({"lr": 1}, first=3))
    varying.add(_jobs({"lr": 1, "new": 1}, first=4))
    assert list(varying.names) == ["lr", "seed", "new"]


def test_jobs_that_are_submitted_again_count_once() -> None:
    jobs = _jobs({"lr": 1, "seed": 1}, {"lr": 2, "seed": 1})
    varying = Varying()
    for _ in range(3):
        varying.add(jobs)
    assert (varying.names, varying.constants) == ({"lr": "lr"}, "seed=1")


def test_names_are_as_short_as_they_can_be() -> None:
    names = ["model.optimizer.lr", "model.name", "data.name", "lr_decay", "a.x", "b.a.x", "x"]
    varying = _varying(dict.fromkeys(names, 1), dict.fromkeys(names, 2))
    assert varying.names == {
        "model.optimizer.lr": "lr",
        "model.name": "model.name",
        "data.name": "data.name",
        "lr_decay": "lr_decay",
        "a.x": "a.x",
        "b.a.x": "b.a.x",
        "x": "x",
    }


def test_a_constant_shares_the_names() -> None:
    varying = _varying({"a.name": 1, "b.name": 1}, {"a.name": 2, "b.name": 1})
    assert varying.names == {"a.name": "a.name"}
    assert varying.constants == "b.name=1"


def test_long_and_hostile_constants_are_cut_and_printable() -> None:
    same = {"p": "/data" * 20 + "/end", "q": "\x1b[2J"}
    varying = _varying({"v": 1, **same}, {"v": 2, **same})
    p, q = varying.constants.split(" ")
    assert p.startswith("p=…")
    assert p.endswith("/data/end")
    assert len(p) == 42
    assert q.isprintable()


def test_parameters_beside_the_journal_are_not_read(paths: SweepPaths) -> None:
    large = Large.of(paths, {"sha256": "0" * 64, "bytes": 1 << 20})
    varying = _varying({"lr": 1, "seed": 1}, large, {"lr": 2, "seed": 1})
    assert (varying.names, varying.constants) == ({"lr": "lr"}, "seed=1")
