"""`hsm init`: write hsm.yaml and a sweep file for the project in the current directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from textwrap import wrap

from hsm.cli._options import new_app
from hsm.cli._plan import SWEEP_FILES
from hsm.cli._printing import setting_text
from hsm.cli._stdout import say
from hsm.core.errors import HsmError
from hsm.core.program.hydra_script import uses_hydra_main
from hsm.core.settings.resolve import SETTINGS, Setting
from hsm.hydra_app.config_check import sweepable

app = new_app()

#: Where hsm.yaml is looked for in a project, first one first.
_HSM_YAML = ("hsm.yaml", "conf/hsm.yaml")
_USUAL_NAMES = ("train.py", "main.py", "run.py")
_FOLDERS = (".", "examples", "scripts", "src")
#: Settings that a new file sets; the others stand there as comments.
_WRITTEN = ("max_parallel_jobs", "timeout")


@app.command("init")
def init() -> None:
    """Write hsm.yaml and a sweep file for the project in this directory. Overwrites nothing.

    Both are commented. If there is a Hydra app here, the sweep file is made for its config.
    """
    script = _find_script()
    sweep_file = SWEEP_FILES[0] if os.path.isdir("conf") else SWEEP_FILES[1]
    written = [
        _write(_HSM_YAML, "hsm.yaml", _hsm_yaml(script)),
        _write(SWEEP_FILES, sweep_file, _sweep_yaml(script)),
    ]
    if any(written):
        say("next: hsm sweep --dry-run lists the jobs, hsm sweep runs them")
    if script is None:
        say("no script found here: put what your jobs run into hsm.yaml")


def _write(places: tuple[str, ...], name: str, text: str) -> bool:
    """Write a file unless there is one at any of the places. Raises HsmError."""
    there = next((place for place in places if os.path.lexists(place)), None)
    if there is not None:
        say(f"{there} is there already: left as it is")
        return False
    try:
        os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
        with open(name, "x", encoding="utf-8") as file, _removed_unless_whole(name):
            file.write(text)
            file.flush()
    except OSError as error:
        raise HsmError(f"cannot write {name}: {error.strerror}") from error
    say(f"wrote {name}")
    return True


@contextmanager
def _removed_unless_whole(name: str) -> Iterator[None]:
    """Leave no half of a file behind: the next `hsm init` would take it for somebody's own."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def _find_script() -> str | None:
    """The script that jobs most likely run: a Hydra app, else one with a usual name."""
    found = [path for folder in _FOLDERS for path in sorted(Path(folder).glob("*.py"))]
    found.sort(key=lambda path: path.name not in _USUAL_NAMES)
    apps = [path for path in found if uses_hydra_main(path)]
    usual = [path for path in found if path.name in _USUAL_NAMES]
    return next((path.as_posix() for path in (*apps, *usual)), None)


def _hsm_yaml(script: str | None) -> str:
    lines = [
        "# How hsm runs the sweeps of this project. `hsm config` prints what holds, and where",
        "# it came from. What is left out comes from HSM_LOCAL_* variables, then hsm's defaults.",
        "",
        "# What each job runs, unless a command line names something else. Instead of a script",
        "# there may be a command, in which {key} is a parameter: command: ./fit --rate {lr}",
        f"script: {script}" if script else "# script: train.py",
        "",
        "# Where sweeps go: outputs/<id of the sweep>.",
        "output_dir: outputs",
        "",
        "local:",
    ]
    for setting in SETTINGS.values():
        if not setting.of_one_start:
            lines += [f"  {line}".rstrip() for line in _setting_lines(setting)]
    return "\n".join(lines) + "\n"


def _setting_lines(setting: Setting) -> Iterator[str]:
    yield from (f"# {line}" for line in wrap(setting.help, 96))
    value = setting_text(setting.default).replace("none", "null")
    if "," in value:
        value = f"[{value.replace(',', ', ')}]"
    yield f"{'' if setting.name in _WRITTEN else '# '}{setting.name}: {value}"
    yield ""


def _sweep_yaml(script: str | None) -> str:
    lines = [
        "# The sweep that `hsm sweep` runs when its command line says nothing else.",
        "",
        "sweep:",
        "  # Every combination of these. A list is taken as it is; a text with a comma, or a call",
        "  # such as range(1, 5), means what it means on Hydra's command line.",
        "  grid:",
    ]
    found = sweepable(script) if script is not None else None
    if found:
        lines += [f"    {line}" for line in found]
    else:
        lines += ["    lr: [0.1, 0.01]  # put your own parameters here", "    seed: range(3)"]
    lines += [
        "",
        "  # Groups of parameters that advance together; each group multiplies the grid.",
        "  # paired:",
        "  #   - size:",
        "  #       width: [64, 128]",
        "  #       depth: [2, 4]",
        "",
        "  # Single jobs, beside the grid.",
        "  # jobs:",
        "  #   - {lr: 0.5, seed: 0}",
    ]
    return "\n".join(lines) + "\n"
