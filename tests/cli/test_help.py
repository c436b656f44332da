"""`hsm --help` is quick and complete, and the shell completes what is typed."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

import hsm
from helpers.cli import Project
from helpers.processes import SOURCE
from hsm import __version__
from hsm.cli._commands import COMMANDS
from hsm.cli._complete import sweep_ids
from hsm.cli.main import run
from hsm.core.record.journal import Journal
from hsm.core.record.paths import SweepPaths
from hsm.core.record.registry import register
from hsm.core.settings.resolve import SETTINGS, Group

pytestmark = pytest.mark.thorough

#: What is not needed to show help, or to start: each takes 20 ms and more.
_HEAVY = (
    "rich",
    "hydra",
    "omegaconf",
    "yaml",
    "psutil",
    "cloudpickle",
    "hsm.core.local",
    "difflib",
)
_PROBE = """\
import sys
from hsm.cli.main import run
before = set(sys.modules)
assert run(sys.argv[1:]) == 0
print(*sorted(sys.modules), file=sys.stderr)
"""


def _loaded(*arguments: str) -> set[str]:
    """The modules that a command line loads, those that typer needs by itself left out."""
    env = {**os.environ, "PYTHONPATH": str(SOURCE)}

    def modules(code: str) -> set[str]:
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        return set(done.stderr.split())

    return modules(_PROBE) - modules("import sys, typer; print(*sys.modules, file=sys.stderr)")


def test_help_loads_no_more_than_it_needs() -> None:
    loaded = _loaded("--help")
    assert not loaded & {
        *_HEAVY,
        "hsm.core.settings.resolve",
        *(f"hsm.cli.{m}" for m, _ in COMMANDS.values()),
    }


@pytest.mark.parametrize("command", ["sweep", "monitor", "cancel"])
def test_help_of_a_command_loads_no_more_than_it_needs(command: str) -> None:
    assert not _loaded(command, "--help") & {"hydra", "omegaconf", "cloudpickle", "rich"}


def test_help_lists_every_command(project: Project) -> None:
    out = project.here("--help").out
    for name, (_, line) in COMMANDS.items():
        assert f"  {name} " in out
        assert line in " ".join(out.split())
    assert project.here().out == out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(project: Project, command: str) -> None:
    ran = project.here(command, "--help")
    assert f"Usage: hsm {command}" in ran.out
    assert project.here(command, "-h").out == ran.out
    # No line of the help is longer than a terminal is wide.
    assert max(map(len, ran.out.splitlines())) <= 80


def test_every_setting_is_an_option(project: Project) -> None:
    out = project.here("sweep", "--help").out
    for setting in SETTINGS.values():
        assert setting.flag in out.replace("[no-]", "")


def _sections(project: Project) -> dict[str, str]:
    """The text of each section of the help of `hsm sweep`."""
    parts = re.split(r"^(\w.*):$", project.here("sweep", "--help").out, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_the_options_stand_in_sections(project: Project) -> None:
    sections = _sections(project)
    assert list(sections) == ["What runs", "Points", "Optimisation", *Group, "Other"]
    for setting in SETTINGS.values():
        found = [name for name, text in sections.items() if _has_option(text, setting.flag)]
        assert found == [setting.group]


def _has_option(section: str, flag: str) -> bool:
    return re.search(rf"^  {flag}\b(?!-)", section.replace("[no-]", ""), re.MULTILINE) is not None


def test_help_tells_where_else_settings_are_set(project: Project) -> None:
    out = " ".join(project.here("sweep", "-h").out.split())
    assert "hsm.yaml and HSM_LOCAL_* variables set them, too" in out


def test_resume_is_an_option_of_the_command_and_no_setting(project: Project) -> None:
    resume = _sections(project)["Resume"]
    assert resume.count("--resume") == 1
    assert "--resume SWEEP" in resume


def test_help_tells_the_exit_codes(project: Project) -> None:
    out = " ".join(project.here("--help").out.split())
    assert "130, 143 and 129 ended by Ctrl-C, SIGTERM and SIGHUP" in out


def test_version(project: Project) -> None:
    assert project.here("--version").out == f"hsm {__version__}\n"


def test_another_package_of_that_name_has_taken_a_part_of_this_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(hsm, "__version__")
    assert run(["list"]) == 2
    assert "another package named hsm was removed" in capsys.readouterr().err


def test_the_module_and_the_program_are_one(project: Project) -> None:
    assert project.hsm("--help").out == project.here("--help").out


# --- completion


def _complete(project: Project, line: str, shell: str) -> list[str]:
    """What `shell` offers at the end of `line`."""
    words = line.split(" ")
    variables = {"_HSM_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": line}
    if shell == "bash":
        variables |= {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    if shell == "fish":
        variables["_TYPER_COMPLETE_FISH_ACTION"] = "get-args"
    ran = project.hsm(code=None, **variables)
    assert ran.err == ""
    return ran.out.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_offers_commands_options_and_sweeps(project: Project, shell: str) -> None:
    project.here("sweep", "x=1,2", "--sweep-id", "mine-1", "--", "true")
    project.here("sweep", "x=1,2", "--sweep-id", "other", "--", "true")

    def offered(line: str) -> str:
        return "\n".join(_complete(project, line, shell))

    assert "collect-results" in offered("hsm ")
    assert "--parallel-jobs" in offered("hsm sweep --par")
    named = offered("hsm monitor mi")
    assert "mine-1" in named
    assert "other" not in named
    assert "last" in offered("hsm show la")
    if shell == "bash":
        assert "mine-1" in offered("hsm sweep --resume mi")
        assert "mine-1" in offered("hsm rm other mi")
        for line in ("cancel mine-1", "show mine-1", "logs mine-1", "rerun mine-1", "rerun 0"):
            assert offered(f"hsm {line} ").split() == ["0", "1"]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("hsm collect-results --format ", ["table", "csv", "json", "md", "parquet"]),
        ("hsm collect-results --only c", ["completed", "cancelled"]),
        ("hsm sweep --start-method ", ["auto", "fork", "spawn"]),
        ("hsm sweep --mode ", ["local"]),
        ("hsm sweep --progress ", ["auto", "rich", "plain", "none"]),
        ("hsm monitor --progress r", ["rich"]),
    ],
)
def test_completion_offers_the_values_of_an_option(
    project: Project, line: str, offered: list[str]
) -> None:
    assert _complete(project, line, "bash") == offered


def test_completion_finds_an_old_sweep_by_its_beginning(project: Project) -> None:
    for name in ("old-and-unique", *(f"new-{number}" for number in range(60))):
        directory = project.folder / name
        Journal(SweepPaths(directory), name, {}).close("finished")
        register(name, directory)
    assert sweep_ids("old") == ["old-and-unique"]
    assert len(sweep_ids("new")) == 50


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_can_be_shown_for_each_shell(project: Project, shell: str) -> None:
    ran = project.hsm(_HSM_COMPLETE=f"source_{shell}")
    assert "_HSM_COMPLETE" in ran.out


def test_completion_in_a_real_bash(project: Project) -> None:
    """The script that bash gets, asked as bash asks it."""
    project.here("sweep", "x=1", "--sweep-id", "mine-1", "--", "true")
    program = project.write(
        "bin/hsm", f"#!{sys.executable}\nfrom hsm.cli.main import main\nmain()\n"
    )
    program.chmod(0o755)
    script = project.hsm(_HSM_COMPLETE="source_bash").out
    ask = (
        f"{script}\nCOMP_WORDS=(hsm logs mi); COMP_CWORD=2\n"
        "_hsm_completion hsm mi logs; echo ${COMPREPLY[@]}"
    )
    env = {**os.environ, "PYTHONPATH": str(SOURCE)}
    env["PATH"] = f"{program.parent}{os.pathsep}{env['PATH']}"
    done = subprocess.run(
        ["bash", "-c", ask], env=env, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "mine-1\n", done.stderr
