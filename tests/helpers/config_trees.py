"""What tells one OmegaConf config from another, node by node."""

from __future__ import annotations

from typing import Any

from omegaconf.base import Node


def describe(node: Any) -> Any:
    """Return all that a config is made of: types, metadata, flags, caches, and what is shared.

    Two configs with equal descriptions are the same to OmegaConf and to pickle.
    """
    return _Description().of(node, node.__dict__["_parent"])


def nodes(node: Any) -> list[Any]:
    """Return the node and all below it."""
    content = node.__dict__.get("_content")
    children = content.values() if isinstance(content, dict) else content
    below = children if isinstance(content, dict | list) else []
    return [node, *(each for child in below for each in nodes(child))]


class _Description:
    """Numbers the objects that have been seen, so that one that is there twice is recognized."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}

    def of(self, held: Any, parent: Any) -> Any:
        if not isinstance(held, Node):
            return type(held), held
        if id(held) in self._seen:
            return "seen", self._number(held)
        assert held.__dict__["_parent"] is parent
        parts = [
            (name, self._part(held, name)) for name in sorted(held.__dict__) if name != "_parent"
        ]
        return self._number(held), type(held), parts

    def _part(self, node: Node, name: str) -> Any:
        held = node.__dict__[name]
        if name == "_metadata":
            fields = [(key, self._field(value)) for key, value in sorted(held.__dict__.items())]
            return self._number(held), type(held), fields
        if name == "_content" and isinstance(held, dict):
            return [(type(key), key, self.of(child, node)) for key, child in held.items()]
        if name == "_content" and isinstance(held, list):
            return [self.of(child, node) for child in held]
        return self.of(held, node)

    def _field(self, held: Any) -> Any:
        if isinstance(held, dict):
            factory = getattr(held, "default_factory", None)
            return self._number(held), type(held), factory, list(held.items())
        return type(held), held

    def _number(self, held: Any) -> int:
        return self._seen.setdefault(id(held), len(self._seen))
