"""How a script reads its arguments, as its source tells, and what is then sent to it."""

from __future__ import annotations

import argparse
import io
import math
from contextlib import redirect_stderr
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helpers.sweeps import PROFILE
from hsm.core.errors import SettingsError
from hsm.core.program.argument_writer import ArgumentWriter, writer_for
from hsm.core.program.program import find_program
from hsm.core.settings.args_style import ArgsStyle

_PARSER = "import argparse\nparser = argparse.ArgumentParser()\n"
_PARSE = "print(parser.parse_args())\n"
_CONFIG = f"{_PARSER}parser.add_argument('--config')\n"
_ABSL = ("flags-equals", "absl")


def writer(text: str, style: str = "auto", name: str = "train.py") -> ArgumentWriter:
    Path(name).write_text(dedent(text), encoding="utf-8")
    return writer_for(name, ArgsStyle(style))


def words(text: str, params: dict[str, Any], style: str = "auto") -> list[str]:
    return writer(text, style).words(params, "/job")


def argparse_words(declared: str, params: dict[str, Any], made: str = "") -> list[str]:
    parser = f"import argparse\nparser = argparse.ArgumentParser({made})\n"
    return words(f"{parser}parser.add_argument({declared})\n{_PARSE}", params)


# --- which library -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "style", "library"),
    [
        ("import argparse\nargparse.ArgumentParser()", "flags", "argparse"),
        ("import argparse as ap\np = ap.ArgumentParser()", "flags", "argparse"),
        ("from argparse import ArgumentParser as P\nP()", "flags", "argparse"),
        ("def main():\n    import argparse\n    argparse.ArgumentParser()", "flags", "argparse"),
        ("import argparse\nclass P(argparse.ArgumentParser): ...", "flags", "argparse"),
        ("import optparse\noptparse.OptionParser()", "flags", "optparse"),
        ("import click\n@click.command()\ndef f(): ...", "flags", "click"),
        ("from click import group\n@group()\ndef f(): ...", "flags", "click"),
        ("import rich_click as click\n@click.command()\ndef f(): ...", "flags", "click"),
        ("import typer\ntyper.run(print)", "flags", "typer"),
        ("import fire\nfire.Fire(print)", "flags-equals", "Fire"),
        ("from fire import Fire\nFire()", "flags-equals", "Fire"),
        ("from absl import app\napp.run(print)", *_ABSL),
        ("import absl.flags as f\nf.DEFINE_string('x', '', '')", *_ABSL),
        ("import tyro\ntyro.cli(print)", "flags", "tyro"),
        ("from jsonargparse import CLI\nCLI()", "flags", "jsonargparse"),
        ("from lightning.pytorch.cli import LightningCLI\nLightningCLI()", "flags", "LightningCLI"),
        ("import pyrallis\n@pyrallis.wrap()\ndef f(): ...", "flags", "pyrallis"),
        ("from transformers import HfArgumentParser as P\nP(())", "flags", "HfArgumentParser"),
        ("from tap import Tap\nclass A(Tap): ...", "flags", "Tap"),
        ("from docopt import docopt\ndocopt(__doc__)", "flags-equals", "docopt"),
        # Several: the one that gets the command line first.
        ("import argparse, hydra\nargparse.ArgumentParser()\nhydra.main()", "hydra", ""),
        ("import argparse, fire\nargparse.ArgumentParser()\nfire.Fire()", "flags-equals", "Fire"),
        ("import argparse\nfrom absl import app\napp.run(argparse.ArgumentParser)", *_ABSL),
        # None that is known.
        ("import sys\nprint(sys.argv)", "hydra", ""),
        ("import json, os\njson.loads(os.environ['HSM_PARAMS'])", "hydra", ""),
        ("from omegaconf import OmegaConf\nOmegaConf.from_cli()", "hydra", ""),
        ("import argparse\nargparse.Namespace()", "hydra", "?"),
        ("# import argparse; argparse.ArgumentParser()", "hydra", "?"),
        ("import mine\nmine.ArgumentParser()", "hydra", "?"),
        ("import argparse\nargparse.ArgumentParser(", "hydra", "?"),
    ],
)  # fmt: skip
def test_the_source_shows_what_reads_the_arguments(text: str, style: str, library: str) -> None:
    found = writer(text)
    assert found.style == style
    if library == "?":
        assert found.note.startswith("nothing in train.py shows how it reads arguments: ")
    elif not library:
        assert found.note == ""
    else:
        assert found.note.startswith(f"train.py reads its arguments with {library}: ")
    assert writer(text, "flags").note == ""


def test_a_parser_in_a_module_beside_the_script_counts() -> None:
    Path("tools").mkdir()
    parser = f'{_PARSER}parser.add_argument("--batch-size")\n'
    Path("tools/cli.py").write_text(parser)
    for line in ("from tools.cli import main", "from tools import cli", "import tools.cli"):
        assert words(line, {"batch_size": 1}) == ["--batch-size", "1"]
    # What the script does itself comes first, and what a module does as a script not at all.
    assert words("import sys, tools.cli\nsys.argv", {"x": 1}) == ["x=1"]
    Path("tools/cli.py").write_text(
        f"if __name__ == '__main__':\n    {parser.splitlines()[0]}\n    argparse.ArgumentParser()\n"
    )
    assert words("import tools.cli", {"x": 1}) == ["x=1"]


def test_options_that_a_module_adds_are_known() -> None:
    Path("extra.py").write_text(
        'def add(p):\n    p.add_argument("--use-it", action="store_true")\n'
    )
    text = f"import extra\n{_PARSER}extra.add(parser)\n{_PARSE}"
    assert words(text, {"use_it": True}) == ["--use-it"]
    assert words(text, {"other": 1}) == ["--other", "1"]


def test_what_is_no_python_script_gets_what_it_got_before() -> None:
    Path("run.sh").write_text("#!/bin/sh\n# import argparse; argparse.ArgumentParser()\n")
    assert writer_for("run.sh", ArgsStyle.auto) == ArgumentWriter()
    assert writer_for(None, ArgsStyle.auto) == ArgumentWriter()
    text = f"#!/usr/bin/env python3\n{_PARSER}"
    assert writer(text, name="train").style is ArgsStyle.flags


# --- what is sent ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "params", "sent"),
    [
        ("'--lr'", {"lr": 0.1}, "--lr 0.1"),
        ("'--lr'", {"lr": -1e-5}, "--lr=-1e-05"),
        ("'--lr'", {"lr": None}, ""),
        ("'--lr'", {"+lr": 1}, "--lr 1"),
        ("'-l', '--lr'", {"l": 1}, "-l 1"),
        ("'-l', '--lr', dest='rate'", {"rate": 1}, "--lr 1"),
        ("'--batch-size'", {"batch_size": 1}, "--batch-size 1"),
        ("'--batch_size'", {"batch-size": 1}, "--batch_size 1"),
        ("'--batch_size', '--batch-size'", {"batch-size": 1}, "--batch-size 1"),
        ("'--model.depth'", {"model.depth": 1}, "--model.depth 1"),
        ("'--x', action='store_true'", {"x": True}, "--x"),
        ("'--x', action='store_true'", {"x": False}, ""),
        ("'--x', action='store_true'", {"x": 1}, "--x"),
        ("'--x', action=argparse.BooleanOptionalAction", {"x": False}, "--no-x"),
        ("'--no-x', action='store_false', dest='x'", {"x": False}, "--no-x"),
        ("'--no-x', action='store_false', dest='x'", {"x": True}, ""),
        ("'--no-x', action='store_false', dest='x'", {"no_x": True}, "--no-x"),
        ("'--x', action='store_false'", {"x": True}, ""),
        ("'--x', action='store_const', const=3", {"x": True}, "--x"),
        ("'--x', type=bool", {"x": True}, "--x True"),
        ("'--x', type=bool", {"x": False}, "--x |"),  # bool("False") is true
        ("'--x', type=int", {"x": False}, "--x 0"),
        ("'--x', type=str2bool", {"x": False}, "--x False"),
        ("'--x', choices=['true', 'false']", {"x": False}, "--x false"),
        ("'-v', '--verbose', action='count'", {"v": 3}, "-v -v -v"),
        ("'--x', nargs='+'", {"x": [1, 2]}, "--x 1 2"),
        ("'--x', nargs='+'", {"x": 1}, "--x 1"),
        ("'--x', nargs=2", {"x": (-1.0, -1e-5)}, "--x -1.0 -0.00001"),
        ("'--x', action='append'", {"x": [1, 2]}, "--x 1 --x 2"),
        ("'--x', type=json.loads", {"x": [1, None]}, "--x [1, null]|"),
        ("'--x', type=words", {"x": ["a b", 2]}, "--x a b,2|"),
        ("'--x', type=json.loads", {"x": {"a": [True]}}, '--x {"a": [true]}|'),
        ("'data'", {"data": "a b"}, "a b|"),
        ("'data'", {"data": -1}, "-- -1"),
        ("'data', nargs='*'", {"data": [1, 2]}, "1 2"),
    ],
)  # fmt: skip
def test_argparse_gets_what_its_script_declares(
    declared: str, params: dict[str, Any], sent: str
) -> None:
    head, bar, tail = sent.partition(" ") if sent.endswith("|") else ("", "", "")
    expected = sent.split()
    if sent == "a b|":
        expected = ["a b"]
    elif bar:
        expected = [head, tail.removesuffix("|")]
    assert argparse_words(declared, params) == expected


def test_positional_arguments_come_in_the_order_of_the_script() -> None:
    text = f"""{_PARSER}
parser.add_argument("data")
parser.add_argument("--layers", nargs="+")
parser.add_argument("lr")
"""
    params = {"lr": 0.1, "layers": [1, 2], "data": "x"}
    assert words(text, params) == ["x", "0.1", "--layers", "1", "2"]
    assert words(text, {**params, "lr": -1}) == ["--layers", "1", "2", "--", "x", "-1"]
    with pytest.raises(SettingsError, match="lr comes after data on the command line"):
        words(text, {"lr": 0.1})


@pytest.mark.parametrize(
    ("made", "declared", "params", "error"),
    [
        ("", "'--x', nargs='+'", {"x": ["a", "-b"]}, "'-b' would be taken for an option"),
        ("", "'--x', nargs='+'", {"x": [-math.inf]}, "'-inf' would be taken for an option"),
        ("fromfile_prefix_chars='@'", "'x'", {"x": "@a"}, "'@a' would be read as a file"),
        ("", "'--x', action='store_true'", {"x": "yes"}, "x must be true or false, not 'yes'"),
        ("", "'--x'", {"x": "\0"}, "no argument can hold a NUL character"),
        ("", "'--x'", {"x": "\ud800"}, "it has no form as UTF-8"),
        ("", "'--x'", {"x": object()}, "not JSON serializable"),
        ("", "'--x'", {"y": 1}, "train.py has no option --y; it has --x"),
    ],
)
def test_what_argparse_could_not_read_is_refused(
    made: str, declared: str, params: dict[str, Any], error: str
) -> None:
    with pytest.raises(SettingsError, match=error):
        argparse_words(declared, params, made)
    sent = argparse_words("'--x'", {"x": "@a"}, "fromfile_prefix_chars='@'")
    assert sent == ["--x=@a"]


def _indented(text: str) -> str:
    return text.strip().replace("\n", "\n    ")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("parse_args", "parse_known_args"),
        lambda text: text.replace("parse_args()", "parse_args(sys.argv[2:])"),
        lambda text: text.replace("parse_args()", "parse_args([])"),
        lambda text: text.replace("ArgumentParser()", "ArgumentParser(parents=[other])"),
        lambda text: text.replace("'--lr'", "name"),
        lambda text: text.replace("print", "parser.add_subparsers()\nprint"),
        lambda text: text.replace("print", "elsewhere.add(parser)\nprint"),
        lambda text: text.replace("print", "parser.add_argument(*names)\nprint"),
        lambda text: text.replace("print", "other = argparse.ArgumentParser()\nprint"),
        lambda text: text.replace("print(parser", "print(elsewhere.add(parser)"),
        lambda text: text.replace("parser", "self.parser") + "elsewhere.add(self.parser)\n",
        lambda text: f"def make():\n    {_indented(text)}\np = make()\nadd(p)\np.set_defaults()",
        lambda text: f"# HSM_PARAMS\n{text}",
        lambda text: f"{text}class Mine(argparse.Action): ...\n",
    ],
)
def test_an_unknown_option_is_sent_unless_the_script_surely_lacks_it(change: Any) -> None:
    text = f"{_PARSER}parser.add_argument('--lr')\n{_PARSE}"
    with pytest.raises(SettingsError, match="has no option --depth"):
        words(text, {"depth": 1})
    assert words(text, {"l": 1}) == ["--l", "1"]  # argparse takes the beginning of a name
    assert words(change(text), {"depth": 1}) == ["--depth", "1"]


def test_functions_of_the_script_may_make_the_parser_and_add_options() -> None:
    made = _indented(f"{_PARSER}parser.add_argument('--lr')\nreturn parser")
    for text in (
        f"def add(p):\n    p.add_argument('--lr')\n{_PARSER}add(parser)\n{_PARSE}",
        f"def make():\n    {made}\nprint(make().parse_args())",
        f"def make():\n    {made}\nparser = make()\nparser.add_argument('--x')\n{_PARSE}",
    ):
        with pytest.raises(SettingsError, match="has no option --depth"):
            words(text, {"depth": 1})
        assert words(text, {"lr": 1}) == ["--lr", "1"]


@pytest.mark.parametrize(
    "text",
    [
        f"{_CONFIG}parser.add_argument('overrides', nargs='*')\n{_PARSE}",
        f"{_CONFIG}parser.add_argument('overrides', nargs=argparse.REMAINDER)\n{_PARSE}",
        f"{_CONFIG}from omegaconf import OmegaConf\n"
        "known, rest = parser.parse_known_args()\nOmegaConf.from_dotlist(rest)\n",
        "import click\n@click.command()\n@click.option('--config')\n"
        "@click.argument('overrides', nargs=-1)\ndef main(): ...",
    ],
)  # fmt: skip
def test_overrides_beside_options_stay_overrides(text: str) -> None:
    params = {"config": "a b", "lr": 0.1, "note": "c d"}
    assert words(text, params) == ["lr=0.1", "note='c d'", "--config", "a b"]


@pytest.mark.parametrize(
    ("text", "params", "sent"),
    [
        ("@click.option('--batch-size', '-b', 'size')", {"size": 1}, ["--batch-size", "1"]),
        ("@click.option('--batch-size', '-b', 'size')", {"batch_size": 1}, ["--batch-size", "1"]),
        ("@click.option('--batch-size', '-b', 'size')", {"b": -1}, ["-b", "-1"]),
        ("@click.option('--x/--no-x')", {"x": False}, ["--no-x"]),
        ("@click.option('--x/-X')", {"x": False}, ["-X"]),
        ("@click.option('--x', ' /--hide')", {"x": False}, ["--hide"]),
        ("@click.option('--x', is_flag=True)", {"x": False}, []),
        ("@click.option('--x', type=bool)", {"x": False}, ["--x", "False"]),
        ("@click.option('--x', multiple=True)", {"x": [1, "a b"]}, ["--x", "1", "--x", "a b"]),
        ("@click.option('--x', nargs=2)", {"x": [1, 2]}, ["--x", "1", "2"]),
        ("@click.option('-v', count=True)", {"v": 2}, ["-v", "-v"]),
        ("@click.argument('data-file')", {"data_file": "x"}, ["x"]),
        ("", {"not_found": True}, ["--not-found"]),
    ],
)
def test_click_gets_what_its_script_declares(
    text: str, params: dict[str, Any], sent: list[str]
) -> None:
    assert words(f"import click\n{text}\n@click.command()\ndef main(): ...", params) == sent


@pytest.mark.parametrize(
    ("declared", "params", "sent"),
    [
        ("batch_size: int = 1", {"batch_size": 2}, ["--batch-size", "2"]),
        ("batch_size: int", {"batch_size": 2}, ["2"]),
        ("x: Annotated[int, typer.Option()]", {"x": 2}, ["--x", "2"]),
        ("x: Annotated[int, typer.Option('--rate', '-r')] = 1", {"x": 2}, ["--rate", "2"]),
        ("x: int = typer.Option(1, '--rate')", {"rate": 2}, ["--rate", "2"]),
        ("x: int = typer.Argument(1)", {"x": 2}, ["2"]),
        ("x_y: bool = False", {"x_y": False}, ["--no-x-y"]),
        ("x: 'bool | None' = None", {"x": 2}, ["--x", "2"]),
        ("x: Optional[bool] = None", {"x": False}, ["--no-x"]),
        ("x: Annotated[bool, typer.Option('--force')] = False", {"x": True}, ["--force"]),
        ("x: Annotated[bool, typer.Option('--force')] = False", {"x": False}, []),
        ("x: bool = typer.Option(True, '--on/--off')", {"x": False}, ["--off"]),
        ("x: list[int] = []", {"x": [1, 2]}, ["--x", "1", "--x", "2"]),
        ("x: tuple[int, int] = (1, 2)", {"x": [1, 2]}, ["--x", "1", "2"]),
        ("x: List[int]", {"x": [1, 2]}, ["1", "2"]),
        ("x: int = typer.Option(0, '-v', count=True)", {"v": 2}, ["-v", "-v"]),
        ("ctx: typer.Context, *, x: int = 1", {"x": 2}, ["--x", "2"]),
    ],
)
def test_typer_gets_what_its_script_declares(
    declared: str, params: dict[str, Any], sent: list[str]
) -> None:
    assert words(f"import typer\ndef main({declared}): ...\ntyper.run(main)", params) == sent
    app = f"import typer\napp = typer.Typer()\n@app.command()\ndef main({declared}): ..."
    assert words(app, params) == sent


@pytest.mark.parametrize(
    ("declared", "params", "sent"),
    [
        ("DEFINE_float('lr', 1, '')", {"lr": -0.1}, ["--lr=-0.1"]),
        ("DEFINE_bool('x', True, '')", {"x": False}, ["--nox"]),
        ("DEFINE_boolean('x', True, '')", {"x": True}, ["--x"]),
        ("DEFINE_list('x', [], '')", {"x": ["a,b", "c"]}, ['--x="a,b",c']),
        ("DEFINE_spaceseplist('x', [], '')", {"x": [1, 2]}, ["--x=1 2"]),
        ("DEFINE_multi_integer('x', [], '')", {"x": [1, 2]}, ["--x=1", "--x=2"]),
        ("DEFINE_float(name='lr', default=1, help='')", {"lr": 1}, ["--lr=1"]),
        ("DEFINE_float('lr', 1, '')", {"elsewhere": False}, ["--elsewhere=False"]),
    ],
)
def test_absl_gets_what_its_script_declares(
    declared: str, params: dict[str, Any], sent: list[str]
) -> None:
    assert words(f"from absl import flags\nflags.{declared}", params) == sent


def test_tap_gets_the_flag_that_changes_a_boolean() -> None:
    text = "from tap import Tap\nclass Args(Tap):\n    x: bool = False\n    y: bool = True\n"
    assert words(text, {"x": True, "y": True, "lr": 1}) == ["--x", "--lr", "1"]
    assert words(text, {"x": False, "y": False}) == ["--y"]


@pytest.mark.parametrize(
    ("style", "sent"),
    [
        ("hydra", "x_y=1 on=true off=false l=[1,2]"),
        ("flags", "--x_y 1 --on --l 1 2"),
        ("flags-equals", "--x_y=1 --on=True --off=False --l=1,2"),
        ("none", ""),
    ],
)
def test_a_style_suits_what_nothing_is_known_of(style: str, sent: str) -> None:
    params = {"x_y": 1, "on": True, "off": False, "l": [1, 2]}
    assert writer_for(None, ArgsStyle(style)).words(params, "/job") == sent.split()


_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@settings(PROFILE, max_examples=30)
@given(
    _TEXTS,
    st.floats(allow_nan=False),
    st.booleans(),
    st.lists(st.floats(allow_nan=False, min_value=-1e300), max_size=3),
)
@example("-x", -1e-5, True, [-1e-5, -2.0])
@example("--lr=3", -1e300, False, [])
def test_argparse_reads_back_any_value(
    text: str, number: float, on: bool, numbers: list[float]
) -> None:
    source = f"""{_PARSER}
parser.add_argument("first", type=float)
parser.add_argument("--text")
parser.add_argument("--on", action=argparse.BooleanOptionalAction)
parser.add_argument("--numbers", nargs="*", type=float)
"""
    names: dict[str, Any] = {}
    exec(source, names)
    params = {"numbers": numbers, "text": text, "on": on, "first": number}
    for style in ("flags", "flags-equals"):
        read = names["parser"].parse_args(words(source, params, style))
        assert vars(read) == params


@settings(PROFILE, max_examples=60)
@given(
    st.recursive(
        _TEXTS | st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner) | st.dictionaries(_TEXTS, inner),
        max_leaves=5,
    )
)
@example("None")
@example("a # b")
@example(" a")
@example("1e-3")
def test_fire_reads_back_any_value(value: Any) -> None:
    parser = pytest.importorskip("fire.parser")
    [word] = words("import fire\nfire.Fire()", {"x": value})
    name, _, text = word.partition("=")
    assert name == "--x"
    assert parser.DefaultParseValue(text) == value


def test_a_hydra_app_gets_its_directory_only_in_its_own_style() -> None:
    text = "import hydra\n@hydra.main()\ndef f(c): ..."
    assert words(text, {"x": 1}) == ["x=1", "hydra.run.dir=/job"]
    assert words(text, {"x": 1}, "flags") == ["--x", "1"]
    program = find_program(command="python train.py {args} extra")
    assert program.command_for({"x": 1}, "/job") == (
        *("python", "train.py", "x=1", "hydra.run.dir=/job", "extra"),
    )


def test_a_command_goes_by_its_first_script_or_by_its_module() -> None:
    for path in ("train.py", "tools/fit.py", "pack/__main__.py"):
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text(_PARSER)
    for words_of, sent in (
        ("nice python -u train.py other.py {args}", "--x 1"),
        ("python -m tools.fit {args}", "--x 1"),
        ("python -m pack {args}", "--x 1"),
        ("python -m json.tool {args}", "x=1"),
        ("python gone.py {args}", "x=1"),
    ):
        found = find_program(command=words_of).command_for({"x": 1}, "/job")
        assert found == tuple(words_of.replace("{args}", sent).split())


def test_styles_that_argparse_refuses_are_those_that_are_not_chosen() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr")
    with redirect_stderr(io.StringIO()), pytest.raises(SystemExit):
        parser.parse_args(words(f"{_PARSER}{_PARSE}", {"lr": 1}, "hydra"))
