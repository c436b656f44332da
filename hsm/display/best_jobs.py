"""The best jobs of a sweep as a small table: their numbers, what varies between jobs, the metric.

best by loss (lowest of 88; 2 have none):
job  lr     model   loss
17  0.001  mlp    0.1234

If points are repeated, the best trials, each with the mean and the deviation of its jobs:

best by loss (lowest mean of 4):
jobs  lr             loss
3-5   0.01  0.312 ± 0.028

Of several objectives, those on the Pareto front, the best by the first objective first:

7 of 40 jobs are on the Pareto front of loss (lowest), size (lowest); the first 5:
job    lr   loss  size
 17  0.01  0.121    80
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from hsm.core.job_numbers import show_numbers
from hsm.core.printable import printable
from hsm.core.results.grouping import with_deviation
from hsm.core.results.metric import Number, Ranking
from hsm.core.results.pareto import Front
from hsm.core.results.results_table import Results
from hsm.core.results.tables import for_people
from hsm.core.results.trial import MEAN, WORST
from hsm.core.settings.resolve import Direction
from hsm.core.table_layout import GAP, Column, cell_width, plain_lines
from hsm.display.text import fit

#: Jobs shown: the best ones, or where nobody said which end is best, so many of either end.
_BEST, _EACH_END = 5, 3
_INDENT = "  "
_END = {Direction.minimize: "lowest", Direction.maximize: "highest"}
#: Columns of the terminal that a parameter may take, its name too; the smaller one if not all have
#: room.
_WIDE, _NARROW = 24, 12
_DIGITS = (4, 5, 6)


def best_jobs(results: Results, ranking: Ranking, width: int) -> list[str]:
    """The lines of the table, each of at most `width` columns; none if nothing is ranked.

    Args:
        results: the sweep's.
        ranking: its completed jobs by the metric.
        width: columns of the terminal.
    """
    if ranking.front is not None:
        return _front_jobs(results, ranking.front, width)
    if ranking.metric is None or not ranking.rows:
        return []
    chosen, is_whole = _chosen(ranking)
    rows = [ranking.rows[at] for at in chosen]
    numbers = _numbers(ranking, chosen)
    metric = _column(_heading(ranking.metric, _WIDE), _values(ranking, chosen))
    varying = [name for name in results.varying if all(name in row for row in rows)]
    room = width - len(_INDENT) - numbers.width - GAP - metric.width
    columns = _fitting(rows, varying, room)
    left_out = len(varying) - len(columns)
    lines = [_INDENT + line for line in plain_lines([numbers, *columns, metric])]
    if not is_whole and ranking.goal.direction is None:
        lines.insert(1 + _EACH_END, f"{_INDENT}{'…':>{numbers.width}}")
    return [fit(_title(ranking, is_whole, left_out), width), *(fit(line, width) for line in lines)]


def _front_jobs(results: Results, front: Front, width: int) -> list[str]:
    """The jobs on the Pareto front, or the trials."""
    if not front.rows:
        return []
    rows, are_trials = front.rows[:_BEST], any(len(jobs) > 1 for jobs in front.jobs)
    numbers = _column(
        "jobs" if are_trials else "job", [show_numbers(it) for it in front.jobs[:_BEST]]
    )
    values = [
        _column(_heading(name, _NARROW), _numbers_apart([own[at] for own in front.values[:_BEST]]))
        for at, (name, _) in enumerate(front.objectives)
    ]
    varying = [name for name in results.varying if all(name in row for row in rows)]
    room = width - len(_INDENT) - numbers.width - sum(GAP + each.width for each in values)
    columns = _fitting(rows, varying, room)
    told = ", ".join(
        f"{printable(name)} ({_END[direction]})" for name, direction in front.objectives
    )
    unit = "trial" if are_trials else "job"
    units = f"1 {unit} is" if front.count == 1 else f"{front.count} {unit}s are"
    title = f"{len(front.rows)} of {units} on the Pareto front of {told}"
    if len(front.rows) > len(rows):
        title += f"; the first {len(rows)}"
    lines = [_INDENT + line for line in plain_lines([numbers, *columns, *values])]
    return [fit(f"{title}:", width), *(fit(line, width) for line in lines)]


def _numbers(ranking: Ranking, chosen: Sequence[int]) -> Column:
    """The numbers of the jobs, or those of each trial's jobs."""
    if ranking.trials:
        return _column("jobs", [show_numbers(ranking.trials[at].jobs) for at in chosen])
    return _column("job", [str(ranking.rows[at]["job"]) for at in chosen])


def _chosen(ranking: Ranking) -> tuple[list[int], bool]:
    """Which of the ranked jobs are shown, and whether that is all of them."""
    count = len(ranking.rows)
    if ranking.goal.direction is not None:
        return list(range(min(count, _BEST))), count <= _BEST
    if count <= 2 * _EACH_END:
        return list(range(count)), True
    return [*range(_EACH_END), *range(count - _EACH_END, count)], False


def _title(ranking: Ranking, is_whole: bool, left_out: int) -> str:
    count = len(ranking.rows)
    metric = printable(str(ranking.metric))
    remarks = []
    if ranking.missing:
        remarks.append(f"{ranking.missing} {'has' if ranking.missing == 1 else 'have'} none")
    if ranking.left_out:
        has = "trial has" if ranking.left_out == 1 else "trials have"
        remarks.append(f"{ranking.left_out} {has} less than half of its jobs")
    if ranking.infeasible:
        breaks = "breaks" if len(ranking.infeasible) == 1 else "break"
        remarks.append(f"{len(ranking.infeasible)} {breaks} a constraint")
    if left_out:
        what = "parameter" if left_out == 1 else "parameters"
        remarks.append(f"{left_out} {what} not shown")
    if ranking.goal.direction is not None:
        end = _END[ranking.goal.direction]
        if ranking.trials:
            end = f"{end} {ranking.how}" if ranking.how != WORST else f"{end} of their worst"
        return f"best by {metric} ({'; '.join([f'{end} of {count}', *remarks])}):"
    unit = "trial" if ranking.trials else "job"
    jobs = f"1 {unit}" if count == 1 else f"{count} {unit}s"
    how = MEAN if ranking.how == WORST else ranking.how  # without a direction none is worst
    metric = f"{how} {metric}" if ranking.trials else metric
    what = f"{metric} of {jobs}" if is_whole else f"{metric} of {jobs}, highest and lowest"
    return f"{what} ({'; '.join(remarks)}):" if remarks else f"{what}:"


def _fitting(rows: Sequence[Mapping[str, Any]], names: Sequence[str], room: int) -> list[Column]:
    """The columns of as many parameters as there is room for."""
    columns = [_parameter(name, [row[name] for row in rows], _WIDE) for name in names]
    if sum(GAP + column.width for column in columns) > room:
        columns = [_parameter(name, [row[name] for row in rows], _NARROW) for name in names]
    ends = accumulate(GAP + column.width for column in columns)
    return [column for column, end in zip(columns, ends, strict=True) if end <= room]


def _parameter(name: str, values: Sequence[Any], most: int) -> Column:
    cells = [fit(printable(for_people(value)), most) for value in values]
    is_number = all(value is None or type(value) in (int, float) for value in values)
    return _column(_heading(name, most), cells, is_right=is_number)


def _column(heading: str, cells: Sequence[str], *, is_right: bool = True) -> Column:
    return Column(heading, cells, is_right, measure=cell_width)


def _heading(name: str, most: int) -> str:
    """A dotted name is cut at its front: what tells it from others is at its end."""
    name = printable(name)
    if cell_width(name) <= most:
        return name
    return "…" + fit(name[::-1], most)[:-1][::-1]


def _values(ranking: Ranking, chosen: Sequence[int]) -> list[str]:
    """The values of the metric; of a trial with its standard deviation."""
    if not ranking.trials:
        return _numbers_apart([ranking.values[at] for at in chosen])
    trials = [ranking.trials[at] for at in chosen]
    values = _numbers_apart([trial.value for trial in trials])
    return [
        value
        if trial.deviation is None or trial.how != MEAN
        else with_deviation(trial.mean, trial.deviation)
        for trial, value in zip(trials, values, strict=True)
    ]


def _numbers_apart(values: Sequence[Number]) -> list[str]:
    """Numbers with as few digits as tell them apart, from four to six."""
    texts: list[str] = []
    for digits in _DIGITS:
        texts = [_number(value, digits) for value in values]
        if len(set(texts)) == len(set(values)):
            break
    return texts


def _number(value: Number, digits: int) -> str:
    if isinstance(value, int) and abs(value) < 10**9:
        return str(value)
    most = f"{value:.{_DIGITS[-1]}g}"
    if float(most) == value:
        return most
    whole = len(str(int(abs(value))))  # of 12345.6, no digit before the point is worth an exponent
    return f"{value:.{max(digits, min(whole, _DIGITS[-1]))}g}"
