"""Watching a composition, to learn whether a later one with the same choices would be the same.

While a base is composed, resolvers and default factories may be called and warnings be issued. For
that time, and in this thread, a `Watch` stands at the few places of OmegaConf and Python through
which all of these pass.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf, ValueNode, _utils
from omegaconf.base import Container, Node

from hsm.hydra_app.constant_factories import has_constant_defaults

#: Resolvers that return a text or None, whatever it is: a merge only asks whether what it overrides
#: is a container.
_TEXTS = frozenset("now oc.env python_version hsm_local".split())
#: Resolvers whose result depends on nothing but their arguments and the config.
_PURE = frozenset(
    "oc.create oc.coerce oc.decode oc.deprecated oc.dict.keys oc.dict.values oc.select".split()
)
#: Looks into the config of the app or job that is running, which is the same during a sweep.
_HYDRA = frozenset(("hydra",))
_KNOWN = _TEXTS | _PURE | _HYDRA
#: The modules that define these.
_KNOWN_MODULES = frozenset(
    (
        "omegaconf.resolvers.oc",
        "omegaconf.resolvers.oc.dict",
        "hydra.core.utils",
        "hydra_plugins.hsm_local_launcher._registration",
    )
)
#: Warnings from elsewhere name a line of the caller, which is another one in the next composition.
_WARNING_MODULES = ("hydra.", "omegaconf.", "antlr4.")

_one_at_a_time = threading.Lock()
#: What a watch stands in for: where, by which name, the original.
_replaced: list[tuple[Any, str, Any]] = []


@dataclass(frozen=True)
class IssuedWarning:
    """A warning that Hydra or OmegaConf issued, and where."""

    message: Warning | str
    category: type[Warning] | None
    file: str
    line: int
    module: str

    def issue(self) -> None:
        """Issue it again: the filters decide, as they did, whether anybody sees it."""
        registry = vars(sys.modules[self.module]).setdefault("__warningregistry__", {})
        category = self.category or UserWarning
        warnings.warn_explicit(self.message, category, self.file, self.line, self.module, registry)


class Watch:
    """What happened in this thread while the watch was on.

    Attributes:
        is_repeatable: whether the same calls would give the same again.
        warnings: those that were issued.
        resolvers: the names of those that were called.
    """

    def __init__(self) -> None:
        self.is_repeatable = True
        self.warnings: list[IssuedWarning] = []
        self.resolvers: set[str] = set()
        self._thread = threading.get_ident()
        self._dereferencing = False
        self._called: list[str] = []  # in the outermost interpolation that is being looked through

    def _is_elsewhere(self) -> bool:
        return threading.get_ident() != self._thread

    def resolving(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap the method of a container that calls a resolver."""

        def evaluate(
            container: Any, key: Any, node: Any, inter_type: str, *args: Any, **kwargs: Any
        ) -> Any:
            if not self._is_elsewhere():
                self.resolvers.add(inter_type)
                self._called.append(inter_type)
                if not self._dereferencing:  # somewhere that this module knows nothing of
                    self.is_repeatable = False
            return original(container, key, node, inter_type, *args, **kwargs)

        return evaluate

    def dereferencing(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap the method of a node that looks through an interpolation."""

        def dereference(node: Any, *args: Any, **kwargs: Any) -> Any:
            if self._is_elsewhere() or self._dereferencing:
                return original(node, *args, **kwargs)
            self._dereferencing, self._called = True, []
            result = None
            try:
                result = original(node, *args, **kwargs)
                return result
            finally:
                self._dereferencing = False
                if self._called and not self._is_same_kind_again(result):
                    self.is_repeatable = False

        return dereference

    def _is_same_kind_again(self, result: Any) -> bool:
        """Whether what an interpolation led to stays a value, or stays the same container."""
        called = set(self._called)
        if called <= _PURE:
            return True
        if not called <= _TEXTS and self._called != ["hydra"]:
            return False
        if not isinstance(result, ValueNode) or result._value() is None:
            return False
        # A node of the config itself: the text was part of a key, and another text may lead to
        # another node.
        parent, key = result._get_parent(), result._key()
        return not (isinstance(parent, Container) and parent._get_node(key) is result)

    def making_defaults(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap the function that reads the fields of a structured config."""

        def fields(kind: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(kind, type) and not self._is_elsewhere():
                self.is_repeatable &= has_constant_defaults(kind)
            return original(kind, *args, **kwargs)

        return fields

    def warning(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap `warnings.warn`."""

        def warn(
            message: Warning | str,
            category: type[Warning] | None = None,
            stacklevel: int = 1,
            source: Any = None,
            **more: Any,
        ) -> None:
            if not self._is_elsewhere():
                self._record(message, category, stacklevel + 1, is_plain=not more)
            original(message, category, stacklevel + 1, source, **more)

        return warn

    def _record(
        self, message: Warning | str, category: type[Warning] | None, depth: int, *, is_plain: bool
    ) -> None:
        frame = _frame(depth + 1)
        module = "" if frame is None else str(frame.f_globals.get("__name__"))
        known = sys.modules.get(module)
        is_own = known is not None and frame is not None and vars(known) is frame.f_globals
        if frame is None or not is_own or not is_plain or not module.startswith(_WARNING_MODULES):
            self.is_repeatable = False
            return
        file = frame.f_code.co_filename
        self.warnings.append(IssuedWarning(message, category, file, frame.f_lineno, module))


def is_known_resolver(name: str) -> bool:
    """Whether this name is still that of the resolver that it belongs to."""
    resolver: Any = OmegaConf._get_resolver(name) if name in _KNOWN else None
    code = getattr(resolver, "__code__", None)
    if code is None:
        return False
    cells = dict(zip(code.co_freevars, resolver.__closure__ or (), strict=False))
    wrapped = cells["resolver"].cell_contents if "resolver" in cells else None
    return getattr(wrapped, "__module__", None) in _KNOWN_MODULES


@contextmanager
def watching(watch: Watch | None = None) -> Iterator[Watch | None]:
    """Watch what this thread does in the block, with `watch` if it began in another block.

    Yields None, and watches nothing, while another thread is being watched.
    """
    if not _one_at_a_time.acquire(blocking=False):
        yield None
        return
    try:
        with _installed(watch or Watch()) as watch:
            yield watch
    finally:
        _one_at_a_time.release()


@contextmanager
def _installed(watch: Watch) -> Iterator[Watch]:
    places: list[tuple[Any, str, Callable[[Any], Any]]] = [
        (Container, "_evaluate_custom_resolver", watch.resolving),
        (Node, "_dereference_node_impl", watch.dereferencing),
        (_utils, "get_dataclass_data", watch.making_defaults),
        (_utils, "get_attr_data", watch.making_defaults),
        (warnings, "warn", watch.warning),
    ]
    try:
        for place, name, wrap in places:
            original = getattr(place, name)
            _replaced.append((place, name, original))
            setattr(place, name, wrap(original))
        yield watch
    finally:
        _put_back()


def _put_back() -> None:
    while _replaced:
        setattr(*_replaced.pop())


# A job may be forked while another thread is being watched: it has no such thread.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_put_back)


def _frame(depth: int) -> Any:
    try:
        return sys._getframe(depth)
    except ValueError:
        return None
