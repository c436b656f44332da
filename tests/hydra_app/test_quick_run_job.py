"""While Hydra prepares a job, OmegaConf is quicker, and what it does is the same."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
import yaml
from hydra._internal.callbacks import Callbacks
from hydra.experimental.callback import Callback
from hydra.types import HydraContext
from omegaconf import DictConfig, ListConfig, OmegaConf

from helpers.config_trees import describe
from hsm.hydra_app import quick_yaml
from hsm.hydra_app.quick_run_job import get_ready, prepared_quickly
from hsm.hydra_app.quick_yaml import alike_texts

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
LIBYAML = getattr(yaml, "CDumper", None)
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
def fresh_dumper() -> Iterator[None]:
    quick_yaml._quick_dumper.cache_clear()
    yield
    quick_yaml._quick_dumper.cache_clear()


def context(*callbacks: Callback) -> Any:
    all_of_them = Callbacks()
    all_of_them.callbacks = list(callbacks)
    return HydraContext(config_loader=None, callbacks=all_of_them)  # type: ignore[arg-type]


def state() -> tuple[Any, ...]:
    """What is replaced."""
    dumper = omegaconf.get_omega_conf_dumper
    return DictConfig.__deepcopy__, ListConfig.__deepcopy__, dumper, base.parse, _utils.parse


def written_quickly(config: Any, alike: dict[Any, Any]) -> str:
    with prepared_quickly(context(), alike):
        return OmegaConf.to_yaml(config)


def uses_libyaml(config: Any, alike: dict[Any, Any], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether LibYAML, and not PyYAML, writes the YAML of `config`."""
    own, calls = omegaconf.get_omega_conf_dumper(), []

    def get_dumper() -> Any:
        calls.append(1)
        return own

    monkeypatch.setattr(quick_yaml, "get_omega_conf_dumper", get_dumper)
    written_quickly(config, alike)
    return not calls


@pytest.mark.parametrize("text", TEXTS)
def test_yaml_of_any_text_is_the_same(text: str) -> None:
    config = OmegaConf.create({"hydra": {"help": text}, "list": [text, [text, {"deep": text}]]})

    plain = OmegaConf.to_yaml(config)

    assert written_quickly(config, {}) == plain
    assert written_quickly(config, alike_texts(config)) == plain
    assert written_quickly(OmegaConf.create([text]), alike_texts(config)) == OmegaConf.to_yaml(
        OmegaConf.create([text])
    )


@pytest.mark.parametrize("key", [*KEYS, 1, 2.5, True, "k" * 100, "k" * 101, "k" * 128, "k" * 200])
def test_yaml_of_any_key_is_the_same(key: Any) -> None:
    config = OmegaConf.create({key: 1, "deep": {"list": [{key: {key: [1, "a\nb"]}}]}})

    assert written_quickly(config, alike_texts(config)) == OmegaConf.to_yaml(config)


def test_an_unusual_text_is_known_only_in_its_place() -> None:
    base = OmegaConf.create({"help": "two\nlines", "list": [1, "a\nb"], "deep": {"same": "é"}})
    moved = OmegaConf.create({"list": ["a\nb", 1], "help": {"deep": "two\nlines"}, "new": "é"})

    assert written_quickly(moved, alike_texts(base)) == OmegaConf.to_yaml(moved)


@needs_libyaml
@needs_omegaconf_23
def test_libyaml_writes_what_is_plain_and_what_the_sweep_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = OmegaConf.create({"hydra": {"help": "two\nlines"}, "num": 1})
    alike = alike_texts(OmegaConf.create({**config, "odd": "😀" * 90}))

    assert uses_libyaml(config, alike, monkeypatch)
    assert not uses_libyaml(config, {}, monkeypatch)
    assert not uses_libyaml({**config, "odd": "😀" * 90}, alike, monkeypatch)
    assert not uses_libyaml({**config, "num": "other\nlines"}, alike, monkeypatch)


def test_an_app_that_changed_the_dumper_gets_its_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    dumper = omegaconf.get_omega_conf_dumper()
    own = {**dumper.yaml_representers, bool: lambda self, data: self.represent_str(f"is {data}")}
    monkeypatch.setattr(dumper, "yaml_representers", own)
    config = OmegaConf.create({"flag": True})

    assert written_quickly(config, alike_texts(config)) == OmegaConf.to_yaml(config)
    assert "is True" in written_quickly(config, {})


@needs_omegaconf_23
def test_an_app_that_changed_how_yaml_is_laid_out_gets_its_layout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def indented(self: Any, flow: bool = False, indentless: bool = False) -> None:
        increase(self, flow, False)

    increase = yaml.Dumper.increase_indent
    monkeypatch.setattr(yaml.Dumper, "increase_indent", indented)
    config = OmegaConf.create({"list": [1]})

    assert (
        written_quickly(config, alike_texts(config))
        == OmegaConf.to_yaml(config)
        == "list:\n  - 1\n"
    )


def test_without_libyaml_pyyaml_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(yaml, "CDumper", raising=False)
    config = OmegaConf.create({"a": [1, "b\nc"]})

    assert alike_texts(config) == {}
    assert written_quickly(config, {}) == OmegaConf.to_yaml(config)


def test_copies_are_the_same() -> None:
    class Own(DictConfig):
        pass

    config = OmegaConf.create({"a": [1, {"b": "${a}"}], "own": Own({"x": 1})})
    pair = [config, config.a]

    with prepared_quickly(context(), {}):
        copied, copied_pair = copy.deepcopy(config), copy.deepcopy(pair)

    assert describe(copied) == describe(copy.deepcopy(config))
    assert copied_pair[1] is copied_pair[0].a


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
        with prepared_quickly(context(), {}):
            assert [meaning(text) for text in texts] == plain


def test_the_apps_callbacks_and_function_find_omegaconf_as_it_is() -> None:
    before, app = state(), Looking()
    job = context(app)

    with prepared_quickly(job, {}):
        during = state()
        job.callbacks.on_job_start(config=OmegaConf.create(), task_function=lambda _: None)
        after = state()

    assert during[0] is not before[0]
    assert app.seen == after == state() == before


def test_omegaconf_is_as_it_was_after_a_preparation_that_fails() -> None:
    before = state()

    with pytest.raises(ValueError, match="broken"), prepared_quickly(context(), {}):
        raise ValueError("broken")

    assert state() == before


def test_the_switch_leaves_everything_to_hydra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HSM_COMPOSE", "plain")
    before = state()

    assert get_ready(OmegaConf.create({"a": "b\nc"})) == {}
    with prepared_quickly(context(), {}):
        assert state() == before
