"""Checks whether a fresh interpreter could import a module that this one has loaded.

No finder finds some of the modules in `sys.modules`: those loaded from a path (plug-ins, pages,
`pytest --import-mode=importlib`), made in memory, or whose file is gone. For others a finder finds
a different file, for example if another module of that name comes first in `sys.path`.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
from types import ModuleType
from typing import Any

from hsm.core.interpreter import interpreter_options

#: Seconds that a fresh interpreter gets for one import.
_TIMEOUT = 60.0

#: Imports a module and prints its file to stdout; whatever modules print goes to stderr.
_PROBE = """\
import os, sys
del sys.path[0]
import pickle
sys.path[:] = pickle.load(sys.stdin.buffer)
answers = os.dup(1)
os.dup2(2, 1)
__import__(sys.argv[1])
file = getattr(sys.modules[sys.argv[1]], "__file__", None) or ""
os.write(answers, os.fsencode(file))
os._exit(0)
"""


class Importable:
    """Checks modules and remembers the answers; `missing` has the names of those that fail."""

    def __init__(self) -> None:
        self.missing: set[str] = set()
        self._known: dict[str, bool] = {"__main__": True}

    def check(self, name: str | None) -> bool:
        """Whether a fresh interpreter could import the loaded module `name`, from the same file."""
        module = None if name is None else sys.modules.get(name)
        if name is None or not isinstance(module, ModuleType):
            return True  # Not loaded, or not a module: leave it to pickle.
        if name not in self._known:
            self._known[name] = True  # For the recursion: a parent may lead back to it.
            self._known[name] = self._check(name, module)
            if not self._known[name]:
                self.missing.add(name)
        return self._known[name]

    def _check(self, name: str, module: ModuleType) -> bool:
        parent, _, _ = name.rpartition(".")
        if parent and not self.check(parent):
            return False
        file = getattr(module, "__file__", None)
        spec, own_spec = _find(name, parent), getattr(module, "__spec__", None)
        if spec is not None and (
            spec.origin == getattr(own_spec, "origin", None) or _is_same(spec.origin, file)
        ):
            return True
        return _fresh_interpreter_has(name, file)


def _find(name: str, parent: str) -> Any:
    path = getattr(sys.modules[parent], "__path__", None) if parent in sys.modules else None
    if parent and path is None:
        return None  # Its parent is not a package, and must have made it.
    for finder in (BuiltinImporter, FrozenImporter, PathFinder):
        try:
            spec = finder.find_spec(name, path)
        except Exception:  # E.g. from one of the app's path hooks.
            continue
        if spec is not None:
            return spec
    return None


def _fresh_interpreter_has(name: str, file: str | None) -> bool:
    """Try the import in a fresh interpreter.

    It may still work: site-packages may install finders, a parent may make the module, or the
    module may replace itself by another.
    """
    try:
        # Not a pipe: if the interpreter ended at once, writing to it would cause a SIGPIPE.
        with tempfile.TemporaryFile() as path:
            path.write(pickle.dumps(sys.path))
            path.seek(0)
            answer = subprocess.run(
                [sys.executable, *interpreter_options(), "-c", _PROBE, name],
                stdin=path,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=_TIMEOUT,
                check=False,
            )
    except (OSError, subprocess.TimeoutExpired):
        return True  # We cannot tell; if it is missing, the jobs will fail and say so.
    if answer.returncode != 0:
        return False
    found = os.fsdecode(answer.stdout)
    return found == (file or "") or _is_same(found, file)


def _is_same(file: str | None, other: str | None) -> bool:
    if not file or not other:
        return not file and not other
    try:
        return os.path.samefile(file, other)
    except OSError:  # E.g. inside a zip archive.
        return os.path.abspath(file) == os.path.abspath(other)
