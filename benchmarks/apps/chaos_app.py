"""The same points as chaos_job.py, as a Hydra app."""

from __future__ import annotations

import hydra
from omegaconf import DictConfig

from apps.chaos_job import work


@hydra.main(version_base=None, config_path=None)
def main(cfg: DictConfig) -> int:
    """One point."""
    return work(cfg.x)


if __name__ == "__main__":
    main()
