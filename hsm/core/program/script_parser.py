"""How a Python script reads its arguments, found in its syntax tree, without running it.

    import argparse … ArgumentParser()            argparse: --lr 0.1
    from mypackage.cli import main                what mypackage/cli.py beside the script uses
    sys.argv, $HSM_PARAMS                         no library

If a script uses several libraries, the first in `_LIBRARIES` counts: its arguments reach that one
first.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from hsm.core.program.declared_options import absl_signature, argparse_signature
from hsm.core.program.decorated_options import click_signature, tap_signature, typer_signature
from hsm.core.program.hydra_script import is_hydra_app
from hsm.core.program.syntax_tree import SyntaxTree
from hsm.core.settings.args_style import ArgsStyle
from hsm.core.space.flags import TRUTHS, Dialect, Lists, Signature

#: Functions that read ``lr=0.1``.
_READ_OVERRIDES = ("OmegaConf.from_cli", "OmegaConf.from_dotlist", "hydra.compose")
#: The most files beside a script that are read.
_MAX_FILES = 20


def _plain_signature(_: SyntaxTree, dialect: Dialect) -> Signature:
    return Signature(dialect)


@dataclass(frozen=True)
class _Library:
    """A library that reads arguments.

    Attributes:
        name: what people call it.
        modules: the packages that it is imported from.
        entries: what scripts use of it; a name that ends in _ stands for all that begin so.
        dialect: what its options are like.
        style: how its arguments are written.
        read: finds the options that a script declares.
    """

    name: str
    modules: tuple[str, ...]
    entries: tuple[str, ...]
    dialect: Dialect = Dialect()  # noqa: RUF009 -- it is frozen
    style: ArgsStyle = ArgsStyle.flags
    read: Callable[[SyntaxTree, Dialect], Signature] = _plain_signature

    def is_used(self, names: frozenset[str]) -> bool:
        """Whether one of `names` is an entry of this library."""
        return any(self._has(name) for name in names)

    def _has(self, name: str) -> bool:
        last = name.rpartition(".")[2]
        return name.partition(".")[0] in self.modules and any(
            last.startswith(entry) if entry.endswith("_") else last == entry
            for entry in self.entries
        )


_VALUES = Dialect(truths=TRUTHS, lists=Lists.literal)
_SPREAD = Dialect(truths=TRUTHS, lists=Lists.spread)
_EQUALS = Dialect(truths=TRUTHS, lists=Lists.joined)
_PAIRS = Dialect(dashes=True, negation="no-", lists=Lists.repeated)
_LIGHTNING = ("lightning", "pytorch_lightning")
_ARGUMENT_PARSER = ("ArgumentParser", "ArgParser")
_LIBRARIES = (
    _Library("typer", ("typer",), ("Typer", "run"), _PAIRS, read=typer_signature),
    _Library(
        "click",
        ("click", "rich_click", "asyncclick"),
        ("command", "group"),
        replace(_PAIRS, negation=""),
        read=click_signature,
    ),
    _Library(
        "Fire",
        ("fire",),
        ("Fire",),
        Dialect(truths=TRUTHS, lists=Lists.literal, is_python=True),
        ArgsStyle.flags_equals,
    ),
    _Library("tyro", ("tyro",), ("cli",), replace(_PAIRS, lists=Lists.spread)),
    _Library("cyclopts", ("cyclopts",), ("App", "run"), _PAIRS),
    _Library("LightningCLI", _LIGHTNING, ("LightningCLI",), _VALUES),
    _Library("jsonargparse", ("jsonargparse",), ("CLI", "auto_cli", *_ARGUMENT_PARSER), _VALUES),
    _Library("simple-parsing", ("simple_parsing",), ("parse", *_ARGUMENT_PARSER), _SPREAD),
    _Library("HfArgumentParser", ("transformers",), ("HfArgumentParser",), _SPREAD),
    _Library("pyrallis", ("pyrallis", "draccus"), ("wrap", "parse"), _VALUES),
    _Library("Tap", ("tap",), ("Tap", "tapify"), read=tap_signature),
    _Library("docopt", ("docopt",), ("docopt",), Dialect(), ArgsStyle.flags_equals),
    _Library(
        "absl", ("absl",), ("run", "DEFINE_"), _EQUALS, ArgsStyle.flags_equals, absl_signature
    ),
    _Library("configargparse", ("configargparse",), _ARGUMENT_PARSER, read=argparse_signature),
    _Library("argparse", ("argparse",), ("ArgumentParser",), read=argparse_signature),
    _Library("optparse", ("optparse",), ("OptionParser",), read=argparse_signature),
    _Library("getopt", ("getopt",), ("getopt", "gnu_getopt")),
)


@dataclass(frozen=True)
class ScriptParser:
    """How a script reads its arguments.

    Attributes:
        library: the library that does it; empty if it uses none of those that are known.
        style: how they are to be written.
        signature: what is known about them.
        reads: whether anything was found that reads parameters.
    """

    library: str = ""
    style: ArgsStyle = ArgsStyle.hydra
    signature: Signature = Signature()  # noqa: RUF009 -- it is frozen
    reads: bool = True


def parser_of(source: bytes, path: str | os.PathLike[str]) -> ScriptParser:
    """How the script at `path`, whose text is `source`, reads its arguments."""
    script = SyntaxTree(source)
    if is_hydra_app(script):
        return ScriptParser("Hydra")
    reads_params = b"HSM_PARAMS" in source
    library = _library_of(script)
    if library is None and (reads_params or "sys.argv" in script.used or _reads_overrides(script)):
        return ScriptParser()
    beside = [SyntaxTree(_without_main(each)) for each in _beside(script, Path(path).parent)]
    if library is not None:
        signature = library.read(script, library.dialect)
        others = [library.read(each, library.dialect) for each in beside]
        # Flags may be declared in a module that the script imports.
        options = {
            key: each for other in others for key, each in other.options.items() if each.word
        }
        options |= signature.options
        takes_overrides = _takes_overrides(script, signature)
        is_complete = signature.is_complete and not (reads_params or takes_overrides)
        signature = replace(
            signature, options=options, is_complete=is_complete, takes_overrides=takes_overrides
        )
        return ScriptParser(library.name, library.style, signature)
    for module in beside:
        if (library := _library_of(module)) is not None:
            signature = library.read(module, library.dialect)
            takes_overrides = _takes_overrides(module, signature)
            signature = replace(signature, is_complete=False, takes_overrides=takes_overrides)
            return ScriptParser(library.name, library.style, signature)
    return ScriptParser(reads=False)


def _library_of(script: SyntaxTree) -> _Library | None:
    return next((each for each in _LIBRARIES if each.is_used(script.used)), None)


def _reads_overrides(script: SyntaxTree) -> bool:
    return any(name.endswith(_READ_OVERRIDES) for name in script.used)


def _takes_overrides(script: SyntaxTree, signature: Signature) -> bool:
    """Whether a script takes ``lr=0.1`` beside the options that its parser knows."""
    if _reads_overrides(script):
        return True
    several = [
        name for name in signature.positionals if signature.options[name].lists is Lists.spread
    ]
    return any("override" in name or "dotlist" in name for name in several)


def _beside(script: SyntaxTree, folder: Path) -> Iterator[bytes]:
    """The texts of the modules beside a script that it imports itself."""
    names: dict[str, None] = {}
    for node in script.nodes:
        if isinstance(node, ast.Import):
            names.update((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names[node.module] = None
            names.update((f"{node.module}.{alias.name}", None) for alias in node.names)
    found = 0
    for name in names:
        path = folder.joinpath(*name.split("."))
        for file in (path.with_name(f"{path.name}.py"), path / "__init__.py"):
            if found < _MAX_FILES and file.is_file():
                try:
                    yield file.read_bytes()
                except OSError:
                    continue
                found += 1
                break


def _without_main(source: bytes) -> bytes:
    """The text of a module less what it does only as a script."""
    tree = SyntaxTree(source).tree
    for node in tree.body:
        if isinstance(node, ast.If) and "__main__" in ast.dump(node.test):
            cut = source.splitlines(keepends=True)
            return b"".join([*cut[: node.lineno - 1], *cut[node.end_lineno or node.lineno :]])
    return source
