"""Pickling configs as plain tuples: what `pickle` gives, in a third of the time.

OmegaConf's nodes are pickled attribute by attribute through methods of theirs in Python, and so are
they loaded. Here a whole config is one tuple of tuples, which pickle writes without calling
anything. A config that has nodes of other kinds than `hsm.hydra_app.config_copy` knows, or that is
a part of another config, is pickled as OmegaConf does it. `pickle.loads` reads both.
"""

from __future__ import annotations

import copyreg
import io
import pickle
from collections import ChainMap, defaultdict
from typing import Any

from omegaconf import Container, EnumNode
from omegaconf.base import ContainerMetadata, Metadata

from hsm.hydra_app.config_copy import CONTAINERS, enum_fields, is_known, is_plain

#: A node: its kind, its content, what its metadata has besides the key and the cache, and more.
_Flat = tuple[Any, ...]
_new = object.__new__


def dumps(value: Any) -> bytes:
    """Pickle `value`, with all configs in it. Raises what `pickle.dumps` does."""
    file = io.BytesIO()
    pickler = pickle.Pickler(file, pickle.HIGHEST_PROTOCOL)
    pickler.dispatch_table = _REDUCERS
    pickler.dump(value)
    return file.getvalue()


class _UnknownError(Exception):
    """A config has a node that this module does not know."""


def _reduce(config: Container) -> Any:
    metadata = config.__dict__["_metadata"]
    key, cache = metadata.key, metadata.resolver_cache
    try:
        return _config, (_flat(config, None, key, set()), key, cache)
    except _UnknownError:
        return config.__reduce_ex__(pickle.HIGHEST_PROTOCOL)


#: What stands in for OmegaConf's own methods.
_REDUCERS = ChainMap(dict.fromkeys(CONTAINERS, _reduce), copyreg.dispatch_table)


def _flat(node: Any, parent: Any, key: Any, seen: set[int]) -> _Flat:
    attributes, kind = node.__dict__, type(node)
    metadata = attributes["_metadata"]
    if (
        not is_known(node)
        or not is_plain(metadata)
        or attributes["_parent"] is not parent
        or metadata.key != key
        or id(metadata) in seen  # It is in two places.
        or (metadata.resolver_cache and parent is not None)  # Only a root's is used.
    ):
        raise _UnknownError
    seen.add(id(metadata))
    own = metadata.ref_type, metadata.object_type, metadata.optional
    flags = metadata.flags, metadata.flags_root
    if type(metadata) is Metadata:
        return kind, attributes["_val"], *own, *flags, attributes.get("enum_type")
    content = attributes["_content"]
    if isinstance(content, dict):
        content = {name: _flat(child, node, name, seen) for name, child in content.items()}
    elif isinstance(content, list):
        content = [_flat(child, node, place, seen) for place, child in enumerate(content)]
    return kind, content, *own, *flags, metadata.key_type, metadata.element_type


def _config(flat: _Flat, key: Any, cache: defaultdict[str, Any]) -> Any:
    config = _tree(flat, key, None)
    config.__dict__["_metadata"].resolver_cache = cache
    return config


def _tree(flat: _Flat, key: Any, parent: Any) -> Any:
    kind, content, ref_type, object_type, optional, flags, flags_root, *more = flat
    is_container = len(more) == 2
    node, metadata = _new(kind), _new(ContainerMetadata if is_container else Metadata)
    fields = metadata.__dict__
    fields["ref_type"], fields["object_type"], fields["optional"] = ref_type, object_type, optional
    fields["key"], fields["flags"], fields["flags_root"] = key, flags, flags_root
    fields["resolver_cache"] = defaultdict(dict)
    attributes = node.__dict__
    if kind is EnumNode:
        attributes["fields"], attributes["enum_type"] = enum_fields(*more), *more
    attributes["_metadata"] = metadata
    attributes["_parent"], attributes["_flags_cache"] = parent, None
    if not is_container:
        attributes["_val"] = content
        return node
    fields["key_type"], fields["element_type"] = more
    if isinstance(content, dict):
        content = {name: _tree(child, name, node) for name, child in content.items()}
    elif isinstance(content, list):
        content = [_tree(child, place, node) for place, child in enumerate(content)]
    attributes["_content"] = content
    return node
