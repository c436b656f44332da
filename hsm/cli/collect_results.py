"""`hsm collect-results`: the results of a sweep's jobs in one table."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from hsm.cli._complete import one_of
from hsm.cli._find import named_sweep
from hsm.cli._options import HsmConfigFile, OptionalSweep, SweepId, new_app
from hsm.cli._printing import end_with_the_reader, print_table
from hsm.cli._stdout import say
from hsm.core.errors import HsmError, SettingsError, did_you_mean, shown
from hsm.core.results.collect import collect_results
from hsm.core.results.results_table import Results
from hsm.core.units import format_size

app = new_app()

_FORMATS = ("table", "csv", "json", "md", "parquet")
#: Formats for files, which are also the file name's allowed extensions.
_FILE_FORMATS = _FORMATS[1:]
#: What `--only failed` means.
_UNSUCCESSFUL = ("FAILED", "TIMEOUT", "OUT_OF_MEMORY", "CANCELLED")
_STATES_ALLOWED = (
    "completed; failed, which means all that went wrong or was cancelled (failed, timeout, "
    "out_of_memory, cancelled); or one of pruned, timeout, out_of_memory, cancelled, running, "
    "pending"
)
#: Columns left out on a narrow terminal, unless --columns names them; the first ones go first.
_DROPPABLE = (
    *("cpu_seconds", "max_memory", "attempts", "duration", "signal", "exit_code"),
    *("note", "reason"),
)
#: Columns that may wrap.
_WRAPS = ("reason", "note")

Format = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="|".join(_FORMATS),
        help="Output format; the default is a table, or the extension of --output.",
        autocompletion=one_of(*_FORMATS),
        show_default=False,
    ),
]
Output = Annotated[
    str,
    typer.Option("--output", "-o", metavar="FILE", help="Write to this file.", show_default=False),
]
SortBy = Annotated[
    str,
    typer.Option(
        "--sort-by",
        metavar="COLUMN",
        help="Sort by this column, smallest first; -COLUMN sorts largest first.",
        show_default=False,
    ),
]
Only = Annotated[
    str,
    typer.Option(
        "--only",
        metavar="STATE",
        help="Only jobs in this state: completed; failed (everything that went wrong or was "
        "cancelled); or pruned, timeout, out_of_memory, cancelled, running, pending.",
        autocompletion=one_of(
            "completed", "pruned", *map(str.lower, _UNSUCCESSFUL), "running", "pending"
        ),
        show_default=False,
    ),
]
Columns = Annotated[
    str,
    typer.Option(
        "--columns", metavar="A,B,C", help="Only these columns, in this order.", show_default=False
    ),
]


@app.command("collect-results")
def collect(
    sweep: OptionalSweep = "",
    sweep_id: SweepId = "",
    format_: Format = "",
    output: Output = "",
    sort_by: SortBy = "",
    only: Only = "",
    columns: Columns = "",
    hsm_config: HsmConfigFile = "",
) -> None:
    """Collect the results of a sweep into one table, one row per job.

    A row has the job's parameters, its return value, what it wrote to results.json and metrics.json
    in its directory, and its state, duration and peak memory. The sweep may still be running.
    """
    end_with_the_reader()
    kind = _format(format_, output)
    results = _chosen(
        collect_results(named_sweep(sweep, sweep_id, hsm_config).sweep_dir), only, sort_by, columns
    )
    for problem in results.problems:
        say(f"hsm: {problem}", error=True)
    if not output:
        _print(results, kind, chosen=bool(columns))
        return
    try:
        _writers(results)[kind](output)
    except OSError as error:
        reason = error.strerror or str(error)
        message = f"--output: cannot write {shown(output)}: {reason}"
        raise SettingsError(
            "output", output, "--output", "a file", reason, message=message
        ) from error


def _format(given: str, output: str) -> str:
    if given and given not in _FORMATS:
        allowed, hint = f"one of {', '.join(_FORMATS)}", did_you_mean(given, _FORMATS)
        raise SettingsError("format", given, "--format", allowed, hint)
    if given == "table" and output:
        raise SettingsError("format", given, "--format", "csv, json, md or parquet with --output")
    if given == "parquet" and not output:
        raise HsmError("--format parquet needs --output FILE")
    ending = os.path.splitext(output)[1].removeprefix(".").lower()
    if output and not given and ending not in _FILE_FORMATS:
        allowed = "a name that ends in .csv, .json, .md or .parquet"
        raise SettingsError("output", output, "--output", allowed, "--format takes any name")
    return given or ending or "table"


def _chosen(results: Results, only: str, sort_by: str, columns: str) -> Results:
    """Apply --only, --sort-by and --columns. Raises SettingsError."""
    if only:
        results = _only(results, only)
    if sort_by:
        descending = sort_by.startswith("-") and sort_by not in results.columns
        with _blame_option("--sort-by"):
            results = results.sorted_by(sort_by[descending:], descending=descending)
    if columns:
        with _blame_option("--columns"):
            results = results.select([name.strip() for name in columns.split(",")])
    return results


def _only(results: Results, state: str) -> Results:
    """Keep the jobs in a state, as `--only` names it. Raises SettingsError."""
    wanted = _UNSUCCESSFUL if state.strip().lower() == "failed" else (state,)
    try:
        return results.only(*wanted)
    except SettingsError as error:
        hint = error.hint.lower()
        raise SettingsError("state", state, "--only", _STATES_ALLOWED, hint) from None


@contextmanager
def _blame_option(option: str) -> Iterator[None]:
    """Make a SettingsError name the option instead of the method that refused its value."""
    try:
        yield
    except SettingsError as error:
        known = error.hint or f"there are {error.allowed.removeprefix('one of ')}"
        message = f"{option}: no column {shown(error.value)}; {known}"
        raise SettingsError(
            error.key, error.value, option, error.allowed, error.hint, message=message
        ) from None


def _writers(results: Results) -> dict[str, Callable[[Any], Any]]:
    return {
        "csv": results.to_csv,
        "json": results.to_json,
        "md": results.to_markdown,
        "parquet": results.to_parquet,
    }


def _print(results: Results, kind: str, *, chosen: bool) -> None:
    """Print the results.

    Args:
        chosen: whether the user named the columns; then all of them are shown.
    """
    if kind != "table":
        _writers(results)[kind](sys.stdout)
        return
    shown = results.columns
    if not chosen:
        shown = [name for name in shown if any(row[name] is not None for row in results)]
    rows = [[_cell(name, row[name]) for name in shown] for row in results]
    figures = [name for name in shown if all(not isinstance(row[name], str) for row in results)]
    print_table(
        shown,
        rows,
        right=figures,
        wraps=_WRAPS,
        droppable=() if chosen else _DROPPABLE,
        hint="--columns A,B,C shows the named ones, --format csv all",
    )
    if not rows:
        say("no jobs")


def _cell(column: str, value: Any) -> str:
    """Format a value: floats with six digits, memory with a unit."""
    if value is None:
        return ""
    if column == "max_memory":
        return format_size(value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)
