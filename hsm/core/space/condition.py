"""Filters: which points of a sweep are wanted.

    model != 'svm' or model.C < 10      an expression over the point
    sweeps.mine.is_small                a function that gets the point; also sweeps.mine:is_small

An expression has names of parameters, numbers, texts, true, false and null, lists, arithmetic,
comparisons, `in`, and, or, not. Nothing else is evaluated, so a filter from a file can do no harm.
A parameter that a point does not have, but another one has, is null.
"""

from __future__ import annotations

import ast
import importlib
import operator
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hsm.core.errors import SettingsError, did_you_mean, shown
from hsm.core.space.grammar import plain_key

_CONSTANTS = {"true": True, "false": False, "null": None, "True": True, "False": False}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, items: item in items,
    ast.NotIn: lambda item, items: item not in items,
}
_PREDICATE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*(:[^\W\d]\w*(\.[^\W\d]\w*)*)?")
#: Characters of an expression, and bits of a number in it, so that none takes long.
_LONGEST, _MOST_BITS = 10_000, 4096
_ALLOWED = (
    "an expression over the parameters (names, numbers, texts, true, false, null, lists, "
    "+ - * / // % **, comparisons, in, and, or, not), or the dotted path of a function"
)


class Filter:
    """Says which points are wanted.

    Args:
        text: the filter.
        keys: all parameters that points may have, as they are written.
        origin: where it was written, for messages.

    Raises:
        SettingsError: it is no expression, names what no point has, or the function cannot be
            imported.
    """

    def __init__(self, text: str, keys: Collection[str], origin: str) -> None:
        self._text, self._origin = text.strip(), origin
        self._keys = {plain_key(key) for key in keys}
        self._predicate = self._find_predicate()
        self._tree = None if self._predicate else self._parse()

    def keeps(self, point: Mapping[str, Any]) -> bool:
        """Whether a point is wanted.

        Raises:
            SettingsError: that cannot be said of this point; names it.
        """
        values = {plain_key(key): value for key, value in point.items()}
        try:
            if self._predicate is not None:
                return bool(self._predicate(values))
            assert self._tree is not None
            return bool(_Evaluation(values).of(self._tree))
        except Exception as error:
            reason = f"{type(error).__name__}: {error}" if self._predicate else str(error)
            where = " ".join(f"{key}={shown(value)}" for key, value in values.items())
            message = f"{self._origin}: cannot filter by {shown(self._text)}: {reason}, at {where}"
            allowed = "one that can be told of every point"
            raise SettingsError(
                "filter", self._text, self._origin, allowed, message=message
            ) from error

    # --- a function ---

    def _find_predicate(self) -> Callable[[Mapping[str, Any]], Any] | None:
        if not _PREDICATE.fullmatch(self._text) or self._text in self._keys:
            return None
        if ":" not in self._text and (
            "." not in self._text or any(key in self._keys for key in _beginnings(self._text))
        ):
            return None
        try:
            with _importing_from_here():
                found = _located(self._text)
        except Exception as error:
            raise self._refused(f"cannot import it: {type(error).__name__}: {error}") from error
        if not callable(found):
            raise self._refused(f"{self._text} is no function")
        predicate: Callable[[Mapping[str, Any]], Any] = found
        return predicate

    # --- an expression ---

    def _parse(self) -> ast.expr:
        if len(self._text) > _LONGEST:
            raise self._refused(f"it has more than {_LONGEST} characters")
        try:
            tree = ast.parse(self._text, mode="eval").body
            self._check(tree)
        except SettingsError:  # which is a ValueError, too
            raise
        except SyntaxError as error:
            raise self._refused(f"{error.msg}, at character {error.offset}") from None
        except (ValueError, RecursionError, MemoryError) as error:
            reason = str(error) if isinstance(error, ValueError) else "it is nested too deeply"
            raise self._refused(reason) from None
        return tree

    def _check(self, node: ast.expr) -> None:
        """Refuse what is not to be evaluated, and names that no point has."""
        match node:
            case ast.BoolOp(values=nodes) | ast.List(elts=nodes) | ast.Tuple(elts=nodes):
                below = nodes
            case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.UAdd(), operand=operand):
                below = [operand]
            case ast.BinOp(op=op, left=left, right=right) if type(op) in _ARITHMETIC:
                below = [left, right]
            case ast.Compare(left=left, ops=ops) if all(type(op) in _COMPARISONS for op in ops):
                below = [left, *node.comparators]
            case ast.Constant(value=None | bool() | int() | float() | str()):
                below = []
            case ast.Name() | ast.Attribute():
                self._check_name(node)
                below = []
            case _:
                part = ast.get_source_segment(self._text, node) or type(node).__name__
                raise self._refused(f"{shown(part)} is not evaluated")
        for each in below:
            self._check(each)

    def _check_name(self, node: ast.expr) -> None:
        name = _dotted(node)
        if name is None:
            part = ast.get_source_segment(self._text, node) or ""
            raise self._refused(f"{shown(part)} is not evaluated")
        if name in _CONSTANTS or any(key in self._keys for key in _beginnings(name)):
            return
        hint = did_you_mean(name, self._keys)
        if not hint and isinstance(node, ast.Name):
            hint = f"a text needs quotes: '{name}'"
        raise self._refused(f"no point has a parameter {name}" + (f"; {hint}" if hint else ""))

    def _refused(self, reason: str) -> SettingsError:
        message = f"{self._origin}: cannot filter by {shown(self._text)}: {reason}"
        return SettingsError("filter", self._text, self._origin, _ALLOWED, reason, message=message)


class _Evaluation:
    """Evaluates an expression that was checked, for one point."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def of(self, node: ast.expr) -> Any:
        match node:
            case ast.BoolOp(op=ast.And(), values=nodes):
                return all(self.of(each) for each in nodes)
            case ast.BoolOp(values=nodes):
                return any(self.of(each) for each in nodes)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return not self.of(operand)
            case ast.UnaryOp(op=op, operand=operand):
                number = _number(self.of(operand))
                return -number if isinstance(op, ast.USub) else number
            case ast.BinOp(op=op, left=left, right=right):
                return _calculated(op, _number(self.of(left)), _number(self.of(right)))
            case ast.Compare():
                return self._compared(node)
            case ast.List(elts=nodes) | ast.Tuple(elts=nodes):
                return [self.of(each) for each in nodes]
            case ast.Constant(value=value):
                return value
        return self._value(_dotted(node) or "")

    def _compared(self, node: ast.Compare) -> bool:
        left = self.of(node.left)
        for op, comparator in zip(node.ops, node.comparators, strict=True):
            right = self.of(comparator)
            try:
                if not _COMPARISONS[type(op)](left, right):
                    return False
            except TypeError:
                raise TypeError(f"cannot compare {_told(left)} with {_told(right)}") from None
            left = right
        return True

    def _value(self, name: str) -> Any:
        """The value of a parameter, or of an entry of one that is a dict; None without it."""
        if name in _CONSTANTS:
            return _CONSTANTS[name]
        for key in _beginnings(name):
            if key in self._values:
                value = self._values[key]
                for part in name[len(key) + 1 :].split(".") if key != name else ():
                    value = value.get(part) if isinstance(value, Mapping) else None
                return value
        return None


def _calculated(op: ast.operator, left: Any, right: Any) -> Any:
    if isinstance(op, ast.Pow):
        base = left.bit_length() if isinstance(left, int) else 1
        if isinstance(right, int) and base * abs(right) > _MOST_BITS:
            raise ValueError(f"{left} ** {right} is too large")
    result = _ARITHMETIC[type(op)](left, right)
    if isinstance(result, int) and result.bit_length() > _MOST_BITS:
        raise ValueError("a number in it is too large")
    return _number(result)


def _number(value: Any) -> Any:
    if not isinstance(value, (int, float)):
        raise TypeError(f"cannot calculate with {_told(value)}")
    return value


def _told(value: Any) -> str:
    return "null" if value is None else shown(value)


def _dotted(node: ast.expr) -> str | None:
    """``a.b.c`` of a name with attributes; None of any other expression."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join([node.id, *reversed(parts)])


def _beginnings(name: str) -> Iterator[str]:
    """``a.b.c``, ``a.b``, ``a``."""
    while name:
        yield name
        name = name.rpartition(".")[0]


def _located(path: str) -> Any:
    """What a dotted path names; without a colon, the longest beginning that is a module is one."""
    module, colon, name = path.partition(":")
    if not colon:
        module, _, name = path.rpartition(".")
    found = None
    while found is None:
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            parent, _, last = module.rpartition(".")
            if colon or not parent or not module.startswith(error.name or "?"):
                raise
            module, name = parent, f"{last}.{name}"
    for part in name.split("."):
        found = getattr(found, part)
    return found


@contextmanager
def _importing_from_here() -> Iterator[None]:
    """Find modules in the working directory, too, where a command finds none by itself."""
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
