"""start_method=spawn: a job's function is pickled by value and called in a fresh interpreter.

    launcher: Payload(function) --by value--> <scratch>/payload
    each job: `python -c … run(payload, argument, result)` --> function(argument) --> report

Slower than a fork (an interpreter's start, and all imports anew), but safe whatever threads or
drivers the launcher has. The script's own functions travel as they were at launch; the modules that
it imports are imported again by each job.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from hsm.core.errors import HsmError
from hsm.core.local.rng import capture

_PROGRAM = """\
import sys
del sys.path[0]  # the working directory, whose modules are none of the standard library's
import pickle
path, argument, result = sys.argv[1:]
with open(path + ".path", "rb") as file:
    sys.path[:] = pickle.load(file)
from hsm.core.local.spawn import run
run(path, argument, result)
"""


#: Bytes of pickle that a definition may have which the job's function itself does not use.
_LARGEST_DEFINITION = 1 << 20


class CannotPickle(HsmError):
    """The function, or what it uses of the script, cannot be sent to a fresh interpreter."""


class Payload:
    """A function on disk, ready to be called by fresh interpreters.

    Args:
        function: called with a job's argument.
        path: where to write the payload; two files are made.

    Raises:
        CannotPickle: names what stands in the way.
    """

    def __init__(self, function: Callable[[Any], Any], path: Path) -> None:
        self._path = path
        from hsm.core.local import by_value

        content = {
            "argv": sys.argv,
            "main": _Main.of(sys.modules["__main__"]),
            "multiprocessing": _multiprocessing_method(),
            "random": capture(),
            "function": function,
        }
        script_function = _find_script_function(function)
        if script_function is not None and script_function.__module__ == "__main__":
            content["definitions"] = _definitions(script_function.__globals__)
        try:
            data = by_value.dumps(content)
        except Exception as error:
            raise CannotPickle(
                "start_method=spawn sends the job's function to a fresh interpreter, "
                f"but {_culprit(function, error)}. "
                "Use start_method=fork, or create it inside the function."
            ) from error
        path.write_bytes(data)
        path.with_name(path.name + ".path").write_bytes(pickle.dumps(sys.path))

    def command(self, argument: Path, result: Path) -> tuple[str, ...]:
        """What a job has to exec.

        Args:
            argument: the file with its pickled argument; the job removes it.
            result: where its report goes.
        """
        # -O, -W and the like, as multiprocessing hands them on.
        options = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        words = (sys.executable, *options, "-c", _PROGRAM)
        return (*words, str(self._path), str(argument), str(result))


def _culprit(function: Callable[[Any], Any], error: Exception) -> str:
    from hsm.core.local import by_value

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
    """The globals that `function` names, also through the functions of the script that it calls."""
    names: list[str] = []
    pending = [function]
    while pending:
        for name in pending.pop().__code__.co_names:
            if name in function.__globals__ and name not in names:
                names.append(name)
                value = function.__globals__[name]
                if isinstance(value, FunctionType) and value.__globals__ is function.__globals__:
                    pending.append(value)
    # Functions last: they fail because of what they name, and that is what people can change.
    return sorted(names, key=lambda name: isinstance(function.__globals__[name], FunctionType))


def _find_script_function(function: Any) -> FunctionType | None:
    """The script's own function at the bottom of partials, wrappers and callable objects."""
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
class _Main:
    """What `__main__` is called, for multiprocessing and for imports that are relative to it.

    Attributes:
        file: the script.
        name: the module, if it was started with ``python -m``.
        package: that it belongs to.
    """

    file: str | None
    name: str | None
    package: str | None

    @classmethod
    def of(cls, main: ModuleType) -> _Main:
        spec = getattr(main, "__spec__", None)
        file, package = getattr(main, "__file__", None), getattr(main, "__package__", None)
        return cls(file, None if spec is None else spec.name, package)


class _Script(ModuleType):
    """Stands for the script as `__main__`: has the globals that came with its pickled functions."""

    def __init__(self, names: dict[str, Any], main: _Main) -> None:
        super().__init__("__main__")
        self.__dict__["_names"] = names
        self.__package__ = main.package
        if main.file is not None:
            self.__file__ = main.file
        if main.name is not None:
            self.__spec__ = ModuleSpec(main.name, None, origin=main.file)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_names"][name]
        except KeyError:
            raise AttributeError(
                f"module '__main__' has no attribute {name!r} here: start_method=spawn sends the "
                "functions and classes of the script that can be pickled, and what they use"
            ) from None


def _definitions(names: dict[str, Any]) -> dict[str, Any]:
    """The script's functions and classes, which a config may name: ``_target_: __main__.Model``.

    Those alone that can be pickled by themselves, and do not take masses of data along.
    """
    from hsm.core.local import by_value

    found: dict[str, Any] = {}
    for name, value in names.items():
        if isinstance(value, (FunctionType, type)) and value.__module__ == "__main__":
            try:
                size = len(by_value.dumps(value))
            except Exception:
                continue
            if size <= _LARGEST_DEFINITION:
                found[name] = value
    return found


def _multiprocessing_method() -> str | None:
    """The start method that the script has chosen for its own processes, if it has."""
    context = sys.modules.get("multiprocessing.context")
    if context is None:
        return None
    method: str | None = context._default_context.get_start_method(allow_none=True)
    return method


def run(path: str, argument: str, result: str) -> None:
    """In the fresh interpreter: load the payload and be the job."""
    from hsm.core.local.isolation import LaunchState
    from hsm.core.local.job_process import call_function

    with open(argument, "rb") as file:
        pickled_argument = file.read()
    os.unlink(argument)
    with open(path, "rb") as file:
        content = pickle.load(file)
    names: dict[str, Any] = content.get("definitions", {})
    script_function = _find_script_function(content["function"])
    if script_function is not None and script_function.__module__ == "__main__":
        for name, value in names.items():
            script_function.__globals__.setdefault(name, value)
        names = script_function.__globals__
    sys.argv = content["argv"]
    sys.modules["__main__"] = _Script(names, content["main"])
    if content["multiprocessing"] is not None:
        import multiprocessing

        multiprocessing.set_start_method(content["multiprocessing"])
    here = LaunchState.take()
    state = LaunchState(here.signals, content["random"], here.files, here.name)
    call_function(content["function"], pickled_argument, result, state)
