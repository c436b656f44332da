"""`hsm init`: write hsm.yaml and a sweep file for the project in the current directory."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from textwrap import wrap

from hsm.cli._named_file import SWEEP_FILES
from hsm.cli._option_sets import new_app
from hsm.cli._proposed import propose
from hsm.cli._stdout import say
from hsm.core.errors import HsmError
from hsm.core.program.hydra_script import uses_hydra_main
from hsm.core.program.program import find_program
from hsm.core.settings.resolve import SETTINGS, Setting

app = new_app()

#: Where a project's hsm.yaml may be, in order of precedence.
_HSM_YAML = ("hsm.yaml", "conf/hsm.yaml")
_USUAL_NAMES = ("train.py", "main.py", "run.py")
#: Where scripts usually are, in the order in which they are looked at, after the directory itself.
_FOLDERS = ("scripts", "src", "src/*", "*", "examples")
#: Folders, of those in the current one, that hold no project's script.
_SKIPPED = ("tests", "test", "docs", "conf", "configs", "outputs", "multirun", "build", "dist")
#: What a script has that is run by itself, and what only a module of a package may have.
_GUARD = re.compile(r"""^if __name__ == ["']__main__["']""", re.MULTILINE)
_RELATIVE = re.compile(r"^from \.+\w* import ", re.MULTILINE)
#: Characters of a script that are looked at.
_MAX_TEXT = 1 << 20


@app.command("init")
def init() -> None:
    """Write hsm.yaml and a sweep file for the project in this directory, overwriting nothing.

    Both files are commented. If there is a Hydra app here, its config is composed, which runs the
    script up to its main function, and the sweep is one over keys that it has.
    """
    script = _find_script()
    sweep_file = SWEEP_FILES[0] if os.path.isdir("conf") else SWEEP_FILES[1]
    _write(_HSM_YAML, "hsm.yaml", lambda: _hsm_yaml(script))
    _write(SWEEP_FILES, sweep_file, lambda: _sweep_yaml(script))
    if script is None:
        say("no script found here: set script or command in hsm.yaml to what your jobs run")
    say("next: hsm sweep --dry-run lists the jobs, hsm sweep runs them")


def _write(places: tuple[str, ...], name: str, text: Callable[[], str]) -> None:
    """Write a file unless one of `places` exists already. Raises HsmError."""
    existing = next((place for place in places if os.path.lexists(place)), None)
    if existing is not None:
        say(f"{existing} exists already: not changed")
        return
    content = text()
    try:
        os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
        with open(name, "x", encoding="utf-8") as file, _remove_on_failure(name):
            file.write(content)
            file.flush()
    except OSError as error:
        raise HsmError(f"cannot write {name}: {error.strerror}") from error
    say(f"wrote {name}")


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
    """Guess the script that jobs run: a Hydra app, else one with a usual name, else the only one.

    A module of a package, which imports others relative to itself, is no script.
    """
    below = [path for pattern in _FOLDERS for path in sorted(Path().glob(pattern))]
    folders = [Path(), *(path for path in dict.fromkeys(below) if _may_have_scripts(path))]
    found = [path for folder in folders for path in sorted(folder.glob("*.py"))]
    found = [path for path in found if not _is_part_of_package(path)]
    found.sort(key=lambda path: path.name not in _USUAL_NAMES)
    apps = [path for path in found if uses_hydra_main(path)]
    usual = [path for path in found if path.name in _USUAL_NAMES]
    mains = [path for path in found if _GUARD.search(_text(path))]
    likely = [*apps, *usual, *(mains if len(mains) == 1 else ())]
    return likely[0].as_posix() if likely else None


def _may_have_scripts(folder: Path) -> bool:
    is_hidden = folder.name.startswith(".") or (folder / "pyvenv.cfg").exists()
    return folder.is_dir() and not is_hidden and folder.name not in _SKIPPED


def _is_part_of_package(path: Path) -> bool:
    return _RELATIVE.search(_text(path)) is not None


def _text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(_MAX_TEXT)
    except OSError:
        return ""


def _hsm_yaml(script: str | None) -> str:
    lines = [
        "# How hsm runs the sweeps of this project. `hsm config` prints every setting and where",
        "# it came from. What is a comment here comes from HSM_LOCAL_* variables, else it is the",
        "# default, which is shown.",
        "",
        "# What each job runs, unless a command line names something else. Instead of a script",
        "# this can be a command, in which {key} is a parameter: command: ./fit --rate {lr}",
        f"script: {_scalar(script)}" if script else "# script: train.py",
        "",
        "# Where sweeps go: outputs/<id of the sweep>.",
        "# output_dir: outputs",
        "",
        "local:",
    ]
    for setting in SETTINGS.values():
        if not setting.per_sweep:
            lines += [f"  {line}".rstrip() for line in _setting_lines(setting)]
    return "\n".join(lines) + "\n"


def _scalar(text: str) -> str:
    """Write a text so that YAML reads it back."""
    return text if re.fullmatch(r"[\w./-]*[A-Za-z_./-][\w./-]*", text) else json.dumps(text)


def _setting_lines(setting: Setting) -> Iterator[str]:
    yield from (f"# {line}" for line in wrap(setting.help, 96))
    value = setting.show(setting.default).replace("none", "null")
    if "," in value:
        value = f"[{value.replace(',', ', ')}]"
    yield f"# {setting.name}: {value}"
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
    found = _proposed(script) if script is not None else []
    example = ["lr: [0.1, 0.01]  # put your own parameters here", "seed: range(3)"]
    lines += [f"    {line}" for line in found or example]
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


def _proposed(script: str) -> list[str]:
    """Lines of a grid over what the script takes; none if that is unknown."""
    lines, note = propose(find_program(script=script, caller="init"))
    if note:
        say(f"hsm: {note}", error=True)
    return lines
