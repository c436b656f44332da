"""The options that a script declares by calls: `add_argument` of argparse, `DEFINE_…` of absl."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from hsm.core.program.syntax_tree import SyntaxTree, constant, keywords, texts
from hsm.core.space.flags import TRUTHS, Dialect, Lists, Option, Signature

#: How a boolean is written for these types: `bool` takes any text but an empty one for True.
_TRUTHS = {"bool": ("True", ""), "int": ("1", "0"), "float": ("1", "0")}
#: Types that read a list out of one text.
_LITERAL_TYPES = ("loads", "literal_eval", "eval", "safe_load")
_ARGPARSE_LISTS = {"append": Lists.repeated, "extend": Lists.spread}
#: Methods after which a parser takes more than was declared, or something else.
_OPEN_METHODS = frozenset(
    "parse_known_args parse_known_intermixed_args add_subparsers set_usage register".split()
)
_GROUPS = ("add_argument_group", "add_mutually_exclusive_group")
_ABSL_LISTS = {"DEFINE_list": Lists.joined, "DEFINE_spaceseplist": Lists.spaced}


def argparse_signature(script: SyntaxTree, dialect: Dialect) -> Signature:
    """The arguments that `add_argument` (of optparse: `add_option`) declares."""
    options: dict[str, Option] = {}
    positionals: list[str] = []
    prefixes, special, is_literal = "-", "-", True
    for call in script.calls():
        given = keywords(call)
        prefixes += str(constant(given.get("prefix_chars")) or "")
        special += str(constant(given.get("fromfile_prefix_chars")) or "")
        if not isinstance(call.func, ast.Attribute):
            continue
        if call.func.attr not in ("add_argument", "add_option"):
            continue
        names = texts(call.args)
        is_literal &= len(names) == len(call.args) > 0
        if names and names[0][:1] not in prefixes:
            name = names[0].replace("-", "_")
            positionals.append(name)
            options.setdefault(name, _argparse_option("", given))
        else:
            _add_option(options, names, given, prefixes)
    is_complete = is_literal and _is_closed(script)
    return Signature(dialect, options, tuple(dict.fromkeys(positionals)), is_complete, special)


def _add_option(
    options: dict[str, Option], names: list[str], given: Mapping[str, ast.expr], prefixes: str
) -> None:
    """List an option by each of its names, and by that of the value that the script gets."""
    if not names:
        return
    plain = {name.lstrip(prefixes): name for name in names}
    usual = next((name for name in names if name[1:2] in prefixes), names[0])
    dest = str(constant(given.get("dest")) or usual.lstrip(prefixes).replace("-", "_"))
    of_value = _argparse_option(usual, given)
    if constant(given.get("action")) == "store_false":
        of_value = Option("", off=usual, truths=None, takes_value=False)
    options.setdefault(dest, of_value)
    for name, word in plain.items():
        option = _argparse_option(word, given)
        options.setdefault(name, option)
        options.setdefault(name.replace("-", "_"), option)


def _argparse_option(word: str, given: Mapping[str, ast.expr]) -> Option:
    node = given.get("action")
    action = constant(node) if isinstance(node, ast.Constant) else getattr(node, "attr", "")
    action = action or getattr(node, "id", "store")
    if action == "count":
        return Option(word, truths=None, takes_value=False, counts=True)
    if action == "BooleanOptionalAction":
        off = f"--no-{word[2:]}"
        return Option(word, off, truths=None, takes_value=False)
    if action in ("store_true", "store_false", "store_const", "append_const", "help", "version"):
        return Option(word, truths=None, takes_value=False)
    node = given.get("type")
    kind = getattr(node, "attr", getattr(node, "id", constant(node)))
    lists = Lists.literal if kind in _LITERAL_TYPES else Lists.joined
    lists = _ARGPARSE_LISTS.get(str(action), lists)
    node = given.get("nargs")
    if node is not None and ast.unparse(node) not in ("None", "'?'"):
        lists = Lists.spread
    return Option(word, truths=_TRUTHS.get(str(kind), TRUTHS), lists=lists)


def _is_closed(script: SyntaxTree) -> bool:
    """Whether a script's one parser surely takes nothing but what `add_argument` declares there."""
    parsers: set[str] = set()
    for node in script.nodes:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            method = getattr(node.value.func, "attr", "")
            if _is_parser(script, node.value) or method in _GROUPS:
                parsers.update(each.id for each in node.targets if isinstance(each, ast.Name))
    calls = list(script.calls())
    made = [call for call in calls if _is_parser(script, call)]
    parsing = [call for call in calls if getattr(call.func, "attr", "") == "parse_args"]
    return (
        len(made) == 1
        and "parents" not in keywords(made[0])
        and all(word.arg for word in made[0].keywords)
        and len(parsing) == 1
        and _parses_all(script, parsing[0])
        and script.name_of(made[0].func) in script.used
        and not any(getattr(call.func, "attr", "") in _OPEN_METHODS for call in calls)
        and not any(
            isinstance(node, ast.ClassDef) and _extends(script, node) for node in script.nodes
        )
        and not _is_handed_on(script, parsers)
    )


def _is_parser(script: SyntaxTree, call: ast.Call) -> bool:
    return script.name_of(call.func) == "argparse.ArgumentParser"


def _extends(script: SyntaxTree, node: ast.ClassDef) -> bool:
    return any(script.name_of(base).startswith("argparse.") for base in node.bases)


def _parses_all(script: SyntaxTree, call: ast.Call) -> bool:
    """Whether `parse_args` surely gets the whole command line."""
    return not call.args and not call.keywords and "sys.argv" not in script.used


def _is_handed_on(script: SyntaxTree, parsers: set[str]) -> bool:
    """Whether anything but a function of this script may add arguments to one of `parsers`."""
    own = {node.name for node in script.nodes if isinstance(node, ast.FunctionDef)}
    for call in script.calls():
        if isinstance(call.func, ast.Name) and call.func.id in own:
            continue
        given = [*call.args, *(word.value for word in call.keywords)]
        if any(isinstance(each, ast.Name) and each.id in parsers for each in given):
            return True
    return False


def absl_signature(script: SyntaxTree, dialect: Dialect) -> Signature:
    """The flags that ``flags.DEFINE_…`` declares."""
    options = {}
    for call in script.calls():
        define = script.name_of(call.func).rpartition(".")[2]
        names = texts(call.args[:1]) or texts([keywords(call).get("name", call)])
        if not define.startswith("DEFINE_") or not names:
            continue
        name = names[0]
        if define in ("DEFINE_bool", "DEFINE_boolean"):
            options[name] = Option(f"--{name}", f"--no{name}", truths=None, takes_value=False)
        else:
            is_multi = define.startswith("DEFINE_multi_")
            lists = Lists.repeated if is_multi else _ABSL_LISTS.get(define, Lists.joined)
            options[name] = Option(f"--{name}", lists=lists)
    return Signature(dialect, options)
