"""Sweep definitions -> parameter combinations, one at a time.

    override syntax  --parse_overrides-->  SweepDefinition  --iterate-->  {"lr": 0.1, "a": "b"}, …
    a sweep file     --read_sweep_file-->    |                              |
                                             `-- count(), point(i)          `--to_argv--> lr=0.1 a=b

A definition is a formula, not a list: counting a billion points, or computing the last one, takes
no time or memory. Points come in row-major order: the last parameter changes fastest, as in
`itertools.product` and Hydra.

On the command line a sweep is written in Hydra's override syntax, and read by Hydra's own parser
(see `parse_overrides`).

A sweep file in YAML has one key, ``sweep:``, and below it one or more of

    sweep:
      grid:                         # every combination of; params: is another name for it
        lr: [0.1, 0.01]             #   a list: its items, as they are
        seed: range(1, 5)           #   a call, or a string with a comma: as on the command line
        model: svm                  #   anything else: one value
        optimizer: {beta: [0, 1]}   #   a mapping nests: optimizer.beta
      zip:                          # groups: each multiplies the grid,
        size:                       #   has a name, for messages,
          width: [64, 128]          #   and columns of equal length that advance together
          depth: [2, 4]             #   paired: is another name; it is a list of such mappings
      points:                       # single points after all of the above, independent of it;
        - {lr: 0.5, model: forest}  #   or the path of a file of points; jobs: is another name

A grid may also be a list of mappings: their grids follow one another, each with all groups. Beside
these there may be the keys of `hsm.core.space.choosing.Choosing`, such as ``method: random`` and
``n_trials: 20``, which say which of the points there are to run, and for ``hsm sweep`` those of
`hsm.core.study.options.StudyOptions`.

Values are read as in Hydra's config files: 1e-3 is a number, ``yes`` a boolean, a date a string.
Below ``points:`` and in lists, a string is never a call. Keys may have Hydra's ``+`` and
``@package``.

A point's ``_needs_``, such as ``{licence: 2}``, are what its job needs, and no parameter.

A CSV file has the parameters' names in its first line and a point in each further line. A cell is
read as Hydra reads ``key=cell``: a number, true, false or null, otherwise a string; an empty cell
is an empty string. A JSONL file has a point in each line, as an object; nested objects mean dotted
keys, as in YAML. A YAML file may also be just a list of points, as below ``points:``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hsm.core.needs import NEEDS
from hsm.core.space.grammar import plain_key

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader

    from hsm.core.space.axes import Axis


class SweepDefinition:
    """The points of a sweep, computed on demand.

    Args:
        blocks: lists of axes, each a product; the points of the blocks follow one another.
        choosing: what is written beside them on how to choose from them, for
            `hsm.core.space.choosing.check_choosing`: each key's value and where it was written.
            Nothing here acts on it; a `hsm.core.space.selection.Selection` does.
    """

    def __init__(
        self,
        blocks: Sequence[Sequence[Axis]],
        choosing: Mapping[str, tuple[Any, str]] = MappingProxyType({}),
    ) -> None:
        self._blocks = tuple(tuple(block) for block in blocks)
        self.choosing = dict(choosing)

    @property
    def blocks(self) -> tuple[tuple[Axis, ...], ...]:
        """The axes of each block."""
        return self._blocks

    def count(self) -> int:
        """Count the points. Not `len()`, since a grid may have more than 2**63."""
        return sum(_count(block) for block in self._blocks)

    def point(self, index: int) -> dict[str, Any]:
        """Return the point at `index`, counted from 0.

        Raises:
            IndexError: there is no such point.
        """
        left = index
        for block in self._blocks:
            if 0 <= left < _count(block):
                return _point(block, left)
            left -= _count(block)
        raise IndexError(f"no point {index} in a sweep of {self.count()} points")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for block in self._blocks:
            for index in range(_count(block)):
                yield _point(block, index)

    def all_keys(self) -> list[str]:
        """All parameters that at least one point sets, in order."""
        axes = chain.from_iterable(self._blocks)
        keys = dict.fromkeys(key for axis in axes for key in axis.all_keys())
        keys.pop(NEEDS, None)
        return list(keys)

    def shared_keys(self) -> list[str]:
        """The parameters that all points set, in order; a command may use these as ``{key}``."""
        of_blocks = [
            [key for axis in block for key in axis.shared_keys()] for block in self._blocks
        ]
        return [key for key in self.all_keys() if all(key in keys for keys in of_blocks)]

    def values_of(self, key: str, most: int) -> list[Any]:
        """Values of the parameter `key` in the first `most` points of each axis that sets it."""
        axes = (axis for axis in chain.from_iterable(self._blocks) if key in axis.all_keys())
        points = (axis.point(index) for axis in axes for index in range(min(axis.count, most)))
        return [point[key] for point in points if key in point]

    def overridden_by(self, line: SweepDefinition) -> SweepDefinition:
        """Combine this sweep with one from the command line, which wins for the keys that it sets.

        First removes the parameters that `line` sets from the grid, the paired groups and the jobs;
        then combines every remaining point with every point of `line`, whose parameters change
        fastest.
        """
        plain_keys = {plain_key(key) for key in line.all_keys()}
        blocks: list[tuple[Axis, ...]] = []
        for block in self._blocks:
            kept = [axis.without(plain_keys) for axis in block]
            rest = tuple(axis for axis in kept if axis is not None)
            blocks.extend(rest + other for other in line._blocks)
        return SweepDefinition(blocks, {**self.choosing, **line.choosing})

    def followed_by(self, other: SweepDefinition) -> SweepDefinition:
        """The points of this sweep, and then those of another one."""
        return SweepDefinition(self._blocks + other._blocks, {**self.choosing, **other.choosing})


def _count(block: Sequence[Axis]) -> int:
    return prod(axis.count for axis in block)


def _point(block: Sequence[Axis], index: int) -> dict[str, Any]:
    """Decode `index` like a number with one digit per axis, whose base is the axis's count."""
    parts = []
    for axis in reversed(block):
        index, digit = divmod(index, axis.count)
        parts.append(axis.point(digit))
    return {key: value for part in reversed(parts) for key, value in part.items()}


def parse_overrides(
    overrides: Sequence[str],
    *,
    zipped: Sequence[Sequence[str]] = (),
    config_loader: ConfigLoader | None = None,
    origin: str = "command line",
    intervals: bool = False,
) -> SweepDefinition:
    """Parse Hydra overrides into a sweep, as ``python train.py -m`` would.

    Values may be single values, comma-separated lists, ``choice()``, ``range()``, ``sort()``,
    ``shuffle()``, ``tag()`` and casts. Without any overrides there is one point, which has no
    parameters. Refuses keys given twice and, without `intervals`, ``interval()``, which has no list
    of values. Counts fractional ranges in decimal, like Hydra 1.4, with every version of Hydra.

    Args:
        overrides: such as ``["lr=0.1,0.01", "+seed=range(5)"]``.
        zipped: groups of further overrides; the values of each group advance together.
        config_loader: looks up config groups for ``glob()``, which is refused without it.
        origin: where the overrides were written, for messages.
        intervals: whether ``interval()`` may be among them, for a method that draws from it.

    Raises:
        SettingsError: an override is malformed, or cannot be enumerated, or values that advance
            together differ in number.
    """
    from hsm.core.space.overrides import axes_from_overrides

    axes = axes_from_overrides(overrides, zipped, config_loader, origin, intervals=intervals)
    return SweepDefinition([axes])


def read_sweep_file(
    path: str | os.PathLike[str],
    *,
    config_loader: ConfigLoader | None = None,
    intervals: bool | None = False,
) -> SweepDefinition:
    """Read a sweep from YAML (.yaml, .yml), CSV (.csv) or JSON lines (.jsonl, .ndjson).

    Reads and checks the whole file at once; points are still computed one at a time.

    Args:
        path: the file.
        config_loader: looks up config groups for ``glob()``, which is refused without it.
        intervals: whether ``interval()`` may be in it, for a method that draws from it; None: if
            the method that the file names does.

    Raises:
        SettingsError: the file cannot be read, or is not valid; names the file and, if known, the
            line.
    """
    from hsm.core.space.sweep_file import read_file

    return SweepDefinition(*read_file(path, config_loader, intervals))


def read_sweep_text(
    data: bytes,
    name: str,
    *,
    config_loader: ConfigLoader | None = None,
    intervals: bool | None = False,
    more_keys: Sequence[str] = (),
) -> SweepDefinition:
    """Read a sweep from the content of a sweep file of any format, which its first line tells.

    Args:
        data: the content.
        name: what it is called in messages.
        config_loader, intervals: see `read_sweep_file`.
        more_keys: keys that say how to choose points, besides those of `Choosing`.

    Raises:
        SettingsError: it is not valid; names the line, if known.
    """
    from hsm.core.space.sweep_file import read_data

    return SweepDefinition(*read_data(data, name, config_loader, intervals, more_keys))
