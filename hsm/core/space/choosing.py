"""How points are chosen: which method, how many, in what order, how often each.

what was written --check_choosing--> Choosing --Selection--> points

See `hsm.core.space.selection` for what becomes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from hsm.core.errors import SettingsError, did_you_mean
from hsm.core.space.arguments import to_override
from hsm.core.space.axes import STRING_KEYS
from hsm.core.space.chance import MAX_SEED
from hsm.core.space.grammar import check_key, plain_key
from hsm.core.text_enum import TextEnum

#: The method that is Optuna.
OPTUNA = "optuna"
#: Values of one repeated parameter.
_MAX_REPEATS = 10_000


class Method(TextEnum):
    """How points come from a space."""

    grid = "grid"
    random = "random"
    lhs = "lhs"
    sobol = "sobol"
    halton = "halton"


def is_study(method: object) -> bool:
    """Whether a method proposes points by what came of earlier ones: Optuna, or a user's class."""
    return isinstance(method, str) and (str(method) == OPTUNA or "." in method)


@dataclass(frozen=True)
class Choosing:
    """How points are chosen.

    Attributes:
        method: grid takes every combination of values; the others draw `n_trials` points.
        n_trials: how many they draw.
        seed: of everything that is random; None for one that nobody chose.
        filter: which points are wanted, see `hsm.core.space.condition`; empty for all.
        shuffle: whether a grid's points come in a random order.
        repeat: parameters and their values: every point runs for each combination of these.
        max_runs: points at most, after `filter` and `shuffle`; None for all.
    """

    method: Method = Method.grid
    n_trials: int | None = None
    seed: int | None = None
    filter: str = ""
    shuffle: bool = False
    repeat: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    max_runs: int | None = None

    @property
    def is_random(self) -> bool:
        """Whether anything depends on a seed."""
        return self.shuffle or self.method is not Method.grid

    @property
    def is_default(self) -> bool:
        """Whether all points run, once, in their order."""
        return self == Choosing()

    def with_seed(self, seed: int | None) -> Choosing:
        """The same with another seed."""
        return replace(self, seed=seed)

    def record(self) -> dict[str, Any]:
        """What is not as by default, for JSON; `check_choosing` reads it."""
        default = Choosing()
        record: dict[str, Any] = {}
        for name in KEYS:
            value = getattr(self, name)
            if value != getattr(default, name):
                record[name] = str(value) if name == "method" else value
        if self.repeat:
            record["repeat"] = {key: list(values) for key, values in self.repeat.items()}
        return record


#: The keys, in the order in which they are documented.
KEYS: tuple[str, ...] = tuple(each.name for each in fields(Choosing))


def check_choosing(given: Mapping[str, Any], origin: str | Mapping[str, str]) -> Choosing:
    """Check what was written on how to choose points.

    Args:
        given: the values by their keys, as they were written; None for what was not.
        origin: where they were written, or each of them, for messages.

    Raises:
        SettingsError: a value is wrong, or does not go with another one.
    """

    def where(name: str) -> str:
        return origin if isinstance(origin, str) else origin.get(name, "argument " + name)

    checked = {
        name: _CHECKS[name](name, value, where(name))
        for name, value in given.items()
        if value is not None
    }
    choosing = Choosing(**checked)
    if choosing.method is Method.grid and choosing.n_trials is not None:
        methods = ", ".join(method for method in Method if method is not Method.grid)
        message = (
            f"{where('n_trials')}: n_trials is for the methods that draw points ({methods}); "
            "max_runs takes the first points of a grid, with shuffle any"
        )
        raise _misfit("n_trials", choosing.n_trials, where("n_trials"), message)
    if choosing.method is not Method.grid and choosing.n_trials is None:
        message = (
            f"{where('method')}: method={choosing.method} needs n_trials, the number of points"
        )
        raise _misfit("n_trials", None, where("method"), message)
    if choosing.method is not Method.grid and choosing.shuffle:
        message = (
            f"{where('shuffle')}: shuffle is for grids; method={choosing.method} is random anyway"
        )
        raise _misfit("shuffle", value=True, origin=where("shuffle"), message=message)
    return choosing


def _misfit(key: str, value: object, origin: str, message: str) -> SettingsError:
    return SettingsError(key, value, origin, "one that goes with the method", message=message)


def _method(name: str, value: Any, origin: str) -> Method:
    known = [str(method) for method in Method]
    if is_study(value):
        message = (
            f"{origin}: {value} chooses each point by what came of the others, and here all are "
            "chosen at once: see LocalManager.optimize"
        )
        raise SettingsError(name, value, origin, f"one of {', '.join(known)}", message=message)
    if not isinstance(value, str) or str(value) not in known:
        hint = did_you_mean(value, known) if isinstance(value, str) else ""
        raise SettingsError(name, value, origin, f"one of {', '.join(known)}", hint)
    return Method(str(value))


def _count(name: str, value: Any, origin: str) -> int:
    number = _whole(value)
    if number is None or number < 1:
        raise SettingsError(name, value, origin, "a whole number of 1 or more")
    return number


def _seed(name: str, value: Any, origin: str) -> int:
    number = _whole(value)
    if number is None or not 0 <= number < MAX_SEED:
        raise SettingsError(name, value, origin, f"a whole number from 0 to {MAX_SEED - 1}")
    return number


def _whole(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.strip().isdigit():
        return int(value) if len(value) < 20 else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _filter(name: str, value: Any, origin: str) -> str:
    if not isinstance(value, str):
        allowed = "a text: an expression over the parameters, or the dotted path of a function"
        raise SettingsError(name, value, origin, allowed)
    return value.strip()


def _shuffle(name: str, value: Any, origin: str) -> bool:
    texts = {"true": True, "false": False}
    if isinstance(value, str) and value.lower() in texts:
        return texts[value.lower()]
    if not isinstance(value, bool):
        raise SettingsError(name, value, origin, "true or false")
    return value


def _repeat(name: str, value: Any, origin: str) -> dict[str, list[Any]]:
    if not isinstance(value, Mapping):
        allowed = "a mapping of parameters to their values, such as {seed: [0, 1, 2]}"
        raise SettingsError(name, value, origin, allowed)
    repeat: dict[str, list[Any]] = {}
    for key, values in value.items():
        check_key(key, origin)
        if plain_key(key) in map(plain_key, repeat):
            message = f"{origin}: repeat has {key} twice"
            raise SettingsError(name, key, origin, "different parameters", message=message)
        repeat[key] = _repeated(key, values, origin)
    return repeat


def _repeated(key: str, values: Any, origin: str) -> list[Any]:
    """The values of a repeated parameter: a list, or an override's text such as ``range(3)``."""
    if isinstance(values, str):
        from hsm.core.space.overrides import values_from_expression

        read = values_from_expression(key, values, origin)
        if read.count > _MAX_REPEATS:
            raise SettingsError(f"repeat.{key}", values, origin, f"at most {_MAX_REPEATS} values")
        return [read[index] for index in range(read.count)]
    if not isinstance(values, list | tuple) or not values:
        allowed = "a list with at least one value, such as [0, 1, 2] or range(3)"
        raise SettingsError(f"repeat.{key}", values, origin, allowed)
    if len(values) > _MAX_REPEATS:
        raise SettingsError(f"repeat.{key}", len(values), origin, f"at most {_MAX_REPEATS} values")
    for each in values:
        to_override(key, each, origin)
        if _has_other_keys(each):
            message = f"{origin}: repeat.{key}: {STRING_KEYS}"
            raise SettingsError(f"repeat.{key}", each, origin, STRING_KEYS, message=message)
    return list(values)


def _has_other_keys(value: Any) -> bool:
    """Whether a dict in `value` has a key that is not a string."""
    if isinstance(value, Mapping):
        return any(not isinstance(key, str) or _has_other_keys(value[key]) for key in value)
    return isinstance(value, list | tuple) and any(map(_has_other_keys, value))


_CHECKS: dict[str, Callable[[str, Any, str], Any]] = {
    "method": _method,
    "n_trials": _count,
    "seed": _seed,
    "filter": _filter,
    "shuffle": _shuffle,
    "repeat": _repeat,
    "max_runs": _count,
}
