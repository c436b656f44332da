"""Which structured configs have the same defaults whenever they are made.

A ``default_factory`` may return what it likes: a new id, the time, the process. OmegaConf calls it
when a config gets a nested structure of this type, so perhaps once for each job.
"""

from __future__ import annotations

import builtins
import dataclasses
from types import CodeType, FunctionType
from typing import Any

_BUILT_IN = frozenset((list, dict, tuple, set, str, int, float, bool, bytes))
#: Methods with which a class takes part in making its instances.
_MAKING = ("__new__", "__init__", "__post_init__", "__setattr__", "__getattribute__", "__getattr__")


def has_constant_defaults(kind: type) -> bool:
    """Whether every instance of a structured config's class that is made has equal fields."""
    return _is_constant_class(kind, frozenset())


def _is_constant_class(kind: type, above: frozenset[type]) -> bool:
    if kind in above:
        return True
    if any(not _is_generated(kind, name) for name in _MAKING):
        return False
    return all(_is_constant(factory, above | {kind}) for factory in _factories(kind))


def _is_generated(kind: type, name: str) -> bool:
    """Whether nobody wrote this method: dataclass or attrs made it, or it is object's."""
    method = getattr(kind, name, None)
    if method is None or method is getattr(object, name, None):
        return True
    code = getattr(method, "__code__", None)
    return code is not None and code.co_filename.startswith("<")


def _factories(kind: type) -> list[Any]:
    if dataclasses.is_dataclass(kind):
        made = [field.default_factory for field in dataclasses.fields(kind)]
        return [factory for factory in made if factory is not dataclasses.MISSING]
    defaults = [each.default for each in getattr(kind, "__attrs_attrs__", ())]
    # A Factory that takes the instance is no callable without arguments, and OmegaConf refuses it.
    return [default.factory for default in defaults if hasattr(default, "factory")]


def _is_constant(factory: Any, above: frozenset[type]) -> bool:
    if isinstance(factory, type):
        if factory in _BUILT_IN:
            return True
        is_structured = dataclasses.is_dataclass(factory) or hasattr(factory, "__attrs_attrs__")
        return is_structured and _is_constant_class(factory, above)
    return type(factory) is FunctionType and _is_constant_function(factory, above)


def _is_constant_function(function: FunctionType, above: frozenset[type]) -> bool:
    """Whether all that a function does is to put constants and constant classes together."""
    code = function.__code__
    if code.co_freevars or any(isinstance(const, CodeType) for const in code.co_consts):
        return False
    missing = object()
    named = [
        function.__globals__.get(name, getattr(builtins, name, missing)) for name in code.co_names
    ]
    return all(isinstance(value, type) and _is_constant(value, above) for value in named)
