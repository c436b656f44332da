"""What a Hydra script says of itself in its syntax tree: nothing of it is run to find out."""

from __future__ import annotations

import ast
import os
import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

#: Of the YAML files below a config directory: so many, with so many characters, are looked at.
_MAX_FILES = 500
_MAX_TEXT = 1 << 20
#: What a sweep file has, and an app's config has not.
_SWEEP_FILE = re.compile(r"^sweep:", re.MULTILINE)
#: What a directory has in it that is the output of a run or a sweep.
_OUTPUTS = frozenset((".hydra", ".hsm", "multirun.yaml"))


@dataclass(frozen=True)
class ConfigPlace:
    """Where an app's config lies: a directory, and the name of the primary config in it."""

    directory: Path
    name: str


def uses_hydra_main(path: str | os.PathLike[str]) -> bool:
    """Whether the Python script at `path` names `hydra.main`, under whatever name it imports it.

    False for a script that cannot be read or is not Python: its job will tell why.
    """
    try:
        tree = ast.parse(Path(path).read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    modules, names = _imported(tree)
    return any(
        (isinstance(node, ast.Name) and node.id in names and isinstance(node.ctx, ast.Load))
        or (
            isinstance(node, ast.Attribute)
            and node.attr == "main"
            and isinstance(node.value, ast.Name)
            and node.value.id in modules
        )
        for node in ast.walk(tree)
    )


def _imported(tree: ast.AST) -> tuple[set[str], set[str]]:
    """The names by which a script knows the package hydra, and those of its function main."""
    modules: set[str] = set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                # `import hydra.utils` binds hydra; `import hydra.utils as u` binds something else.
                if alias.name == "hydra" or (
                    alias.name.startswith("hydra.") and alias.asname is None
                ):
                    modules.add(alias.asname or "hydra")
        elif isinstance(node, ast.ImportFrom) and node.module in ("hydra", "hydra.main"):
            names.update(alias.asname or alias.name for alias in node.names if alias.name == "main")
    return modules, names


def config_place(script: str | os.PathLike[str]) -> ConfigPlace | None:
    """Where the config of the Hydra app at `script` lies; None if it says that in another way.

    None, too, if it makes configs in Python (ConfigStore).
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
    """Whether a directory with entries of these names is what a run or a sweep has left."""
    return not _OUTPUTS.isdisjoint(names)


def config_texts(script: str | os.PathLike[str]) -> dict[str, str]:
    """The texts of the YAML files in the app's config directory, by their paths from the script's.

    No file of hsm's, which says how to run the app and not what it is; no output of an earlier run.
    Empty where they are too many to be an app's config, or nobody can tell where they lie.
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
    # Hydra's order: config_path, config_name. Later ones do not matter here.
    arguments |= dict(zip(("config_path", "config_name"), call.args, strict=False))
    given = {}
    for name in ("config_path", "config_name"):
        value = arguments.get(name)
        if not (isinstance(value, ast.Constant) and isinstance(value.value, str)):
            return None
        given[name] = value.value
    directory = (script.parent / given["config_path"]).resolve()
    return ConfigPlace(directory, given["config_name"]) if directory.is_dir() else None
