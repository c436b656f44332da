"""The short form of benchmarks/composing.py: configs from remembered bases are Hydra's own."""

from __future__ import annotations

import copy
import functools
import json
import shlex
import types
from typing import Any

import pytest
from hydra.core.config_loader import ConfigLoader
from omegaconf import OmegaConf

from helpers.processes import REPOSITORY
from hsm.hydra_app import base_store, base_watch, kept_overrides
from hsm.hydra_app.remembered_bases import remember_bases

#: Any other will do as well.
_SEED = 2
#: Sets of each app, and of all in the slow test: 1,000 on both Hydras.
_FEW, _ALL = 6, 500
NAMES = ["plain", "groups", "defaults", "structured", "resolvers", "hydra", "old", "new"]


@pytest.fixture
def composing(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The benchmark."""
    monkeypatch.delenv("HSM_COMPOSE", raising=False)
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    import composing

    return composing


def test_a_few_random_configs_are_as_hydra_composes_them(composing: Any) -> None:
    found = [composing.hunt(app, _FEW, _SEED, remember_bases) for app in composing.apps_of(NAMES)]
    assert [each for one in found for each in one.differences] == []
    assert len(found) == 7
    assert set(composing.APPS) == set(NAMES)
    assert all(one.seen["sets"] == _FEW and one.seen["configs"] for one in found)
    assert sum(one.seen["merged_nothing"] for one in found) > _FEW


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_five_hundred_random_configs_are_as_hydra_composes_them(composing: Any, name: str) -> None:
    apps = composing.apps_of(NAMES)
    if composing.APPS[name] not in apps:
        pytest.skip("for another Hydra")
    found = composing.hunt(composing.APPS[name], _ALL // len(apps) + 1, _SEED + 1, remember_bases)
    assert found.differences == []
    if name in ("plain", "groups", "hydra"):  # In the others, little may be remembered.
        assert found.seen["merged_nothing"]
    assert found.seen["errors"]


def _remember_too_much(loader: ConfigLoader) -> None:
    """Remember every base by the configs that it was merged from, and nothing else."""
    own: Any = loader._compose_config_from_defaults_list  # type: ignore[attr-defined]
    known: dict[Any, Any] = {}

    @functools.wraps(own)
    def compose(defaults: Any, repo: Any) -> Any:
        key = tuple((each.config_path, each.package) for each in defaults)
        if key not in known:
            known[key] = own(defaults=defaults, repo=repo)
        return copy.deepcopy(known[key])

    vars(loader)["_compose_config_from_defaults_list"] = compose


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize("name", ["structured", "resolvers"])
def test_a_loader_that_remembers_too_much_is_found_and_told_in_brief(
    composing: Any, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    app = composing.APPS[name]
    found = composing.hunt(app, 300, _SEED, _remember_too_much, most=1)
    words = shlex.split(found.differences[0]["command"])
    assert words[:4] == ["python", "benchmarks/composing.py", "--app", name]
    sets = json.loads(words[-1])
    # One that leaves a base and one that meets it.
    assert len(sets) == 2
    assert all(len(each["overrides"]) <= 2 for each in sets)
    assert composing.repeat(app, words[-1], _remember_too_much) == 1
    assert composing.repeat(app, words[-1], remember_bases) == 0
    assert "no difference" in capsys.readouterr().out


def _yes(*_: Any) -> bool:
    return True


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        (
            "resolvers",
            [
                (base_watch, "is_known_resolver", _yes),
                (base_store, "is_known_resolver", _yes),
                (base_watch.Watch, "_is_same_kind_again", _yes),
            ],
        ),
        ("structured", [(base_watch, "has_constant_defaults", _yes)]),
        ("plain", [(kept_overrides, "_NOT_KEPT", ())]),
    ],
)
def test_the_fuzzer_finds_what_a_guard_is_for(
    composing: Any, monkeypatch: pytest.MonkeyPatch, name: str, changes: list[Any]
) -> None:
    for place, attribute, value in changes:
        monkeypatch.setattr(place, attribute, value)
    assert composing.hunt(composing.APPS[name], 600, _SEED, remember_bases, most=1).differences


def test_a_ruined_config_and_any_single_change_are_differences(composing: Any) -> None:
    from _tree_differences import difference, ruin

    def config() -> Any:
        return OmegaConf.create({"a": {"b": [1, 2.0, None]}, "c": "${a}", "d": "???"})

    changes: dict[str, Any] = {
        "a.b.0": lambda its: its.a.b.__setitem__(0, True),
        "a.b": lambda its: its.a.b.append(1),
        "a": lambda its: OmegaConf.set_readonly(its.a, True),
        "d": lambda its: its._get_node("d")._metadata.__dict__.update(optional=False),
        "": lambda its: its.pop("c"),
    }
    assert difference(config(), config()) is None
    for place, change in changes.items():
        changed = config()
        change(changed)
        told = difference(config(), changed)
        assert told is not None
        assert told.startswith((f"{place}:", f"{place}<")), (place, told)
    one, other = config(), config()
    other._content["a"] = one._content["a"]
    assert difference(one, other) is not None
    stolen = config()
    stolen._get_node("a")._get_node("b").__dict__["_parent"] = None
    assert difference(config(), stolen) is not None
    ruined = config()
    ruin(ruined)
    assert difference(config(), ruined) is not None
