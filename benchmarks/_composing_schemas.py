"""What composing.py's apps have beside YAML: structured configs, and resolvers that keep count."""

from __future__ import annotations

import enum
import os
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union  # noqa: UP035 (OmegaConf 2.3 reads them)

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

#: How often each resolver was called.
calls: Counter[str] = Counter()
#: What the next one gets that is made while configs are merged.
made: Counter[str] = Counter()


def nothing() -> None:
    """An app that needs no more than its files."""


# --- structured configs ---


class Colour(enum.Enum):
    """A value by name."""

    RED = 1
    BLUE = 2


@dataclass
class Optimizer:
    lr: float = 0.1
    betas: List[float] = field(default_factory=lambda: [0.9, 0.99])  # noqa: UP006


@dataclass
class Sgd(Optimizer):
    m: Optional[float] = None  # noqa: UP045


@dataclass
class Inner:
    o: Optimizer = field(default_factory=Optimizer)
    d: Dict[str, int] = field(default_factory=lambda: {"a": 1})  # noqa: UP006
    u: Union[int, str, None] = 3  # noqa: UP007
    c: Colour = Colour.RED


@dataclass
class Late:
    a: int = 1
    o: Optimizer = field(default_factory=Optimizer)
    l: List[str] = field(default_factory=list)  # noqa: E741, UP006


def _next() -> int:
    made["next"] += 1
    return made["next"]


@dataclass
class Made:
    """Never the same twice."""

    v: int = 1
    number: int = field(default_factory=_next)


@dataclass
class Told:
    """The same until the environment changes."""

    v: int = 1
    told: str = field(default_factory=lambda: os.environ.get("FUZZ_TOLD", ""))


@dataclass
class Schema:
    opt: Optimizer = MISSING
    data: Any = MISSING
    inner: Inner = field(default_factory=Inner)
    inner2: Optional[Late] = None  # noqa: UP045
    inner3: Late = MISSING
    late: Late = MISSING
    made: Made = MISSING
    told: Told = MISSING
    lst: List[Inner] = field(default_factory=list)  # noqa: UP006
    tup: Tuple[int, int] = (1, 2)  # noqa: UP006
    ref: Any = "${inner.o}"
    n: int = 1
    s: str = "${n}"
    b: bytes = b"x\x00"
    path: Path = Path("/some/where")
    flag: bool = True
    ratio: Optional[float] = 0.5  # noqa: UP045


def store_schemas() -> None:
    """Store what `STRUCTURED` names in its defaults lists."""
    store = ConfigStore.instance()
    store.store(name="fuzz_schema", node=Schema)
    store.store(group="opt", name="base", node=Optimizer)
    store.store(group="opt", name="sgd", node=Sgd)
    store.store(group="data", name="x", node={"p": 1, "q": {"r": [1]}})
    store.store(group="data", name="y", node={"p": "${n}", "z": Inner})


@dataclass
class Matched:
    driver: str = "unknown"
    port: int = 1


def store_matching_schema() -> None:
    """Store a schema that Hydra 1.1 finds by a config's name, and one without a file."""
    store = ConfigStore.instance()
    store.store(group="db", name="mysql", node=Matched)
    store.store(group="db", name="typed", node=Matched)


@dataclass
class Tuples:
    """What only OmegaConf 2.4 has: tuples, and unions of containers."""

    pair: Tuple[int, str] = (1, "one")  # noqa: UP006
    counts: Tuple[int, ...] = (1, 2)  # noqa: UP006
    numbers: Union[int, Dict[str, int]] = field(default_factory=dict)  # noqa: UP006, UP007
    more: Any = (1, (2, 3))


def store_tuples() -> None:
    """Store a schema of `Tuples`."""
    ConfigStore.instance().store(name="fuzz_tuples", node=Tuples)


# --- resolvers ---


def register_resolvers() -> None:
    """Register resolvers that are pure, impure, cached, random, and that return containers."""

    def register(name: str, resolver: Any, use_cache: bool = False) -> None:
        OmegaConf.register_new_resolver(name, resolver, use_cache=use_cache, replace=True)

    register("rnd", lambda: _counted("rnd", random.random()))
    register("add", lambda a, b: _counted("add", f"{a}+{b}"))
    register("box", lambda: _counted("box", OmegaConf.create({"n": calls["box"]})))
    register("kept", lambda: _counted("kept", random.randint(0, 9)), use_cache=True)
    register("keptbox", lambda: _counted("keptbox", {"n": calls["keptbox"]}), use_cache=True)
    register("above", lambda *, _parent_: _counted("above", sorted(map(str, _parent_))))
    register("moody", _moody)
    register("chosen", lambda: _counted("chosen", os.environ.get("FUZZ_K", "x").replace("z", "x")))


def _counted(name: str, value: Any) -> Any:
    calls[name] += 1
    return value


def _moody() -> Any:
    calls["moody"] += 1
    mood = os.environ.get("FUZZ_MOOD")
    if mood == "error":
        raise ValueError("not today")
    return {"n": 1} if mood == "box" else "value"
