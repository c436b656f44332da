"""Converts the parameter combinations that a caller passes to plain JSON types.

[{"lr": np.float64(0.1), "out": Path("x")}, …] --plain_points--> [{"lr": 0.1, "out": "x"}, …]
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from hsm.core.errors import SettingsError, shown
from hsm.core.plain_json import MAX_DEPTH, are_plain, encode
from hsm.core.record.large import Shelf
from hsm.core.record.paths import SweepPaths
from hsm.core.space.arguments import simplified

if TYPE_CHECKING:
    from hsm.core.space.selection import Selection

#: The variable with a job's parameters, and the one that names a file with them.
VARIABLE, FILE_VARIABLE = "HSM_PARAMS", "HSM_PARAMS_FILE"
#: Maximum bytes of `VARIABLE`, including its name and the final NUL. The kernel allows twice that
#: for one variable, but also limits all of them together.
_MAX_SIZE = 64 << 10
_ALLOWED = "a list of mappings, each from parameters' names to values"


def plain_points(combinations: object, first: int = 0) -> list[dict[str, Any]]:
    """The points of a sweep, with only types that both JSON and Hydra have.

    NumPy scalars and arrays become numbers and lists, paths become strings, and an enum's member
    becomes its name (its value if the enum is also a str or an int).

    Args:
        combinations: what the caller passed.
        first: the place of the first one, for messages.

    Raises:
        SettingsError: this is not a list of mappings, a name is not a string, or JSON cannot
            represent a value. Names the combination.
    """
    check_combinations(combinations)
    assert isinstance(combinations, Iterable)
    return [
        _plain_point(point, f"submit_jobs, combination {index}")
        for index, point in enumerate(combinations, first)
    ]


def check_combinations(combinations: object) -> None:
    """Refuse what cannot be the points of a sweep. Raises SettingsError."""
    if not isinstance(combinations, Iterable) or isinstance(combinations, (Mapping, str, bytes)):
        raise SettingsError("param_combinations", combinations, "submit_jobs", _ALLOWED)


def with_facts(
    combinations: object, paths: SweepPaths, *, resumes: bool
) -> tuple[object, dict[str, Any]]:
    """A caller's points, and what they say of themselves, for the journal.

    That is how many are `planned`, if it is known, and how they were `chosen`, unless they are a
    list or a whole grid. Points that were chosen at random, without a seed, are those of the seed
    on record, if this resumes a sweep.

    Args:
        combinations: what the caller passed.
        paths: the sweep's.
        resumes: whether it is resumed, if there is one.
    """
    if isinstance(combinations, (list, tuple)):
        return combinations, {"planned": len(combinations), "chosen": {}}
    from hsm.core.space.selection import Selection  # Few callers have one.

    if not isinstance(combinations, Selection):
        return combinations, {"chosen": {}}
    if resumes and combinations.drew_seed:
        combinations = _as_before(combinations, paths)
    return combinations, {
        "chosen": combinations.choosing.record(),
        "planned": combinations.count(),
    }


def _as_before(selection: Selection, paths: SweepPaths) -> Selection:
    """The points with the seed that is on record, if there is one."""
    from hsm.core.record.earlier_choice import chosen_seed, earlier_choice
    from hsm.core.record.journal_header import has_begun

    seed = chosen_seed(earlier_choice(paths)) if has_begun(paths) else None
    return selection if seed is None else selection.with_seed(seed)


def _plain_point(point: object, origin: str) -> dict[str, Any]:
    if not isinstance(point, Mapping):
        raise SettingsError("param_combinations", point, origin, _ALLOWED)
    if are_plain(point):  # as nearly always, and then quick
        return dict(point)
    for name in point:
        if not isinstance(name, str):
            raise SettingsError("a parameter's name", name, origin, "a string")
    try:
        plain = {name: _plain(value, MAX_DEPTH - 1) for name, value in point.items()}
        json.dumps(plain)
    except (TypeError, ValueError, RecursionError) as error:
        message = f"{origin}: JSON cannot hold {shown(point)}: {error}"
        allowed = "values that JSON can hold"
        raise SettingsError(
            "param_combinations", point, origin, allowed, str(error), message=message
        ) from error
    return plain


def _plain(value: Any, depth: int) -> Any:
    value = simplified(value)
    if not isinstance(value, (Mapping, list, tuple)):
        return value
    if not depth:
        raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, Mapping):
        return {simplified(key): _plain(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, depth - 1) for item in value]
    if type(value) is tuple:
        return tuple(_plain(item, depth - 1) for item in value)
    return value


def variables(params: Mapping[str, Any], shelf: Shelf) -> dict[str, str]:
    """The environment variables that pass a job its parameters.

    The parameters are JSON in `VARIABLE` or, if that is too large for an environment, in the file
    that `FILE_VARIABLE` names; `VARIABLE` is ``null`` then.

    Raises:
        OSError: there is no room for the file.
    """
    text = json.dumps(params)  # ASCII
    if len(f"{VARIABLE}={text}\0") > _MAX_SIZE:
        return {VARIABLE: "null", FILE_VARIABLE: str(shelf.put(encode(params)).path)}
    if FILE_VARIABLE in os.environ:  # This launcher is a job itself: hide its own parameters' file.
        return {VARIABLE: text, FILE_VARIABLE: ""}
    return {VARIABLE: text}
