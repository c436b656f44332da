"""Which imports a script begins with, that may be done once for all its jobs.

    from __future__ import annotations
    import numpy as np
    from utils import load             if utils.py only defines things
    args = parse()                     <-- the first statement that each job runs itself

An import of what is installed, or of the standard library, is taken for one that does the same in
every job. Modules of one's own may do anything: draw a run's id, read the clock, parse arguments.
So they are looked at, without running them, and so are those that they import.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

#: Folders of installed packages.
_INSTALLED = frozenset(("site-packages", "dist-packages"))
#: Functions and methods, by their last name, that give the same in every job.
_PURE = frozenset(
    "getLogger setLevel addHandler NullHandler StreamHandler Formatter basicConfig "
    "filterwarnings simplefilter compile escape "
    "Path PurePath cwd resolve absolute expanduser joinpath with_suffix with_name as_posix "
    "dirname basename abspath realpath join normpath splitext expandvars exists is_file is_dir "
    "TypeVar TypeVarTuple ParamSpec NewType NamedTuple namedtuple TypedDict cast Enum auto field "
    "partial wraps lru_cache cache itemgetter attrgetter defaultdict OrderedDict Counter deque "
    "dict list set tuple frozenset bytes bytearray int float complex str bool len range sorted "
    "reversed max min sum abs round zip enumerate map filter any all isinstance issubclass hasattr "
    "getattr type object super property staticmethod classmethod ord chr repr "
    "format split strip lstrip rstrip lower upper title replace startswith endswith encode decode "
    "keys values items get getenv append extend insert add update setdefault union copy "
    "array asarray arange linspace logspace zeros ones eye full dtype device "
    "Decimal Fraction timedelta date Lock RLock find_spec version use set_option".split()
)


@dataclass(frozen=True)
class LeadingImports:
    """The imports that a script begins with.

    Attributes:
        end: the index, in the tree's body, of the first statement that jobs run themselves.
        statements: how many of those before it import something.
        why: what that statement's imports do, so that jobs do them; "" if it is something else.
    """

    end: int
    statements: int
    why: str = ""


def leading_imports(body: Sequence[ast.stmt], directory: str, *, trusts: bool) -> LeadingImports:
    """Find the leading imports of a script.

    Args:
        body: the script's statements.
        directory: where it is, in which its imports are searched first.
        trusts: whether modules of one's own are taken like those that are installed.
    """
    own_modules = _OwnModules(directory)
    count = 0
    for index, node in enumerate(body):
        if (index == 0 and _is_constant(node)) or _is_future(node):
            continue
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            return LeadingImports(index, count)
        why = "" if trusts else own_modules.why_not(node, "")
        if why:
            return LeadingImports(index, count, why)
        count += 1
    return LeadingImports(len(body), count)


def _is_constant(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


class _OwnModules:
    """The modules that belong to the script, and are not installed."""

    def __init__(self, directory: str) -> None:
        self._path = [directory, *sys.path[1:]]
        self._specs: dict[str, ModuleSpec | None] = {}
        self._known: dict[str, str] = {}
        self._installed: dict[str, bool] = {}

    def why_not(self, node: ast.Import | ast.ImportFrom, package: str) -> str:
        """What speaks against doing an import once for all jobs; "" if nothing does.

        Args:
            node: the statement.
            package: the package that it stands in; "" for none.
        """
        return next(filter(None, map(self._look, self._imported(node, package))), "")

    def _imported(self, node: ast.Import | ast.ImportFrom, package: str) -> Iterator[str]:
        """The names of all modules that a statement imports, parents first."""
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
            return
        module = node.module or ""
        if node.level:
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            module = ".".join([*parents, *filter(None, [module])])
        yield from _with_parents(module)
        spec = self._spec(module)
        if spec is not None and spec.submodule_search_locations and not self._is_installed(module):
            names = (f"{module}.{alias.name}" for alias in node.names)
            yield from (name for name in names if self._spec(name) is not None)

    def _look(self, name: str) -> str:
        if name not in self._known:
            self._known[name] = ""  # for circles
            self._known[name] = self._look_into(name)
        return self._known[name]

    def _look_into(self, name: str) -> str:
        spec = self._spec(name)
        if self._is_installed(name):
            return ""
        if spec is None:
            return f"there is no module {name}"
        if not (spec.origin or "").endswith(".py"):
            return ""  # compiled, or a folder
        path = Path(spec.origin or "")
        try:
            body = ast.parse(path.read_bytes()).body
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            return f"{path.name} cannot be read"
        is_package = spec.submodule_search_locations is not None
        package = name if is_package else name.rpartition(".")[0]
        for node in body:
            if (culprit := self._culprit(node, package)) is not None:
                if isinstance(culprit, str):
                    return culprit
                return f"{path.name} does more than define things (line {culprit.lineno})"
        return ""

    def _culprit(self, node: ast.stmt, package: str) -> ast.stmt | ast.expr | str | None:
        """What a statement does that may not be the same in every job; None if it is harmless."""
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            return self.why_not(node, package) or None
        if isinstance(node, ast.If) and _is_main_check(node.test):
            return self._first_culprit(node.orelse, package)
        blocks: list[Sequence[ast.stmt]] = []
        if isinstance(node, (ast.ClassDef, ast.If, ast.Try)):
            blocks = [node.body]
        if isinstance(node, (ast.If, ast.Try)):
            blocks.append(node.orelse)
        if isinstance(node, ast.Try):
            blocks += [*(handler.body for handler in node.handlers), node.finalbody]
        if not blocks and not isinstance(node, _PLAIN):
            return node
        for block in blocks:
            if (culprit := self._first_culprit(block, package)) is not None:
                return culprit
        return next(filter(_is_impure, _evaluated(node)), None)

    def _first_culprit(
        self, block: Sequence[ast.stmt], package: str
    ) -> ast.stmt | ast.expr | str | None:
        culprits = (self._culprit(node, package) for node in block)
        return next((culprit for culprit in culprits if culprit is not None), None)

    def _is_installed(self, name: str) -> bool:
        """Whether a module is part of Python, or of an installed package."""
        top = name.partition(".")[0]
        if top not in self._installed:
            spec = self._spec(top)
            self._installed[top] = spec is not None and _is_installed(spec)
        return self._installed[top]

    def _spec(self, name: str) -> ModuleSpec | None:
        if name not in self._specs:
            try:
                self._specs[name] = self._find(name)
            except Exception:  # from somebody's path hook, say
                self._specs[name] = None
        return self._specs[name]

    def _find(self, name: str) -> ModuleSpec | None:
        parent, _, _ = name.rpartition(".")
        if parent:
            package = self._spec(parent)
            if package is None or package.submodule_search_locations is None:
                return None
            return PathFinder.find_spec(name, list(package.submodule_search_locations))
        if (spec := PathFinder.find_spec(name, self._path[:1])) is not None and spec.origin:
            return spec
        if name in sys.stdlib_module_names:
            return ModuleSpec(name, None, is_package=True)
        return PathFinder.find_spec(name, self._path) or importlib.util.find_spec(name)


#: Statements that only define things, if the expressions in them do.
_PLAIN = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.Assign,
    ast.AnnAssign,
    ast.AugAssign,
    ast.Expr,
    ast.Delete,
    ast.Pass,
    ast.Raise,
    ast.Assert,
)
_IMPURE = (ast.Await, ast.Yield, ast.YieldFrom)


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[: end + 1]) for end in range(len(parts)))


def _is_installed(spec: ModuleSpec) -> bool:
    if spec.origin is None and spec.name in sys.stdlib_module_names:
        return True
    if spec.origin in ("built-in", "frozen"):
        return True
    own = None if spec.submodule_search_locations is None else list(spec.submodule_search_locations)
    places = [os.path.dirname(each) for each in own or filter(None, [spec.origin])]
    return bool(places) and all(map(_is_for_packages, places))


def is_installed(file: str) -> bool:
    """Whether a file belongs to an installed package."""
    return any(_is_for_packages(str(folder)) for folder in Path(file).parents)


@cache
def _is_for_packages(folder: str) -> bool:
    """Whether packages are installed in a folder: pip leaves metadata beside each, wherever."""
    if not _INSTALLED.isdisjoint(Path(folder).parts):
        return True
    try:
        return any(name.endswith(".dist-info") for name in os.listdir(folder))
    except OSError:
        return False


def _is_main_check(test: ast.expr) -> bool:
    """Whether this is ``__name__ == "__main__"``."""
    return isinstance(test, ast.Compare) and "__main__" in ast.dump(test)


def _evaluated(node: ast.stmt) -> Iterable[ast.expr]:
    """The expressions that a statement evaluates when it runs, apart from those in its blocks.

    Decorators may be called: they wrap what they decorate.
    """
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        defaults = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
        return [*defaults, *_arguments(node.decorator_list)]
    if isinstance(node, ast.ClassDef):
        words = [keyword.value for keyword in node.keywords]
        return [*node.bases, *words, *_arguments(node.decorator_list)]
    return [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]


def _arguments(decorators: Sequence[ast.expr]) -> Iterator[ast.expr]:
    for each in decorators:
        if isinstance(each, ast.Call):
            yield from (*each.args, *(keyword.value for keyword in each.keywords))


def _is_impure(expression: ast.expr) -> bool:
    """Whether what an expression gives, or does, may differ from job to job."""
    pending: list[ast.AST] = [expression]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Lambda):
            continue  # its body is run by whoever calls it
        if isinstance(node, _IMPURE) or (isinstance(node, ast.Call) and not _is_pure_call(node)):
            return True
        if isinstance(node, ast.Attribute) and node.attr == "argv":
            return True
        pending += ast.iter_child_nodes(node)
    return False


def _is_pure_call(call: ast.Call) -> bool:
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in _PURE
