"""The same points as chaos_job.py, as a Hydra app."""

from __future__ import annotations

import hydra
from apps.chaos_job import work
from omegaconf import DictConfig


@hydra.main(version_base=None, config_path=None)
def main(cfg: DictConfig) -> int:
    """One point."""
    return work(cfg.x)


if __name__ == "__main__":
    main()
