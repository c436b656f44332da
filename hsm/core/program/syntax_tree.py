"""A Python file's syntax tree, and which imported names it uses, without running any of it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property


class SyntaxTree:
    """What a Python file says.

    Args:
        source: its text.

    Attributes:
        tree: its tree; empty if it is not Python: its jobs will show why.
    """

    def __init__(self, source: bytes) -> None:
        self.source = source
        try:
            self.tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            self.tree = ast.Module([], [])

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """All nodes, in the order of the text as far as calls are concerned."""
        nodes = list(ast.walk(self.tree))
        return sorted(
            nodes, key=lambda node: (getattr(node, "lineno", 0), getattr(node, "col_offset", 0))
        )

    def calls(self) -> Iterator[ast.Call]:
        """All calls, in the order of the text."""
        return (node for node in self.nodes if isinstance(node, ast.Call))

    @cached_property
    def imported(self) -> Mapping[str, str]:
        """What each imported name is: ``{"np": "numpy", "main": "hydra.main"}``."""
        names: dict[str, str] = {}
        for node in self.nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    # `import hydra.utils` binds hydra; `import hydra.utils as u` the module itself.
                    root = alias.name.partition(".")[0]
                    names[alias.asname or root] = alias.name if alias.asname else root
            elif isinstance(node, ast.ImportFrom):
                module = "." * node.level + (node.module or "")
                for alias in node.names:
                    names[alias.asname or alias.name] = f"{module}.{alias.name}"
        return names

    def name_of(self, expression: ast.AST | None) -> str:
        """The full name of what an expression names, such as ``absl.flags.DEFINE_float``.

        Names that are not imported stay as they are; empty for anything but a name.
        """
        parts, node = [], expression
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ""
        return ".".join([self.imported.get(node.id, node.id), *reversed(parts)])

    @cached_property
    def used(self) -> frozenset[str]:
        """The full names of all that it uses of what it imports."""
        modules = {name.partition(".")[0] for name in self.imported.values()}
        return frozenset(
            name
            for node in self.nodes
            if isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load)
            if (name := self.name_of(node)).partition(".")[0] in modules
        )


def constant(node: ast.AST | None) -> object:
    """The value of a constant such as ``"--lr"`` or ``-1``; None for anything else."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = constant(node.operand)
        return -value if isinstance(value, (int, float)) else None
    return node.value if isinstance(node, ast.Constant) else None


def texts(nodes: Iterable[ast.AST]) -> list[str]:
    """Those of some expressions that are text constants."""
    return [value for node in nodes if isinstance(value := constant(node), str)]


def keywords(call: ast.Call) -> dict[str, ast.expr]:
    """A call's keyword arguments, without those of ``**``."""
    return {word.arg: word.value for word in call.keywords if word.arg}


def number(node: ast.AST | None) -> float | None:
    """The number that an expression is, if it is one."""
    value = constant(node)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value
