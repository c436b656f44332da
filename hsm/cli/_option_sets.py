"""Arguments and options that several commands share, and one option for each setting."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, TypeVar

import typer

from hsm.cli._complete import job_numbers, one_of, sweep_ids
from hsm.cli._given import HSM_CONFIG, MODES
from hsm.cli._point_options import POINT_OPTIONS, POINTS, STUDY, PointOption
from hsm.core.settings.resolve import SETTINGS, Group, Setting

_Function = TypeVar("_Function", bound=Callable[..., Any])

#: Sections of the help of `hsm sweep` that hold no settings.
WHAT_RUNS, OTHER = "What runs", "Other"
#: All of them, in their order.
SECTIONS = (WHAT_RUNS, POINTS, STUDY, *Group, OTHER)

JobNumber = Annotated[
    int | None,
    typer.Argument(
        metavar="JOB",
        help="Number of a job, counted from 0; alone, it means that job of the newest sweep.",
        min=0,
        autocompletion=job_numbers,
        show_default=False,
    ),
]
OptionalJob = Annotated[
    int | None,
    typer.Argument(
        metavar="JOB",
        help="Number of a job, counted from 0; without it, the sweep itself. Alone, it means that "
        "job of the newest sweep.",
        min=0,
        autocompletion=job_numbers,
        show_default=False,
    ),
]
OptionalSweep = Annotated[
    str,
    typer.Argument(
        metavar="SWEEP",
        help="Sweep: its id, the start of one, or its directory; the newest if none is named.",
        autocompletion=sweep_ids,
        show_default=False,
    ),
]
SweepId = Annotated[
    str,
    typer.Option(
        "--sweep-id",
        metavar="ID",
        help="The same, as an option.",
        autocompletion=sweep_ids,
        show_default=False,
    ),
]
Mode = Annotated[
    str,
    typer.Option(
        "--mode",
        metavar="MODE",
        help="Where jobs run: local, on this machine.",
        show_default=False,
        autocompletion=one_of(*MODES),
        rich_help_panel=Group.sweep,
    ),
]
HsmConfigFile = Annotated[
    str,
    typer.Option(
        HSM_CONFIG,
        metavar="FILE",
        help="The hsm.yaml to read; by default $HSM_CONFIG, ./hsm.yaml, ./conf/hsm.yaml, or the "
        "user's own.",
        show_default=False,
        rich_help_panel=OTHER,
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print JSON, for programs.", rich_help_panel=Group.output),
]


def new_app() -> typer.Typer:
    """The typer application of one command."""
    return typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def with_settings(
    *names: str, shows_default: bool = True, more: Mapping[str, Any] = MappingProxyType({})
) -> Callable[[_Function], _Function]:
    """Give a command an option for each of these settings; by default, all that have a plain one.

    The help has the built-in values with `shows_default`, where these hold if nothing is given. The
    command takes them as ``**settings``, to be read by `hsm.cli._given.given_settings`.

    Args:
        names: the settings'.
        shows_default: see above.
        more: types of further options, by name, that the command takes in the same way; None for
            those that are not given.
    """

    def add_options(function: _Function) -> _Function:
        signature = inspect.signature(function, eval_str=True)
        own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        chosen = [SETTINGS[name] for name in names] or SETTINGS.values()
        options = [_keyword(name, annotation) for name, annotation in more.items()]
        options += [_option(each, shows_default) for each in chosen if each.is_option]
        function.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
        return function

    return add_options


def point_options() -> dict[str, Any]:
    """The types of `POINT_OPTIONS` by their keywords, for `with_settings`."""
    return {each.keyword: _point_option(each) for each in POINT_OPTIONS}


def _point_option(option: PointOption) -> Any:
    value_type: Any = str if option.metavar else bool
    if option.repeats:
        value_type = list[str]
    if option.is_count:
        value_type = int
    made = typer.Option(
        option.option,
        help=option.help,
        metavar=option.metavar or None,
        min=1 if option.is_count else None,
        autocompletion=one_of(*option.values) if option.values else None,
        show_default=False,
        rich_help_panel=option.section,
    )
    return Annotated[value_type | None, made]


def _option(setting: Setting, shows_default: bool) -> inspect.Parameter:
    value_type: Any = bool if "/" in setting.option else str
    if setting.kind.repeats:
        value_type = list[str]
    option = typer.Option(
        setting.option,
        help=_help(setting) if shows_default else setting.help,
        metavar=None if value_type is bool else setting.kind.metavar,
        autocompletion=one_of(*setting.kind.names),
        show_default=False,
        rich_help_panel=setting.group,
    )
    return _keyword(setting.name, Annotated[value_type | None, option])


def _keyword(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def _help(setting: Setting) -> str:
    return f"{setting.help} [{setting.show(setting.default)}]"
