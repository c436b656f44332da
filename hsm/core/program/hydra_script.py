"""Finds out about a Hydra script from its syntax tree, without running any of it."""

from __future__ import annotations

import ast
import os
import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hsm.core.program.syntax_tree import SyntaxTree

#: Limits on the YAML files below a config directory: their number, and their characters together.
_MAX_FILES = 500
_MAX_TEXT = 1 << 20
#: Tells a sweep file from an app's config.
_SWEEP_FILE = re.compile(r"^sweep:", re.MULTILINE)
#: Entries that mark a directory as the output of a run or sweep.
_OUTPUTS = frozenset((".hydra", ".hsm", "multirun.yaml"))


@dataclass(frozen=True)
class ConfigPlace:
    """An app's config directory, and the name of the primary config in it."""

    directory: Path
    name: str


def uses_hydra_main(path: str | os.PathLike[str]) -> bool:
    """Whether the Python script at `path` uses `hydra.main`, under whatever name it imports it.

    False if the script cannot be read or is not Python: its jobs will show why.
    """
    try:
        return is_hydra_app(SyntaxTree(Path(path).read_bytes()))
    except OSError:
        return False


def is_hydra_app(script: SyntaxTree) -> bool:
    """Whether a script uses `hydra.main`."""
    return not script.used.isdisjoint(("hydra.main", "hydra.main.main"))


def config_place(script: str | os.PathLike[str]) -> ConfigPlace | None:
    """Where the config of the Hydra app at `script` is; None if its decorator does not say.

    Also None if the app makes configs in Python (ConfigStore).
    """
    try:
        source = Path(script).read_bytes()
        tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if b"ConfigStore" in source:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            for call in node.decorator_list:
                if isinstance(call, ast.Call) and _is_main(call.func):
                    return _place(call, Path(script))
    return None


def is_output(names: Iterable[str]) -> bool:
    """Whether a directory with entries of these names is the output of a run or sweep."""
    return not _OUTPUTS.isdisjoint(names)


def config_texts(script: str | os.PathLike[str]) -> dict[str, str]:
    """The texts of the YAML files in an app's config directory, by path relative to the script's.

    Leaves out hsm's own files, which say how to run the app, not what it is, and the output of
    earlier runs. Empty if there are too many files for an app's config, or the directory is
    unknown.
    """
    place = config_place(script)
    if place is None:
        return {}
    base = Path(script).resolve().parent
    texts: dict[str, str] = {}
    pending = deque([place.directory])
    while pending:
        directory = pending.popleft()
        entries = sorted(directory.iterdir())
        if directory != place.directory and is_output(entry.name for entry in entries):
            continue
        for entry in entries:
            if entry.is_dir() and not entry.is_symlink() and not entry.name.startswith("."):
                pending.append(entry)
            elif entry.suffix in (".yaml", ".yml") and entry.name != "hsm.yaml":
                try:
                    text = entry.read_text(encoding="utf-8")
                except (OSError, UnicodeDecodeError):
                    continue
                if not _SWEEP_FILE.search(text):
                    texts[os.path.relpath(entry, base)] = text
        if len(texts) > _MAX_FILES or sum(map(len, texts.values())) > _MAX_TEXT:
            return {}
    return texts


def _is_main(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in ("main", "hydra_main")


def _place(call: ast.Call, script: Path) -> ConfigPlace | None:
    arguments = {word.arg: word.value for word in call.keywords if word.arg}
    # Hydra's parameters in order; the later ones do not matter here.
    arguments |= dict(zip(("config_path", "config_name"), call.args, strict=False))
    given = {}
    for name in ("config_path", "config_name"):
        value = arguments.get(name)
        if not (isinstance(value, ast.Constant) and isinstance(value.value, str)):
            return None
        given[name] = value.value
    directory = (script.parent / given["config_path"]).resolve()
    return ConfigPlace(directory, given["config_name"]) if directory.is_dir() else None
