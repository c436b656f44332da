"""Whether a fresh interpreter would import a module that this one has.

Some modules are in `sys.modules` although no finder finds them: those that were loaded from a path
(plug-ins, pages, `pytest --import-mode=importlib`), made in memory, or whose file is gone. And of
some names a finder finds another file: another module of that name came first to `sys.path`, say.
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

#: Seconds that a fresh interpreter gets for one import.
_TIMEOUT = 60.0

#: Prints the file of the module that it imports; what modules print goes elsewhere.
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
    """Remembers which modules are. Of the others, `missing` has the names."""

    def __init__(self) -> None:
        self.missing: set[str] = set()
        self._known: dict[str, bool] = {"__main__": True}

    def check(self, name: str | None) -> bool:
        """Whether the loaded module `name` would be imported, from the same file."""
        module = None if name is None else sys.modules.get(name)
        if name is None or not isinstance(module, ModuleType):
            return True  # Not loaded, or an object in a module's place: pickling has its own ways.
        if name not in self._known:
            self._known[name] = True  # should its parent lead back to it
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
        return None  # made by what is no package
    for finder in (BuiltinImporter, FrozenImporter, PathFinder):
        try:
            spec = finder.find_spec(name, path)
        except Exception:  # a path hook of the app's
            continue
        if spec is not None:
            return spec
    return None


def _fresh_interpreter_has(name: str, file: str | None) -> bool:
    """Ask one: it may have finders from its site-packages, or a parent that makes the module.

    Or the module puts another one in its own place.
    """
    options = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    try:
        # A file, as an interpreter that ends at once would make SIGPIPE of a pipe to it.
        with tempfile.TemporaryFile() as path:
            path.write(pickle.dumps(sys.path))
            path.seek(0)
            answer = subprocess.run(
                [sys.executable, *options, "-c", _PROBE, name],
                stdin=path,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=_TIMEOUT,
                check=False,
            )
    except (OSError, subprocess.TimeoutExpired):
        return True  # The jobs will tell.
    if answer.returncode != 0:
        return False
    found = os.fsdecode(answer.stdout)
    return found == (file or "") or _is_same(found, file)


def _is_same(file: str | None, other: str | None) -> bool:
    if not file or not other:
        return not file and not other
    try:
        return os.path.samefile(file, other)
    except OSError:  # inside an archive
        return os.path.abspath(file) == os.path.abspath(other)
