"""Pickles the script's functions and classes by value, rather than as names to import."""

from __future__ import annotations

import importlib
import io
import pickle
import sys
from collections import ChainMap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import CodeType, FunctionType, ModuleType
from typing import Any, ClassVar

import cloudpickle

from hsm.core.program.importable import Importable

_Maker = Callable[..., CodeType]

_importable: ContextVar[Importable | None] = ContextVar("_importable", default=None)


def dumps(value: Any) -> bytes:
    """Pickle `value`. Raises whatever a part that cannot be pickled raises."""
    with io.BytesIO() as file:
        _Pickler(file, pickle.HIGHEST_PROTOCOL).dump(value)
        return file.getvalue()


@contextmanager
def for_fresh_interpreter() -> Iterator[Importable]:
    """Have `dumps` also pickle by value what a fresh interpreter could not import.

    Yields:
        What has been found so far. `missing` names the modules whose content is pickled by value;
        they must be in `sys.modules` when it is unpickled.
    """
    importable = Importable()
    token = _importable.set(importable)
    already = cloudpickle.list_registry_pickle_by_value()
    try:
        yield importable
    finally:
        _importable.reset(token)
        for name in importable.missing - already:
            cloudpickle.unregister_pickle_by_value(sys.modules[name])


def _reduce_code(code: CodeType) -> tuple[Callable[..., CodeType], tuple[Any, ...]]:
    make, arguments = cloudpickle.Pickler.dispatch_table[CodeType](code)
    return _make_code, (make, arguments, code.co_filename)


def _make_code(make: _Maker, arguments: tuple[Any, ...], filename: str) -> CodeType:
    return make(*arguments).replace(co_filename=filename)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's pickler, except that code keeps its file name.

    cloudpickle 3.1.3 drops it to make equal code give equal pickles, but then the tracebacks of
    jobs would show neither file names nor source lines.
    """

    dispatch_table: ClassVar[Any] = ChainMap(
        {CodeType: _reduce_code}, cloudpickle.Pickler.dispatch_table
    )

    def reducer_override(self, value: Any) -> Any:
        """Register modules that cannot be imported; see `pickle.Pickler.reducer_override`."""
        importable = _importable.get()
        if importable is not None:
            is_module = isinstance(value, ModuleType)
            if is_module or isinstance(value, (FunctionType, type)):
                name = value.__name__ if is_module else value.__module__
                if not importable.check(name):
                    cloudpickle.register_pickle_by_value(sys.modules[name])
                    if is_module:  # cloudpickle would send its whole content.
                        return importlib.import_module, (name,)
        return super().reducer_override(value)
