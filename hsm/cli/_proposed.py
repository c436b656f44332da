"""A sweep for a script that has none yet, over what it takes and people usually sweep."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hsm.core.program.hydra_script import config_place
from hsm.core.program.program import Program

#: Parts of the names of config groups that people sweep first, and names of those that they never
#: do.
_GROUPS = re.compile(r"model|net|arch|backbone|algo|agent|optim|data|loss|sched|env|task|policy")
_NEVER_GROUPS = re.compile(
    r"paths?|log(s|ger|gers|ging)?|callbacks?|trainer|debug|hparams\w*|extras|launch\w*|local|mode|"
    r"machine|user|devices?|accel\w*|profil\w*|server|cluster|wandb|experiments?|deploy\w*|"
    r"secrets?|credentials?"
)
#: Last parts of keys: the rate that nearly every app has, and other numbers that people sweep.
_RATE = re.compile(r"lr|rate|eta|alpha|(.*_)?learning_rate|.*_lr|lr_.*|step_size|C|weight_decay|wd")
_SEED = re.compile(r"(.*_)?seed")
_TUNED = re.compile(
    r"(.*_)?(rate|decay|dropout|momentum|alpha|beta|gamma|lambda|eps|epsilon|tau|temperature|size|"
    r"dim|width|depth|units|layers|heads|hidden|features|channels|estimators|neighbors|clusters|"
    r"components|warmup|epochs|steps|clip|scale|weight|margin|ratio|noise|k|n|x|y)\d?"
)
#: Parts of keys that are settings of a run, or secret.
_NEVER = re.compile(
    r"(^|[._])(port|workers?|gpus?|devices?|nodes|jobs|threads|version|verbos\w*|log\w*|save\w*|"
    r"check\w*|print\w*|every\w*|interval|timeout|patience|id|rank|limit|password|token|secret|"
    r"api|user\w*|path\w*|dir|debug)([._]|$)"
)
_PLAIN_KEY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_PLAIN_OPTION = re.compile(r"(?!(?i:y|n|on|off|yes|no|true|false|null|nan|inf)$)[A-Za-z_][\w-]*")
_MAX_OPTIONS, _MAX_COMMENTS = 3, 10


def propose(program: Program) -> tuple[list[str], str]:
    """Propose a sweep of a script.

    Returns:
        Lines of YAML for the grid, some of them comments; none if nothing is known of what it
        takes. And what people should know of how that was found, often "".
    """
    if program.uses_hydra and program.script is not None:
        return _propose_for_hydra(program.script)
    signature, seen = program.writer.signature, set[str]()
    options = {} if signature is None else signature.options
    defaults: dict[str, float] = {}
    for name, option in options.items():
        if len(name) > 1 and option.default is not None and option.word not in seen:
            seen.add(option.word)
            defaults[name] = option.default
    lines = list(grid(defaults, {}, "by default"))
    if not lines:
        # No number is known: any option that takes a value, for people to write some.
        named = [n for n, each in options.items() if len(n) > 1 and each.takes_value]
        lines = [f"{name}: [first, second]  # put your own values here" for name in named[:1]]
    return lines, ""


def _propose_for_hydra(words: Sequence[str]) -> tuple[list[str], str]:
    from hsm.hydra_app.app_config import look
    from hsm.hydra_app.asked_app import CannotAsk, ask
    from hsm.hydra_app.config_check import config_loader

    try:
        found, note = ask(words, [[]], tries_groups=True), ""
    except CannotAsk as error:
        note = f"{words[-1]} {error}: the sweep is made from its config files alone"
        place, loader = config_place(words[-1]), config_loader(words[-1])
        if place is None or loader is None:
            return [], note.replace("made from its config files alone", "an example")
        found = look(loader, place.name, [[]], tries_groups=True)
    base = found["base"]
    if base is None:  # it may want a choice to be made
        base = next((c for configs in found["free"].values() for c in configs.values()), None)
    if base is None:
        return [], f"the config of {words[-1]} does not compose: {found['error']}"
    lines = list(grid(base, found["free"]))
    return lines or ["+lr: [0.1, 0.01]  # the + adds a key that the config lacks"], note


def grid(
    base: Mapping[str, Any],
    free: Mapping[str, Mapping[str, Any]],
    where: str = "in the config",
) -> Iterator[str]:
    """Yield the lines of a grid over what people usually sweep, then comments with more of it.

    Args:
        base: a config.
        free: config groups, and the config that each option of them gives.
        where: where its numbers are, for comments.
    """
    groups = [group for group in free if not _NEVER_GROUPS.fullmatch(group.rpartition("/")[2])]
    groups.sort(key=lambda group: _GROUPS.search(group) is None)
    shared = dict(_numbers(base))
    if groups:
        options = dict([*free[groups[0]].items()][:_MAX_OPTIONS])
        yield f"{groups[0]}: [{', '.join(map(_quoted, options))}]"
        for config in options.values():
            numbers = dict(_numbers(config))
            shared = {key: value for key, value in shared.items() if key in numbers}
    rates = [key for key in shared if _RATE.fullmatch(_last(key))]
    seeds = [key for key in shared if _SEED.fullmatch(_last(key))]
    tuned = [key for key in shared if _TUNED.fullmatch(_last(key))]
    swept = [*rates[:1], *seeds[:1]]
    if not swept and not groups:
        swept = [*tuned, *shared][:1]
    for key in swept:
        if key in seeds:
            yield f"{key}: range({shared[key]}, {shared[key] + 3})"
        else:
            yield f"{key}: {_two(shared[key])}  # {shared[key]} {where}"
    more = [f"{group}: [{', '.join(map(_quoted, free[group]))}]" for group in groups[1:]]
    others = dict.fromkeys((*rates, *seeds, *tuned))
    more += [f"{key}: {_two(shared[key])}" for key in others if key not in swept]
    yield from (f"# {line}" for line in more[:_MAX_COMMENTS])


def _numbers(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield the keys of a config that hold numbers which people may sweep, with these."""
    for name, value in config.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict):
            yield from _numbers(value, f"{key}.")
        elif value is None and _SEED.fullmatch(_last(key)):  # drawn anew in each run
            yield key, 0
        elif isinstance(value, (int, float)) and _may_be_swept(key, value):
            yield key, value


def _may_be_swept(key: str, value: float) -> bool:
    is_number = not isinstance(value, bool) and math.isfinite(value)
    return bool(is_number and _PLAIN_KEY.fullmatch(key) and not _NEVER.search(key))


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _two(value: float) -> str:
    """The value in the config, and another one of its kind that is likely to be allowed too."""
    if isinstance(value, int):
        return f"[{value}, {value * 2 or 1}]"
    return f"[{value}, {float(f'{value / 10 or 0.1:.6g}')}]"


def _quoted(option: str) -> str:
    """Write an option as YAML reads it back: `off` or `1` would not be a text."""
    return option if _PLAIN_OPTION.fullmatch(option) else f"'{option}'"
