"""Random sets of overrides, as people and sweeps write them: right ones and wrong ones."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

_KEYS = ("lr", "+model.C", "++seed", "a.b", "db", "db@backup", "~old", "x/y", "hydra.job.name", "n")
_SCALARS = (
    *("1", "-3", "0.1", "1e-5", "inf", "nan", "true", "null", "False", "svm", "a-b.c/d", "1_000"),
    *("'1'", '"it\'s"', "'a, b'", r"a\,b", "ünï", "'tab\t'", "${lr}", "a b", "0x10", "''", "???"),
    *("[1,2]", "['a',b]", "[]", "{a:1,b:[2]}", "{}", "'null'", r"'\\'", "$x", "1:2", "007"),
)
_WRONG = ("a=", "=1", "x", "a=(1", "a=1)", "b=nosuch(1)", "c=[1", "~", "+", "a==b", "lr=interval()")


def override_set(random: Random) -> list[str]:
    """A few overrides; most sets have no mistake."""
    texts = [_override(random) for _ in range(random.randint(0, 4))]
    if random.random() < 0.15:
        texts.insert(random.randint(0, len(texts)), random.choice(_WRONG))
    return texts


def _override(random: Random) -> str:
    key = random.choice(_KEYS)
    if key.startswith("~") and random.random() < 0.5:
        return key
    return f"{key}={random.choice(_VALUES)(random)}"


def _scalars(random: Random) -> str:
    separator = random.choice((",", ", ", " , "))
    return separator.join(random.choice(_SCALARS) for _ in range(random.randint(1, 4)))


def _number(random: Random) -> str:
    return random.choice(("0", "1", "5", "-2", "10", "0.5", "2.0", "1e1", "0.1"))


def _range(random: Random) -> str:
    numbers = [_number(random) for _ in range(random.randint(1, 3))]
    if random.random() < 0.2:
        numbers[-1] = f"step={numbers[-1]}"
    return f"range({','.join(numbers)})"


def _call(random: Random) -> str:
    name = random.choice(("choice", "sort", "shuffle", "int", "float", "str", "bool", "tag"))
    inner = random.choice((_scalars, _range, _numbers))(random)
    rest = random.choice(("", "", ",reverse=true")) if name == "sort" else ""
    return f"{name}({inner}{rest})"


def _numbers(random: Random) -> str:
    return ",".join(_number(random) for _ in range(random.randint(1, 4)))


def _rare(random: Random) -> str:
    return random.choice(
        (
            *("interval(0,1)", "glob(*)", "glob([a*,m*],exclude=mysql)", "range(0)", "range(3,1)"),
            *("range(0,1,0)", "tag(log,interval(1,2))", "shuffle(range(0,8))", "glob(none*)"),
            *("sort(range(3,0,-1))", "extend_list(1,2)", "choice()", "shuffle([1,2],[3])"),
            *("range(5,0,-2)", "float(range(1,4))", "json_str({a:1})", "sort(3,1,2,reverse=true)"),
        )
    )


_VALUES: tuple[Callable[[Random], str], ...] = (_scalars, _scalars, _range, _call, _numbers, _rare)
