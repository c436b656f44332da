"""Composing from remembered bases gives what Hydra gives, also where a base must not be used."""

from __future__ import annotations

import os
import pickle
import uuid
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra import version
from hydra._internal import config_loader_impl
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from hydra.version import VersionBase
from omegaconf import MISSING, OmegaConf
from omegaconf.base import Container, Node
from omegaconf.basecontainer import BaseContainer

from helpers.composing import Composers, tree
from helpers.hydra import write_files
from hsm.core.errors import SettingsError
from hsm.hydra_app import base_store, base_watch
from hsm.hydra_app.base_store import Bases
from hsm.hydra_app.base_supply import BaseSupply
from hsm.hydra_app.remembered_bases import RememberingLoader, supplied_config

HYDRA_1_3 = hydra.__version__.startswith("1.3.")

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
    monkeypatch.setattr(ConfigStore.instance(), "repo", _copied(ConfigStore.instance().repo))
    base = VersionBase.instance().version_base
    with warnings.catch_warnings():  # Hydra 1.4 needs it no more
        warnings.simplefilter("ignore")
        version.setbase("1.3")
    yield
    VersionBase.instance().version_base = base


def _copied(group: dict[str, Any]) -> dict[str, Any]:
    return {name: _copied(held) if isinstance(held, dict) else held for name, held in group.items()}


def _register(name: str, resolver: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # OmegaConf 2.4 has another name for it
        OmegaConf.register_new_resolver(name, resolver, replace=True)


def _store(name: str, node: Any, group: str | None = None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Hydra 1.4 wants to be told that it is to replace one
        ConfigStore.instance().store(group=group, name=name, node=node)


def test_the_third_config_of_the_same_choices_comes_from_a_base() -> None:
    app = Composers(_GROUPS)
    app.learn("lr=1")
    assert app.from_bases == 0
    app.compose("lr=3", "+nested.a={z:1}", "+new=[1]", "~nested.list", "++nested.a.b=x", "link=[1]")
    app.compose()
    assert app.from_bases == 2


@pytest.mark.slow
def test_every_choice_of_groups_has_its_own_base() -> None:
    app = Composers(_GROUPS)
    choices = ["db=sqlite", "db=mysql", "+db@more=sqlite"]
    for choice in choices * 3:
        app.compose(choice, "lr=2")
    assert app.from_bases == len(choices)


def test_an_error_has_the_same_text_and_cause() -> None:
    app = Composers(_GROUPS)
    app.learn()
    for bad in ("nope=1", "db=nope", "lr=[", "+lr=1", "~nope"):
        wanted, got = app.errors("+before=1", bad)
        assert got == wanted


@pytest.mark.skipif(
    not hydra.__version__.startswith("1.3."), reason="Hydra 1.4 resolves only choices there"
)
def test_a_defaults_list_that_reads_the_environment_is_built_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DB", "mysql")
    app = Composers({**_GROUPS, "config.yaml": "defaults: [{db: '${oc.env:DB}'}, _self_]\n"})
    app.learn()
    monkeypatch.setenv("DB", "sqlite")
    assert app.compose().db == {"path": "x.db"}


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
    made = [app.quickly().x.n for _ in range(3)]
    assert made == list(range(made[0], made[0] + 3))


@pytest.mark.parametrize("name", ["some", pytest.param("oc.env", marks=pytest.mark.slow)])
def test_a_resolver_that_nobody_knows_may_return_a_container_the_next_time(name: str) -> None:
    results: list[Any] = [5]
    _register(name, lambda: results[0])
    app = Composers(_overridden(f"'${{{name}:}}'"))
    app.learn()
    results[0] = OmegaConf.create({"late": 1})
    assert app.compose().x == {"late": 1, "own": 1}


@pytest.mark.parametrize(
    ("interpolation", "first"),
    [
        ("${${oc.env:PLACE}}", "b"),
        pytest.param("${${oc.env:PLACE}}", "nowhere", marks=pytest.mark.slow),
        pytest.param("${oc.select:${oc.env:PLACE}}", "b", marks=pytest.mark.slow),
    ],
)
def test_a_text_of_a_resolver_may_lead_to_another_place_the_next_time(
    interpolation: str, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLACE", first)
    app = Composers(_overridden(f"'{interpolation}'"))
    app.learn()
    monkeypatch.setenv("PLACE", "a")
    assert app.compose().x == {"n": 1, "own": 1}


_OTHERS = ("${oc.env:HOME}", "a${oc.env:HOME}b", "${a}", "${oc.create:{q:1}}")


@pytest.mark.parametrize(
    "interpolation",
    ["${now:%S}", *(pytest.param(each, marks=pytest.mark.slow) for each in _OTHERS)],
)
def test_what_is_harmless_in_a_merge_prevents_no_base(interpolation: str) -> None:
    app = Composers(_overridden(f"'{interpolation}'"))
    app.learn()
    app.compose()
    assert app.from_bases == 1


@pytest.mark.slow
def test_what_hydra_composes_for_no_job_is_hydras_own() -> None:
    app = Composers(_overridden("'${now:%S}'"))
    app.learn()
    for loader in (app.plain, app.quick):
        config = loader.load_configuration("config", [], RunMode.RUN)
        assert "now" in OmegaConf.get_cache(config)  # as it was in the merge


@pytest.mark.slow
def test_a_known_resolver_that_was_replaced_is_known_no_more() -> None:
    app = Composers(_overridden("'${oc.env:HOME}'"))
    app.learn()
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


@dataclass
class _Constant:
    v: int = 1
    id: list[int] = field(default_factory=lambda: [1, 2])


@dataclass
class _HoldsId:
    inner: _WithId = MISSING


@dataclass
class _HoldsVariable:
    inner: _WithVariable = MISSING


@dataclass
class _HoldsConstant:
    inner: _Constant = MISSING


def _structured(holder: type) -> Composers:
    """An app with a nested structure that a config fills."""
    _store("schema", holder)
    inner = "# @package _global_\ninner: {v: 2}\n"
    return Composers({"config.yaml": "defaults: [schema, one, _self_]\n", "one.yaml": inner})


def test_a_default_factory_is_called_for_each_config() -> None:
    app = _structured(_HoldsId)
    assert len({app.quickly().inner.id for _ in range(3)}) == 3


def test_a_default_factory_that_was_the_same_twice_may_differ_the_next_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VARIABLE", "first")
    app = _structured(_HoldsVariable)
    app.learn()
    monkeypatch.setenv("VARIABLE", "second")
    assert app.compose().inner.id == "second"


@pytest.mark.slow
def test_two_compositions_that_differ_for_whatever_reason_leave_no_base(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(base_watch, "has_constant_defaults", lambda kind: True)
    app = _structured(_HoldsId)
    assert len({app.quickly().inner.id for _ in range(4)}) == 4


def test_a_default_factory_of_constants_prevents_no_base() -> None:
    app = _structured(_HoldsConstant)
    app.learn()
    assert app.compose().inner.id == [1, 2]
    assert app.from_bases == 1


def test_a_shuffled_list_is_shuffled_for_each_config() -> None:
    app = Composers(_GROUPS)
    text = f"+order=shuffle({list(range(50))})".replace(" ", "")
    assert len({tuple(app.quickly(text).order) for _ in range(3)}) == 3


def test_what_is_stored_while_the_sweep_runs_is_found() -> None:
    app = Composers(_GROUPS)
    _store("new", {"user": 1}, "db")
    app.learn("db=new")
    _store("new", {"user": 2}, "db")
    assert app.compose("db=new").db == {"user": 2}


@pytest.mark.slow
def test_another_search_path_has_its_own_base() -> None:
    app = Composers(_GROUPS)
    for user in "ab":
        write_files(Path(user), {"db/other.yaml": f"user: {user}\n"})
    paths = [f"hydra.searchpath=[file://{Path(user).absolute()}]" for user in "ab"]
    assert [app.quickly(path, "db=other").db.user for path in paths * 3] == ["a", "b"] * 3
    assert app.from_bases == 2


@pytest.mark.slow
def test_a_source_of_the_apps_own_is_asked_each_time() -> None:
    class Own(FileConfigSource):
        pass

    app = Composers(_GROUPS)
    repository = app.quick.repository
    own = Own("own", f"file://{Path('own').absolute()}")
    repository.sources.insert(0, own)
    for user in ("a", "a", "a", "b"):
        write_files(Path("own"), {"db/mysql.yaml": f"user: {user}\n"})
        assert app.quickly().db.user == user
    assert app.from_bases == 0


def test_warnings_are_issued_as_often_as_before() -> None:
    app = Composers({"config.yaml": "defaults: [one]\nlr: 1\n", "one.yaml": "a: 1\n"})
    told = []
    for _ in range(3):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            app.quickly()
        told.append([(str(each.message), each.filename, each.lineno) for each in caught])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        app.plain.load_sweep_config(app.master, [])
    assert told == [[(str(each.message), each.filename, each.lineno) for each in caught]] * 3
    assert app.from_bases == 1


@pytest.mark.slow
def test_a_warning_that_is_an_error_is_raised_from_a_base_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = Composers({"config.yaml": "defaults: [one]\nlr: 1\n", "one.yaml": "a: 1\n"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(3):
            app.quickly()
        monkeypatch.setenv("SELF_WARNING_AS_ERROR", "1")
        if HYDRA_1_3:
            assert app.errors()[0] == app.errors()[1]


class _Own:
    pass


@pytest.mark.slow
def test_values_of_the_apps_own_classes_are_composed_anew() -> None:
    own = _Own()
    node = OmegaConf.create({"value": own}, flags={"allow_objects": True})
    _store("own", node)
    app = Composers({"config.yaml": "defaults: [own, _self_]\n"})
    # A copy of a base has a copy of the object: Hydra has all configs share one.
    assert len({app.quickly().value for _ in range(4)}) == 1
    assert app.from_bases == 0


@pytest.mark.slow
@pytest.mark.skipif(not HYDRA_1_3, reason="Hydra 1.4 has but one")
def test_another_version_base_has_its_own_base() -> None:
    files = {"config.yaml": "defaults: [_self_, {db: mysql}]\n", "db/mysql.yaml": "user: root\n"}
    app = Composers(files)
    for _ in range(3):
        app.quickly()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        version.setbase("1.2")
    assert app.compose().hydra.runtime.version_base == "1.2"
    assert app.from_bases == 1


@pytest.mark.slow
def test_threads_compose_what_one_would() -> None:
    app = Composers(_GROUPS)
    points = [(f"lr={n}", f"db={db}") for n in range(12) for db in ("mysql", "sqlite")]
    compose = partial(app.quick.load_sweep_config, app.master)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(compose, map(list, points)))
    for point, config in zip(points, made, strict=True):
        assert config.hydra.overrides.task == [*point]
        assert point[0] == f"lr={config.lr}"
    assert tree(made[-1]) == tree(app.plain.load_sweep_config(app.master, [*points[-1]]))


def _bases(app: Composers) -> Bases:
    assert isinstance(app.quick, RememberingLoader)
    return app.quick.bases


@pytest.mark.slow
def test_bases_take_a_bounded_amount_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_store, "_MAX_BYTES", 14_000)
    app = Composers(_GROUPS)
    for n in range(6):
        for _ in range(2):  # What came twice is remembered.
            app.quickly(f"+db@more{n}=mysql")
    assert 0 < len(_bases(app).known()) <= 3


def test_other_loaders_and_omegaconf_stay_as_they_are() -> None:
    before = (warnings.warn, Container._evaluate_custom_resolver, Node._dereference_node_impl)
    app = Composers(_GROUPS)
    app.quickly()
    assert type(app.plain) is ConfigLoaderImpl
    assert vars(config_loader_impl)["create_defaults_list"] is create_defaults_list
    assert vars(config_loader_impl)["OverridesParser"] is OverridesParser
    after = (warnings.warn, Container._evaluate_custom_resolver, Node._dereference_node_impl)
    assert after == before


@pytest.mark.slow
def test_a_pickled_loader_composes_all_itself() -> None:
    app = Composers(_GROUPS)
    for _ in range(3):
        app.quickly()
    assert isinstance(app.quick, RememberingLoader)
    app.quick.bases = pickle.loads(pickle.dumps(app.quick.bases))
    for lr in range(3):
        app.compose(f"lr={lr}")
    assert app.from_bases == 1


def test_whoever_doubts_gets_hydras_own_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HSM_COMPOSE", "plain")
    app = Composers(_GROUPS)
    assert type(app.quick) is ConfigLoaderImpl


def test_another_value_of_the_switch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HSM_COMPOSE", "plian")
    with pytest.raises(
        SettingsError, match=r"variable HSM_COMPOSE must be 'plain', .* not 'plian'"
    ):
        Composers(_GROUPS)


def test_whoever_patches_hydra_gets_what_was_patched(monkeypatch: pytest.MonkeyPatch) -> None:
    patched = partial(create_defaults_list)
    monkeypatch.setattr(config_loader_impl, "create_defaults_list", patched)
    assert type(Composers(_GROUPS).quick) is ConfigLoaderImpl


def test_a_base_is_sent_to_a_job_once_enough_jobs_need_it() -> None:
    app = Composers(_GROUPS)
    supply = BaseSupply(app.quick)
    job = Composers(_GROUPS)
    sent = [supply.of([[f"lr={n}", "db=sqlite"]], app.master)[0] for n in range(10)]
    assert [each.base is not None for each in sent] == [False] * 7 + [True] * 3
    assert sent[-1].base is sent[-2].base  # jobs that wait share it
    assert supplied_config(job.quick, job.master, sent[-1]) is None
    job.compose("lr=8", "db=sqlite")
    assert job.from_bases == 1
