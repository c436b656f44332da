"""`hsm sweep`: run the jobs of a sweep, and wait for them, or leave them to run on."""

from __future__ import annotations

from typing import Annotated, Any

import typer
import typer.core

from hsm.cli._complete import one_of, sweep_ids
from hsm.cli._option_sets import (
    OTHER,
    SECTIONS,
    WHAT_RUNS,
    HsmConfigFile,
    Json,
    Mode,
    new_app,
    point_options,
    with_settings,
)
from hsm.cli._point_options import POINT_OPTIONS, study_keys
from hsm.cli._sweep_action import run_line
from hsm.cli._sweep_line import SweepLine
from hsm.core.settings.args_style import ArgsStyle
from hsm.core.settings.resolve import Group

app = new_app()

_COMMAND = "hsm.command"
#: Characters of the column of options in the help; longer ones stand in a line of their own.
_COLUMN = 24

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="OVERRIDE",
        help="The sweep in Hydra's syntax: lr=0.1,0.01 'seed=range(5)' model=svm.",
        show_default=False,
        rich_help_panel=WHAT_RUNS,
    ),
]
Script = Annotated[
    str,
    typer.Option(
        "--script",
        metavar="FILE",
        help="Script to run; it gets its parameters as arguments.",
        show_default=False,
        rich_help_panel=WHAT_RUNS,
    ),
]
Style = Annotated[
    str,
    typer.Option(
        "--args-style",
        metavar="STYLE",
        help="How the script, or {args} in a command, gets its arguments: hydra (lr=0.1), flags "
        "(--lr 0.1), flags-equals (--lr=0.1), none, or auto (as the script reads them). "
        "By default auto.",
        autocompletion=one_of(*ArgsStyle),
        show_default=False,
        rich_help_panel=WHAT_RUNS,
    ),
]
SweepFile = Annotated[
    str,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="Sweep file: YAML, CSV or JSON lines, - for standard input; overrides on the command "
        "line win. By default conf/sweep.yaml or sweeps/sweep.yaml, if there are no overrides.",
        show_default=False,
        rich_help_panel=WHAT_RUNS,
    ),
]
NewSweepId = Annotated[
    str,
    typer.Option(
        "--sweep-id",
        metavar="ID",
        help="Id of the sweep; by default a new one.",
        show_default=False,
        rich_help_panel=Group.sweep,
    ),
]
SweepDir = Annotated[
    str,
    typer.Option(
        "--sweep-dir",
        metavar="DIR",
        help="Directory of the sweep; by default outputs/ID.",
        show_default=False,
        rich_help_panel=Group.sweep,
    ),
]
Resume = Annotated[
    str,
    typer.Option(
        "--resume",
        metavar="SWEEP",
        help="Resume a sweep with what it ran, its points and its settings; completed jobs do not "
        "run again.",
        autocompletion=sweep_ids,
        show_default=False,
        rich_help_panel=Group.resume,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="List each job's directory and command; run nothing.",
        rich_help_panel=WHAT_RUNS,
    ),
]
CountOnly = Annotated[
    bool,
    typer.Option(
        "--count-only",
        help="Print the number of jobs; run nothing.",
        rich_help_panel=WHAT_RUNS,
    ),
]
Detach = Annotated[
    bool,
    typer.Option(
        "--detach",
        help="Run on without the terminal; return once the sweep has started.",
        rich_help_panel=Group.sweep,
    ),
]


class _SweepCommand(typer.core.TyperCommand):
    """Takes what follows ``--`` for the command that jobs run, whatever it looks like."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.meta[_COMMAND] = args[at + 1 :]
            args = args[:at]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options in sections, each of which an option names as its panel."""
        rows: dict[str, list[tuple[str, str]]] = {section: [] for section in SECTIONS}
        for param in self.get_params(ctx):
            section = getattr(param, "rich_help_panel", None) or OTHER
            if (record := param.get_help_record(ctx)) is not None:
                rows[section].append((_spelling(param) or record[0], record[1]))
        for section, lines in rows.items():
            with formatter.section(section):
                # Padded, so that all sections have columns of one width.
                padded = [(spelling.ljust(_COLUMN), text) for spelling, text in lines]
                formatter.write_dl(padded, col_max=_COLUMN)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND...]"]


def _spelling(param: Any) -> str:
    """How the help shows an argument or a switch; empty for what the usual way suits."""
    if param.param_type_name == "argument":
        return str(param.metavar)
    if not param.secondary_opts:
        return ""
    negated = param.opts[0].replace("--", "--no-")
    if param.secondary_opts == [negated]:
        return str(param.opts[0].replace("--", "--[no-]"))
    return "/".join([*param.opts, *param.secondary_opts])


_HELP = """\
Run the jobs of a sweep on this machine, each in a process of its own.

The sweep is written in Hydra's override syntax, or in a file. Jobs run a script, or the command
after --, in which {key} is a parameter, {job_dir} the job's own directory and {args} arguments with
all other parameters; {gpu}, {slot} and {port} are its GPUs, a number unlike other running jobs' and
a free port. Each also finds its parameters as JSON in $HSM_PARAMS.

Options that show a [default] are settings: hsm.yaml and HSM_LOCAL_* variables set them, too, and
`hsm config` tells which hold.

\b
hsm sweep --script train.py lr=0.1,0.01 'seed=range(5)'
hsm sweep --config sweep.csv -- ./fit --rate {lr} --out {job_dir}/model
hsm sweep lr=0.1,0.01 layers=2,4 -- python cli.py train {args}
"""


@app.command("sweep", cls=_SweepCommand, help=_HELP)
@with_settings(more=point_options())
def sweep(
    context: typer.Context,
    overrides: Overrides = None,
    script: Script = "",
    args_style: Style = "",
    config: SweepFile = "",
    mode: Mode = "local",
    sweep_id: NewSweepId = "",
    sweep_dir: SweepDir = "",
    resume: Resume = "",
    dry_run: DryRun = False,
    count_only: CountOnly = False,
    detach: Detach = False,
    as_json: Json = False,
    hsm_config: HsmConfigFile = "",
    **options: Any,
) -> int:
    """See `_HELP`."""
    points = {each.keyword: options.pop(each.keyword) for each in POINT_OPTIONS}
    points = {name: value for name, value in points.items() if value is not None and value != []}
    return run_line(
        SweepLine(
            overrides=overrides or (),
            command=context.meta.get(_COMMAND),
            script=script,
            args_style=args_style,
            config=config,
            mode=mode,
            sweep_id=sweep_id,
            sweep_dir=sweep_dir,
            resume=resume,
            dry_run=dry_run,
            count_only=count_only,
            detach=detach,
            as_json=as_json,
            hsm_config=hsm_config,
            settings=options,
            study=study_keys(points),
            **points,
        )
    )
