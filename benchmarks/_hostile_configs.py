"""Configs as nobody would write them: texts that YAML has to quote, and nodes in odd states."""

from __future__ import annotations

import copy
import random
import string
import threading
import warnings
from pathlib import Path
from typing import Any

from omegaconf import AnyNode, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from _composing_schemas import Colour, Late, Schema

_WORDS = (
    *(
        "yes",
        "no",
        "on",
        "~",
        "null",
        "1e3",
        "0x10",
        "0o7",
        "1_000",
        "::",
        "- a",
        "a: b",
        "#c",
        " #c",
    ),
    *(
        "%d",
        "@x",
        "`t",
        "!t",
        "&a",
        "*b",
        "|",
        ">",
        "{a",
        "[b",
        "'q'",
        '"d"',
        "",
        "=",
        "<<",
        ".nan",
    ),
    *("2020-01-01", "12:30:45", "a" * 130, "long words " * 30, "tab\there", "nl\n", "\nnl", "\\"),
    *(
        "a\n b\n\nc",
        "trail ",
        "  lead",
        "${x.y}",
        "${oc.env:HOME}",
        "???",
        "---",
        "...",
        "? a",
        "a:",
    ),
    *(
        "é",
        "日本語",
        "😀",
        "\x07",
        "\x85",
        "\u2028",
        "\ufeff",
        "\x7f",
        "\r\n",
        "é" * 90,
        "😀 " * 40,
    ),
    *("x: " * 40, "it's " * 30, "'" * 90, '"' * 90, "\\" * 90, "a\tb" * 40, "${a} " * 30, "\ud800"),
)
_ALPHABETS = (
    string.ascii_letters + "    ",
    string.printable[:95],
    string.printable[:95] + "\n\n\t",
    "ab \n",
    "'\"\\ :#-?,[]{}&*!|>%@`",
    "aé日😀\x85\xa0 ",
)
_NUMBERS = (0, 1, -5, 10**20, 0.1, -0.0, 1e30, 1e-7, float("nan"), float("-inf"), True, False, None)


def hostile_text(source: random.Random) -> str:
    """Return a text that is hard to write as YAML."""
    if source.random() < 0.4:
        return source.choice(_WORDS)
    letters = source.choice(_ALPHABETS)
    return "".join(source.choices(letters, k=source.choice((1, 3, 10, 60, 79, 80, 81, 200))))


def hostile_data(source: random.Random, depth: int = 0) -> Any:
    """Return a dict, or deeper down anything that a config may hold."""
    kind = source.random()
    if depth and (kind < 0.45 or depth > 4):
        return _valid(source, hostile_text)
    if depth and kind < 0.65:
        return source.choice((*_NUMBERS, b"x\x00y" * 40, b"", Path("/a b"), Colour.RED))
    size = source.randint(0, 4)
    if depth and kind < 0.8:
        return [hostile_data(source, depth + 1) for _ in range(size)]
    return {_hostile_key(source): hostile_data(source, depth + 1) for _ in range(size)}


def _valid(source: random.Random, make: Any) -> str:
    """Return a text that OmegaConf takes: others are no interpolations."""
    while True:
        text: str = make(source)
        try:
            OmegaConf.create({"text": text})
        except OmegaConfBaseException:
            continue
        return text


def _hostile_key(source: random.Random) -> Any:
    if source.random() < 0.5:
        return source.choice(string.ascii_letters) * source.choice(
            (1, 1, 5, 99, 100, 101, 128, 129)
        )
    if source.random() < 0.7:
        return hostile_text(source)
    return source.choice((0, 1, -3, 2.5, True, Colour.BLUE, b"k"))


def hostile_configs(source: random.Random) -> tuple[DictConfig, DictConfig]:
    """Return two configs that differ in a few values."""
    while True:
        data = hostile_data(source)
        try:
            return OmegaConf.create(data), OmegaConf.create(_changed(source, data))
        except OmegaConfBaseException:  # OmegaConf 2.4 wants no keys such as 1 and "1" together
            continue


def _changed(source: random.Random, data: Any) -> Any:
    """Return a copy of some data in which a few values are others."""
    if isinstance(data, dict):
        return {key: _changed(source, value) for key, value in data.items()}
    if isinstance(data, list):
        return [_changed(source, value) for value in data]
    return hostile_data(source, 4) if source.random() < 0.2 else data


class OwnDict(DictConfig):
    """A kind of container that OmegaConf does not have."""


def hostile_tree(source: random.Random) -> Any:
    """Return a config whose nodes are of every kind, and in states that few have."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flags = source.choice(({}, {"allow_objects": True}, {"struct": True}))
        config: Any = hostile_configs(source)[0]
        config._metadata.flags.update(flags)
        for _ in range(source.randint(0, 6)):
            try:
                source.choice(_CHANGES)(source, config)
            except (OmegaConfBaseException, AssertionError):  # read-only by now, or not possible
                continue
    return config


def _structured(source: random.Random, config: Any) -> None:
    schema: Any = source.choice((Schema, Late))
    config._set_item_impl("typed", OmegaConf.structured(schema))
    if source.random() < 0.5:
        config.typed.o = {"lr": source.random()}


def _objects(source: random.Random, config: Any) -> None:
    shared = [1, 2]
    for name in ("lock", "shared", "again"):
        node = AnyNode(flags={"allow_objects": True})
        node.__dict__["_val"] = threading.Lock() if name == "lock" else shared
        config._content[name] = node
        node._set_parent(config)
        node._metadata.key = name


def _flags(source: random.Random, config: Any) -> None:
    node = source.choice(nodes(config))
    node._set_flag(source.choice(("readonly", "struct", "own")), source.choice((True, False, None)))
    node._metadata.flags_root = source.random() < 0.2


def _read_flags(source: random.Random, config: Any) -> None:
    for node in nodes(config):
        node._get_flag(source.choice(("readonly", "struct", "other")))


def _odd_containers(source: random.Random, config: Any) -> None:
    content = source.choice((None, "???", "${a}", "${oc.env:HOME}"))
    kind = source.choice((DictConfig, ListConfig))
    key_types: Any = {"key_type": int, "element_type": float} if kind is DictConfig else {}
    config._content["odd"] = kind(content, key="odd", parent=config, **key_types)


def _own_kinds(source: random.Random, config: Any) -> None:
    config._content["own"] = OwnDict({"x": {"y": [1]}}, key="own", parent=config)
    node = source.choice(nodes(config))
    node.__dict__["note"] = ["of somebody's"]
    source.choice(nodes(config))._metadata.note = {"a": 1}


def _shared_parts(source: random.Random, config: Any) -> None:
    found = nodes(config)
    one, other = source.choice(found), source.choice(found)
    if one is not config and source.random() < 0.5:
        config._content["whole"] = one
        config._content["shallow"] = copy.copy(one)
        config._content["shallow"].__dict__["_parent"] = config
    if type(one._metadata) is type(other._metadata):
        other.__dict__["_metadata"] = one.__dict__["_metadata"]


def _caches(source: random.Random, config: Any) -> None:
    node = source.choice(nodes(config))
    node._metadata.resolver_cache["kept"][("x",)] = source.choice((1, [1, {"a": 2}]))


def _parents(source: random.Random, config: Any) -> None:
    config.__dict__["_parent"] = DictConfig({"above": 1}, flags={"readonly": True})
    config._metadata.key = source.choice((None, "key", 3, Colour.RED, (1, 2)))


def nodes(config: Any) -> list[Any]:
    """Return a config and the nodes below it: one that is in two places, twice."""
    found, left = [], [config]
    while left:
        node = left.pop()
        found.append(node)
        content = node.__dict__.get("_content")
        if isinstance(content, dict):
            left += content.values()
        elif isinstance(content, list):
            left += content
        elif hasattr(content, "_metadata"):
            left.append(content)
        if len(found) > 2000:  # a part in itself
            break
    return found


_CHANGES = (
    *(_structured, _objects, _flags, _read_flags, _odd_containers, _own_kinds, _shared_parts),
    *(_caches, _parents),
)
