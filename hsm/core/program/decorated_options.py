"""The options that a script declares by decorators, signatures and classes: click, typer, Tap."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import replace

from hsm.core.program.syntax_tree import SyntaxTree, constant, keywords, number, texts
from hsm.core.space.flags import Dialect, Lists, Option, Signature

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_LISTS = ("list", "List", "Sequence", "set", "Set")
_TUPLES = ("tuple", "Tuple")


def click_signature(script: SyntaxTree, dialect: Dialect) -> Signature:
    """The arguments that ``@click.option`` and ``@click.argument`` declare."""
    options: dict[str, Option] = {}
    positionals: list[str] = []
    for call in script.calls():
        kind = script.name_of(call.func).rpartition(".")[2]
        names, given = texts(call.args), keywords(call)
        if kind == "argument" and names:
            name = names[-1].lower().replace("-", "_")
            positionals.append(name)
            lists = Lists.joined if constant(given.get("nargs")) in (None, 1) else Lists.spread
            options.setdefault(name, Option("", lists=lists))
        elif kind == "option" and names:
            _add_option(options, names, _click_option("", "", given))
    return Signature(dialect, options, tuple(dict.fromkeys(positionals)))


def _click_option(word: str, off: str, given: Mapping[str, ast.expr]) -> Option:
    if constant(given.get("count")) is True:
        return Option(word, truths=None, takes_value=False, counts=True)
    if off or constant(given.get("is_flag")) is True or "flag_value" in given:
        return Option(word, off, truths=None, takes_value=False)
    lists = Lists.repeated if constant(given.get("multiple")) is True else Lists.joined
    if constant(given.get("nargs")) not in (None, 1):
        lists = Lists.spread
    return Option(word, lists=lists, default=number(given.get("default")))


def _add_option(options: dict[str, Option], declared: list[str], option: Option) -> None:
    """List an option by its names: ``--shout/--no-shout``, ``-s``, and the function's parameter."""
    pairs = [each.partition("/") for each in declared if each.strip()[:1] in ("-", "/")]
    flags = [on.strip() for on, _, _ in pairs if on.strip()]
    if not flags:
        return
    off = next((off.strip() for _, _, off in pairs if off), "")
    usual = max(flags, key=lambda flag: (flag.startswith("--"), len(flag)))
    parameters = [each for each in declared if each.strip()[:1] not in ("-", "/")]
    for name, word in [
        *((name, usual) for name in parameters),
        (usual.lstrip("-").replace("-", "_"), usual),
        *((flag.lstrip("-"), flag) for flag in flags),
    ]:
        if off or not option.takes_value:
            found = Option(word, off, truths=None, takes_value=False, counts=option.counts)
        else:
            found = replace(option, word=word)
        options.setdefault(name, found)


def typer_signature(script: SyntaxTree, dialect: Dialect) -> Signature:
    """The arguments that the parameters of a typer command declare."""
    options: dict[str, Option] = {}
    positionals: list[str] = []
    for function in _commands(script):
        for parameter, default in _parameters(function):
            name, annotation = parameter.arg, parameter.annotation
            info = _info(script, annotation, default)
            lists = _typer_lists(annotation, Lists.spread)
            is_argument = info is None and default is None
            if script.name_of(info.func if info else None) == "typer.Argument" or is_argument:
                positionals.append(name)
                options.setdefault(name, Option("", lists=lists))
                continue
            given = keywords(info) if info else {}
            declared = [each for each in texts(info.args if info else ()) if each[:1] == "-"]
            several = _typer_lists(annotation, Lists.repeated)
            shown = default if info is not default or not info else next(iter(info.args), None)
            option = Option("", lists=several, default=number(shown))
            if constant(given.get("count")) is True:
                option = Option("", truths=None, takes_value=False, counts=True)
            elif _mentions(annotation, ("bool",)):
                option = Option("", truths=None, takes_value=False)
                dashed = name.replace("_", "-")
                declared = declared or [f"--{dashed}/--no-{dashed}"]
            _add_option(options, [*(declared or [f"--{name.replace('_', '-')}"]), name], option)
    return Signature(dialect, options, tuple(dict.fromkeys(positionals)))


def tap_signature(script: SyntaxTree, dialect: Dialect) -> Signature:
    """The flags that the booleans of a class declare: one that is True by default is turned off."""
    options = {}
    for node in script.nodes:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        name = node.target.id
        if _mentions(node.annotation, ("bool",)):
            words = ("", f"--{name}") if constant(node.value) is True else (f"--{name}", "")
            options[name] = Option(*words, truths=None, takes_value=False)
    return Signature(dialect, options)


def _commands(script: SyntaxTree) -> Iterator[_Function]:
    """The functions that ``@app.command()`` decorates, or that ``typer.run`` gets."""
    runs = {
        call.args[0].id
        for call in script.calls()
        if script.name_of(call.func) == "typer.run"
        and call.args
        and isinstance(call.args[0], ast.Name)
    }
    for node in script.nodes:
        if isinstance(node, _Function):
            words = [each.func for each in node.decorator_list if isinstance(each, ast.Call)]
            if node.name in runs or any(getattr(each, "attr", "") == "command" for each in words):
                yield node


def _parameters(function: _Function) -> list[tuple[ast.arg, ast.expr | None]]:
    arguments = function.args
    usual = [*arguments.posonlyargs, *arguments.args]
    missing: list[ast.expr | None] = [None] * (len(usual) - len(arguments.defaults))
    pairs = list(zip(usual, [*missing, *arguments.defaults], strict=True))
    pairs += zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return [pair for pair in pairs if not _mentions(pair[0].annotation, ("Context",))]


def _info(
    script: SyntaxTree, annotation: ast.expr | None, default: ast.expr | None
) -> ast.Call | None:
    """The call of `typer.Option` or `typer.Argument` for a parameter."""
    nodes = [default, *(ast.walk(annotation) if annotation is not None else ())]
    calls = (node for node in nodes if isinstance(node, ast.Call))
    names = ("typer.Option", "typer.Argument")
    return next((call for call in calls if script.name_of(call.func) in names), None)


def _typer_lists(annotation: ast.expr | None, several: Lists) -> Lists:
    if _mentions(annotation, _TUPLES):
        return Lists.spread
    return several if _mentions(annotation, _LISTS) else Lists.joined


def _mentions(annotation: ast.expr | None, names: tuple[str, ...]) -> bool:
    """Whether a type hint names one of `names`, outside of the texts and calls in it."""
    if annotation is None or isinstance(annotation, ast.Call):
        return False
    if getattr(annotation, "id", getattr(annotation, "attr", None)) in names:
        return True
    return any(
        _mentions(child, names)
        for child in ast.iter_child_nodes(annotation)
        if isinstance(child, ast.expr)
    )
