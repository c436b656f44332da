"""Points for sweeps that are started from Python.

choose_points({"lr": [0.1, 0.01], "seed": "range(3)"})      every combination
choose_points({"lr": "tag(log, interval(1e-5, 1e-1))"}, method="random", n_trials=20)
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hsm.core.errors import SettingsError
from hsm.core.space.arguments import simplified
from hsm.core.space.choosing import check_choosing
from hsm.core.space.definition import SweepDefinition
from hsm.core.space.sections import read_sections
from hsm.core.space.selection import Selection
from hsm.core.space.sweep_text import SweepText

_ORIGIN = "choose_points"


def choose_points(
    params: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    *,
    zip: Mapping[str, Mapping[str, Any]] | None = None,
    points: Iterable[Mapping[str, Any]] | str | os.PathLike[str] | None = None,
    method: str = "grid",
    n_trials: int | None = None,
    seed: int | None = None,
    filter: str = "",
    shuffle: bool = False,
    repeat: Mapping[str, Any] | None = None,
    max_runs: int | None = None,
) -> Selection:
    """Choose the points of a sweep, for `LocalManager.run` and `LocalComputeSource.submit_jobs`.

    Points are computed when they are needed, one at a time, so that of a grid of a billion points
    a few cost nothing.

    Args:
        params: the values of each parameter: a list, a text in Hydra's syntax (``"range(5)"``,
            ``"0.1,0.2"``, ``"tag(log, interval(1e-5, 1e-1))"``), or a single value; a mapping
            nests. A list of such mappings is the union of their grids.
        zip: groups of parameters by name, such as ``{"size": {"width": [64, 128], "depth":
            [2, 4]}}``. The values of a group advance together; each group multiplies the grid.
        points: single points after all of these; or the path of a file with some: CSV, JSONL or
            YAML.
        method: how points are chosen: "grid" (all), "random", "lhs", "sobol" or "halton". The last
            two need scipy (``pip install 'hpc-sweep-manager[qmc]'``).
        n_trials: how many points are drawn, by all methods but "grid".
        seed: what they are drawn from, 0 to 2**32 - 1: the same points for the same seed; by
            default a new one, which the selection tells.
        filter: keep only points for which this holds: an expression over parameters, such as
            ``"width * depth < 512"``, or the dotted path of a function that gets a point.
        shuffle: put the points of a grid into a random order.
        repeat: run each point once for each combination of these: ``{"seed": [0, 1, 2]}``.
        max_runs: at most so many points, after `filter` and `shuffle`, before `repeat`.

    Returns:
        An iterable of each job's parameters, which can be iterated more than once.

    Raises:
        SettingsError: an argument is not valid, or the method cannot draw from these parameters.
    """
    try:
        choosing = {
            "method": method,
            "n_trials": _native(n_trials),
            "seed": _native(seed),
            "filter": filter,
            "shuffle": _native(shuffle),
            "repeat": _native(repeat),
            "max_runs": _native(max_runs),
        }
        sweep = {"params": _native(params), "zip": _native(zip), "points": _point_list(points)}
        return _selection(choosing, sweep)
    except RecursionError:
        message = "choose_points: the values are nested too deeply, or hold themselves"
        allowed = "less deeply nested"
        raise SettingsError("params", params, _ORIGIN, allowed, message=message) from None


def read_space(params: Mapping[str, Any], caller: str) -> SweepDefinition:
    """The space that `params` defines, see `choose_points`; it may have intervals.

    Args:
        params: the values of each parameter.
        caller: the function that got them, for messages.

    Raises:
        SettingsError: they are not valid.
    """
    try:
        sections = {"params": _native(params)}
        return SweepDefinition(read_sections(SweepText(caller, intervals=True), sections))
    except RecursionError:
        message = f"{caller}: the values are nested too deeply, or hold themselves"
        allowed = "less deeply nested"
        raise SettingsError("space", params, caller, allowed, message=message) from None


def _selection(choosing: Mapping[str, Any], sweep: Mapping[str, Any]) -> Selection:
    given = {
        name: value
        for name, value in choosing.items()
        if value is not None and value is not False and value != ""
    }
    checked = check_choosing(given, {name: f"argument {name}" for name in given})
    sections = {name: value for name, value in sweep.items() if value is not None and value != {}}
    text = SweepText(_ORIGIN, intervals=checked.method != "grid")
    blocks = read_sections(text, sections)
    return Selection(SweepDefinition(blocks or [[]]), checked, origin=_ORIGIN)


def _point_list(points: object) -> object:
    is_path = points is None or isinstance(points, (str, os.PathLike))
    return points if is_path else _native(points)


def _native(value: Any) -> Any:
    """`value` as YAML would have it: of dicts, lists and plain values, as far as it can be."""
    value = simplified(value)
    if isinstance(value, Mapping):
        return {simplified(key): _native(item) for key, item in value.items()}
    if isinstance(value, range):
        return f"range({value.start},{value.stop},{value.step})"
    if isinstance(value, (list, tuple)):
        return [_native(item) for item in value]
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes, set, frozenset)):
        return [_native(item) for item in value]
    return value
