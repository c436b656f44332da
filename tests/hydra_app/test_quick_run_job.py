"""While Hydra prepares a job, OmegaConf is quicker, and what it does is the same."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra._internal.callbacks import Callbacks
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import HydraContext
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf, open_dict, read_write

from helpers.config_kinds import config_with_tuples
from helpers.config_trees import describe
from hsm.hydra_app import quick_yaml
from hsm.hydra_app.quick_run_job import get_ready, prepared_quickly
from hsm.hydra_app.quick_yaml import NO_TEXTS, KnownTexts, known_texts

#: Texts and keys, some of which LibYAML writes otherwise than PyYAML.
TEXTS = [
    *("", " ", "a", " a", "a ", "a: b", "a #b", "- a", "?", "---", "it's", 'say "x"', "yes", "1e3"),
    *(
        "0x10",
        "~",
        "???",
        "${a.b}",
        "a\nb",
        "\n",
        "a\n\n b\n",
        "tab\there",
        "é",
        "日本",
        "😀",
        "\x07",
    ),
    *("x" * 200, "many words " * 20, "line\n" * 30, "é " * 60, "a\\nb" * 40, "\x85", "\ufeff", "#"),
]
KEYS = [text for text in TEXTS if "${" not in text and text != "???"]
#: Where OmegaConf looks for its dumper.
omegaconf: Any = import_module("omegaconf.omegaconf")
base: Any = import_module("omegaconf.base")
_utils: Any = import_module("omegaconf._utils")
LIBYAML: Any = getattr(yaml, "CDumper", None)
needs_libyaml = pytest.mark.skipif(LIBYAML is None, reason="PyYAML was built without LibYAML")
#: OmegaConf 2.4 uses LibYAML by itself.
needs_omegaconf_23 = pytest.mark.skipif(
    LIBYAML is not None and issubclass(omegaconf.get_omega_conf_dumper(), LIBYAML),
    reason="this OmegaConf uses LibYAML by itself",
)


class Looking(Callback):
    """An app's callback, which looks at OmegaConf."""

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        self.seen = state()


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    kept = (quick_yaml._quick_dumper, quick_yaml._is_omegaconf_unchanged, quick_yaml._texts_of)
    for each in kept:
        each.cache_clear()
    yield
    for each in kept:
        each.cache_clear()


def context(*callbacks: Callback) -> Any:
    all_of_them = Callbacks()
    all_of_them.callbacks = list(callbacks)
    return HydraContext(config_loader=None, callbacks=all_of_them)  # type: ignore[arg-type]


def state() -> tuple[Any, ...]:
    """What is replaced."""
    copies = DictConfig.__deepcopy__, ListConfig.__deepcopy__, OmegaConf.masked_copy
    return *copies, OmegaConf.to_yaml, base.parse, _utils.parse


def written_quickly(config: Any, texts: KnownTexts) -> str:
    with prepared_quickly(context(), texts):
        return OmegaConf.to_yaml(config)


@pytest.fixture
def dumped(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """What is dumped, and by which dumper."""
    calls = []
    dump = quick_yaml._dump

    def recording(data: Any, dumper: Any) -> str:
        calls.append((data, dumper))
        return dump(data, dumper)

    monkeypatch.setattr(quick_yaml, "_dump", recording)
    return calls


@pytest.mark.parametrize("text", TEXTS)
def test_yaml_of_any_text_is_the_same(text: str) -> None:
    of_sweep = OmegaConf.create({"a": {"b": text, "c": 1}, "list": [text, [text, {"deep": text}]]})
    jobs: list[Any] = [
        of_sweep,
        {"a": {"b": "b", "c": text}, "list": [text]},
        [text],
        {"new": {"deep": text}},
    ]
    texts = known_texts(of_sweep)

    for data in jobs:
        job = OmegaConf.create(data)
        for one in (job, OmegaConf.create({"hydra": {"help": job}})):
            of_its_own = known_texts(OmegaConf.create({"hydra": {"help": {"a": [text]}}}))
            plain = OmegaConf.to_yaml(one)
            assert written_quickly(one, texts) == plain
            assert written_quickly(one, KnownTexts(texts.of_app, of_its_own.of_hydra)) == plain


@pytest.mark.parametrize("key", [*KEYS, 1, 2.5, True, "k" * 100, "k" * 101, "k" * 128, "k" * 200])
def test_yaml_of_any_key_is_the_same(key: Any) -> None:
    config = OmegaConf.create({key: 1, "deep": {"list": [{key: {key: [1, "a\nb"]}}]}})
    deep = OmegaConf.create({key: {key: {key: 1, "a": [{}], "b": {}}, "c": {key: 2}}})
    texts = known_texts(deep)
    changed = [
        OmegaConf.merge(deep, {key: each})
        for each in ({key: {key: 2}}, {key: {"b": {"d": 1}}}, {"first": 1}, {"c": {"more": 1}})
    ]
    one = OmegaConf.create({key: {"a": 1}})
    two = OmegaConf.create({key: {"a": 1, "b": 1}})

    assert written_quickly(config, known_texts(config)) == OmegaConf.to_yaml(config)
    for each in (config, deep, one, *changed):
        assert written_quickly(each, texts) == OmegaConf.to_yaml(each)
    assert written_quickly(two, known_texts(one)) == OmegaConf.to_yaml(two)


def test_a_text_is_known_only_for_its_value_in_its_place() -> None:
    of_sweep = OmegaConf.create({"help": "two\nlines", "deep": {"same": 1, "list": [1, "a\nb"]}})
    texts = known_texts(of_sweep)

    for text in (
        "{deep: {list: [1, a], help: {same: 1}}, help: {deep: 1}}",
        "{deep: {same: true, list: [1, a]}}",
        "{deep: {same: 1.0}}",
        "{deep: {}, help: }",
        "{deep: [same, list], same: 1}",
        "{1: a, true: b}",
    ):
        moved = OmegaConf.create(text)
        assert written_quickly(moved, texts) == OmegaConf.to_yaml(moved)


def test_only_what_a_job_changes_is_dumped(dumped: list[tuple[Any, Any]]) -> None:
    of_sweep = {"num": 1, "model": {"name": "é" * 90, "lr": 0.1, "layers": [1, 2]}, "end": {"a": 1}}
    texts = known_texts(OmegaConf.create(of_sweep))
    dumped.clear()

    job = OmegaConf.create({**of_sweep, "num": 2, "end": {"a": 1, "b": {"c": 3}, "d": "x"}})
    text = written_quickly(job, texts)

    assert [data for data, _ in dumped] == [{"num": 2}, {"end": {"b": {"c": 3}, "d": "x"}}]
    assert text == OmegaConf.to_yaml(job)


@needs_libyaml
@needs_omegaconf_23
def test_libyaml_writes_only_what_is_plain(dumped: list[tuple[Any, Any]]) -> None:
    texts = known_texts(OmegaConf.create({"num": 1, "text": "two\nlines"}))
    dumped.clear()

    written_quickly(OmegaConf.create({"num": 2, "text": "two\nlines"}), texts)
    written_quickly(OmegaConf.create({"num": 1, "text": "other\nlines"}), texts)

    assert [issubclass(dumper, LIBYAML) for _, dumper in dumped] == [True, False]


def test_what_is_not_plain_is_left_to_omegaconf(dumped: list[tuple[Any, Any]]) -> None:
    job = {"where": Path("a"), "num": 1}
    of_sweep = OmegaConf.create({**job, "hydra": {"help": "x", "num": 1}})
    texts = known_texts(of_sweep)
    dumped.clear()

    assert written_quickly(OmegaConf.create(job), texts) == OmegaConf.to_yaml(OmegaConf.create(job))
    assert dumped == []
    of_hydra = OmegaConf.create({"hydra": {"help": "x", "num": 2}})
    assert written_quickly(of_hydra, texts) == OmegaConf.to_yaml(of_hydra)
    assert [data for data, _ in dumped] == [{"hydra": {"num": 2}}]


class Color(Enum):
    RED = 1


@dataclass
class Typed:
    """A config that is not made of mappings alone."""

    color: Color = Color.RED
    count: int | None = None
    ratio: float = MISSING
    by_color: dict[Color, int] = field(default_factory=lambda: {Color.RED: 1})
    inner: Any = "${count}"
    lists: list[list[int]] = field(default_factory=lambda: [[1], []])


def test_yaml_of_a_structured_config_is_the_same() -> None:
    of_sweep = OmegaConf.structured(Typed)
    job = OmegaConf.merge(of_sweep, {"ratio": 1, "count": 3, "by_color": {"RED": 2}})

    for config in (of_sweep, job, OmegaConf.create({"typed": job, "other": "${typed}"})):
        assert written_quickly(config, known_texts(of_sweep)) == OmegaConf.to_yaml(config)


def test_yaml_that_is_wanted_in_another_form_is_omegaconfs() -> None:
    config = OmegaConf.create({"b": 1, "a": "${b}"})
    with prepared_quickly(context(), known_texts(config)):
        assert OmegaConf.to_yaml(config, sort_keys=True) == "a: ${b}\nb: 1\n"
        assert OmegaConf.to_yaml(config, resolve=True) == "b: 1\na: 1\n"
        assert OmegaConf.to_yaml({"x": 1}) == "x: 1\n"


def test_an_app_that_changed_the_dumper_gets_its_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    dumper = omegaconf.get_omega_conf_dumper()
    own = {**dumper.yaml_representers, bool: lambda self, data: self.represent_str(f"is {data}")}
    monkeypatch.setattr(dumper, "yaml_representers", own)
    config = OmegaConf.create({"flag": True, "num": 1})
    job = OmegaConf.create({"flag": False, "num": 1})

    assert written_quickly(config, known_texts(config)) == OmegaConf.to_yaml(config)
    assert "is False" in written_quickly(job, known_texts(config))


def test_an_app_that_changed_omegaconf_gets_its_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    own = OmegaConf.to_yaml
    monkeypatch.setattr(OmegaConf, "to_yaml", staticmethod(lambda cfg: f"# mine\n{own(cfg)}"))
    config = OmegaConf.create({"num": 1})

    assert written_quickly(config, known_texts(config)) == "# mine\nnum: 1\n"


@pytest.mark.parametrize(
    "change",
    [
        # These are known from the web: lists are indented; blank lines are between top-level keys.
        ("increase_indent", lambda own: lambda self, flow=False, indentless=False: own(self, flow)),
        (
            "write_line_break",
            lambda own: (
                lambda self, data=None: [
                    own(self, data) for _ in range(2 if len(self.indents) == 1 else 1)
                ]
            ),
        ),
        (
            "expect_document_end",
            lambda own: lambda self: [self.write_indicator("...", True), own(self)],
        ),
        ("ignore_aliases", lambda own: lambda self, data: False),
    ],
    ids=lambda change: change[0],
)
@needs_omegaconf_23
def test_an_app_that_changed_how_yaml_is_laid_out_gets_its_layout(
    monkeypatch: pytest.MonkeyPatch, change: tuple[str, Callable[[Any], Any]]
) -> None:
    name, changed = change
    before = OmegaConf.to_yaml(OmegaConf.create({"a": {"list": [1], "b": 1, "same": 1}, "c": 2}))
    monkeypatch.setattr(yaml.Dumper, name, changed(getattr(yaml.Dumper, name)))
    of_sweep = OmegaConf.create({"a": {"list": [1], "b": 1, "same": 1}, "c": 2})
    job = OmegaConf.create({"a": {"list": [1], "b": 2, "same": 2}, "c": 2, "d": "new"})

    assert OmegaConf.to_yaml(of_sweep) != before
    for config in (of_sweep, job):
        assert written_quickly(config, known_texts(of_sweep)) == OmegaConf.to_yaml(config)


def test_yaml_of_tuples_is_the_same() -> None:
    config = config_with_tuples()
    job = OmegaConf.merge(config, {"typed": {"many": [2.5]}})

    assert known_texts(config).of_app
    for each in (config, job):
        assert written_quickly(each, known_texts(config)) == OmegaConf.to_yaml(each)


def test_without_libyaml_pyyaml_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(yaml, "CDumper", raising=False)
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    config = OmegaConf.create({"a": [1, "b\nc"], "d": {"e": 1, "f": 2}})
    job = OmegaConf.merge(config, {"d": {"f": 3}})

    assert known_texts(config).of_app
    assert written_quickly(job, known_texts(config)) == OmegaConf.to_yaml(job)


def test_copies_are_the_same() -> None:
    class Own(DictConfig):
        pass

    config = OmegaConf.create({"a": [1, {"b": "${a}"}], "own": Own({"x": 1})})
    pair = [config, config.a]

    with prepared_quickly(context(), NO_TEXTS):
        copied, copied_pair = copy.deepcopy(config), copy.deepcopy(pair)

    assert describe(copied) == describe(copy.deepcopy(config))
    assert copied_pair[1] is copied_pair[0].a


@pytest.mark.parametrize("keys", ["a", "own", "text", "none", "absent", "flags", ["a", "text"], []])
def test_masked_copies_are_the_same(keys: Any) -> None:
    class Own(DictConfig):
        pass

    config = OmegaConf.create({"a": [1], "text": "${a}", "none": None, "own": Own({"x": 1})})
    config["flags"] = OmegaConf.structured(Typed(ratio=0.5))
    OmegaConf.set_readonly(config.flags, True)
    OmegaConf.set_struct(config, True)
    expected = OmegaConf.masked_copy(config, keys)

    with prepared_quickly(context(), NO_TEXTS):
        masked = OmegaConf.masked_copy(config, keys)

    assert describe(masked) == describe(expected)
    assert masked._get_parent() is None
    if keys == "flags":
        assert masked.flags is not config.flags
        assert OmegaConf.is_readonly(masked.flags)
        assert not OmegaConf.is_struct(masked.flags)


def prepared(config: Any, quickly: bool) -> tuple[Any, ...]:
    """What Hydra's `run_job` does with a job's config until the function is called."""
    context_of_job = context()
    with prepared_quickly(context_of_job, NO_TEXTS) if quickly else nullcontext() as preparation:
        if preparation is not None:
            preparation.begin(config)
        hydra_config: Any = HydraConfig.instance()
        hydra_config.set_config(config)
        first = hydra_config.cfg.hydra
        described = describe(first)
        assert first._get_parent() is config
        assert first.job.name == "of-a"
        with read_write(config.hydra.runtime):
            config.hydra.runtime.output_dir = "/job"
        hydra_config.set_config(config)
        second = hydra_config.cfg.hydra
        task_config = copy.deepcopy(config)
        with read_write(task_config), open_dict(task_config):
            del task_config["hydra"]
        own, again = copy.deepcopy(hydra_config.cfg), copy.deepcopy(config)
    assert second is not config.hydra
    assert second._get_parent() is config
    return described, *map(describe, (second, task_config, own, again, config))


def test_copies_that_nobody_sees_are_not_made_and_all_others_are_the_same() -> None:
    def config() -> DictConfig:
        made = OmegaConf.create({"a": {"b": [1]}, "name": "of-${.c}", "c": "a", "hydra": None})
        made.hydra = OmegaConf.structured(HydraConf)
        made.hydra.job.name = "${name}"
        OmegaConf.set_struct(made, True)
        return made

    assert prepared(config(), quickly=True) == prepared(config(), quickly=False)


def test_only_the_config_that_is_run_is_copied_in_part() -> None:
    config, other = (OmegaConf.create({"a": 1, "hydra": {"b": 2}}) for _ in range(2))

    with prepared_quickly(context(), NO_TEXTS) as preparation:
        preparation.begin(config)
        assert OmegaConf.masked_copy(other, "hydra").hydra is not other.hydra
        assert copy.deepcopy(config) == config
        assert OmegaConf.masked_copy(config, "hydra").hydra is config.hydra
        assert OmegaConf.masked_copy(config, "hydra").hydra is not config.hydra
        assert copy.deepcopy(other) == other
        assert copy.deepcopy(config) == {"a": 1, "hydra": {}}
        assert copy.deepcopy(config) == config
        assert OmegaConf.masked_copy(config, "hydra").hydra is not config.hydra


def test_interpolations_mean_the_same() -> None:
    texts = ["${a}", "${.a}", "x ${a} ${c.${d}}", "${oc.env:NONE,${a}}", "${oc.create:{b:[${a}]}}"]
    texts += ["\\${a}", "${oc.decode:'[1]'}", "${c[e]}", "${a", "${none}", "${oc.env:}"]
    config = OmegaConf.create({"a": 1, "c": {"e": 2, "a": 3}, "d": "e"})

    def meaning(text: str) -> Any:
        try:
            return OmegaConf.to_container(OmegaConf.merge(config, {"text": text}), resolve=True)
        except Exception as error:
            return type(error), str(error)

    for _ in range(2):
        plain = [meaning(text) for text in texts]
        with prepared_quickly(context(), NO_TEXTS):
            assert [meaning(text) for text in texts] == plain


def test_the_apps_callbacks_and_function_find_omegaconf_as_it_is() -> None:
    before, app = state(), Looking()
    job = context(app)

    with prepared_quickly(job, NO_TEXTS):
        during = state()
        job.callbacks.on_job_start(config=OmegaConf.create(), task_function=lambda _: None)
        after = state()

    assert during[0] is not before[0]
    assert app.seen == after == state() == before


def test_omegaconf_is_as_it_was_after_a_preparation_that_fails() -> None:
    before = state()

    with pytest.raises(ValueError, match="broken"), prepared_quickly(context(), NO_TEXTS):
        raise ValueError("broken")

    assert state() == before


def test_the_switch_leaves_everything_to_hydra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HSM_COMPOSE", "plain")
    before = state()

    assert get_ready(OmegaConf.create({"a": "b\nc"})) == NO_TEXTS
    with prepared_quickly(context(), NO_TEXTS):
        assert state() == before
