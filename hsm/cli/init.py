"""`hsm init`: write hsm.yaml and a sweep file for the project in the current directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from textwrap import wrap

from hsm.cli._options import new_app
from hsm.cli._plan import SWEEP_FILES
from hsm.cli._stdout import say
from hsm.core.errors import HsmError
from hsm.core.program.hydra_script import uses_hydra_main
from hsm.core.settings.resolve import SETTINGS, Setting
from hsm.hydra_app.config_check import sweepable

app = new_app()

#: Where a project's hsm.yaml may be, in order of precedence.
_HSM_YAML = ("hsm.yaml", "conf/hsm.yaml")
_USUAL_NAMES = ("train.py", "main.py", "run.py")
_FOLDERS = (".", "examples", "scripts", "src")
#: Settings that a new file sets; the others stand there as comments.
_WRITTEN = ("max_parallel_jobs", "timeout")


@app.command("init")
def init() -> None:
    """Write hsm.yaml and a sweep file for the project in this directory, overwriting nothing.

    Both files are commented. If there is a Hydra app here, the sweep file uses keys of its config.
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
        say("no script found here: set script or command in hsm.yaml to what your jobs run")


def _write(places: tuple[str, ...], name: str, text: str) -> bool:
    """Write a file unless one of `places` exists already. Raises HsmError."""
    existing = next((place for place in places if os.path.lexists(place)), None)
    if existing is not None:
        say(f"{existing} exists already: not changed")
        return False
    try:
        os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
        with open(name, "x", encoding="utf-8") as file, _remove_on_failure(name):
            file.write(text)
            file.flush()
    except OSError as error:
        raise HsmError(f"cannot write {name}: {error.strerror}") from error
    say(f"wrote {name}")
    return True


@contextmanager
def _remove_on_failure(name: str) -> Iterator[None]:
    """Remove a half-written file, which the next `hsm init` would take for the user's own."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def _find_script() -> str | None:
    """Guess the script that jobs run: a Hydra app, else a script with a usual name."""
    found = [path for folder in _FOLDERS for path in sorted(Path(folder).glob("*.py"))]
    found.sort(key=lambda path: path.name not in _USUAL_NAMES)
    apps = [path for path in found if uses_hydra_main(path)]
    usual = [path for path in found if path.name in _USUAL_NAMES]
    return next((path.as_posix() for path in (*apps, *usual)), None)


def _hsm_yaml(script: str | None) -> str:
    lines = [
        "# How hsm runs the sweeps of this project. `hsm config` prints every setting and where",
        "# it came from. Settings left out here come from HSM_LOCAL_* variables, then defaults.",
        "",
        "# What each job runs, unless a command line names something else. Instead of a script",
        "# this can be a command, in which {key} is a parameter: command: ./fit --rate {lr}",
        f"script: {script}" if script else "# script: train.py",
        "",
        "# Where sweeps go: outputs/<id of the sweep>.",
        "output_dir: outputs",
        "",
        "local:",
    ]
    for setting in SETTINGS.values():
        if not setting.per_sweep:
            lines += [f"  {line}".rstrip() for line in _setting_lines(setting)]
    return "\n".join(lines) + "\n"


def _setting_lines(setting: Setting) -> Iterator[str]:
    yield from (f"# {line}" for line in wrap(setting.help, 96))
    value = setting.show(setting.default).replace("none", "null")
    if "," in value:
        value = f"[{value.replace(',', ', ')}]"
    yield f"{'' if setting.name in _WRITTEN else '# '}{setting.name}: {value}"
    yield ""


def _sweep_yaml(script: str | None) -> str:
    lines = [
        "# The sweep that `hsm sweep` runs when its command line names no other.",
        "",
        "sweep:",
        "  # Every combination of these. A list holds the values; a string with a comma, or a call",
        "  # such as range(1, 5), means the same as on Hydra's command line.",
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
        "  # Single jobs, in addition to the grid.",
        "  # jobs:",
        "  #   - {lr: 0.5, seed: 0}",
    ]
    return "\n".join(lines) + "\n"
