"""`hsm sweep --script` of scripts that read their arguments in any of the usual ways."""

from __future__ import annotations

import importlib.util
import json
from textwrap import dedent

import pytest

from helpers.cli import Project

#: What the sweep gives each script, and what the script is to read.
_SWEEP = [
    *("lr=0.1,1e-5", "batch_size=8", 'note="two words"', "momentum=-0.9"),
    *("fp16=true", "augment=false", "layers=[64,128]"),
]
_READ = {
    "lr": 1e-5,
    "batch_size": 8,
    "note": "two words",
    "momentum": -0.9,
    "fp16": True,
    "augment": False,
    "layers": [64, 128],
}
_SCRIPTS = {
    "argparse": """
        import argparse

        parser = argparse.ArgumentParser()
        parser.add_argument("--lr", type=float)
        parser.add_argument("--batch-size", type=int)
        parser.add_argument("--note")
        parser.add_argument("momentum", type=float)
        parser.add_argument("--fp16", action="store_true")
        parser.add_argument("--augment", action=argparse.BooleanOptionalAction)
        parser.add_argument("--layers", type=int, nargs="+")
        tell(vars(parser.parse_args()))
    """,
    "click": """
        import click

        @click.command()
        @click.option("--lr", type=float)
        @click.option("--batch-size", type=int)
        @click.option("--note")
        @click.argument("momentum", type=float)
        @click.option("--fp16", is_flag=True)
        @click.option("--augment/--no-augment", default=True)
        @click.option("--layers", type=int, multiple=True)
        def main(**read):
            tell(read)

        main()
    """,
    "typer": """
        from typing import List
        import typer

        def main(momentum: float, note: str = "", lr: float = 1.0, batch_size: int = 1,
                 fp16: bool = False, augment: bool = True, layers: List[int] = typer.Option([])):
            tell(locals())

        typer.run(main)
    """,
    "absl": """
        from absl import app, flags

        flags.DEFINE_float("lr", 1.0, "")
        flags.DEFINE_integer("batch_size", 1, "")
        flags.DEFINE_string("note", "", "")
        flags.DEFINE_float("momentum", 0.0, "")
        flags.DEFINE_bool("fp16", False, "")
        flags.DEFINE_bool("augment", True, "")
        flags.DEFINE_list("layers", [], "")

        def main(argv):
            read = {name: getattr(flags.FLAGS, name) for name in NAMES}
            tell({**read, "layers": [int(text) for text in read["layers"]]})

        app.run(main)
    """,
    "fire": """
        import fire

        def main(lr, batch_size, note, momentum, fp16=False, augment=True, layers=()):
            tell(locals())

        fire.Fire(main)
    """,
    "hydra": """
        import hydra
        from omegaconf import OmegaConf

        @hydra.main(version_base=None, config_path="conf", config_name="config")
        def main(config):
            tell(OmegaConf.to_container(config))

        main()
    """,
    "": """
        import sys
        from hydra.core.override_parser.overrides_parser import OverridesParser

        overrides = OverridesParser.create().parse_overrides(sys.argv[1:])
        read = {each.key_or_group: each.value() for each in overrides}
        tell({**read, "note": str(getattr(read["note"], "text", read["note"]))})
    """,
}
_TELL = f"""\
import json
from pathlib import Path

NAMES = {list(_READ)}

def tell(read):
    Path(__import__("os").environ["HSM_JOB_DIR"], "read.json").write_text(json.dumps(read))
"""


def _script(project: Project, text: str, name: str = "train.py") -> None:
    project.write(name, f"{_TELL}\n{dedent(text)}")


@pytest.mark.parametrize("library", _SCRIPTS)
def test_a_script_is_swept_whatever_reads_its_arguments(project: Project, library: str) -> None:
    if library and importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    _script(project, _SCRIPTS[library])
    config = {**dict.fromkeys(_READ, 0), "fp16": False, "augment": True, "layers": []}
    project.write("conf/config.yaml", json.dumps({**config, "note": ""}))
    ran = project.here("sweep", "--script", "train.py", "--sweep-id", "s", *_SWEEP)
    assert "2 jobs: 2 completed" in ran.out
    assert json.loads((project.folder / "outputs/s/1/read.json").read_text()) == _READ
    note = next((line for line in ran.out.splitlines() if "--args-style" in line), "")
    shown = {"": "", "hydra": "", "fire": "Fire"}.get(library, library)
    assert (f"train.py reads its arguments with {shown}: " in note) == bool(shown)


_ARGPARSE = "import argparse\nparser = argparse.ArgumentParser()\n"
_READS = f'{_ARGPARSE}parser.add_argument("--lr", type=float)\ntell(vars(parser.parse_args()))\n'


def test_a_dry_run_says_what_it_decided_and_shows_each_command(project: Project) -> None:
    project.write("train.py", _READS)
    ran = project.here("sweep", "--script", "train.py", "lr=0.1,0.2", "--dry-run")
    assert ran.err == (
        "hsm: train.py reads its arguments with argparse: they are sent as --lr 0.1 "
        "(--args-style changes that)\n"
    )
    assert [line.partition("train.py ")[2] for line in ran.out.splitlines()] == [
        "--lr 0.1",
        "--lr 0.2",
    ]
    quiet = project.here("sweep", "--script", "train.py", "lr=0.1", "--dry-run", "--json")
    assert quiet.err == ""
    assert quiet.json["command"][-2:] == ["--lr", "0.1"]


@pytest.mark.parametrize(
    ("style", "words"),
    [
        ("hydra", ["lr=0.1"]),
        ("flags", ["--lr", "0.1"]),
        ("flags-equals", ["--lr=0.1"]),
        ("none", []),
    ],
)
def test_a_style_may_be_given_on_the_line_and_in_hsm_yaml(
    project: Project, style: str, words: list[str]
) -> None:
    project.write("train.py", _READS)
    sweep = ("sweep", "lr=0.1", "--dry-run", "--json")
    ran = project.here(*sweep, "--script", "train.py", "--args-style", style)
    assert ran.json["command"][3:] == words
    project.write("hsm.yaml", f"script: train.py\nargs_style: {style}\n")
    assert project.here(*sweep).json["command"][3:] == words
    assert project.here("config", "--json").json["args_style"] == style
    # It belongs to that script: one that the line names is read anew.
    project.write("other.py", _READS)
    assert project.here(*sweep, "--script", "other.py").json["command"][3:] == ["--lr", "0.1"]


def test_args_in_a_command_stand_for_the_parameters_that_it_does_not_name(project: Project) -> None:
    text = (
        _ARGPARSE
        + """
        fit = parser.add_subparsers(dest="command").add_parser("fit")
        fit.add_argument("--batch-size", type=int)
        fit.add_argument("--fast", action="store_true")
        fit.add_argument("--out")
        tell(vars(parser.parse_args()))
    """.replace("\n        ", "\n")
    )
    _script(project, text)
    line = ["x=1,2", "batch_size=8", "fast=true", "--sweep-id", "s", "--"]
    command = ["python", "train.py", "fit", "{args}", "--out", "{x}-{job_dir}"]
    ran = project.here("sweep", *line, *command)
    assert "train.py reads its arguments with argparse" in ran.out
    folder = project.folder / "outputs/s/1"
    assert json.loads((folder / "read.json").read_text()) == {
        "command": "fit",
        "batch_size": 8,
        "fast": True,
        "out": f"2-{folder}",
    }


def test_args_in_a_command_without_a_script_are_as_hydra_writes_them(project: Project) -> None:
    for line, words in [
        (["x=1", "y=true"], ["x=1", "y=true"]),
        (["x=1", "y=true", "--args-style", "flags"], ["--x", "1", "--y"]),
        (["x=1", "args=word"], ["word"]),  # a parameter of that name
    ]:
        ran = project.here("sweep", *line, "--dry-run", "--json", "--", "echo", "{args}")
        assert ran.json["command"] == ["echo", *words]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("--script train.py lr=1 --args-style flag", "--args-style must be auto, hydra, flags, "),
        ("--script train.py lrr=1", "train.py has no option --lrr; did you mean lr?"),
        ("--script train.py depth=1 lr=2", "train.py has no option --depth; it has --lr, --fp16"),
        ("--script train.py fp16=7", "fp16 must be true or false, not 7; --fp16 takes no value"),
        ("--script train.py ~lr", "~lr would delete a key of a Hydra config"),
        ("lr=1 -- echo x={args}", "{args} must be a word of its own, not 'x={args}'"),
        ("lr=1 -- {args}", "{args} stands where the program must be"),
        ("lr=1 depth=1 -- python train.py {args} {lr}", "train.py has no option --depth"),
        ("lr=1 --args-style flags -- echo {lr}", "args_style goes with a script, or with"),
    ],
)
def test_what_no_job_could_take_is_refused_before_any_starts(
    project: Project, line: str, error: str
) -> None:
    text = _READS.replace("tell", 'parser.add_argument("--fp16", action="store_true")\ntell')
    project.write("train.py", text)
    assert error in project.refused("sweep", *line.split())


def test_a_script_that_refuses_its_arguments_in_the_first_job_stops_the_sweep(
    project: Project,
) -> None:
    _script(project, _READS)
    sweep = ("sweep", "--script", "train.py", "--parallel-jobs", "1", "--sweep-id", "s")
    ran = project.here(*sweep, "lr=1,2,3", "--args-style", "hydra", "--max-retries", "2", code=1)
    assert project.states("s") == ["FAILED", "CANCELLED", "CANCELLED"]
    said = "train.py: error: unrecognized arguments: lr=1"
    [line] = [line for line in ran.out.splitlines() if "so the sweep stops" in line]
    assert line == (
        f"train.py refused its arguments, so the sweep stops: {said} (sent: ./train.py lr=1); "
        "try --args-style flags"
    )
    jobs = project.sweep("s").jobs
    assert len(jobs[0].attempts) == 1  # A retry would be refused, too.
    assert jobs[0].ending() == f"refused its arguments: {said}"
    assert said in jobs[2].ending()


@pytest.mark.slow
def test_a_value_that_is_refused_and_a_failure_with_exit_code_2_stop_nothing(
    project: Project,
) -> None:
    _script(project, _READS)
    sweep = ("sweep", "--script", "train.py", "--parallel-jobs", "1", "--sweep-id")
    project.here(*sweep, "value", "lr=soon,2", code=1)
    assert project.states("value") == ["FAILED", "COMPLETED"]
    project.write("train.py", "import sys\nsys.exit(sys.argv[1:] == ['lr=1'] and 2)\n")
    project.here(*sweep, "code", "lr=1,2", code=1)
    assert project.states("code") == ["FAILED", "COMPLETED"]


def test_jobs_with_other_parameters_go_on_when_one_is_refused(project: Project) -> None:
    needed = _READS.replace("tell", 'parser.add_argument("--seed", required=True)\ntell')
    _script(project, needed)
    project.write("sweep.yaml", "sweep: {jobs: [{lr: 1}, {lr: 1, seed: 2}]}")
    line = ("--script", "train.py", "--config", "sweep.yaml", "--parallel-jobs", "1")
    project.here("sweep", *line, "--sweep-id", "s", code=1)
    assert project.states("s") == ["FAILED", "COMPLETED"]


@pytest.mark.slow
def test_a_sweep_is_resumed_in_the_style_that_it_began_with(project: Project) -> None:
    fails_once = """
        if __import__("os").environ["HSM_ATTEMPT"] == "1":
            raise SystemExit(1)
    """
    _script(project, f"{_READS}{dedent(fails_once)}")
    project.here("sweep", "--script", "train.py", "lr=1", "--sweep-id", "s", code=1)
    changed = project.here("sweep", "--resume", "s", "--args-style", "none", code=2)
    assert "would now run the script train.py with arguments in the style none" in changed.err
    ran = project.here("sweep", "--resume", "s")
    assert "1 job: 1 completed" in ran.out
    assert json.loads((project.folder / "outputs/s/0/read.json").read_text()) == {"lr": 1.0}


@pytest.mark.slow
def test_a_sweep_of_an_older_hsm_is_resumed_as_hydra_writes_arguments(project: Project) -> None:
    project.write("train.py", "import argparse, sys\nargparse.ArgumentParser()\nprint(*sys.argv)\n")
    style = ("--args-style", "hydra")
    project.here("sweep", "--script", "train.py", "lr=1", "--sweep-id", "s", *style)
    journal = project.sweep("s").paths.journal
    text = journal.read_text()
    assert ',"args_style":"hydra"' in text
    journal.write_text(text.replace(',"args_style":"hydra"', ""))
    ran = project.here("sweep", "--resume", "s", "--rerun", "all")
    assert "1 job: 1 completed" in ran.out
    assert project.sweep("s").paths.stdout(0).read_text().count("train.py lr=1\n") == 2


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("script: train.py\nargs_style: flag\n", "args_style in …, line 2 must be auto, hydra, "),
        ("args_style: flags\n", "args_style in …, line 1 stands alone"),
        ("command: echo {lr}\nargs_style: flags\n", "args_style goes with a script, or with"),
    ],
)
def test_an_hsm_yaml_with_a_wrong_style_is_refused(project: Project, text: str, error: str) -> None:
    project.write("train.py", _READS)
    path = project.write("hsm.yaml", text)
    assert error in project.refused("sweep", "lr=1").replace(str(path), "…")
