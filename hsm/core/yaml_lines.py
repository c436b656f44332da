"""YAML text -> values whose mappings know their lines, read as Hydra reads its config files.

Unlike in plain PyYAML, 1e-3 is a number, a date is a string, and a duplicate key is an error.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from typing import Any

import yaml

from hsm.core.errors import SettingsError, shown

_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)[eE][-+]?[0-9]+$")
_TIMESTAMP = "tag:yaml.org,2002:timestamp"


class Lined(dict[Any, Any]):
    """A mapping that knows its lines in the file.

    Attributes:
        line: its first line, counted from 1.
        lines: the line of each key.
    """

    def __init__(self, mapping: Mapping[Any, Any], line: int, lines: Mapping[Any, int]) -> None:
        super().__init__(mapping)
        self.line = line
        self.lines = lines


def load_yaml(text: str, path: str) -> Any:
    """Load the single document in `text`.

    Raises:
        SettingsError: the text is not valid YAML; names `path` and the line.
    """
    try:
        return yaml.load(text, _Loader)  # a SafeLoader, which only makes plain values
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = ", ".join(filter(None, (error.context, error.problem)))
        raise _refused(text, path, mark.line if mark else 0, reason) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position)
        raise _refused(text, path, line, "it has a character that YAML does not allow") from None
    except RecursionError:
        raise _refused(text, path, 0, "it is nested too deeply") from None


def _refused(text: str, path: str, line: int, reason: str) -> SettingsError:
    lines = text.splitlines()
    value = lines[line].strip() if line < len(lines) else ""
    near = f"near {shown(value)}" if value else "at its end"
    place = f"{path}, line {line + 1}"
    message = f"{place} is not valid YAML {near}: {reason}"
    return SettingsError("the file", value, place, "valid YAML", reason, message=message)


def _wrong(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


class _Loader(yaml.SafeLoader):
    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, TypeError) as error:
            # `!!int x`, `!!bool x`, `!!timestamp x`, 0b: PyYAML trusts the tag of a scalar.
            raise _wrong(node, f"this is not a valid {node.tag.rpartition(':')[2]}") from error

    def construct_lined(self, node: yaml.Node) -> Lined:
        if not isinstance(node, yaml.MappingNode):
            raise _wrong(node, "this is not a mapping")
        # Get the lines first: construct_mapping adds the keys that `<<` merges to the node.
        lines = self._lines(node)
        return Lined(self.construct_mapping(node, deep=True), node.start_mark.line + 1, lines)

    def _lines(self, node: yaml.MappingNode) -> dict[Any, int]:
        lines: dict[Any, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise _wrong(key_node, "this cannot be a key")
            if key in lines:
                raise _wrong(key_node, f"the key {key!r} appears twice, first in line {lines[key]}")
            lines[key] = key_node.start_mark.line + 1
        return lines


_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.construct_lined)
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != _TIMESTAMP]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}
