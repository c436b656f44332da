"""Configs of all kinds: what `copy.deepcopy` and `pickle` have to cope with."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Optional, Union

from omegaconf import MISSING, AnyNode, DictConfig, ListConfig, OmegaConf


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


@dataclass
class Tuples:
    pair: tuple[int, int] = (1, 2)
    many: tuple[float, ...] = (0.5, 1.5)


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


def config_with_shared_metadata() -> Any:
    config: Any = OmegaConf.create({"a": [1], "b": [2], "c": [3]})
    first, second, third = (config._content[name]._content[0] for name in "abc")
    second.__dict__["_metadata"] = first.__dict__["_metadata"]
    third._metadata.flags = first._metadata.flags
    return config


def config_of_own_kinds() -> Any:
    config = plain_config()
    config._set_item_impl("own", OwnConfig({"x": 1}))
    config._content["own"] = OwnConfig({"x": {"y": 1}}, parent=config, key="own")
    config._content["a"].__dict__["note"] = "of somebody's"
    config._content["d"]._metadata.note = [1]
    return config


def config_with_tuples() -> Any:
    """With OmegaConf 2.4, tuples are kept; before, they are lists."""
    content = {"a": (1, (2, {"b": "${a}"})), "none": (), "typed": OmegaConf.structured(Tuples)}
    return OmegaConf.create(content)


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
    config_with_shared_metadata,
    config_of_own_kinds,
    empty_configs,
    config_with_tuples,
    config_under_a_parent,
    list_config,
    own_config,
]
