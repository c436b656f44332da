"""The options of `hsm sweep` that say which points there are, and which of them run.

One table for both readers of the command line: typer, and `hsm.cli._usual_words`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hsm.core.space.choosing import OPTUNA, Method

#: Sections of the help.
POINTS, STUDY = "Points", "Optimisation"
_PREFIX = "study_"
_SAMPLERS = ("tpe", "random", "cmaes", "nsgaii", "nsgaiii", "gp", "qmc", "grid")
_PRUNERS = ("median", "asha", "hyperband", "patient", "threshold", "percentile", "wilcoxon")
_PRUNE, _REPEAT_AS, _DUPLICATES = ("ask", "stop"), ("mean", "median", "worst"), ("run", "reuse")


class PointOption(NamedTuple):
    """An option, whose value is a text if the command line has it.

    Attributes:
        name: what holds its value: an attribute of `hsm.cli._sweep_line.SweepLine`, or in the
            section `STUDY` a key of its `study`.
        option: the option, of a switch both.
        metavar: what stands for its value in the help; empty for a switch.
        help: what it says there.
        values: the words that it may be, or of which it is made, for completion.
        repeats: whether it may be given several times, and its value is a list.
        is_count: whether its value is a number of 1 or more.
        section: the section of the help.
    """

    name: str
    option: str
    metavar: str
    help: str
    values: Sequence[str] = ()
    repeats: bool = False
    is_count: bool = False
    section: str = POINTS

    @property
    def keyword(self) -> str:
        """Its name among those of all options; some settings are called as keys of `study` are."""
        return _PREFIX + self.name if self.section == STUDY else self.name


_CHOOSING = (
    PointOption(
        "zipped",
        "--zip",
        "OVERRIDES",
        "Overrides whose values advance together, such as 'width=64,128 depth=2,4'; "
        "multiplies the grid. May be given several times.",
        repeats=True,
    ),
    PointOption(
        "also",
        "--also",
        "OVERRIDES",
        "A further grid, after all other points, such as 'model=forest n=10,100'. May be "
        "given several times.",
        repeats=True,
    ),
    PointOption(
        "method",
        "--method",
        "|".join((*Method, OPTUNA)),
        "How points are chosen: all (grid), or N drawn at random, as a Latin hypercube "
        "(lhs), or from a sequence that fills the space evenly (sobol, halton); or each from the "
        "results so far (optuna, or the dotted path of a class with ask and tell). By default "
        "grid.",
        (*Method, OPTUNA),
    ),
    PointOption(
        "n_trials",
        "--n-trials",
        "N",
        "How many points the method draws; an optimiser 20 by default, those before a resume "
        "included.",
    ),
    PointOption(
        "seed",
        "--seed",
        "N",
        "What --method and --shuffle draw from: the same points again for the same seed. "
        "By default a new one, which is recorded and told.",
    ),
    PointOption(
        "filter",
        "--filter",
        "EXPR",
        "Run only points for which this holds, such as 'width * depth < 512', or a Python "
        "function of a point, such as mymodule.fits.",
    ),
    PointOption(
        "shuffle",
        "--shuffle/--no-shuffle",
        "",
        "Run the points of the grid in a random order.",
    ),
    PointOption(
        "repeat",
        "--repeat",
        "NAME=VALUES",
        "Run each point once for each of these values, such as seed=0,1,2. May be given "
        "several times.",
        repeats=True,
    ),
    PointOption(
        "max_runs",
        "--max-runs",
        "N",
        "Run only the first N points; with --shuffle, N at random.",
        is_count=True,
    ),
)

_STUDY = (
    PointOption(
        "direction",
        "--direction",
        "DIRECTION",
        "minimize or maximize, as --minimize and --maximize; for several metrics one for each: "
        "minimize,maximize.",
        ("minimize", "maximize"),
    ),
    PointOption(
        "metric",
        "--objective",
        "NAME",
        "What is optimised: --metric by another name; several with commas.",
    ),
    PointOption(
        "sampler",
        "--sampler",
        "NAME",
        "Optuna's sampler: tpe (the default), random, cmaes, gp …, or with its arguments, "
        "'{name: tpe, multivariate: true}'.",
        _SAMPLERS,
    ),
    PointOption(
        "pruner",
        "--pruner",
        "NAME",
        "What ends trials that do badly, by the values that their jobs report: median, asha, "
        "hyperband …, or with its arguments. By default none does.",
        _PRUNERS,
    ),
    PointOption(
        "prune",
        "--prune",
        "|".join(_PRUNE),
        "How a job is pruned: it asks with hsm.should_prune() (ask, the default), or hsm ends it "
        "(stop).",
        _PRUNE,
    ),
    PointOption(
        "n_jobs",
        "--n-jobs",
        "N",
        "Jobs of the optimiser that run at once; by default as many as --parallel-jobs.",
    ),
    PointOption(
        "max_time",
        "--max-time",
        "TIME",
        "Start no further trial after this time, in seconds or as 90s, 30m, 2h.",
    ),
    PointOption(
        "target",
        "--target",
        "VALUE",
        "Start no further trial once one is as good as this.",
    ),
    PointOption(
        "max_failure_rate",
        "--max-failure-rate",
        "RATE",
        "Stop when more than this part of the trials has failed, from 0 to 1, once 10 have ended.",
    ),
    PointOption(
        "repeat_as",
        "--repeat-as",
        "|".join(_REPEAT_AS),
        "What the optimiser is told of the jobs that --repeat makes of a point. By default their "
        "mean.",
        _REPEAT_AS,
    ),
    PointOption(
        "constraints",
        "--constraint",
        "EXPR",
        "What a trial must keep to, by a metric: 'memory <= 8'. May be given several times.",
        repeats=True,
    ),
    PointOption(
        "enqueue",
        "--enqueue",
        "POINT",
        "A point to try first, such as 'lr=0.1 width=3'. May be given several times.",
        repeats=True,
    ),
    PointOption(
        "warm_start",
        "--warm-start",
        "SWEEP",
        "A sweep whose completed jobs the optimiser is told of. May be given several times.",
        repeats=True,
    ),
    PointOption(
        "duplicates",
        "--duplicates",
        "|".join(_DUPLICATES),
        "What becomes of a point that the optimiser asks for again: it runs (the default), or "
        "gets its earlier value (reuse).",
        _DUPLICATES,
    ),
    PointOption(
        "custom_search_space",
        "--custom-search-space",
        "FUNCTION",
        "Dotted path of a function that gets each of Optuna's trials and suggests further values.",
    ),
    PointOption(
        "storage",
        "--storage",
        "URL",
        "Optuna's storage of the study; by default a file in the sweep's directory.",
    ),
    PointOption(
        "study_name",
        "--study-name",
        "NAME",
        "Name of the study there; by default that of the script or command.",
    ),
)

POINT_OPTIONS = (*_CHOOSING, *(each._replace(section=STUDY) for each in _STUDY))


def study_keys(given: dict[str, object]) -> dict[str, object]:
    """Take what is given for the section `STUDY` out of `given`; returns it by its keys."""
    keywords = {each.keyword: each.name for each in POINT_OPTIONS if each.section == STUDY}
    return {keywords[name]: given.pop(name) for name in list(given) if name in keywords}
