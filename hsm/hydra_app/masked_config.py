"""Keeps the values of hydra.launcher.env out of what jobs' configs are written to.

Hydra writes a job's whole config to .hydra/hydra.yaml, and the job's result has it, too. No job
reads these values there, as its environment has them.
"""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from hsm.core.masked import MASK, masked_words


def has_variables(config: DictConfig) -> bool:
    """Whether a sweep's config itself has variables for jobs, and not just hsm.yaml, say."""
    launcher = OmegaConf.select(config, "hydra.launcher")
    # The launcher of another place may have no such setting; `in` would resolve it.
    if not isinstance(launcher, DictConfig) or "env" not in set(launcher):
        return False
    return not OmegaConf.is_interpolation(launcher, "env") and bool(launcher.env)


def mask_variables(config: DictConfig) -> None:
    """Mask the values of the variables in a job's config, and in the overrides that it lists."""
    hydra = config.hydra
    with read_write(hydra), open_dict(hydra):
        env = hydra.launcher.env
        is_mapping = isinstance(env, DictConfig)
        hydra.launcher.env = dict.fromkeys(env, MASK) if is_mapping else MASK
        hydra.overrides.hydra = masked_words(list(hydra.overrides.hydra))
