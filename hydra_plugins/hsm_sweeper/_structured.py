"""The structured configs behind ``hydra/sweeper=hsm`` and ``hydra/sweeper=hsm_optuna``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hsm.core.study.optuna_classes import CLASSES, dotted_path

_TARGET = "hydra_plugins.hsm_sweeper.sweeper.HsmSweeper"


@dataclass
class StudyConf:
    """The keys of both sweepers; what their values may be is checked with the sweep's points.

    Attributes:
        params: as of Hydra's own sweeper; or a list of such mappings: the union of their grids.
        zip: groups of parameters that advance together, by a name for each group.
        method: how points are chosen: grid, random, lhs, sobol, halton, optuna, or the dotted path
            of a class with ask and tell.
        n_trials: how many points, for each method but grid.
        seed: what random choices come from; null draws one.
        repeat: parameters and values: every point runs with each combination of these.
        dry_run: whether jobs' configs are only composed and listed.
        repeat_as: what is told of the repeats of a point: mean, median or worst.
        sampler: optuna's sampler: a name, or a node with _target_.
        direction: minimize or maximize; of several objectives a list.
        metric: the name of what is optimised; of several objectives a list. Null for what jobs
            return.
        objective: the same as metric.
        storage: optuna's: a URL, or a node with _target_; null for a file in the sweep's directory.
        study_name: optuna's.
        n_jobs: jobs that run at once; null for as many as the launcher has places.
        max_failure_rate: of trials: more failures end the sweep.
        max_time: seconds, or a text such as 2h, after which no further trial starts.
        target: a value of the objective at which the sweep ends.
        pruner: optuna's pruner: a name, or a node with _target_.
        prune: how a job is pruned: ask or stop.
        enqueue: points that are tried first.
        enqueue_default: whether what the app's own config has is tried first.
        warm_start: directories of earlier sweeps, to learn from.
        duplicates: run, or reuse: what becomes of a point that has run.
        constraints: conditions such as ``memory <= 8`` over what jobs return.
        custom_search_space: the dotted path of a function of the config and a trial.
        search_space: how hydra-optuna-sweeper's older versions had what is in params.
    """

    _target_: str = _TARGET
    _recursive_: bool = False  # What nodes name is imported when it is needed.
    params: Any = None
    zip: Any = None
    method: Any = "grid"
    n_trials: Any = None
    seed: Any = None
    repeat: Any = None
    dry_run: bool = False
    repeat_as: Any = None
    sampler: Any = None
    direction: Any = None
    metric: Any = None
    objective: Any = None
    storage: Any = None
    study_name: Any = None
    n_jobs: Any = None
    max_failure_rate: Any = None
    max_time: Any = None
    target: Any = None
    pruner: Any = None
    prune: Any = None
    enqueue: Any = None
    enqueue_default: Any = None
    warm_start: Any = None
    duplicates: Any = None
    constraints: Any = None
    custom_search_space: Any = None
    search_space: Any = None


@dataclass
class HsmSweeperConf(StudyConf):
    """The keys below hydra.sweeper of ``hydra/sweeper=hsm``.

    Attributes:
        max_batch_size: as of Hydra's own sweeper.
        points: a list of points, each a mapping, or the path of a CSV, JSONL or YAML file.
        filter: an expression over a point's parameters; points for which it is false do not run.
        shuffle: whether a grid's points come in random order.
        max_runs: the most points that run.
    """

    max_batch_size: int | None = None
    points: Any = None
    filter: Any = ""
    shuffle: Any = False
    max_runs: Any = None


@dataclass
class HsmOptunaSweeperConf(StudyConf):
    """The keys below hydra.sweeper of ``hydra/sweeper=hsm_optuna``."""

    defaults: list[Any] = field(default_factory=lambda: [{"sampler": "tpe"}, {"pruner": None}])
    method: Any = "optuna"


_CONFS = {"hsm": HsmSweeperConf, "hsm_optuna": HsmOptunaSweeperConf}


def make_config(group: str, option: str) -> DictConfig:
    """The config of an option of one of hsm's config groups, with its built-in values.

    That of a sampler or pruner is open: it takes any keyword of the class in Optuna.
    """
    kind = group.rpartition("/")[2]
    if kind == "sweeper":
        config: DictConfig = OmegaConf.structured(_CONFS[option])
        for name in CLASSES:
            config[name] = {}
            OmegaConf.set_struct(config[name], False)  # which stays when a node is merged into it
        return config
    known = option in CLASSES[kind]
    return OmegaConf.create({"_target_": dotted_path(kind, option)} if known else {})
