"""OmegaConf's YAML by LibYAML, where its text is the same as PyYAML's.

OmegaConf 2.3 dumps with PyYAML's own emitter, which takes three times as long as LibYAML; 2.4 uses
LibYAML by itself. The two are known to write different texts for some characters (beyond ASCII,
line breaks, control characters) and some keys (empty or long ones). So LibYAML gets only what has
none of these, except where the sweep's own config has the same text in the same place, and the
launcher has seen both write it alike. And it is used only if both write the same text of a sample:
an app may have changed PyYAML's dumper.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, partial
from itertools import chain, repeat
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf._utils import get_omega_conf_dumper

#: Texts of which LibYAML and PyYAML write the same, keys of up to `_MAX_KEY` characters included.
_is_printable = re.compile(r"[ -~]*").fullmatch
_MAX_KEY = 100
_PLAIN_VALUES = frozenset((int, float, bool, type(None)))
_SAMPLE: dict[Any, Any] = {
    "texts": ["a", "", "yes", "1", "1e3", "~", "- a", "a: b", "a #b", " a", "it's", '"', "???"],
    "long text": "${a.b} " * 20 + "'" + "b" * 90 + ": c" * 60,
    "values": [1, -1.5, 1e30, float("nan"), True, None, [], {}, [[1], {"a": {"b": [{"c": 2}]}}]],
    5: {True: False, None: 0.1},
}


def alike_texts(config: DictConfig) -> dict[Any, Any]:
    """Find texts in a sweep's config that both write alike, although there are such that differ.

    The launcher does this once, for `choosing_dumper` in every job.
    """
    if (quick := _quick_dumper()) is None:
        return {}
    unusual = _unusual(OmegaConf.to_container(config, resolve=False, enum_to_str=True)) or {}
    return {key: part for key, part in unusual.items() if _write_alike({key: part}, quick)}


def choosing_dumper(alike: dict[Any, Any]) -> Callable[..., _Dumper] | None:
    """Make a dumper for `yaml.dump` that has LibYAML dump what it can.

    Args:
        alike: what `alike_texts` found.

    Returns:
        None if LibYAML is not there, or is not to be used, or is used anyway.
    """
    quick = _quick_dumper()
    return None if quick is None else partial(_Dumper, quick, alike)


@cache
def _quick_dumper() -> Any:
    """LibYAML's dumper for OmegaConf's YAML; None if it is not there, or is not to be used."""
    own = get_omega_conf_dumper()
    libyaml: Any = getattr(yaml, "CDumper", None)
    if libyaml is None or issubclass(own, libyaml):  # the latter in OmegaConf 2.4
        return None

    class QuickDumper(libyaml):  # type: ignore[misc]
        yaml_representers = own.yaml_representers
        yaml_multi_representers = own.yaml_multi_representers
        yaml_implicit_resolvers = own.yaml_implicit_resolvers
        yaml_path_resolvers = own.yaml_path_resolvers

    return QuickDumper if _write_alike(_SAMPLE, QuickDumper) else None


def _write_alike(data: Any, quick: Any) -> bool:
    settings: dict[str, Any] = {"default_flow_style": False, "allow_unicode": True}
    dumpers = (quick, get_omega_conf_dumper())
    try:
        return len({yaml.dump(data, Dumper=each, **settings) for each in dumpers}) == 1
    except Exception:  # LibYAML cannot write half a surrogate pair, say
        return False


class _Dumper:
    """As `yaml.dump` uses a dumper; which one it is depends on what it dumps."""

    def __init__(self, quick: Any, alike: Any, stream: Any, **settings: Any) -> None:
        self._quick, self._alike = quick, alike
        self._settings = {"stream": stream, **settings}
        self._dumper: Any = None

    def open(self) -> None:
        pass  # not before it is known which

    def represent(self, data: Any) -> None:
        kind = self._quick if _is_alike(data, self._alike) else get_omega_conf_dumper()
        self._dumper = kind(**self._settings)
        self._dumper.open()
        self._dumper.represent(data)

    def close(self) -> None:
        self._dumper.close()

    def dispose(self) -> None:
        if self._dumper is not None:
            self._dumper.dispose()


def _is_alike(data: Any, alike: Any) -> bool:
    """Whether LibYAML and PyYAML write the same text of `data`.

    Args:
        data: what is dumped.
        alike: unusual texts of which they do, each at its place in data like this. What the text
            looks like depends on the place, but on nothing beside it.
    """
    kind = type(data)
    if kind is str:
        return _is_printable(data) is not None or data == alike
    if kind is dict:
        known = alike if type(alike) is dict else {}
        return all(
            _is_usual_key(key) and _is_alike(value, known.get(key)) for key, value in data.items()
        )
    if kind is list:
        places = alike if type(alike) is list else ()
        return all(map(_is_alike, data, chain(places, repeat(None))))
    return kind in _PLAIN_VALUES


def _is_usual_key(key: Any) -> bool:
    if type(key) is str:
        return 0 < len(key) <= _MAX_KEY and _is_printable(key) is not None
    return type(key) in _PLAIN_VALUES


def _unusual(data: Any) -> Any:
    """What `data` has of texts that may be written differently; None if it has none."""
    kind = type(data)
    if kind is str:
        return None if _is_printable(data) else data
    if kind is dict:
        found = {key: _unusual(value) for key, value in data.items() if _is_usual_key(key)}
        return {key: value for key, value in found.items() if value is not None} or None
    if kind is list:
        places = [_unusual(value) for value in data]
        return None if places.count(None) == len(places) else places
    return None
