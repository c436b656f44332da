"""The short form of benchmarks/preparing.py: files, YAML, copies and pickles are as without hsm."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import yaml
from omegaconf._utils import get_omega_conf_dumper

from helpers.processes import REPOSITORY
from hsm.hydra_app import quick_yaml

#: Any other will do as well.
_SEED = 5_000

#: Names that Hydra 1.3 needs, and of which Hydra 1.4 says that they will go.
pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated")
#: OmegaConf 2.4 uses LibYAML by itself.
needs_pyyamls_own_dumper = pytest.mark.skipif(
    not hasattr(yaml, "CDumper") or issubclass(get_omega_conf_dumper(), yaml.CDumper),
    reason="there is no choice of dumpers",
)


@pytest.fixture
def preparing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The benchmark."""
    monkeypatch.delenv("HSM_COMPOSE", raising=False)
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    import preparing

    return preparing


@pytest.mark.parametrize("count", [100, pytest.param(500, marks=pytest.mark.slow)])
def test_hostile_texts_are_written_as_pyyaml_writes_them(preparing: Any, count: int) -> None:
    seeds = range(_SEED, _SEED + count)
    found = {seed: preparing.differing_text(seed) for seed in seeds}
    assert {seed: told for seed, told in found.items() if told is not None} == {}


@pytest.mark.parametrize("count", [80, pytest.param(500, marks=pytest.mark.slow)])
def test_hostile_trees_are_copied_as_deepcopy_copies_them(preparing: Any, count: int) -> None:
    seeds = range(_SEED, _SEED + count)
    found = {seed: preparing.differing_copy(seed) for seed in seeds}
    assert {seed: told for seed, told in found.items() if told is not None} == {}


@pytest.mark.parametrize("count", [80, pytest.param(500, marks=pytest.mark.slow)])
def test_hostile_trees_are_loaded_as_pickle_loads_them(preparing: Any, count: int) -> None:
    seeds = range(_SEED, _SEED + count)
    found = {seed: preparing.differing_pickle(seed) for seed in seeds}
    assert {seed: told for seed, told in found.items() if told is not None} == {}


_SLOW = [pytest.param(each, 4, marks=pytest.mark.slow) for each in ("plain", "groups", "hydra")]


@pytest.mark.parametrize(("name", "jobs"), [("plain", 2), *_SLOW])
def test_files_of_jobs_are_as_hydra_writes_them(preparing: Any, name: str, jobs: int) -> None:
    found, files = preparing.differing_jobs(preparing.APPS[name], _SEED, jobs)
    assert found is None
    assert files > 4 * jobs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "seed"),
    [
        ("groups", 20_000),  # One of its jobs chooses an option that no group has,
        ("plain", 77),  # and one of these a number.
    ],
)
def test_a_job_that_cannot_be_composed_shows_hydras_frames_alone(
    preparing: Any, name: str, seed: int
) -> None:
    found, _ = preparing.differing_jobs(preparing.APPS[name], seed, 10)
    assert found is None


def _shares_metadata(node: Any) -> Any:
    duplicate = copy.deepcopy(node)
    duplicate.__dict__["_metadata"] = node.__dict__["_metadata"]
    return duplicate


def _forgets_flags(node: Any) -> Any:
    duplicate = copy.deepcopy(node)
    for child in duplicate._content.values():
        child._metadata.flags = {}
    return duplicate


@pytest.mark.parametrize("wrong", [_shares_metadata, _forgets_flags, lambda node: node])
def test_a_copy_that_lacks_or_shares_something_is_found(
    preparing: Any, monkeypatch: pytest.MonkeyPatch, wrong: Any
) -> None:
    monkeypatch.setattr(preparing, "copy_config", wrong)
    assert any(preparing.differing_copy(seed) for seed in range(_SEED, _SEED + 100))


def _shares_flags(node: Any) -> Any:
    for child in node._content.values():
        child._metadata.flags = node._metadata.flags
    return node


@pytest.mark.parametrize("wrong", [_shares_flags, _forgets_flags])
def test_a_pickle_that_lacks_or_shares_something_is_found(
    preparing: Any, monkeypatch: pytest.MonkeyPatch, wrong: Any
) -> None:
    def dumps(node: Any) -> bytes:
        return pickle.dumps(wrong(copy.deepcopy(node)))

    monkeypatch.setattr(preparing.config_pickle, "dumps", dumps)
    assert any(preparing.differing_pickle(seed) for seed in range(_SEED, _SEED + 100))


@needs_pyyamls_own_dumper
def test_a_text_that_libyaml_writes_otherwise_is_found(
    preparing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quick_yaml, "_is_alike", lambda *_: True)
    assert any(preparing.differing_text(seed) for seed in range(_SEED, _SEED + 100))
