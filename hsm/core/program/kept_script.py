"""A Python script as it was when its sweep started, which jobs run whatever becomes of the file.

    train.py --read once, compiled--> <scratch>/<digest>-train.pyc
    each job: python -u <scratch>/<digest>-train.pyc lr=0.1

The interpreter runs a .pyc like a script. The code in this one says that it comes from train.py,
and first of all makes ``__file__``, ``sys.argv``, ``sys.path`` and the like what they are under
``python train.py``. So the job has no frame of hsm's below its own, and imports nothing of hsm.
"""

from __future__ import annotations

import ast
import importlib.util
import marshal
import os
import sys
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import CodeType
from typing import Any

from hsm.core.files import renamed

#: Stands for code of hsm's until the script is compiled: syntax trees hold no code.
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
{}
if main["__name__"] == "__main__":
    main["__loader__"] = importer.SourceFileLoader("__main__", file)
    sys.orig_argv[:] = [words if word == kept else word for word in sys.orig_argv]
    sys.argv[0] = words
    if not getattr(sys.flags, "safe_path", sys.flags.isolated):
        sys.path[0] = directory
"""
#: Uses `os`, `sys`, `importer`, `file`, `stamp`, `source` and `kept`.
IF_CHANGED = """\
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
"""
_BEGIN_CODE = compile(_BEGIN.format(IF_CHANGED), "<hsm>", "exec")


class KeptScript:
    """The Python script at `path`, read now.

    Args:
        path: the script, as a command line names it; valid in the current directory.

    Attributes:
        path: the same.
        source: what it says.
        directory: where Python looks first for what it imports.

    Raises:
        OSError: it cannot be read.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = os.path.join(os.getcwd(), path)  # as the interpreter makes it absolute
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            self.source = file.read()
        stamp = status.st_mtime_ns, status.st_size, status.st_ino
        self.directory = os.path.dirname(os.path.realpath(path))
        self._facts = path, self._file, self.directory, stamp, self.source

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
        at = words.index(self.path)
        return (*words[:at], str(self._keep(self._pyc, directory)), *words[at + 1 :])

    def keep_with(
        self, code: Callable[[Sequence[ast.stmt]], Mapping[int, CodeType]], directory: Path
    ) -> Path | None:
        """Keep the script with other code in it than what each job begins with.

        Args:
            code: code to run before certain statements, by their index; called with the script's
                statements. Its globals are `main` and `facts`, like those of `_BEGIN`.
            directory: see `command`.

        Returns:
            The file; None if Python cannot compile the script.

        Raises:
            OSError: it cannot be kept there.
        """
        pyc = self._compiled(code)
        return None if pyc is None else self._keep(pyc, directory)

    @cached_property
    def _pyc(self) -> bytes | None:
        return self._compiled(lambda body: {first_statement(body): _BEGIN_CODE})

    def _keep(self, pyc: bytes, directory: Path) -> Path:
        import hashlib  # slow to import, and commands need none of it

        digest = hashlib.sha256(pyc).hexdigest()[:8]
        # Named so that pkill -f train.py finds it.
        kept = directory / f"{digest}-{Path(self.path).stem}.pyc"
        if not os.path.exists(kept):
            temporary = directory / f".{kept.name}.{threading.get_ident()}"
            with renamed(temporary, kept):
                temporary.write_bytes(pyc)
        return kept

    def _compiled(
        self, code: Callable[[Sequence[ast.stmt]], Mapping[int, CodeType]]
    ) -> bytes | None:
        """The content of a .pyc; None if Python cannot compile the script: its jobs show why."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                compiled = _compile(self.source, self._file, self._facts, code)
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                return None
        header = importlib.util.MAGIC_NUMBER + bytes(12)  # flags, time and size, which nobody reads
        return header + marshal.dumps(compiled)


def _compile(
    source: bytes,
    file: str,
    facts: tuple[Any, ...],
    code: Callable[[Sequence[ast.stmt]], Mapping[int, CodeType]],
) -> CodeType:
    """The code of a script with other code in it. Raises what `compile` does."""
    tree = ast.parse(source, file)
    places: dict[str, CodeType] = {}
    for index, own in sorted(code(tree.body).items(), reverse=True):
        place = f"{_PLACE} {index}"
        places[place] = own
        [call] = ast.parse(f"exec({place!r}, {{'main': globals(), 'facts': {facts!r}}})").body
        tree.body.insert(index, call)
    # The jobs' interpreters have the level that the environment says, and no option for it.
    level = sys.flags.optimize if os.environ.get("PYTHONOPTIMIZE") else 0
    compiled = compile(tree, file, "exec", dont_inherit=True, optimize=level)
    consts = tuple(
        places.get(const, const) if isinstance(const, str) else const
        for const in compiled.co_consts
    )
    return compiled.replace(co_consts=consts)


def first_statement(body: Sequence[ast.stmt]) -> int:
    """The index of the first statement that may follow another one."""
    is_documented = ast.get_docstring(ast.Module(list(body), []), clean=False) is not None
    at = 1 if is_documented else 0
    while at < len(body):
        node = body[at]
        if not (isinstance(node, ast.ImportFrom) and node.module == "__future__"):
            break
        at += 1
    return at
