"""The options that a script declares by calls: `add_argument` of argparse, `DEFINE_…` of absl."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from hsm.core.program.syntax_tree import SyntaxTree, constant, keywords, number, texts
from hsm.core.space.flags import TRUTHS, Dialect, Lists, Option, Signature

#: How a boolean is written for these types: `bool` takes any text but an empty one for True.
_TRUTHS = {"bool": ("True", ""), "int": ("1", "0"), "float": ("1", "0")}
#: Texts that scripts let people choose between for a boolean.
_CHOICES = (TRUTHS, ("true", "false"), ("yes", "no"), ("on", "off"), ("1", "0"))
#: Types that read a list out of one text.
_LITERAL_TYPES = ("loads", "literal_eval", "eval", "safe_load")
_ARGPARSE_LISTS = {"append": Lists.repeated, "extend": Lists.spread}
#: Methods after which a parser takes more than was declared, or something else.
_OPEN_METHODS = frozenset(
    "parse_known_args parse_known_intermixed_args add_subparsers set_usage register".split()
)
#: What only parsers and groups of options have.
_PARSER_METHODS = (
    "add_argument add_argument_group add_mutually_exclusive_group parse_args set_defaults".split()
)
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
    choices = texts(getattr(given.get("choices"), "elts", ()))
    chosen = next((each for each in _CHOICES if set(each) <= set(choices)), TRUTHS)
    truths, default = _TRUTHS.get(str(kind), chosen), number(given.get("default"))
    return Option(word, truths=truths, lists=lists, default=default)


def _is_closed(script: SyntaxTree) -> bool:
    """Whether a script's one parser surely takes nothing but what `add_argument` declares there."""
    calls = list(script.calls())
    made = [call for call in calls if script.name_of(call.func) == "argparse.ArgumentParser"]
    methods = {call.func.attr for call in calls if isinstance(call.func, ast.Attribute)}
    return (
        len(made) == 1
        and "parents" not in keywords(made[0])
        and all(word.arg for word in made[0].keywords)
        and methods.isdisjoint(_OPEN_METHODS)
        and "sys.argv" not in script.used
        and _parses_once(calls)
        and not any(_extends_argparse(script, node) for node in script.nodes)
        and not _is_handed_on(script)
    )


def _extends_argparse(script: SyntaxTree, node: ast.AST) -> bool:
    bases = node.bases if isinstance(node, ast.ClassDef) else ()
    return any(script.name_of(base).startswith("argparse.") for base in bases)


def _parses_once(calls: list[ast.Call]) -> bool:
    """Whether `parse_args` is called once, and surely gets the whole command line."""
    parsing = [call for call in calls if getattr(call.func, "attr", "") == "parse_args"]
    return len(parsing) == 1 and not parsing[0].args and not parsing[0].keywords


def _is_handed_on(script: SyntaxTree) -> bool:
    """Whether anything but a function of this script may add arguments to its parser."""
    own = {node.name for node in script.nodes if isinstance(node, ast.FunctionDef)}
    parsers = set()
    for call in script.calls():
        if isinstance(call.func, ast.Attribute) and call.func.attr in _PARSER_METHODS:
            owner = call.func.value
            if _last_name(owner):
                parsers.add(_last_name(owner))
            elif _last_name(getattr(owner, "func", None)) not in {*own, *_PARSER_METHODS}:
                return True  # It is of an expression that may be anything.
    for call in script.calls():
        given = [*call.args, *(word.value for word in call.keywords)]
        if _last_name(call.func) not in own and any(_last_name(each) in parsers for each in given):
            return True
    return False


def _last_name(node: ast.AST | None) -> str:
    return str(getattr(node, "attr", getattr(node, "id", "")))


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
            default = number(next(iter(call.args[1:2]), keywords(call).get("default")))
            options[name] = Option(f"--{name}", lists=lists, default=default)
    return Signature(dialect, options)
