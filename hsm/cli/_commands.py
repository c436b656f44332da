"""The commands as typer has them: usage, help and completion; runs the one that a line names.

Help drawn by rich would take twice as long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from hsm.cli import _stdout
from hsm.core.errors import HsmError

#: Name of a command -> its module in this package, and its line in `hsm --help`.
COMMANDS: Mapping[str, tuple[str, str]] = {
    "sweep": ("sweep", "Run the jobs of a sweep on this machine."),
    "monitor": ("monitor", "Watch a sweep, from any terminal, while it runs or after."),
    "collect-results": ("collect_results", "Show the results of all jobs in one table."),
    "list": ("list_sweeps", "List your sweeps, newest first."),
    "show": ("show", "Show everything known about a job or a sweep."),
    "logs": ("logs", "Print the output of a job, or follow it."),
    "rerun": ("rerun", "Run some jobs of a sweep again, and none else."),
    "pause": ("pause", "Pause a running sweep: no job starts until it is continued."),
    "continue": ("continue_sweep", "Let a paused sweep go on."),
    "set": ("set_values", "Change settings and priorities of a running sweep."),
    "add": ("add", "Add points to a running sweep."),
    "explain": ("explain", "Tell what the pending jobs of a running sweep wait for."),
    "cancel": ("cancel", "Cancel a running sweep, or some of its jobs."),
    "rm": ("rm", "Remove sweeps, with all that they have made."),
    "init": ("init", "Write hsm.yaml and a sweep file for this project."),
    "config": ("config", "Print every setting, its value and where it came from."),
}

#: The base of typer's errors for bad usage. Not every version of typer gives it a public name.
_UsageError: type[Exception] = next(
    c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException"
)


class _Commands(typer.core.TyperGroup):
    """A group that imports a command's module when that command runs."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"hsm.cli.{COMMANDS[cmd_name][0]}")
        return typer.main.get_command(module.app)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(_no_such_command(args[0]))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


def _no_such_command(name: str) -> str:
    from hsm.core.errors import did_you_mean

    hint = did_you_mean(name, COMMANDS) or f"commands: {', '.join(COMMANDS)}"
    return f"no command {name!r}; {hint}"


def _print_version(wanted: bool) -> None:
    if wanted:
        from hsm import __version__

        _stdout.say(f"hsm {__version__}")
        raise typer.Exit


app = typer.Typer(
    name="hsm",
    cls=_Commands,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Run parameter sweeps on this machine: each job in its own process, none ever lost.",
    epilog="`hsm COMMAND --help` explains each command. Name a sweep by its id, an unambiguous "
    "start of it, its directory, or `last`; most commands take the last one if none is named. Exit "
    "codes: 0 all jobs completed, 1 some did not, 2 refused before anything was started, 130, 143 "
    "and 129 ended by Ctrl-C, SIGTERM and SIGHUP.",
)


@app.callback()
def _main_options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Options of `hsm` itself."""


def run_command(arguments: Sequence[str]) -> int:
    """Run one command line; return the exit code. Raises HsmError, also for bad usage."""
    command = typer.main.get_command(app)
    try:
        code = command(args=list(arguments) or ["--help"], prog_name="hsm", standalone_mode=False)
    except _UsageError as error:
        raise HsmError(_usage(error)) from error
    except (KeyboardInterrupt, typer.Abort):
        return 128 + 2
    return code if isinstance(code, int) else 0


def _usage(error: Any) -> str:
    """Describe a usage error in one line that points to the help."""
    message = " ".join(error.format_message().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    where = context.command_path if context is not None else "hsm"
    return f"{message} (see {where} --help)"
