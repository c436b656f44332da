"""hsm.yaml: where it is looked for, and which sections it may have.

The sections are:

    local: {max_parallel_jobs: 4, ...}    the settings of `LocalConf`
    script: train.py                      what jobs run, or
    command: python train.py              a command line, or a list of its words
    args_style: flags                     how these get their parameters as arguments
    output_dir: outputs                   where sweeps go
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hsm.core.errors import SettingsError, UnknownSetting, shown
from hsm.core.settings.args_style import ArgsStyle, check_args_style
from hsm.core.settings.enums import Direction
from hsm.core.settings.fields import LocalConf
from hsm.core.user_dirs import config_dir

if TYPE_CHECKING:
    from hsm.core.yaml_lines import Lined

CONFIG_VARIABLE = "HSM_CONFIG"

#: Bytes. A larger file is something else, named by mistake (/dev/zero).
MAX_FILE_SIZE = 1 << 20

_SECTIONS = ("local", "script", "command", "output_dir", "args_style")


@dataclass(frozen=True)
class HsmConfig:
    """The content of an hsm.yaml, or of none.

    Relative paths in it count from the directory where hsm is started, not from the file's own.

    Attributes:
        path: the file; None if there is none.
        local: its settings, as written: `resolve_local` checks them.
        lines: the line of each of them, from 1.
        script: the script that jobs run; None if not given.
        command: or the words of the command that they run; None if not given.
        output_dir: the directory that sweeps go to; None if not given.
        args_style: how the script, or ``{args}`` in the command, gets its arguments.
    """

    path: Path | None = None
    local: Mapping[Any, Any] = field(default_factory=dict)
    lines: Mapping[Any, int] = field(default_factory=dict)
    script: str | None = None
    command: tuple[str, ...] | None = None
    output_dir: str | None = None
    args_style: ArgsStyle | None = None

    def origin(self, name: str) -> str:
        """Where the local setting `name` was read."""
        return _place(f"local.{name}", self.path, self.lines.get(name))


def load_hsm_config(
    path: str | os.PathLike[str] | None = None,
    *,
    path_origin: str = "argument hsm_config",
    environ: Mapping[str, str] | None = None,
) -> HsmConfig:
    """Read the hsm.yaml that holds here, if there is one.

    That is the first of: `path`, $HSM_CONFIG, ./hsm.yaml, ./conf/hsm.yaml, and hsm/hsm.yaml in the
    user's configuration directory ($XDG_CONFIG_HOME, or ~/.config).

    Args:
        path: the file to read instead of searching for one.
        path_origin: how an error names what gave `path`.
        environ: the environment; os.environ by default.

    Raises:
        SettingsError: a file that was named cannot be read, or what is in the file is wrong.
    """
    environ = os.environ if environ is None else environ
    named = environ.get(CONFIG_VARIABLE, "")
    if path is not None:
        return _read(path, path_origin)
    if named.strip():
        return _read(named, f"environment variable {CONFIG_VARIABLE}")
    for place in _places(environ):
        if os.path.isfile(place):
            return _read(place, "hsm.yaml, as it was found")
    return HsmConfig()


def _places(environ: Mapping[str, str]) -> Iterator[str]:
    yield "hsm.yaml"
    yield os.path.join("conf", "hsm.yaml")
    with suppress(RuntimeError):  # there is no home
        yield os.path.join(config_dir(environ), "hsm.yaml")


def _read(path: str | os.PathLike[str], path_origin: str) -> HsmConfig:
    from hsm.core.yaml_lines import Lined, load_yaml  # PyYAML is slow to import

    try:
        file = Path(path).expanduser().absolute()
        with file.open("rb") as stream:
            data = stream.read(MAX_FILE_SIZE + 1)
    except (OSError, ValueError, TypeError, RuntimeError) as error:  # NUL, no path at all, no home
        reason = getattr(error, "strerror", None) or str(error)
        allowed = "the path of a file that can be read"
        given = _plain(path)
        message = f"{path_origin}: cannot read {shown(given)}: {reason}"
        raise SettingsError(
            "hsm.yaml", given, path_origin, allowed, reason, message=message
        ) from error
    top = load_yaml(_decode(data, file), str(file))
    if top is None:  # empty, or nothing but comments
        return HsmConfig(path=file)
    if not isinstance(top, Lined):
        allowed = "a mapping, such as local: {timeout: 2h}"
        message = f"{file} must hold {allowed}, not {shown(top)}"
        raise SettingsError("hsm.yaml", top, str(file), allowed, message=message)
    return _understand(top, file)


def _decode(data: bytes, path: Path) -> str:
    if len(data) > MAX_FILE_SIZE:
        allowed = f"a settings file of at most {MAX_FILE_SIZE} bytes"
        message = f"{path} is too large: a settings file has at most {MAX_FILE_SIZE} bytes"
        raise SettingsError("hsm.yaml", data[:20], str(path), allowed, message=message)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        place = f"{path}, line {line}"
        wrong = data[error.start : error.start + 1]
        message = f"{place} is not UTF-8: it has the byte {shown(wrong)}"
        raise SettingsError("hsm.yaml", wrong, place, "text in UTF-8", message=message) from error


def _understand(top: Lined, path: Path) -> HsmConfig:
    """The sections; one that is there but empty counts as not given."""
    for key in top:
        if key not in _SECTIONS:
            raise _unknown(key, top[key], _place(key, path, top.lines.get(key)))
    places = {key: _place(key, path, top.lines.get(key)) for key in _SECTIONS}
    local, script, command, output_dir, style = (top.get(key) for key in _SECTIONS)
    if local is not None and not isinstance(local, dict):
        raise SettingsError("local", local, places["local"], "a mapping of settings")
    if script is not None and command is not None:
        allowed, place = "left out beside script", places["command"]
        message = f"{place} stands beside script: jobs run one of them"
        raise SettingsError("command", command, place, allowed, message=message)
    if style is not None and script is None and command is None:
        allowed, place = "beside a script or a command", places["args_style"]
        message = f"{place} stands alone: it belongs to a script or a command"
        raise SettingsError("args_style", style, place, allowed, message=message)
    return HsmConfig(
        path=path,
        local=dict(local or {}),
        lines=getattr(local, "lines", {}),
        script=_text("script", script, places["script"]),
        command=_words(command, places["command"]),
        output_dir=_text("output_dir", output_dir, places["output_dir"]),
        args_style=None if style is None else check_args_style(style, places["args_style"]),
    )


def _unknown(key: object, value: object, origin: str) -> UnknownSetting:
    if key in [entry.name for entry in fields(LocalConf)]:
        hint = f"write local: {{{key}: ...}}"
        return UnknownSetting(str(key), value, origin, ", ".join(_SECTIONS), hint)
    hint = f"write local: {{direction: {key}}}" if key in [*map(str, Direction)] else ""
    return UnknownSetting.among(key, value, origin, _SECTIONS, hint=hint)


def _text(key: str, value: object, origin: str) -> str | None:
    if value is None or (isinstance(value, str) and value.strip()):
        return value
    raise SettingsError(key, value, origin, "a path")


def _words(command: object, origin: str) -> tuple[str, ...] | None:
    if command is None:
        return None
    from hsm.core.command_line import command_words  # shlex is slow to import

    return command_words(command, origin)


def _place(key: object, path: Path | None, line: int | None) -> str:
    return f"{key} in {path}" + (f", line {line}" if line else "")


def _plain(path: object) -> object:
    return os.fspath(path) if isinstance(path, os.PathLike) else path
