"""The settings of local sweeps: what there is, what each may be, and which source of a value wins.

    argument, CLI flag or Hydra override  >  hsm.yaml  >  environment (HSM_LOCAL_*)  >  built-in

`LocalConf` is their one definition. A new setting is a new field there: its kind and its help text stand beside
it, and the environment variable, the key in hsm.yaml, the flag, the checks and the texts of errors follow from them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hsm.core._local_conf import UNSET, LocalConf, ProgressMode, StartMethod
from hsm.core._setting_kinds import Kind, parse_duration
from hsm.core.errors import SettingsError, UnknownSetting

__all__ = [
    "BUILT_IN",
    "CONFIG_VARIABLE",
    "SETTINGS",
    "UNSET",
    "VARIABLE_PREFIX",
    "HsmConfig",
    "LocalConf",
    "ProgressMode",
    "Resolved",
    "Setting",
    "StartMethod",
    "argument",
    "load_hsm_config",
    "parse_duration",
    "resolve_local",
]

VARIABLE_PREFIX = "HSM_LOCAL_"
CONFIG_VARIABLE = "HSM_CONFIG"
BUILT_IN = "built-in default"


@dataclass(frozen=True)
class Setting:
    """One field of LocalConf, described.

    Attributes:
        name: of the field, and of the key in hsm.yaml.
        default: the built-in value.
        kind: which values are allowed.
        help: one sentence, with the unit.
        variable: the environment variable.
        flag: the option of the command line.
    """

    name: str
    default: Any
    kind: Kind
    help: str
    variable: str
    flag: str

    def check(self, value: object, origin: str) -> Any:
        """`value` in the type that LocalConf holds. Raises SettingsError if it is not allowed."""
        return self._accept(self.kind.check, value, origin)

    def parse(self, text: str, origin: str) -> Any:
        """What `text`, of a variable or a command line, says. Raises SettingsError if that is not allowed."""
        return self._accept(self.kind.parse, text, origin)

    def _accept(self, accept: Callable[[Any], Any], value: object, origin: str) -> Any:
        try:
            return accept(value)
        except (ValueError, TypeError, OverflowError):
            hint = self.kind.hint(value)
            raise SettingsError(self.name, value, origin, self.kind.allowed, hint) from None


def _describe() -> dict[str, Setting]:
    settings = {}
    for entry in fields(LocalConf):
        described = dict(entry.metadata["hsm"])
        described["variable"] = described["variable"] or VARIABLE_PREFIX + entry.name.upper()
        described["flag"] = described["flag"] or "--" + entry.name.replace("_", "-")
        settings[entry.name] = Setting(name=entry.name, default=entry.default, **described)
    return settings


#: Every setting, by name, in the order of LocalConf's fields.
SETTINGS: Mapping[str, Setting] = _describe()


@dataclass(frozen=True)
class HsmConfig:
    """An hsm.yaml, or none.

    Attributes:
        path: the file; None if there is none.
        local: its settings, as written; `resolve_local` checks them.
        script: the script that jobs run, relative to the directory where hsm is started; None if not given.
        command: or the command that they run, in words; None if not given.
        output_dir: where sweeps go, relative to the directory where hsm is started; None if not given.
    """

    path: Path | None = None
    local: Mapping[str, Any] = field(default_factory=dict)
    script: str | None = None
    command: tuple[str, ...] | None = None
    output_dir: str | None = None


@dataclass(frozen=True)
class Resolved:
    """The settings that hold, by the rule of precedence.

    Attributes:
        conf: the settings, each checked.
        origins: where each came from, by name of the field.
        hsm_config: the hsm.yaml that was read.
    """

    conf: LocalConf
    origins: Mapping[str, str]
    hsm_config: HsmConfig


def argument(name: str) -> str:
    """The origin of a value that a Python caller gave."""
    return f"argument {name}"


def resolve_local(
    arguments: Mapping[str, Any] | None = None,
    *,
    argument_origin: Callable[[str], str] = argument,
    hsm_config: HsmConfig | str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Resolved:
    """The settings of a sweep: arguments, then hsm.yaml, then the environment, then the built-in values.

    Every value of every source is checked, also one that another source overrides.

    Args:
        arguments: what the caller was given; an item that is UNSET counts as not given.
        argument_origin: how errors name an argument ("hydra.launcher.timeout", "--timeout").
        hsm_config: the file to read, or its content; searched for if None, see `load_hsm_config`.
        environ: the environment, os.environ by default.

    Raises:
        SettingsError: a value is not allowed, a name is unknown, or hsm.yaml cannot be read.
    """
    environ = os.environ if environ is None else environ
    given = {key: value for key, value in (arguments or {}).items() if value is not UNSET}
    from_arguments = _checked(given, argument_origin)
    if not isinstance(hsm_config, HsmConfig):
        origin = argument_origin("hsm_config")
        hsm_config = load_hsm_config(hsm_config, path_origin=origin, environ=environ)
    path = hsm_config.path
    from_file = _checked(hsm_config.local, lambda key: f"local.{key} in {path}")
    from_environment = _from_environment(environ)
    built_in = {name: (setting.default, BUILT_IN) for name, setting in SETTINGS.items()}
    found = {**built_in, **from_environment, **from_file, **from_arguments}
    conf = LocalConf(**{name: value for name, (value, _) in found.items()})
    return Resolved(conf, {name: origin for name, (_, origin) in found.items()}, hsm_config)


def _checked(values: Mapping[Any, Any], origin_of: Callable[[str], str]) -> dict[str, tuple[Any, str]]:
    """Name -> (value, origin), each value checked."""
    checked = {}
    for key, value in values.items():
        origin = origin_of(key)
        if key not in SETTINGS:
            raise UnknownSetting.among(key, value, origin, SETTINGS)
        checked[key] = (SETTINGS[key].check(value, origin), origin)
    return checked


def _from_environment(environ: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    by_variable = {setting.variable: setting for setting in SETTINGS.values()}
    found = {}
    for variable in sorted(environ):
        text = environ[variable]
        if not variable.startswith(VARIABLE_PREFIX) or not text.strip():
            continue
        origin = f"environment variable {variable}"
        if variable not in by_variable:
            raise UnknownSetting.among(variable, text, origin, by_variable, prefix=VARIABLE_PREFIX)
        setting = by_variable[variable]
        found[setting.name] = (setting.parse(text, origin), origin)
    return found


def load_hsm_config(
    path: str | os.PathLike[str] | None = None,
    *,
    path_origin: str = "argument hsm_config",
    environ: Mapping[str, str] | None = None,
) -> HsmConfig:
    """Read the hsm.yaml that holds here; the first that exists of `path`, $HSM_CONFIG, ./hsm.yaml, ./conf/hsm.yaml
    and hsm/hsm.yaml in the user's configuration directory ($XDG_CONFIG_HOME, or ~/.config).

    Its keys are local, script or command, and output_dir.

    Args:
        path: the file to read instead of searching for one.
        path_origin: how an error names the place where `path` came from.
        environ: the environment, os.environ by default.

    Raises:
        SettingsError: a file that was named does not exist; one that was found is not what it should be.
    """
    environ = os.environ if environ is None else environ
    named = environ.get(CONFIG_VARIABLE, "")
    if path is not None:
        return _read_config(path, path_origin)
    if named.strip():
        return _read_config(named, f"environment variable {CONFIG_VARIABLE}")
    for place in ("hsm.yaml", os.path.join("conf", "hsm.yaml"), _users_own(environ)):
        if os.path.isfile(place):
            return _read_config(place, "the search for hsm.yaml")
    return HsmConfig()


def _users_own(environ: Mapping[str, str]) -> str:
    folder = environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(folder):  # as the XDG specification asks
        folder = os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".config")
    return os.path.join(folder, "hsm", "hsm.yaml")


def _read_config(path: str | os.PathLike[str], path_origin: str) -> HsmConfig:
    from hsm.core._hsm_yaml import read_mapping

    try:
        file = Path(path).expanduser().absolute()
        content = read_mapping(file)
    except SettingsError:
        raise
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        allowed = "the path of a file that can be read"
        raise SettingsError("hsm.yaml", path, path_origin, allowed, reason) from error
    return _understand(content, file)


def _understand(content: Mapping[Any, Any], path: Path) -> HsmConfig:
    """The sections of hsm.yaml; a section that is there but empty counts as not given."""
    known = ("local", "script", "command", "output_dir")
    for key, value in content.items():
        if key not in known:
            raise UnknownSetting.among(key, value, f"{key} in {path}", known)
    local, script, command, output_dir = (content.get(key) for key in known)
    if local is not None and not isinstance(local, dict):
        raise SettingsError("local", local, f"local in {path}", "a mapping of settings")
    if script is not None and command is not None:
        hint = f"script is {script!r}"
        raise SettingsError("command", command, f"command in {path}", "left out beside script", hint)
    return HsmConfig(
        path=path,
        local=local or {},
        script=_text("script", script, path),
        command=_words(command, path),
        output_dir=_text("output_dir", output_dir, path),
    )


def _text(key: str, value: object, path: Path) -> str | None:
    if value is None or (isinstance(value, str) and value.strip()):
        return value
    raise SettingsError(key, value, f"{key} in {path}", "a path")


def _words(command: object, path: Path) -> tuple[str, ...] | None:
    if command is None:
        return None
    hint = ""
    if isinstance(command, str):
        import shlex

        try:
            command = shlex.split(command)
        except ValueError as error:  # a quote that is not closed
            hint = str(error)
    if isinstance(command, list) and command and all(isinstance(word, str) for word in command):
        return tuple(command)
    allowed = "a command line, or a list of its words"
    raise SettingsError("command", command, f"command in {path}", allowed, hint)
