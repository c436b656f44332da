"""A Python script as it was when its sweep started, which jobs run whatever becomes of the file.

    train.py --read once, compiled--> <scratch>/<digest>-train.pyc
    each job: python -u <scratch>/<digest>-train.pyc lr=0.1

The interpreter runs a .pyc like a script. The code in this one says that it comes from train.py,
and first of all makes ``__file__``, ``sys.argv``, ``sys.path`` and the like what they are under
``python train.py``. So the job has no frame of hsm's below its own, and imports nothing of hsm.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import marshal
import os
import sys
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import CodeType
from typing import Any

from hsm.core.files import renamed

#: Stands for the code of `_BEGIN` until the script is compiled: syntax trees hold no code.
_PLACE = "hsm: this is replaced"
#: What the job runs before the script's own first statement. It has `main`, the globals of
#: `__main__`, and `facts`. If the file has changed, what shows lines of it (tracebacks, `inspect`)
#: gets those of the script that runs: before Python 3.13 the interpreter's own tracebacks read the
#: file itself. Then what `multiprocessing` spawns loads this script, too, as `__mp_main__`. Imports
#: come before the script's directory, in which anything may be named so.
_BEGIN = """\
import os, sys
import _frozen_importlib_external as importer
words, file, directory, stamp, source = facts
kept = main["__file__"]
main["__file__"] = file
try:
    status = os.stat(file)
    has_changed = stamp != (status.st_mtime_ns, status.st_size, status.st_ino)
except OSError:
    has_changed = True
if has_changed:
    import io, linecache, traceback
    from multiprocessing import spawn
    lines = io.StringIO(importer.decode_source(source)).readlines()
    linecache.cache[file] = len(source), None, lines, file
    if sys.version_info < (3, 13):
        def show(kind, error, trace, show=traceback.print_exception):
            show(kind, error, trace)
        sys.excepthook = show
    def prepare(name, prepare=spawn.get_preparation_data):
        data = prepare(name)
        if data.get("init_main_from_path") == path:
            data["init_main_from_path"] = kept
        return data
    path = os.path.normpath(file)
    spawn.get_preparation_data = prepare
if main["__name__"] == "__main__":
    main["__loader__"] = importer.SourceFileLoader("__main__", file)
    sys.orig_argv[:] = [words if word == kept else word for word in sys.orig_argv]
    sys.argv[0] = words
    if not getattr(sys.flags, "safe_path", sys.flags.isolated):
        sys.path[0] = directory
"""
_BEGIN_CODE = compile(_BEGIN, "<hsm>", "exec")


class KeptScript:
    """The Python script at `path`, read now.

    Args:
        path: the script, as a command line names it; valid in the current directory.

    Raises:
        OSError: it cannot be read.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        file_name = os.path.join(os.getcwd(), path)  # as the interpreter makes it absolute
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            self.source = file.read()
        stamp = status.st_mtime_ns, status.st_size, status.st_ino
        directory = os.path.dirname(os.path.realpath(path))
        self._pyc = _pyc(self.source, file_name, (path, file_name, directory, stamp, self.source))
        digest = hashlib.sha256(self._pyc or b"").hexdigest()[:8]
        self._name = f"{digest}-{Path(path).stem}.pyc"  # so that pkill -f train.py finds it

    def command(self, words: Sequence[str], directory: Path) -> tuple[str, ...]:
        """The command line `words`, which runs the file, with the script as it was read instead.

        Args:
            words: the interpreter, its options, the script's path and its arguments.
            directory: where to keep the script; made again there if it is gone. Only this user may
                be able to write to it.

        Raises:
            OSError: it cannot be kept there.
        """
        if self._pyc is None:
            return tuple(words)
        kept = directory / self._name
        if not os.path.exists(kept):
            temporary = directory / f".{self._name}.{threading.get_ident()}"
            with renamed(temporary, kept):
                temporary.write_bytes(self._pyc)
        at = words.index(self.path)
        return (*words[:at], str(kept), *words[at + 1 :])


def _pyc(source: bytes, file: str, facts: tuple[Any, ...]) -> bytes | None:
    """The content of the .pyc; None if Python cannot compile the script: its jobs show why."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            code = _compile(source, file, facts)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
    header = importlib.util.MAGIC_NUMBER + bytes(12)  # flags, time and size, which nobody reads
    return header + marshal.dumps(code)


def _compile(source: bytes, file: str, facts: tuple[Any, ...]) -> CodeType:
    """The code of a script that begins with `_BEGIN`. Raises what `compile` does."""
    tree = ast.parse(source, file)
    [begin] = ast.parse(f"exec({_PLACE!r}, {{'main': globals(), 'facts': {facts!r}}})").body
    tree.body.insert(_first_statement(tree), begin)
    # The jobs' interpreters have the level that the environment says, and no option for it.
    level = sys.flags.optimize if os.environ.get("PYTHONOPTIMIZE") else 0
    code = compile(tree, file, "exec", dont_inherit=True, optimize=level)
    consts = tuple(_BEGIN_CODE if const == _PLACE else const for const in code.co_consts)
    return code.replace(co_consts=consts)


def _first_statement(tree: ast.Module) -> int:
    """The index of the first statement that may follow another one."""
    at = 0
    if ast.get_docstring(tree, clean=False) is not None:
        at = 1
    while at < len(tree.body):
        node = tree.body[at]
        if not (isinstance(node, ast.ImportFrom) and node.module == "__future__"):
            break
        at += 1
    return at
