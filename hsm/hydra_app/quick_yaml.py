"""OmegaConf's YAML in less time, with the same text.

Most of a job's config is that of its sweep. So the launcher has OmegaConf write the sweep's config
once, and takes its text apart:

    hydra:                    the beginning of ``hydra``, and of ``hydra.job``
      job:
        name: app             the text of ``hydra.job.name``, if it is "app"
        num: 1                of ``hydra.job.num``, if it is 1

The text of an entry depends on its place and its value, but on nothing beside it. So a job's YAML
is put together from texts that are known, and only the rest is dumped: by LibYAML, which takes a
third of the time of PyYAML's own emitter. The two are known to write different texts for some
characters (beyond ASCII, line breaks, control characters) and some keys (empty or long ones), so
LibYAML gets only what has none of these. And it is used only if both write the same text of a
sample: an app may have changed PyYAML's dumper.
"""

from __future__ import annotations

import marshal
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf._utils import get_omega_conf_dumper

from hsm.hydra_app.config_copy import CONTAINERS, is_known

#: Texts of which LibYAML and PyYAML write the same, keys of up to `_MAX_KEY` characters included.
_is_printable = re.compile(r"[ -~]*").fullmatch
_MAX_KEY = 100
_PLAIN = frozenset((str, int, float, bool, type(None)))
_SAMPLE: dict[Any, Any] = {
    "texts": ["a", "", "yes", "1", "1e3", "~", "- a", "a: b", "a #b", " a", "it's", '"', "???"],
    "long text": "${a.b} " * 20 + "'" + "b" * 90 + ": c" * 60,
    "values": [1, -1.5, 1e30, float("nan"), True, None, [], {}, [[1], {"a": {"b": [{"c": 2}]}}]],
    5: {True: False, 2.5: True},
}
#: Later formats of marshal's tell whether two objects are one.
_MARSHAL = 2
#: The end of a document, which a dumper of the app's may have to mark.
_END_MARK = "\n...\n"

#: The keys that lead to an entry.
_Place = tuple[Any, ...]
#: An entry's place and value, as `_name` packs them -> its text; the place of a mapping alone ->
#: the text from its own key to its first entry.
Texts = Mapping[bytes, str]


class KnownTexts(NamedTuple):
    """The texts of a sweep's config; of a part that cannot be taken apart, none.

    Attributes:
        of_app: what belongs to the app.
        of_hydra: what is below ``hydra``.
    """

    of_app: Texts
    of_hydra: Texts


#: Has OmegaConf write all YAML.
NO_TEXTS = KnownTexts({}, {})


class _NotPlain(Exception):
    """A config has something besides mappings, lists and plain values."""


def known_texts(config: DictConfig) -> KnownTexts:
    """Take the YAML of a sweep's config apart, for `quick_to_yaml` in each job.

    Args:
        config: the sweep's, with Hydra's.
    """
    if not _is_omegaconf_unchanged():
        return NO_TEXTS
    keys = [*config]
    return KnownTexts(
        _texts_below(config, [key for key in keys if key != "hydra"]),
        _texts_below(config, [key for key in keys if key == "hydra"]),
    )


def _texts_below(config: DictConfig, keys: Sequence[Any]) -> Texts:
    try:
        data = {_plain_value(key): _plain(config._get_node(key)) for key in keys}
        return _texts_of(marshal.dumps(data, _MARSHAL))
    except (_NotPlain, ValueError):
        return {}


@lru_cache(maxsize=4)  # The batches of a sweep have the same.
def _texts_of(packed: bytes) -> Texts:
    data = marshal.loads(packed)
    try:
        text = _dump(data, get_omega_conf_dumper())
        if text.endswith(_END_MARK):
            return {}
        root: Any = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        entries = _Entries(text)
        entries.note((), data, root, len(text))
        # An app's dumper may write an entry in another way if others are there.
        apart = _Writer(entries.beginnings).write(data)
    except Exception:  # of a dumper or a parser, too
        return {}
    return entries.texts | entries.beginnings if apart == text else {}


class _Entries:
    """The entries of all mappings in a YAML text.

    Args:
        text: the YAML.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self.texts: dict[bytes, str] = {}
        self.beginnings: dict[bytes, str] = {}

    def note(self, place: _Place, data: dict[Any, Any], node: yaml.MappingNode, end: int) -> None:
        """Note the entries of one mapping, and of those in it.

        Args:
            place: the keys that lead to the mapping.
            data: the mapping.
            node: the same as YAML's parser found it.
            end: of the mapping, in the text.
        """
        begins = [self._begin(key) for key, _ in node.value]
        for (key, value), (_, child), (begin, after) in zip(
            data.items(), node.value, pairwise([*begins, end]), strict=True
        ):
            own = (*place, key)
            self.texts[_name(own, value)] = self._text[begin:after]
            if type(value) is dict and value:
                key_node = child.value[0][0]
                first = self._begin(key_node)
                before = self._text[first : key_node.start_mark.index]
                # After a long key, which has a question mark, YAML writes ": first key: value".
                if first > begin and not before.strip(" ?"):
                    self.beginnings[_name(own)] = self._text[begin:first]
                    self.note(own, value, child, after)

    def _begin(self, key: yaml.Node) -> int:
        """Where the line of a key begins."""
        begin: int = key.start_mark.index - key.start_mark.column
        if begin and self._text[begin - 1] != "\n":
            raise _NotPlain
        return begin


def quick_to_yaml(texts: KnownTexts, own: Callable[..., str]) -> Callable[..., str]:
    """Make a function that returns what `OmegaConf.to_yaml` returns.

    Args:
        texts: what `known_texts` returned.
        own: `OmegaConf.to_yaml`, for what this does not know.
    """

    def to_yaml(cfg: Any, **options: Any) -> str:
        if not options:
            with suppress(_NotPlain, ValueError, RecursionError):
                data = _plain(cfg)
                of_hydra = type(data) is not dict or "hydra" in data
                known = texts.of_hydra if of_hydra else texts.of_app
                if known:
                    return _Writer(known).write(data)
        return own(cfg, **options)

    return to_yaml


def _plain(node: Any) -> Any:
    """What `OmegaConf.to_container` makes of a config for YAML; tuples are written as lists."""
    if not is_known(node):
        raise _NotPlain
    if type(node) not in CONTAINERS:
        return _plain_value(node.__dict__["_val"])
    content = node.__dict__["_content"]
    if type(content) is dict:
        return {_plain_value(key): _plain(child) for key, child in content.items()}
    if type(content) is list:
        return [_plain(child) for child in content]
    return _plain_value(content)


def _plain_value(value: Any) -> Any:
    if isinstance(value, Enum):
        return f"{value.name}"
    if type(value) not in _PLAIN:
        raise _NotPlain
    return value


def _name(place: _Place, *value: Any) -> bytes:
    """Pack a place and a value: equal if all types, orders and contents are.

    Raises:
        ValueError: it is too deep.
    """
    return marshal.dumps((place, *value), _MARSHAL)


class _Writer:
    """Puts a config's YAML together from known texts."""

    def __init__(self, texts: Texts) -> None:
        self._texts = texts

    def write(self, data: Any) -> str:
        """Return the YAML of what `_plain` returned."""
        if type(data) is dict and data:
            return "".join(self._entries((), "", data))
        return _quick_dump(data)

    def _entries(self, place: _Place, before: str, data: dict[Any, Any]) -> Iterator[str]:
        """The texts of a mapping's entries; `before` is what YAML has before the first of them."""
        unknown: dict[Any, Any] = {}  # entries that follow one another
        for key, value in data.items():
            own = (*place, key)
            text = self._texts.get(_name(own, value))
            begin = None
            if text is None and type(value) is dict and value:
                begin = self._texts.get(_name(own))
            if text is None and begin is None:
                unknown[key] = value
                continue
            if unknown:
                yield _dump_within(place, before, unknown)
                unknown = {}
            if text is not None:
                yield text
            elif begin is not None:
                yield begin
                yield from self._entries(own, before + begin, value)
        if unknown:
            yield _dump_within(place, before, unknown)


def _dump_within(place: _Place, before: str, data: Any) -> str:
    """The YAML of entries of the mapping at `place`, without what is `before` them."""
    for key in reversed(place):
        data = {key: data}
    text = _quick_dump(data)
    if not text.startswith(before) or text.endswith(_END_MARK):
        raise _NotPlain
    return text[len(before) :]


def _quick_dump(data: Any) -> str:
    dumper = _quick_dumper() if _is_alike(data) else None
    return _dump(data, dumper or get_omega_conf_dumper())


def _dump(data: Any, dumper: Any) -> str:
    text: str = yaml.dump(
        data, default_flow_style=False, allow_unicode=True, sort_keys=False, Dumper=dumper
    )
    return text


@cache
def _is_omegaconf_unchanged() -> bool:
    """Whether OmegaConf writes YAML as it is written here; an app may have replaced a function."""
    try:
        text = OmegaConf.to_yaml(OmegaConf.create(_SAMPLE))
        is_by_reference = "&id" in text  # The same object a second time would be ``*id001``.
        return text == _dump(_SAMPLE, get_omega_conf_dumper()) and not is_by_reference
    except Exception:
        return False


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
    dumpers = (quick, get_omega_conf_dumper())
    try:
        return len({_dump(data, each) for each in dumpers}) == 1
    except Exception:  # LibYAML cannot write half a surrogate pair, say
        return False


def _is_alike(data: Any) -> bool:
    """Whether LibYAML and PyYAML write the same text of `data`."""
    kind = type(data)
    if kind is str:
        return _is_printable(data) is not None
    if kind is dict:
        return all(_is_usual_key(key) and _is_alike(value) for key, value in data.items())
    if kind is list:
        return all(map(_is_alike, data))
    return True


def _is_usual_key(key: Any) -> bool:
    return type(key) is not str or (0 < len(key) <= _MAX_KEY and _is_printable(key) is not None)
