"""Sweep definitions -> parameter combinations, one at a time.

    override syntax  --parse_overrides-->  SweepDefinition  --iterate-->  {"lr": 0.1, "a": "b"}, …
    a sweep file     --read_sweep_file-->    |                              |
                                             `-- count(), point(i)          `--to_argv--> lr=0.1 a=b

A definition is a formula, not a list: counting a billion points, or making the last of them, takes
no time and no memory. Points come in row-major order, the last parameter changing fastest, as with
`itertools.product` and Hydra.

On the command line a sweep is written in Hydra's override syntax, and Hydra's own parser reads it
(see `parse_overrides`).

A sweep file in YAML has one key, ``sweep:``, and below it one or more of

    sweep:
      grid:                         # every combination of
        lr: [0.1, 0.01]             #   a list: its items, as they are
        seed: range(1, 5)           #   a call, or a text with a comma: as on the command line
        model: svm                  #   anything else: one value
        optimizer: {beta: [0, 1]}   #   a mapping nests: optimizer.beta
      paired:                       # groups: each multiplies the grid,
        - size:                     #   has a name, for messages,
            width: [64, 128]        #   and columns of one length, which advance together
            depth: [2, 4]
      jobs:                         # single points, after all of the above, taking nothing from it
        - {lr: 0.5, model: forest}

Values are read as in Hydra's config files: 1e-3 is a number, ``yes`` a boolean, a date a text.
Below ``jobs:`` and in lists a text is never a call. Keys may carry Hydra's ``+`` and ``@package``.

A CSV file has the parameters' names in its first line and a point in each further one. A cell is
read as Hydra reads ``key=cell``: a number, true, false or null, else a text; an empty cell is the
empty text. A JSONL file has a point in each line, an object; a nested one means dotted keys, as in
YAML.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import chain
from math import prod
from typing import TYPE_CHECKING, Any

from hsm.core.space.grammar import plain_key

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader

    from hsm.core.space.axes import Axis


class SweepDefinition:
    """The points of a sweep, computed when they are asked for.

    Args:
        blocks: products of axes; the points of one block come after those of the one before.
    """

    def __init__(self, blocks: Sequence[Sequence[Axis]]) -> None:
        self._blocks = tuple(tuple(block) for block in blocks)

    def count(self) -> int:
        """How many points there are. Not `len()`: a grid may have more than 2**63."""
        return sum(_count(block) for block in self._blocks)

    def point(self, index: int) -> dict[str, Any]:
        """The point of that index, from 0.

        Raises:
            IndexError: there is none.
        """
        left = index
        for block in self._blocks:
            if 0 <= left < _count(block):
                return _point(block, left)
            left -= _count(block)
        raise IndexError(f"a sweep of {self.count()} points has none of index {index}")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for block in self._blocks:
            for index in range(_count(block)):
                yield _point(block, index)

    def all_keys(self) -> list[str]:
        """Every parameter that some point sets, in order."""
        axes = chain.from_iterable(self._blocks)
        return list(dict.fromkeys(key for axis in axes for key in axis.all_keys()))

    def shared_keys(self) -> list[str]:
        """The parameters that all points set, in order: what a command may place with ``{key}``."""
        of_blocks = [
            [key for axis in block for key in axis.shared_keys()] for block in self._blocks
        ]
        return [key for key in self.all_keys() if all(key in keys for keys in of_blocks)]

    def values_of(self, key: str, most: int) -> list[Any]:
        """What points give to the parameter `key`: the values in the first `most` of each axis."""
        axes = (axis for axis in chain.from_iterable(self._blocks) if key in axis.all_keys())
        points = (axis.point(index) for axis in axes for index in range(min(axis.count, most)))
        return [point[key] for point in points if key in point]

    def overridden_by(self, line: SweepDefinition) -> SweepDefinition:
        """This sweep, but with what `line` sets: the command line has the last word.

        Each parameter that `line` sets disappears from the grid, the paired groups and the jobs
        here; then every point left is combined with every point of `line`, whose parameters change
        fastest.
        """
        plain_keys = {plain_key(key) for key in line.all_keys()}
        blocks: list[tuple[Axis, ...]] = []
        for block in self._blocks:
            kept = [axis.without(plain_keys) for axis in block]
            rest = tuple(axis for axis in kept if axis is not None)
            blocks.extend(rest + other for other in line._blocks)
        return SweepDefinition(blocks)


def _count(block: Sequence[Axis]) -> int:
    return prod(axis.count for axis in block)


def _point(block: Sequence[Axis], index: int) -> dict[str, Any]:
    """Like a number's digits: each axis is a digit, its base the axis's count."""
    parts = []
    for axis in reversed(block):
        index, digit = divmod(index, axis.count)
        parts.append(axis.point(digit))
    return {key: value for part in reversed(parts) for key, value in part.items()}


def parse_overrides(
    overrides: Sequence[str],
    *,
    config_loader: ConfigLoader | None = None,
    origin: str = "command line",
) -> SweepDefinition:
    """The sweep of some Hydra overrides, as ``python train.py -m`` would take them.

    Values may be single, lists separated by commas, ``choice()``, ``range()``, ``sort()``,
    ``shuffle()``, ``tag()`` and casts. No override at all makes one point without parameters.
    ``interval()`` is refused, for it has no list of values; so is a key that comes twice. In one
    thing all versions of Hydra are alike here: fractional ranges count in decimal, as 1.4 does.

    Args:
        overrides: such as ``["lr=0.1,0.01", "+seed=range(5)"]``.
        config_loader: knows the options of config groups; without it ``glob()`` is refused.
        origin: where they were written, for messages.

    Raises:
        SettingsError: an override is malformed, or cannot be enumerated.
    """
    from hsm.core.space.overrides import axes_from_overrides

    return SweepDefinition([axes_from_overrides(overrides, config_loader, origin)])


def read_sweep_file(
    path: str | os.PathLike[str], *, config_loader: ConfigLoader | None = None
) -> SweepDefinition:
    """The sweep that a file defines: YAML (.yaml, .yml), CSV (.csv), JSON lines (.jsonl, .ndjson).

    The file is read and checked as a whole; points are still made one at a time.

    Args:
        path: the file.
        config_loader: knows the options of config groups; without it ``glob()`` is refused.

    Raises:
        SettingsError: it cannot be read, or anything in it is wrong; names the file and, where it
            is known, the line.
    """
    from hsm.core.space.sweep_file import read_blocks

    return SweepDefinition(read_blocks(path, config_loader))
