"""The settings of local sweeps: what there is, and which source of a value wins.

    argument, CLI flag or Hydra override  >  hsm.yaml  >  environment (HSM_LOCAL_*)  >  built-in

Their one definition is in fields.py. A new setting is a new field there: what is allowed, its help
and its section of the help stand beside it; the environment variable, the key in hsm.yaml, the
flag, Hydra's config, the checks and the texts of errors follow from that.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, fields
from typing import Any

from hsm.core.errors import SettingsError, UnknownSetting
from hsm.core.needs import check_needs
from hsm.core.settings.enums import (
    FAILURES,
    CpuAffinity,
    Direction,
    GpuBusy,
    Group,
    ProgressMode,
    Rerun,
    StartMethod,
    Warm,
)
from hsm.core.settings.fields import UNSET, LocalConf, SweepConf
from hsm.core.settings.gpu_settings import check_gpu_settings, gives_gpus
from hsm.core.settings.hsm_yaml import CONFIG_VARIABLE, HsmConfig, load_hsm_config
from hsm.core.settings.kinds import AUTO, Kind, Refused, Switch

__all__ = [
    "AUTO",
    "BUILT_IN",
    "CONFIG_VARIABLE",
    "FAILURES",
    "FOLLOWS",
    "SETTINGS",
    "UNSET",
    "VARIABLE_PREFIX",
    "CpuAffinity",
    "Direction",
    "GpuBusy",
    "Group",
    "HsmConfig",
    "LocalConf",
    "ProgressMode",
    "Rerun",
    "Resolved",
    "Setting",
    "StartMethod",
    "SweepConf",
    "Warm",
    "accept",
    "argument",
    "load_hsm_config",
    "resolve_local",
]

VARIABLE_PREFIX = "HSM_LOCAL_"
BUILT_IN = "built-in default"
#: The origin of a max_parallel_jobs that nobody has set.
FOLLOWS = "follows from gpus"

#: Name of a setting -> its value, and where that came from.
_Found = dict[str, tuple[Any, str]]


@dataclass(frozen=True)
class Setting:
    """One field of LocalConf, described.

    Attributes:
        name: of the field, and of the key in hsm.yaml.
        default: the built-in value.
        kind: what is allowed.
        help: one sentence, with the unit.
        group: the section of the help.
        variable: the environment variable.
        flag: the option of the command line.
        is_option, per_sweep: see `hsm.core.settings.fields.setting`.
    """

    name: str
    default: Any
    kind: Kind
    help: str
    group: Group
    variable: str
    flag: str
    is_option: bool
    per_sweep: bool

    @property
    def option(self) -> str:
        """All names of the option, a switch's for each of its two values: ``--x/--no-x``."""
        is_switch = isinstance(self.kind, Switch)
        return f"{self.flag}/--no-{self.flag.removeprefix('--')}" if is_switch else self.flag

    def check(self, value: object, origin: str) -> Any:
        """`value`, which is data, as LocalConf holds it. Raises SettingsError if not allowed."""
        return accept(self.kind, self.name, self.kind.check, value, origin)

    def parse(self, text: str, origin: str) -> Any:
        """The value that `text` spells in a variable or on the command line; as `check`."""
        return accept(self.kind, self.name, self.kind.parse, text, origin)

    def gather(self, texts: Sequence[str]) -> Any:
        """The value that the flag spells which was given with these texts; as `check`."""
        return accept(self.kind, self.name, self.kind.gather, texts, self.flag)

    def show(self, value: Any) -> str:
        """`value`, a checked one, as a person would write it: ``90``, ``true``, ``none``."""
        return "none" if value is None else self.kind.show(value)


def accept(kind: Kind, name: str, read: Callable[[Any], Any], value: object, origin: str) -> Any:
    """What `read`, a method of `kind`, makes of a value. Raises SettingsError if not allowed."""
    try:
        return read(value)
    except (ValueError, TypeError, OverflowError) as error:
        hint = str(error) if isinstance(error, Refused) else kind.hint(value)
        raise SettingsError(name, kind.quotable(value), origin, kind.allowed, hint) from None


def _describe() -> dict[str, Setting]:
    settings = {}
    for entry in fields(LocalConf):
        described = dict(entry.metadata["hsm"])
        described["variable"] = described["variable"] or VARIABLE_PREFIX + entry.name.upper()
        described["flag"] = described["flag"] or "--" + entry.name.replace("_", "-")
        settings[entry.name] = Setting(name=entry.name, **described)
    return settings


#: Every setting by its name, in the order of LocalConf's fields.
SETTINGS: Mapping[str, Setting] = _describe()


@dataclass(frozen=True)
class Resolved:
    """The settings that hold.

    Attributes:
        conf: the settings, each checked.
        origins: where each came from, by the name of the field.
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
    is_partial: bool = False,
) -> Resolved:
    """The settings of a sweep, by the one rule of precedence.

    Every value of every source is checked, also one that another source overrides.

    Args:
        arguments: what the caller was given; an item that is UNSET counts as not given.
        argument_origin: how errors name an argument ("hydra.launcher.timeout", "--timeout").
        hsm_config: the file to read, or its content; searched for if None, see `load_hsm_config`.
        environ: the environment; os.environ by default.
        is_partial: whether there are more sources than these, so that it is too early to check
            whether the settings make sense together.

    Raises:
        SettingsError: a value is not allowed, a name is unknown, or hsm.yaml cannot be read.
    """
    environ = os.environ if environ is None else environ
    given = {key: value for key, value in (arguments or {}).items() if value is not UNSET}
    from_arguments = _checked(given, argument_origin)
    if not isinstance(hsm_config, HsmConfig):
        path_origin = argument_origin("hsm_config")
        hsm_config = load_hsm_config(hsm_config, path_origin=path_origin, environ=environ)
    built_in: _Found = {name: (copy(one.default), BUILT_IN) for name, one in SETTINGS.items()}
    # Each wins over those before it.
    sources = [built_in, _from_environment(environ)]
    sources += [_checked(hsm_config.local, hsm_config.origin), from_arguments]
    resolved, ranks = _together(sources, hsm_config)
    if not is_partial:
        conf, origins = resolved.conf, resolved.origins
        if conf.needs:
            check_needs(conf.needs, conf.resources, origins["needs"])
        check_gpu_settings(vars(conf), origins, ranks)
    return resolved


def _together(
    sources: Sequence[_Found], hsm_config: HsmConfig
) -> tuple[Resolved, Mapping[str, int]]:
    """The settings of several sources, of which the later ones win, and the place of each one's."""
    found = {name: each for source in sources for name, each in source.items()}
    values = {name: value for name, (value, _) in found.items()}
    origins = {name: origin for name, (_, origin) in found.items()}
    ranks = {name: rank for rank, source in enumerate(sources) for name in source}
    if gives_gpus(values) and not ranks["max_parallel_jobs"]:
        values["max_parallel_jobs"], origins["max_parallel_jobs"] = AUTO, FOLLOWS
    return Resolved(LocalConf(**values), origins, hsm_config), ranks


def _checked(values: Mapping[Any, Any], origin_of: Callable[[str], str]) -> _Found:
    found = {}
    for name, value in values.items():
        origin = origin_of(name)
        if name not in SETTINGS:
            from hsm.core.settings.counterparts import counterpart  # for a rare error

            hint = counterpart(name, value)
            raise UnknownSetting.among(name, value, origin, SETTINGS, hint=hint)
        found[name] = (SETTINGS[name].check(value, origin), origin)
    return found


def _from_environment(environ: Mapping[str, str]) -> _Found:
    by_variable = {setting.variable: setting for setting in SETTINGS.values()}
    found = {}
    for variable in sorted(name for name in environ if name.startswith(VARIABLE_PREFIX)):
        text = environ[variable]
        if not text.strip():  # as if it were not set
            continue
        origin = f"environment variable {variable}"
        if variable not in by_variable:
            raise UnknownSetting.among(variable, text, origin, by_variable, prefix=VARIABLE_PREFIX)
        setting = by_variable[variable]
        found[setting.name] = (setting.parse(text, origin), origin)
    return found
