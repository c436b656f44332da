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
from hsm.cli._option_sets import HsmConfigFile, OptionalSweep, SweepId, new_app
from hsm.cli._printing import end_with_the_reader, print_columns
from hsm.cli._stdout import say
from hsm.core.errors import HsmError, SettingsError, did_you_mean, shown
from hsm.core.results.collect import collect_results
from hsm.core.results.grouping import Groups
from hsm.core.results.overview import DROPPABLE
from hsm.core.results.results_table import Results

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
AllColumns = Annotated[
    bool,
    typer.Option(
        "--all-columns",
        help="Show every column. Without it a terminal shows no column that is empty, that has one "
        "value in all rows, or for which there is no room; a file or pipe gets all but empty ones.",
    ),
]
GroupBy = Annotated[
    str,
    typer.Option(
        "--group-by",
        metavar="A,B",
        help="One row for each value of these columns: mean and standard deviation of each metric, "
        "and the number of completed jobs.",
        show_default=False,
    ),
]
Over = Annotated[
    str,
    typer.Option(
        "--over",
        metavar="A,B",
        help="As --group-by, but one row for each combination of all parameters but these: --over "
        "seed averages repeats.",
        show_default=False,
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
    all_columns: AllColumns = False,
    group_by: GroupBy = "",
    over: Over = "",
    hsm_config: HsmConfigFile = "",
) -> None:
    """Collect the results of a sweep into one table, one row per job.

    A row has the job's parameters, its return value, what it wrote to results.json and metrics.json
    in its directory, and its state, duration and peak memory. The sweep may still be running.
    """
    end_with_the_reader()
    kind = _format(format_, output)
    if columns and all_columns:
        raise HsmError("give either --columns or --all-columns, not both")
    if group_by and over:
        raise HsmError("give either --group-by or --over, not both")
    results = collect_results(named_sweep(sweep, sweep_id, hsm_config).sweep_dir)
    if only:
        results = _only(results, only)
    table = _sorted(_grouped(results, group_by, over), sort_by)
    if columns:
        table = _selected(table, columns, with_deviations=kind == "table")
    for problem in table.problems:
        say(f"hsm: {problem}", error=True)
    if kind == "table":
        _print(table, is_whole=bool(columns) or all_columns)
    elif output:
        _save(_writers(table)[kind], output)
    else:
        _writers(table)[kind](sys.stdout)


def _save(write: Callable[[Any], Any], output: str) -> None:
    """Write to the file that --output names. Raises SettingsError."""
    try:
        write(output)
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


def _grouped(results: Results, group_by: str, over: str) -> Results | Groups:
    """Apply --group-by or --over. Raises SettingsError."""
    if group_by:
        with _blame_option("--group-by"):
            return results.group_by(_names(group_by))
    if over:
        with _blame_option("--over"):
            return results.group_by(over=_names(over))
    return results


def _sorted(table: Results | Groups, sort_by: str) -> Results | Groups:
    """Apply --sort-by. Raises SettingsError."""
    if not sort_by:
        return table
    descending = sort_by.startswith("-") and sort_by not in table.columns
    with _blame_option("--sort-by"):
        return table.sorted_by(sort_by[descending:], descending=descending)


def _selected(table: Results | Groups, columns: str, *, with_deviations: bool) -> Results | Groups:
    """Apply --columns; a table shows a mean with its deviation. Raises SettingsError."""
    names = _names(columns)
    if with_deviations and isinstance(table, Groups):
        names += table.missing_deviations(names)
    with _blame_option("--columns"):
        return table.select(names)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


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
        message = f"{option}: no {error.key} {shown(error.value)}; {known}"
        raise SettingsError(
            error.key, error.value, option, error.allowed, error.hint, message=message
        ) from None


def _writers(table: Results | Groups) -> dict[str, Callable[[Any], Any]]:
    return {
        "csv": table.to_csv,
        "json": table.to_json,
        "md": table.to_markdown,
        "parquet": table.to_parquet,
    }


def _print(table: Results | Groups, *, is_whole: bool) -> None:
    """Print the table.

    Args:
        is_whole: whether the user has asked for these columns; then none is left out.
    """
    shown = table.overview(with_constants=is_whole or not sys.stdout.isatty(), with_empty=is_whole)
    print_columns(
        shown.columns,
        droppable=() if is_whole else DROPPABLE,
        hint="--all-columns shows them",
        lead=shown.lead,
        above=lambda width: shown.constants_line(table.row_word, width),
    )
    if not shown.rows:
        say(f"no {table.row_word}s")
