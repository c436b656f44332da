"""From the parameter combinations that a caller gives to those that a sweep can have.

[{"lr": np.float64(0.1), "out": Path("x")}, …] --plain_points--> [{"lr": 0.1, "out": "x"}, …]
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from hsm.core.errors import SettingsError, shown
from hsm.core.plain_json import MAX_DEPTH, encode
from hsm.core.record.large import Shelf
from hsm.core.space.arguments import simplified

#: The variable that has a job's parameters, and that which names a file with them.
VARIABLE, FILE_VARIABLE = "HSM_PARAMS", "HSM_PARAMS_FILE"
#: Bytes of `VARIABLE`, its name and the NUL at its end included. The kernel takes twice as many,
#: and not as many such variables as one likes.
_MAX_SIZE = 64 << 10
_ALLOWED = "a list of mappings, each from parameters' names to values"


def plain_points(combinations: object) -> list[dict[str, Any]]:
    """The points of a sweep, in which everything is of a type that JSON and Hydra have.

    NumPy's scalars and arrays become what they hold, paths texts, an enum's member its name (its
    value if the enum is also a str or an int).

    Args:
        combinations: what a caller gave.

    Raises:
        SettingsError: it is no list of mappings; a name is no text; JSON cannot hold a value. Names
            the combination.
    """
    if not isinstance(combinations, Iterable) or isinstance(combinations, (Mapping, str, bytes)):
        raise SettingsError("param_combinations", combinations, "submit_jobs", _ALLOWED)
    return [
        _plain_point(point, f"submit_jobs, combination {index}")
        for index, point in enumerate(combinations)
    ]


def _plain_point(point: object, origin: str) -> dict[str, Any]:
    if not isinstance(point, Mapping):
        raise SettingsError("param_combinations", point, origin, _ALLOWED)
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
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
    if isinstance(value, Mapping):
        return {simplified(key): _plain(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, depth - 1) for item in value]
    if type(value) is tuple:
        return tuple(_plain(item, depth - 1) for item in value)
    return value


def variables(params: Mapping[str, Any], shelf: Shelf) -> dict[str, str]:
    """The variables that tell a job its parameters.

    They are JSON in `VARIABLE` or, if they are too large for the environment of a program, in the
    file that `FILE_VARIABLE` names; `VARIABLE` is ``null`` then.

    Raises:
        OSError: there is no room for the file.
    """
    text = json.dumps(params)  # ASCII
    if len(f"{VARIABLE}={text}\0") > _MAX_SIZE:
        return {VARIABLE: "null", FILE_VARIABLE: str(shelf.put(encode(params)).path)}
    if FILE_VARIABLE in os.environ:  # This launcher is itself a job, and that file has its own.
        return {VARIABLE: text, FILE_VARIABLE: ""}
    return {VARIABLE: text}
