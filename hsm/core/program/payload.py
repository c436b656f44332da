"""Implements start_method=spawn: calls a function, pickled by value, in a fresh interpreter.

    launcher: Payload(function) --by value--> <scratch>/payload
    each job: `python -c … run(payload, argument, result)` --> function(argument) --> report

Slower than a fork (each job starts an interpreter and repeats all imports), but safe whatever
threads or drivers the launcher has. The script's own functions are sent as they were at launch;
each job imports the modules that the script imports. A module that cannot be imported is sent like
the script.
"""

from __future__ import annotations

import os
import pickle
import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.machinery import ModuleSpec
from io import BytesIO
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO

from hsm.core.errors import HsmError
from hsm.core.interpreter import NO_INTERPRETER, interpreter, interpreter_options
from hsm.core.program import mp_method
from hsm.core.program.rng import capture

if TYPE_CHECKING:
    from hsm.core.program.importable import Importable

_PROGRAM = """\
import sys
del sys.path[0]  # the working directory, whose modules are none of the standard library's
import pickle
path, argument, result = sys.argv[1:]
with open(path + ".path", "rb") as file:
    sys.path[:] = pickle.load(file)
from hsm.core.program.payload import run
run(path, argument, result)
"""


#: Maximum bytes of a report's facts that a job leaves beside its argument.
_MAX_FACTS = 1 << 16
#: Maximum pickled bytes of a definition that the job's function itself does not use.
_MAX_DEFINITION = 1 << 20


class CannotSpawn(HsmError):
    """A fresh interpreter cannot be started, or cannot be sent the function and what it uses.

    Args:
        why: the reason, as a clause.
        can_help: whether it would help to create what is named there inside the function.
    """

    def __init__(self, why: str, *, can_help: bool) -> None:
        super().__init__(
            f"start_method=spawn sends the job's function to a fresh interpreter, but {why}. "
            f"Use start_method=fork{', or create it inside the function' if can_help else ''}."
        )
        self.why = why
        self.can_help = can_help


class Payload:
    """A function saved to disk for fresh interpreters to call.

    Args:
        function: called with a job's argument.
        path: where to write the payload; this makes two files. They stay open, to be written again
            if somebody removes them.

    Raises:
        CannotSpawn: the function cannot be sent; names the culprit.
    """

    def __init__(self, function: Callable[[Any], Any], path: Path) -> None:
        python = interpreter()
        if python is None:
            raise CannotSpawn(f"{NO_INTERPRETER} to start", can_help=False)
        # Pass on -O, -W and the like, as multiprocessing does.
        self._words = (python, *interpreter_options(), "-c", _PROGRAM)
        from hsm.core.program import by_value

        with by_value.for_fresh_interpreter() as importable:
            try:
                data = _dump(function, importable)
            except Exception as error:
                raise CannotSpawn(_culprit(function, error), can_help=True) from error
        self._path = path
        self._mutex = threading.Lock()
        self._files = {
            place.name: _new_file(place, BytesIO(content))
            for place, content in (
                (path, data),
                (path.with_name(f"{path.name}.path"), pickle.dumps(sys.path)),
            )
        }

    @staticmethod
    def facts_beside(argument: Path) -> Path:
        """Where a job leaves the facts of its report, see `reports.Written`."""
        return argument.with_name(f"{argument.name}.facts")

    def command(self, argument: Path, result: Path) -> tuple[str, ...]:
        """The command line for a job.

        Args:
            argument: the file with its pickled argument; the job removes it.
            result: where to write its report.
        """
        return (*self._words, str(self._path), str(argument), str(result))

    def restore(self, folder: Path) -> None:
        """Make sure that the files are there, in `folder`, which may be another one than before.

        Raises:
            OSError: they cannot be written.
        """
        with self._mutex:
            self._path = folder / self._path.name
            for name, fd in self._files.items():
                if not (folder / name).exists():
                    with open(fd, "rb", closefd=False) as file:
                        file.seek(0)
                        os.close(_new_file(folder / name, file))

    def close(self) -> None:
        """Free the files. Idempotent."""
        with self._mutex:
            files, self._files = self._files, {}
        for fd in files.values():
            os.close(fd)


def _new_file(path: Path, content: BinaryIO) -> int:
    """Write a new file; return its descriptor. It is writable, so forked jobs leave it alone."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb", closefd=False) as file:
            shutil.copyfileobj(content, file)
    except BaseException:
        os.close(fd)
        path.unlink(missing_ok=True)
        raise
    return fd


def _dump(function: Callable[[Any], Any], importable: Importable) -> bytes:
    """Two pickles: what must be set up before the app is loaded, and what loads the app."""
    from hsm.core.program import by_value

    modules: dict[str, dict[str, Any]] = {}
    content = {"random": capture(), "function": function, "modules": modules}
    script_function = _find_script_function(function)
    if script_function is not None and script_function.__module__ == "__main__":
        modules["__main__"] = _definitions(script_function.__globals__)
    data = by_value.dumps(content)
    # The content of one module may come from yet another one.
    while not importable.missing <= modules.keys():
        for name in importable.missing - modules.keys():
            modules[name] = _picklable(vars(sys.modules[name]))
        data = by_value.dumps(content)
    header = {
        "argv": sys.argv,
        "multiprocessing": mp_method.chosen(),
        "modules": [_Identity.of(name) for name in ("__main__", *sorted(importable.missing))],
    }
    return pickle.dumps(header) + data


def _culprit(function: Callable[[Any], Any], error: Exception) -> str:
    from hsm.core.program import by_value

    script_function = _find_script_function(function)
    if script_function is not None:
        for name in _global_names(script_function):
            value = script_function.__globals__[name]
            try:
                by_value.dumps(value)
            except Exception as reason:
                where = f"the global {name!r} of {script_function.__name__}()"
                return f"{where} cannot be pickled ({reason})"
    return f"it cannot be pickled ({error})"


def _global_names(function: FunctionType) -> list[str]:
    """The globals that `function` uses, directly or through other functions of the script."""
    names: list[str] = []
    pending = [function]
    while pending:
        for name in pending.pop().__code__.co_names:
            if name in function.__globals__ and name not in names:
                names.append(name)
                value = function.__globals__[name]
                if isinstance(value, FunctionType) and value.__globals__ is function.__globals__:
                    pending.append(value)
    # Functions last: they fail because of what they use, which is what people can change.
    return sorted(names, key=lambda name: isinstance(function.__globals__[name], FunctionType))


def _find_script_function(function: Any) -> FunctionType | None:
    """The script's own function inside partials, wrappers and callable objects."""
    for _ in range(20):
        if isinstance(function, FunctionType) and not hasattr(function, "__wrapped__"):
            return function
        for attribute in ("__wrapped__", "func", "task_function", "__func__"):
            inner = getattr(function, attribute, None)
            if callable(inner):
                function = inner
                break
        else:
            call = type(function).__call__
            return call if isinstance(call, FunctionType) else None
    return None


@dataclass(frozen=True)
class _Identity:
    """A module's names, which multiprocessing and relative imports need.

    Attributes:
        name: its key in `sys.modules`.
        file: its source file.
        spec: the name in its spec; `__main__` has one if it was started with ``python -m``.
        package: the package it belongs to.
        path: where to find its submodules, if it is a package.
    """

    name: str
    file: str | None
    spec: str | None
    package: str | None
    path: list[str] | None

    @classmethod
    def of(cls, name: str) -> _Identity:
        module = sys.modules[name]
        spec, path = getattr(module, "__spec__", None), getattr(module, "__path__", None)
        return cls(
            name,
            getattr(module, "__file__", None),
            None if spec is None else spec.name,
            getattr(module, "__package__", None),
            None if path is None else list(path),
        )


class _StandIn(ModuleType):
    """Stands in for the script, or for a module that cannot be imported.

    Its attributes are the globals that came with its pickled functions.
    """

    def __init__(self, identity: _Identity) -> None:
        super().__init__(identity.name)
        self.__dict__["_names"] = {}
        self.__package__ = identity.package
        if identity.file is not None:
            self.__file__ = identity.file
        if identity.spec is not None:
            self.__spec__ = ModuleSpec(identity.spec, None, origin=identity.file)
        if identity.path is not None:
            self.__path__ = identity.path
        sys.modules[identity.name] = self
        parent, _, own_name = identity.name.rpartition(".")
        if parent in sys.modules:
            setattr(sys.modules[parent], own_name, self)

    def fill(self, names: dict[str, Any], function: FunctionType | None) -> None:
        """Share the globals of the module's functions, one of which may be `function`."""
        for one in (function, *names.values()):
            if isinstance(one, FunctionType) and one.__module__ == self.__name__:
                for name, value in names.items():
                    one.__globals__.setdefault(name, value)
                names = one.__globals__
                break
        self.__dict__["_names"] = names

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_names"][name]
        except KeyError:
            raise AttributeError(
                f"module {self.__name__!r} has no attribute {name!r} here: start_method=spawn "
                "sends those of its functions and classes that can be pickled, and what they use"
            ) from None


def _definitions(names: dict[str, Any]) -> dict[str, Any]:
    """The script's functions and classes; a config may name them: ``_target_: __main__.Model``."""
    return _picklable(
        {
            name: value
            for name, value in names.items()
            if isinstance(value, (FunctionType, type)) and value.__module__ == "__main__"
        }
    )


def _picklable(names: dict[str, Any]) -> dict[str, Any]:
    """The names whose values can be pickled on their own, and to a reasonable size."""
    from hsm.core.program import by_value

    found: dict[str, Any] = {}
    for name, value in names.items():
        if not (name.startswith("__") and name.endswith("__")):
            try:
                size = len(by_value.dumps(value))
            except Exception:
                continue
            if size <= _MAX_DEFINITION:
                found[name] = value
    return found


def run(path: str, argument: str, result: str) -> None:
    """In the fresh interpreter: load the payload and run the job."""
    from hsm.core.program.call import call_function
    from hsm.core.program.isolation import LaunchState

    with open(argument, "rb") as file:
        pickled_argument = file.read()
    os.unlink(argument)
    with open(path, "rb") as file:
        header = pickle.load(file)
        sys.argv = header["argv"]
        # Sorted, so parents come first. They must exist before the content is loaded.
        stand_ins = [_StandIn(identity) for identity in header["modules"]]
        with mp_method.held(header["multiprocessing"]):
            content = pickle.load(file)
    script_function = _find_script_function(content["function"])
    for stand_in in stand_ins:
        stand_in.fill(content["modules"].get(stand_in.__name__, {}), script_function)
    state = LaunchState.take()._replace(random=content["random"])
    facts = Payload.facts_beside(Path(argument))
    call_function(content["function"], pickled_argument, result, state, partial(_leave, facts))


def _leave(path: Path, facts: bytes) -> bool:
    """Leave the facts of the report at `path` for the launcher; False if that cannot be."""
    if len(facts) > _MAX_FACTS:
        return False
    try:
        path.write_bytes(facts)
    except OSError:
        path.unlink(missing_ok=True)
        return False
    return True
