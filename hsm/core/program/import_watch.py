"""Notices imports that read what differs from job to job: its arguments, its own variables.

    watch = ImportWatch()    imports follow, once for all jobs
    watch.end()              what they have read, if anything

While it watches, `sys.argv` and `os.environ` are of classes that note who asks for what.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

from hsm.core.program.leading_imports import is_installed

_ARGUMENTS = "reads the command line"
_ENVIRONMENT = "reads the whole environment"
_STANDARD_LIBRARY = os.path.dirname(os.__file__)
#: References to a list from an attribute of a module, a local name and the count itself.
_REFERENCES = 3
#: Variables that hsm sets for each job, beside its own.
_OF_ONE_JOB = frozenset(
    (
        *("TMPDIR", "MASTER_ADDR", "MASTER_PORT", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"),
        *("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"),
    )
)


def is_of_one_job(variable: str) -> bool:
    """Whether an environment variable may have another value in each job."""
    return variable in _OF_ONE_JOB or variable.startswith("HSM_")


class ImportWatch:
    """Watches from now on, until `end`."""

    def __init__(self) -> None:
        _noted.clear()
        self._argv = sys.argv = _Arguments(sys.argv)
        self._classes = [(each, each.__class__) for each in (os.environ, os.environb)]
        for environment, _ in self._classes:
            environment.__class__ = _Environment

    def end(self) -> str | None:
        """Stop watching; return what an import did, as the end of a sentence, or None."""
        for environment, kind in self._classes:
            environment.__class__ = kind
        argv = self._argv
        if sys.argv is not argv or sys.getrefcount(argv) > _REFERENCES + 1:
            _noted.append(_ARGUMENTS)
        sys.argv = list.copy(argv)
        return _noted[0] if _noted else None


#: What imports have done.
_noted: list[str] = []


class _Environment(os._Environ[Any]):
    """Notes who asks for a variable of a job's own, or for all."""

    def __getitem__(self, key: Any) -> Any:
        self._note(key)
        return super().__getitem__(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._note(key)
        super().__setitem__(key, value)

    def __delitem__(self, key: Any) -> None:
        self._note(key)
        super().__delitem__(key)

    def __iter__(self) -> Iterator[Any]:
        # Installed packages look for variables that begin with their own name, as tqdm does.
        if not is_installed(_asking_file()):
            _noted.append(_ENVIRONMENT)
        return super().__iter__()

    def _note(self, key: Any) -> None:
        name = os.fsdecode(key) if isinstance(key, (str, bytes)) else ""
        if is_of_one_job(name):
            _noted.append(f"reads {name}")


def _asking_file() -> str:
    """The file of the nearest caller that is none of the standard library's."""
    frame = sys._getframe(2)
    while frame.f_back is not None and _is_pythons_own(frame.f_code.co_filename):
        frame = frame.f_back
    return frame.f_code.co_filename


def _is_pythons_own(file: str) -> bool:
    return file.startswith(("<frozen", _STANDARD_LIBRARY)) and not is_installed(file)


def _noting(name: str) -> Any:
    method = getattr(list, name)

    def noting(self: list[str], *arguments: Any, **options: Any) -> Any:
        _noted.append(_ARGUMENTS)
        return method(self, *arguments, **options)

    return noting


class _Arguments(list[str]):
    """Notes who asks for any argument but the first word, which is the same in all jobs."""

    def __getitem__(self, index: Any) -> Any:
        if index != 0:
            _noted.append(_ARGUMENTS)
        return super().__getitem__(index)


for _name in (
    *("__iter__", "__reversed__", "__len__", "__contains__", "__setitem__", "__delitem__"),
    *("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__repr__"),
    *("__add__", "__iadd__", "__mul__", "__rmul__", "__imul__"),
    *("append", "extend", "insert", "pop", "remove", "clear", "reverse", "sort"),
    *("copy", "count", "index"),
):
    setattr(_Arguments, _name, _noting(_name))
