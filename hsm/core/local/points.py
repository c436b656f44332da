"""From the parameter combinations that a caller gives to those that a sweep can have.

[{"lr": np.float64(0.1), "out": Path("x")}, …] --plain_points--> [{"lr": 0.1, "out": "x"}, …]
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from hsm.core._arguments import simplified
from hsm.core.errors import SettingsError

#: The variable that has a job's parameters.
VARIABLE = "HSM_PARAMS"
#: Bytes of one variable, its name and the NUL at its end included: MAX_ARG_STRLEN of Linux.
_MOST = 32 * os.sysconf("SC_PAGE_SIZE")
_ALLOWED = "a list of mappings, each from parameters' names to values"


def plain_points(combinations: object, *, are_executed: bool) -> list[dict[str, Any]]:
    """The points of a sweep, in which everything is of a type that JSON and Hydra have.

    NumPy's scalars and arrays become what they hold, paths texts, an enum's member its name (its
    value if the enum is also a str or an int).

    Args:
        combinations: what a caller gave.
        are_executed: the jobs are programs, so the kernel must be able to hand them the parameters.

    Raises:
        SettingsError: it is no list of mappings; a name is no text; JSON cannot hold a value; the
            parameters of a program are too large. Names the combination.
    """
    if not isinstance(combinations, Iterable) or isinstance(combinations, (Mapping, str, bytes)):
        raise SettingsError("param_combinations", combinations, "submit_jobs", _ALLOWED)
    return [
        _plain_point(point, f"submit_jobs, combination {index}", are_executed)
        for index, point in enumerate(combinations)
    ]


def _plain_point(point: object, origin: str, is_executed: bool) -> dict[str, Any]:
    if not isinstance(point, Mapping):
        raise SettingsError("param_combinations", point, origin, _ALLOWED)
    for name in point:
        if not isinstance(name, str):
            raise SettingsError("a parameter's name", name, origin, "a text")
    try:
        plain = {name: _plain(value) for name, value in point.items()}
        size = _size(json.dumps(plain))
    except (TypeError, ValueError, RecursionError) as error:
        allowed = f"values that JSON can hold ({error})"
        raise SettingsError("param_combinations", point, origin, allowed) from error
    if is_executed and size > _MOST:
        allowed = f"less than {_MOST} bytes as JSON, as a program finds them in {VARIABLE}"
        hint = f"these are {size} bytes: write them to a file and sweep over its name"
        raise SettingsError("param_combinations", point, origin, allowed, hint)
    return plain


def _plain(value: Any) -> Any:
    value = simplified(value)
    if isinstance(value, Mapping):
        return {simplified(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if type(value) is tuple:
        return tuple(_plain(item) for item in value)
    return value


def variable(params: Mapping[str, Any]) -> str:
    """The text of `VARIABLE` for a job: its parameters as JSON.

    ``null`` if they are too many for the environment of a program; a function has them anyway, and
    must still be able to start programs.
    """
    text = json.dumps(params)
    return text if _size(text) <= _MOST else "null"


def _size(text: str) -> int:
    """The bytes that a variable with this text takes; all of JSON's are ASCII."""
    return len(VARIABLE) + len("=") + len(text) + 1
