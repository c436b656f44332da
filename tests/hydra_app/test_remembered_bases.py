"""Composing from remembered bases gives what Hydra gives, also where a base must not be used."""

from __future__ import annotations

import os
import uuid
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import hydra
import pytest
from hydra import version
from hydra.core.config_store import ConfigStore
from hydra.version import VersionBase
from omegaconf import MISSING, OmegaConf
from omegaconf.basecontainer import BaseContainer

from helpers.composing import Composers

_GROUPS = {
    "config.yaml": """
        defaults:
          - _self_
          - db: mysql
          - optional dialect: ${db}
        lr: 0.1
        nested: {a: {b: 1}, list: [1, {c: 2}]}
        link: ${nested.a}
        home: ${oc.env:HOME}
        """,
    "db/mysql.yaml": "user: root\n",
    "db/sqlite.yaml": "path: x.db\n",
    "dialect/sqlite.yaml": "# @package _global_\nlr: 5\nhome: elsewhere\n",
}


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Puts back what the tests register with Hydra and OmegaConf."""
    monkeypatch.setattr(BaseContainer, "_resolvers", dict(BaseContainer._resolvers))
    monkeypatch.setattr(ConfigStore.instance(), "repo", dict(ConfigStore.instance().repo))
    base = VersionBase.instance().version_base
    with warnings.catch_warnings():  # Hydra 1.4 needs it no more
        warnings.simplefilter("ignore")
        version.setbase("1.3")
    yield
    VersionBase.instance().version_base = base


def _register(name: str, resolver: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # OmegaConf 2.4 has another name for it
        OmegaConf.register_new_resolver(name, resolver, replace=True)


def test_the_third_config_of_the_same_choices_comes_from_a_base() -> None:
    app = Composers(_GROUPS)
    changes = "lr=1 lr=2 +nested.a={z:1} +new=[1] ~nested.list ++nested.a.b=x link=[1]".split()
    for change in changes:
        app.compose(change)
    assert app.from_bases == len(changes) - 2


def test_every_choice_of_groups_has_its_own_base() -> None:
    app = Composers(_GROUPS)
    choices = ["db=sqlite", "db=mysql", "+db@more=sqlite"]
    for choice in choices * 3:
        app.compose(choice, "lr=2")
    assert app.from_bases == len(choices)


def test_an_error_has_the_same_text_and_cause() -> None:
    app = Composers(_GROUPS)
    for _ in range(3):
        app.quickly()
    for bad in ("nope=1", "db=nope", "lr=[", "+lr=1", "nested.a.b.c=1", "~nope", "++db=mysql"):
        wanted, got = app.errors(bad)
        assert got == wanted


@pytest.mark.skipif(
    not hydra.__version__.startswith("1.3."), reason="Hydra 1.4 resolves only choices there"
)
def test_a_defaults_list_that_reads_the_environment_is_built_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DB", "mysql")
    app = Composers({**_GROUPS, "config.yaml": "defaults: [{db: '${oc.env:DB}'}, _self_]\n"})
    for db in ("mysql", "mysql", "mysql", "sqlite"):
        monkeypatch.setenv("DB", db)
        app.compose()
    assert app.from_bases == 0


def _overridden(interpolation: str, by: str = "{own: 1}") -> dict[str, str]:
    """An app with an interpolation that a later config overrides."""
    return {
        "config.yaml": f"defaults: [_self_, late]\nx: {interpolation}\na: {{n: 1}}\nb: 5\n",
        "late.yaml": f"# @package _global_\nx: {by}\n",
    }


def test_a_container_that_a_resolver_returns_is_asked_for_anew() -> None:
    count = iter(range(1000))
    _register("box", lambda: OmegaConf.create({"n": next(count)}))
    app = Composers(_overridden("'${box:}'"))
    made = [app.quickly().x.n for _ in range(5)]
    assert made == list(range(made[0], made[0] + 5))


def test_a_resolver_that_nobody_knows_may_return_a_container_the_next_time() -> None:
    results: list[Any] = [5]
    _register("some", lambda: results[0])
    app = Composers(_overridden("'${some:}'"))
    for _ in range(3):
        app.compose()
    results[0] = OmegaConf.create({"late": 1})
    assert app.compose().x == {"late": 1, "own": 1}


def test_a_text_of_a_resolver_may_lead_to_another_place_the_next_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for interpolation in ("'${${oc.env:PLACE}}'", "'${oc.select:${oc.env:PLACE}}'"):
        monkeypatch.setenv("PLACE", "b")
        app = Composers(_overridden(interpolation))
        for _ in range(3):
            app.compose()
        monkeypatch.setenv("PLACE", "a")
        assert app.compose().x == {"n": 1, "own": 1}


@pytest.mark.parametrize(
    "interpolation",
    ["${now:%S}", "${oc.env:HOME}", "a${oc.env:HOME}b", "${a}", "${oc.create:{q:1}}"],
)
def test_what_is_harmless_in_a_merge_prevents_no_base(interpolation: str) -> None:
    app = Composers(_overridden(f"'{interpolation}'"))
    for _ in range(4):
        app.compose()
    assert app.from_bases > 0


def test_a_known_resolver_that_was_replaced_is_known_no_more() -> None:
    app = Composers(_overridden("'${oc.env:HOME}'"))
    for _ in range(4):
        app.compose()
    _register("oc.env", lambda name: OmegaConf.create({"name": name}))
    assert app.compose().x == {"name": "HOME", "own": 1}


@dataclass
class _WithId:
    v: int = 1
    id: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass
class _WithVariable:
    v: int = 1
    id: str = field(default_factory=lambda: os.environ["VARIABLE"])


def _structured(kind: type) -> Composers:
    """An app with a nested structure that a config fills."""
    holder: Any = dataclass(
        type("Holder", (), {"__annotations__": {"inner": kind}, "inner": MISSING})
    )
    ConfigStore.instance().store(name="schema", node=holder)
    inner = "# @package _global_\ninner: {v: 2}\n"
    return Composers({"config.yaml": "defaults: [schema, one, _self_]\n", "one.yaml": inner})


def test_a_default_factory_is_called_for_each_config() -> None:
    app = _structured(_WithId)
    assert len({app.quickly().inner.id for _ in range(5)}) == 5


def test_a_default_factory_that_was_the_same_twice_may_differ_the_next_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VARIABLE", "first")
    app = _structured(_WithVariable)
    for value in ("x", "x", "x", "y"):
        monkeypatch.setenv("VARIABLE", value)
        assert app.compose().inner.id == value
    assert app.from_bases == 0
