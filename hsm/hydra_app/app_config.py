"""What the config of a Hydra app has: its keys, its config groups, and what a sweep's choices give.

    in this process, from the app's files      look(loader, name, points)   --> a dict, see `look`
    in the app's own interpreter               python app_config.py FD train.py  --JSON-->  the same

The second way knows what the app registers itself (ConfigStore), and its search path. The script
runs up to its `@hydra.main` function, in whose place the question is answered. This module imports
nothing of hsm's, so that any interpreter with Hydra can run it.
"""

from __future__ import annotations

import json
import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader

#: A point of a sweep: for each key, its override as Hydra reads it and its value.
Point = Sequence[tuple[str, str, Any]]

#: Configs that are composed, and config groups that are listed. The directory of the configs may
#: be that of the project, with thousands of others in it.
_MAX_COMPOSED, _MAX_GROUPS = 24, 500
#: Given in a sweep, it changes where configs are looked for.
_SEARCH_PATH = "hydra.searchpath"
#: Options of a config group that are tried for a new sweep.
_MAX_TRIED = 4


def look(
    loader: ConfigLoader, name: str | None, points: Sequence[Point], *, tries_groups: bool = False
) -> dict[str, Any]:
    """Compose the configs of an app that a sweep's points choose.

    Args:
        loader: the app's config loader.
        name: its primary config.
        points: some points of a sweep.
        tries_groups: find out which config groups can be chosen from, too.

    Returns:
        Data for JSON:

        groups: each config group's options.
        base: the config without any choices; None if that does not compose.
        error: why it does not.
        chosen: one entry for each choice of groups that is composed: `overrides`, the values of
            config groups by key; `config`, None if it does not compose; `error`, why not.
        is_complete: whether every value of a config group in `points` is in one of these.
        free: with `tries_groups`, for each group that can be chosen from, the configs that its
            options give.
    """
    groups = _Groups(loader, name, points)
    base, error = _compose(loader, name, ())
    chosen: list[dict[str, Any]] = []
    seen: set[tuple[str, str]] = set()
    is_complete = True
    made: set[tuple[str, ...]] = set()
    for point in points:
        choices = [entry for entry in point if _is_choice(entry[0], groups)]
        words = tuple(text for _, text, _ in choices)
        pairs = {(key, text) for key, text, _ in choices}
        if words in made or (pairs <= seen and made):
            continue
        if len(made) == _MAX_COMPOSED:
            is_complete = False
            break
        made.add(words)
        seen |= pairs
        config, why_not = _compose(loader, name, words)
        values = {key: value for key, _, value in choices}
        chosen.append({"overrides": values, "config": config, "error": why_not})
    found: dict[str, Any] = {"groups": groups.found(), "base": base, "error": error}
    found |= {"chosen": chosen, "is_complete": is_complete}
    if tries_groups:
        found["free"] = dict(_free(loader, name, groups.found()))
    return found


def plain_group(key: str) -> str:
    """The config group that a key names, if it names one: ``db`` of ``+db@backup``."""
    return key.lstrip("+~").partition("@")[0]


def _is_choice(key: str, groups: _Groups) -> bool:
    group = plain_group(key)
    return group == _SEARCH_PATH or (not key.startswith("~") and bool(groups.options(group)))


class _Groups:
    """The config groups of an app, with its search path, and their options."""

    def __init__(self, loader: Any, name: str | None, points: Sequence[Point]) -> None:
        from hydra.core.object_type import ObjectType

        self._types = ObjectType
        paths = {text for point in points for key, text, _ in point if key == _SEARCH_PATH}
        try:
            # What the loader makes anew at every question.
            _, self._repository = loader._parse_overrides_and_create_caching_repo(name, [*paths])
        except Exception:  # the config does not compose, or this is another Hydra
            self._repository = loader
        self._options: dict[str, list[str]] = {}
        for group in islice(self._all(), _MAX_GROUPS):
            self.options(group)

    def options(self, group: str) -> list[str]:
        """The options of a group; none if there is no such group."""
        if group not in self._options:
            self._options[group] = self._below(group, self._types.CONFIG)
        return self._options[group]

    def found(self) -> dict[str, list[str]]:
        """All groups that have options."""
        return {group: options for group, options in self._options.items() if options}

    def _below(self, group: str, kind: Any) -> list[str]:
        return [str(name) for name in self._repository.get_group_options(group, kind)]

    def _all(self) -> Iterator[str]:
        """Yield the config groups, except Hydra's own, outer ones first."""
        pending = deque([""])
        while pending:
            parent = pending.popleft()
            for name in self._below(parent, self._types.GROUP):
                group = f"{parent}/{name}" if parent else name
                if group != "hydra":
                    yield group
                    pending.append(group)


def _free(
    loader: ConfigLoader, name: str | None, groups: dict[str, list[str]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each group that can be chosen from, with the configs that its options give."""
    for group, options in groups.items():
        if len(options) > 1:
            tried = {each: f"{group}={each}" for each in options[:_MAX_TRIED]}
            configs = {each: _compose(loader, name, (word,))[0] for each, word in tried.items()}
            good = {each: config for each, config in configs.items() if config is not None}
            if len(good) > 1:
                yield group, good


def _compose(
    loader: ConfigLoader, name: str | None, overrides: Sequence[str]
) -> tuple[dict[str, Any] | None, str]:
    """Compose a config; return it, or None and why it does not compose."""
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    try:
        config = loader.load_configuration(name, [*overrides], RunMode.RUN, from_shell=False)
        composed = OmegaConf.to_container(config, resolve=False, enum_to_str=True)
    except Exception as error:  # Hydra, OmegaConf and a config's own code raise all kinds
        return None, " ".join(str(error).split()) or type(error).__name__
    return (_plain(composed), "") if isinstance(composed, dict) else (None, "it is no mapping")


def _plain(config: dict[Any, Any]) -> dict[str, Any]:
    """The config without Hydra's part, in types that JSON has."""
    config.pop("hydra", None)
    plain: dict[str, Any] = json.loads(json.dumps(config, default=str, skipkeys=True))
    return plain


def _answer(fd: int, script: str) -> None:
    """Run a script up to its `@hydra.main` function, and answer what stdin asks, on `fd`."""
    import runpy

    from hydra._internal.hydra import Hydra

    question = json.load(sys.stdin)
    sys.stdin = open(os.devnull)  # noqa: SIM115 -- for the script

    def answer(self: Any, config_name: str | None = None, *_: Any, **__: Any) -> None:
        found = look(self.config_loader, config_name, **question)
        with open(fd, "w", encoding="utf-8") as file:
            json.dump(found, file)
        os._exit(0)  # Nothing of the script's runs any more.

    sys.dont_write_bytecode = True  # Nothing of a look at a project is left in it.
    Hydra.show_cfg = answer  # type: ignore[method-assign]
    sys.argv = [script, "--cfg", "job"]
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = os.path.dirname(os.path.abspath(script))
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    _answer(int(sys.argv[1]), sys.argv[2])
