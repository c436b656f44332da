"""A structural copy of a config is what `copy.deepcopy` gives, for every kind of node."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Optional, Union

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import MISSING, AnyNode, DictConfig, ListConfig, OmegaConf

from helpers.config_trees import describe, nodes
from hsm.hydra_app.config_copy import copy_config

#: Names that Hydra 1.3 needs, and of which Hydra 1.4 says that they will go.
pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated")


class Color(Enum):
    RED = 1
    BLUE = 2


@dataclass
class Point:
    x: float = 1.5
    tags: list[str] = field(default_factory=lambda: ["a", "b"])


@dataclass
class Typed:
    color: Color = Color.RED
    path: Path = Path("/tmp")
    raw: bytes = b"\x00"
    number: int = MISSING
    maybe: Optional[str] = None  # noqa: UP045 -- as apps have it
    either: Union[int, str] = 3  # noqa: UP007
    by_color: dict[Color, float] = field(default_factory=lambda: {Color.RED: 0.5})
    by_number: dict[int, bool] = field(default_factory=lambda: {3: True})
    point: Point = field(default_factory=Point)
    absent: Optional[Point] = None  # noqa: UP045
    needed: Point = MISSING
    points: list[Point] = field(default_factory=lambda: [Point(), Point(2.0)])


class OwnConfig(DictConfig):
    """A kind of container that OmegaConf does not have."""


def plain_config() -> Any:
    text = (
        "a: 1\nb: [1, 2.5, null, true, {c: x}]\nd: {e: '${a}', f: '???', g: null}\n5: five\nh: ${d}"
    )
    return OmegaConf.create(text)


def typed_config() -> Any:
    return OmegaConf.structured(Typed)


def changed_typed_config() -> Any:
    values = {"either": "text", "absent": {"x": 3}, "color": "BLUE", "number": "${oc.env:A}"}
    config: Any = OmegaConf.merge(typed_config(), values)
    config.point = "${absent}"
    return config


def config_with_objects() -> Any:
    lock = threading.Lock()  # cannot be copied
    shared = [1, 2]
    objects = {"allow_objects": True}
    nodes = {name: AnyNode(flags=objects) for name in ("lock", "one", "two")}
    for name, value in (("lock", lock), ("one", shared), ("two", shared)):
        nodes[name].__dict__["_val"] = value
    return OmegaConf.create(nodes, flags=objects)


def flagged_config() -> Any:
    config = plain_config()
    OmegaConf.set_struct(config, True)
    OmegaConf.set_readonly(config.d, True)
    OmegaConf.set_readonly(config.b, False)
    config._get_node("a")._set_flag("allow_objects", None)
    config._metadata.flags_root = True
    assert [config.d.e, config.b[4].c, config.b._get_flag("struct")]  # fills the caches of flags
    return config


def config_with_cached_results() -> Any:
    OmegaConf.register_new_resolver("hsm_cached", lambda _: [1], use_cache=True, replace=True)
    config = OmegaConf.create({"a": {"b": "${hsm_cached:x}"}})
    assert config.a.b == [1]
    return config


def config_with_shared_parts() -> Any:
    config = plain_config()
    config._content["shallow"] = copy.copy(config._get_node("a"))  # shares its metadata's parts
    config._content["shallow"].__dict__["_parent"] = config
    config._content["whole"] = config._get_node("a")
    config._content["d"].__dict__["_metadata"] = config.__dict__["_metadata"]
    return config


def config_of_own_kinds() -> Any:
    config = plain_config()
    config._set_item_impl("own", OwnConfig({"x": 1}))
    config._content["own"] = OwnConfig({"x": {"y": 1}}, parent=config, key="own")
    config._content["a"].__dict__["note"] = "of somebody's"
    config._content["d"]._metadata.note = [1]
    return config


def empty_configs() -> Any:
    content = {"none": DictConfig(None), "missing": DictConfig("???"), "link": ListConfig("${l}")}
    return OmegaConf.create({**content, "l": [], "d": {}, "no_list": ListConfig(None)})


def config_under_a_parent() -> Any:
    return plain_config().d


def list_config() -> Any:
    return OmegaConf.create([1, "a", [2, {"b": 3}], None, "${0}"])


def own_config() -> Any:
    return OwnConfig({"a": {"b": 1}})


CONFIGS: list[Callable[[], Any]] = [
    plain_config,
    typed_config,
    changed_typed_config,
    config_with_objects,
    flagged_config,
    config_with_cached_results,
    config_with_shared_parts,
    config_of_own_kinds,
    empty_configs,
    config_under_a_parent,
    list_config,
    own_config,
]


@pytest.mark.parametrize("make", CONFIGS, ids=lambda make: make.__name__)
def test_copy_equals_a_deep_copy(make: Callable[[], Any]) -> None:
    config = make()
    before = describe(config)

    duplicate = copy_config(config)

    assert describe(duplicate) == describe(copy.deepcopy(config))
    assert describe(config) == before


def test_copy_of_a_whole_hydra_config_equals_a_deep_copy(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("lr: 0.1\nname: run-${lr}\n")
    with initialize_config_dir(version_base="1.3", config_dir=str(tmp_path)):
        config = compose("config", ["+a.b=[1,{c: 2}]"], return_hydra_config=True)

    duplicate = copy_config(config)

    assert describe(duplicate) == describe(copy.deepcopy(config))
    assert OmegaConf.to_yaml(duplicate) == OmegaConf.to_yaml(config)


@pytest.mark.parametrize("make", CONFIGS, ids=lambda make: make.__name__)
def test_changing_a_copy_leaves_the_original_as_it_was(make: Callable[[], Any]) -> None:
    config = make()
    before = describe(config)
    duplicate = copy_config(config)

    for node in nodes(duplicate):
        node._set_flag(["struct", "readonly"], [False, False])
        node._metadata.resolver_cache["any"]["key"] = 1
    for container in filter(OmegaConf.is_config, nodes(duplicate)):
        if isinstance(container._content, (dict, list)):
            container._content.clear()

    assert describe(config) == before
