"""The options of `hsm sweep` that say which points there are, and which of them run."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hsm.cli._complete import one_of
from hsm.cli._options import POINTS
from hsm.core.space.choosing import Method

#: By the names of `hsm.cli._sweep_line.SweepLine`; None for those that are not given.
POINT_OPTIONS: dict[str, Any] = {
    "zipped": Annotated[
        list[str] | None,
        typer.Option(
            "--zip",
            metavar="OVERRIDES",
            help="Overrides whose values advance together, such as 'width=64,128 depth=2,4'; "
            "multiplies the grid. May be given several times.",
            show_default=False,
            rich_help_panel=POINTS,
        ),
    ],
    "also": Annotated[
        list[str] | None,
        typer.Option(
            "--also",
            metavar="OVERRIDES",
            help="A further grid, after all other points, such as 'model=forest n=10,100'. May be "
            "given several times.",
            show_default=False,
            rich_help_panel=POINTS,
        ),
    ],
    "method": Annotated[
        str | None,
        typer.Option(
            "--method",
            metavar="|".join(Method),
            help="How points are chosen: all (grid), or N drawn at random, as a Latin hypercube "
            "(lhs), or from a sequence that fills the space evenly (sobol, halton). By default "
            "grid.",
            autocompletion=one_of(*Method),
            show_default=False,
            rich_help_panel=POINTS,
        ),
    ],
    "n_trials": Annotated[
        str | None,
        typer.Option(
            "--n-trials",
            metavar="N",
            help="How many points the method draws.",
            show_default=False,
            rich_help_panel=POINTS,
        ),
    ],
    "seed": Annotated[
        str | None,
        typer.Option(
            "--seed",
            metavar="N",
            help="What --method and --shuffle draw from: the same points again for the same seed. "
            "By default a new one, which is recorded and told.",
            show_default=False,
            rich_help_panel=POINTS,
        ),
    ],
    "filter": Annotated[
        str | None,
        typer.Option(
            "--filter",
            metavar="EXPR",
            help="Run only points for which this holds, such as 'width * depth < 512', or a Python "
            "function of a point, such as mymodule.fits.",
            show_default=False,
            rich_help_panel=POINTS,
        ),
    ],
    "shuffle": Annotated[
        bool | None,
        typer.Option(
            "--shuffle/--no-shuffle",
            help="Run the points of the grid in a random order.",
            show_default=False,
            rich_help_panel=POINTS,
        ),
    ],
    "repeat": Annotated[
        list[str] | None,
        typer.Option(
            "--repeat",
            metavar="NAME=VALUES",
            help="Run each point once for each of these values, such as seed=0,1,2. May be given "
            "several times.",
            show_default=False,
            rich_help_panel=POINTS,
        ),
    ],
    "max_runs": Annotated[
        int | None,
        typer.Option(
            "--max-runs",
            metavar="N",
            min=1,
            help="Run only the first N points; with --shuffle, N at random.",
            show_default=False,
            rich_help_panel=POINTS,
        ),
    ],
}
