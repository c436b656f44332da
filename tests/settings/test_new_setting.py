"""A new setting is one field: all else follows from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from helpers.processes import SOURCE
from helpers.settings import write

#: Gives the settings one more, as somebody would who edits fields.py, before anything reads them.
_WITH_A_NEW_SETTING = """\
from dataclasses import dataclass

from hsm.core.settings import fields
from hsm.core.settings.kinds import Seconds


@dataclass
class LocalConf(fields.LocalConf):
    patience: float = fields.setting(
        30.0, Seconds(at_least=0), "Longest wait for a slow disk.", group=fields.Group.machine
    )


fields.LocalConf = LocalConf
"""
_HSM = _WITH_A_NEW_SETTING + "from hsm.cli.main import main\nmain()\n"
_APP = f"""\
{_WITH_A_NEW_SETTING}
import hydra


@hydra.main(version_base=None, config_path=None)
def app(cfg):
    pass


app()
"""


def _python(
    program: str, *arguments: str, code: int = 0, environ: Mapping[str, str] = MappingProxyType({})
) -> str:
    """What a program prints."""
    path = write("program.py", program)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(path), *arguments],
        env={**os.environ, "PYTHONPATH": str(SOURCE), "COLUMNS": "80", **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def test_it_stands_in_the_help_in_its_section() -> None:
    section = _python(_HSM, "sweep", "--help").partition("\nThis machine:\n")[2]
    lines = section.partition("\n\n")[0].splitlines()
    assert "  --patience TIME           Longest wait for a slow disk. [30]" in lines


def test_it_has_a_flag_that_the_sweep_records() -> None:
    sweep = ("sweep", "x=1", "--sweep-id", "s", "--progress", "none")
    _python(_HSM, *sweep, "--patience", "2m", "--", "true")
    first = Path("outputs/s/.hsm/journal.jsonl").read_text().splitlines()[0]
    assert json.loads(first)["settings"]["patience"] == 120.0
    _python(_HSM, "sweep", "--resume", "s")
    again = Path("outputs/s/.hsm/journal.jsonl").read_text()
    resumed = [json.loads(line) for line in again.splitlines()]
    assert [each["settings"]["patience"] for each in resumed if "settings" in each] == [120.0] * 2


@pytest.mark.parametrize("source", ["built-in default", "environment", "hsm.yaml"])
def test_hsm_config_tells_it_from_every_source(source: str) -> None:
    environ = {"HSM_LOCAL_PATIENCE": "3"} if source != "built-in default" else {}
    if source == "hsm.yaml":
        write("hsm.yaml", "local: {patience: 4s}")
    told = json.loads(_python(_HSM, "config", "--json", environ=environ))["local"]["patience"]
    value = {"built-in default": 30.0, "environment": 3.0, "hsm.yaml": 4.0}[source]
    assert told["value"] == value
    assert source in told["from"]
    assert "local.patience " in _python(_HSM, "config", environ=environ)


def test_hsm_init_writes_it_as_a_comment() -> None:
    _python(_HSM, "init")
    assert "  # Longest wait for a slow disk.\n  # patience: 30\n" in Path("hsm.yaml").read_text()


def test_it_is_checked_in_every_source() -> None:
    must = "must be a number of seconds of at least 0 and at most 1e9 (or 90s, 30m, 2h, 1d)"
    flag = _python(_HSM, "sweep", "x=1", "--patience", "-1", "--", "true", code=2)
    assert flag == f"hsm: --patience {must}, not -1\n"
    variable = _python(_HSM, "config", code=2, environ={"HSM_LOCAL_PATIENCE": "soon"})
    assert variable == f"hsm: environment variable HSM_LOCAL_PATIENCE {must}, not 'soon'\n"
    near = _python(_HSM, "config", code=2, environ={"HSM_LOCAL_PATIENC": "1"})
    assert near.endswith("HSM_LOCAL_PATIENC; did you mean HSM_LOCAL_PATIENCE?\n")
    path = write("hsm.yaml", "local:\n  patience: -1\n")
    in_file = _python(_HSM, "config", code=2)
    assert in_file == f"hsm: local.patience in {path}, line 2 {must}, not -1\n"


@pytest.mark.slow
def test_hydras_config_has_it_with_its_kind() -> None:
    show = ("--cfg", "hydra", "-p", "hydra.launcher", "--resolve", "hydra/launcher=hsm_local")
    assert "patience: 30.0\n" in _python(_APP, *show)
    assert "patience: 3.0\n" in _python(_APP, *show, environ={"HSM_LOCAL_PATIENCE": "3s"})
    assert "patience: 2h\n" in _python(_APP, *show, "hydra.launcher.patience=2h")
    launch = ("-m", "hydra/launcher=hsm_local", "hydra.launcher.patience=-1", "+x=1")
    assert "hydra.launcher.patience must be a number of seconds" in _python(_APP, *launch, code=1)
