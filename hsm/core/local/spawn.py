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
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from hsm.core.errors import HsmError
from hsm.core.local.rng import capture

_PROGRAM = (
    "import sys, pickle; "
    "path, argument, result = sys.argv[1:]; "
    "sys.path[:] = pickle.load(open(path + '.path', 'rb')); "
    "from hsm.core.local.spawn import run; run(path, argument, result)"
)


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
        main = sys.modules["__main__"]
        content = {
            "argv": sys.argv,
            "file": getattr(main, "__file__", None),
            "random": capture(),
            "function": function,
        }
        from hsm.core.local import by_value

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


class _Script(ModuleType):
    """Stands for the script as `__main__`: has the globals that came with its pickled functions."""

    def __init__(self, names: dict[str, Any], file: str | None) -> None:
        super().__init__("__main__")
        self.__dict__["_names"] = names
        if file is not None:
            self.__file__ = file

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_names"][name]
        except KeyError:
            raise AttributeError(f"module '__main__' has no attribute {name!r}") from None


def run(path: str, argument: str, result: str) -> None:
    """In the fresh interpreter: load the payload and be the job."""
    from hsm.core.local.isolation import LaunchState
    from hsm.core.local.job_process import call_function

    with open(argument, "rb") as file:
        pickled_argument = file.read()
    os.unlink(argument)
    names: dict[str, Any] = {}
    with open(path, "rb") as file:
        content = pickle.load(file)
    script_function = _find_script_function(content["function"])
    if script_function is not None and script_function.__module__ == "__main__":
        names = script_function.__globals__
    sys.argv = content["argv"]
    sys.modules["__main__"] = _Script(names, content["file"])
    here = LaunchState.take()
    state = LaunchState(here.signals, content["random"], here.files, here.name)
    call_function(content["function"], pickled_argument, result, state)
