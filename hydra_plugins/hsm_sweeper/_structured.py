"""The structured config behind ``hydra/sweeper=hsm``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf


@dataclass
class HsmSweeperConf:
    """The keys below hydra.sweeper; what their values may be is checked with the sweep's points.

    Attributes:
        params: as of Hydra's own sweeper; or a list of such mappings: the union of their grids.
        max_batch_size: as of Hydra's own sweeper.
        points: a list of points, each a mapping, or the path of a CSV, JSONL or YAML file.
        zip: groups of parameters that advance together, by a name for each group.
        method: how points are chosen: grid, random, lhs, sobol or halton.
        n_trials: how many points, for each method but grid.
        seed: what random choices come from; null draws one.
        filter: an expression over a point's parameters; points for which it is false do not run.
        shuffle: whether a grid's points come in random order.
        repeat: parameters and values: every point runs with each combination of these.
        max_runs: the most points that run.
        dry_run: whether all jobs' configs are only composed and listed.
    """

    _target_: str = "hydra_plugins.hsm_sweeper.sweeper.HsmSweeper"
    max_batch_size: int | None = None
    params: Any = None
    points: Any = None
    zip: Any = None
    method: Any = "grid"
    n_trials: Any = None
    seed: Any = None
    filter: Any = ""
    shuffle: Any = False
    repeat: Any = None
    max_runs: Any = None
    dry_run: bool = False


def make_config() -> DictConfig:
    """The config with its built-in values."""
    config: DictConfig = OmegaConf.structured(HsmSweeperConf)
    return config
