"""Sets of overrides, at random: the same for the same app and seed, on any machine."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from _composing_apps import App

#: What random values are made of.
_VALUES = (
    *(
        "1",
        "-2.5",
        "1e-7",
        "true",
        "null",
        "abc",
        "???",
        "",
        "''",
        '"a b"',
        "'it\\'s'",
        "nan",
        "-0.0",
    ),
    *(
        "[]",
        "[1,2]",
        "[a,[b,{c:1}]]",
        "{}",
        "{a:1}",
        "{a:{b:[1,null]},c:'x'}",
        "[${lr}]",
        "{a:${v}}",
    ),
    *("${lr}", "${n}", "${v}", "${hydra:job.num}", "${hydra.job.name}", "${oc.env:HOME}", "a:b"),
    *(
        "${oc.env:NOT_SET,7}",
        "${nowhere}",
        "${now:%Y}",
        "ünï",
        "10_000",
        "0x10",
        "x/y",
        "$5",
        "a\\,b",
    ),
    *("int('3')", "str(1)", "sort([2,1])", "shuffle([1,2,3])", "bool(1)"),
)
_WRONG_VALUES = ("1,2", "\\", "[1", "range(1,3)", "${a", "int(x)", "nope(1)", "{a:1,a}")
_OPERATORS = (*[""] * 9, *["++"] * 3, "+", "~")


@dataclass(frozen=True)
class Set:
    """One config to compose.

    Attributes:
        master: the sweep's own overrides, after the config's name.
        overrides: the job's.
        environment: variables of its process, as pairs.
        state: what counters and random numbers begin with.
        call: "job" as launchers and jobs compose, "run" or "multirun" as Hydra does.
        thorough: whether to look at copies, resolved values and YAML as well.
    """

    master: str
    overrides: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    state: int = 0
    call: str = "job"
    thorough: bool = False

    def with_override(self, text: str) -> Set:
        """Return a set with one more override."""
        return replace(self, overrides=(*self.overrides, text))

    def as_json(self) -> dict[str, Any]:
        """Return it as `from_json` reads it."""
        return asdict(self)

    @classmethod
    def from_json(cls, given: dict[str, Any]) -> Set:
        """Make the set that `as_json` returned."""
        pairs = tuple((name, value) for name, value in given["environment"])
        return cls(**{**given, "overrides": tuple(given["overrides"]), "environment": pairs})


def make_sets(app: App, seed: int) -> list[Set]:
    """Make the sets that one remembering loader gets in turn."""
    source = random.Random(f"{app.name} {seed}")
    chosen = [_some(source, app.groups, 2) for _ in range(source.choice((1, 2, 4)))]
    masters = source.sample(app.masters, min(len(app.masters), source.choice((1, 2, 4))))
    return [
        _make_set(app, source, chosen, masters) for _ in range(source.choice((20, 60, 120, 240)))
    ]


def _make_set(
    app: App, source: random.Random, chosen: list[list[str]], masters: Sequence[str]
) -> Set:
    groups = source.choice(chosen) if source.random() < 0.9 else _some(source, app.groups, 3)
    overrides = [*groups, *_some(source, app.values, 2)]
    overrides += [_random_value(source, app.keys) for _ in range(source.choice((0, 0, 1, 2)))]
    if source.random() < 0.15:
        overrides += source.sample(app.wrong, min(1, len(app.wrong)))
    if source.random() < 0.3:
        source.shuffle(overrides)
    if overrides and source.random() < 0.05:
        overrides.append(source.choice(overrides))
    master = source.choice(masters)
    of_sweep = [text for text in master.split(" ")[1:] if not text.startswith("hydra")]
    return Set(
        master,
        (*of_sweep, *overrides),
        tuple((name, source.choice(values)) for name, values in app.environment.items()),
        source.randrange(1 << 30),
        source.choices(("job", "run", "multirun"), (40, 1, 1))[0],
        source.random() < 0.08,
    )


def _some(source: random.Random, texts: Sequence[str], most: int) -> list[str]:
    return source.sample(texts, min(len(texts), source.randint(0, most))) if texts else []


def _random_value(source: random.Random, keys: Sequence[str]) -> str:
    key = source.choice(keys)
    operator = source.choice(_OPERATORS) if key[0] not in "+~" else ""
    if operator == "~" and source.random() < 0.7:
        return f"~{key}"
    return f"{operator}{key}={source.choice(_VALUES if source.random() < 0.97 else _WRONG_VALUES)}"
