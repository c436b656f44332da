"""Reads a YAML file that a person wrote, and says in which line it is wrong.

Apart from config.py because PyYAML takes longer to import than everything else in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from hsm.core.errors import SettingsError

#: Bytes; a settings file that is larger is something else that was named by mistake (/dev/zero).
LARGEST_FILE = 1 << 20


def read_mapping(path: Path) -> dict[Any, Any]:
    """The mapping that the YAML file `path` holds; {} if it holds nothing.

    Only plain data: no tag in the file makes Python build an object or call anything.

    Raises:
        SettingsError: not YAML, a key given twice, or not a mapping; its origin names file and line.
        OSError: the file cannot be read.
    """
    text = _read(path)
    try:
        # The tree of nodes is built a second time by safe_load: only it still knows keys given twice, and lines.
        _refuse_repeated_keys(yaml.compose(text, Loader=yaml.SafeLoader), path)
        content = yaml.safe_load(text)
    except SettingsError:
        raise
    except yaml.YAMLError as error:
        raise _malformed(error, text, path) from error
    except Exception as error:
        # PyYAML leaks whatever its conversions run into: ValueError for the date 2024-99-99, RecursionError
        # for ten thousand brackets, KeyError for `!!bool maybe`, ...
        raise SettingsError(
            path.name, _first_line(text), str(path), "YAML", f"{type(error).__name__}: {error}"
        ) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(path.name, content, str(path), "a mapping (key: value)")
    return content


def _read(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        raise SettingsError(
            path.name, data[:40], str(path), f"a settings file of at most {LARGEST_FILE} bytes"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        wrong = data[error.start : error.start + 1]
        raise SettingsError(path.name, wrong, f"{path}, line {line}", "text in UTF-8") from error


def _refuse_repeated_keys(root: yaml.Node | None, path: Path) -> None:
    """YAML forbids a key given twice; PyYAML silently takes the last one."""
    waiting = [root] if root is not None else []
    seen: set[int] = set()  # aliases make a graph of the tree, perhaps one with cycles
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting.extend(node.value)
        elif isinstance(node, yaml.MappingNode):
            waiting.extend(child for pair in node.value for child in pair)
            _refuse_repeats_in(node, path)


def _refuse_repeats_in(mapping: yaml.MappingNode, path: Path) -> None:
    first_lines: dict[tuple[str, str], int] = {}
    for key, _ in mapping.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        name, line = (key.tag, key.value), key.start_mark.line + 1
        if name in first_lines:
            hint = f"it is in line {first_lines[name]} already"
            origin = f"{path}, line {line}"
            raise SettingsError(path.name, key.value, origin, "YAML that gives each key once", hint)
        first_lines[name] = line


def _malformed(error: yaml.YAMLError, text: str, path: Path) -> SettingsError:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        problem = "it holds a character that text does not"
    else:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line = mark.line + 1 if mark else 1
        problem = getattr(error, "problem", None) or str(error)
    lines = text.splitlines()
    # The end of the text may be what is wrong: one line past the last.
    shown = lines[line - 1].strip() if line <= len(lines) else "the end of the file"
    return SettingsError(path.name, shown, f"{path}, line {line}", "YAML", problem)


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "")
