"""The same jobs as faults_job.py, as a Hydra app."""

from __future__ import annotations

from typing import Any

import hydra
from omegaconf import DictConfig

from apps.faults_job import work


@hydra.main(version_base=None, config_path=None)
def main(cfg: DictConfig) -> Any:
    """One job."""
    return work(cfg.fault, cfg.num)


if __name__ == "__main__":
    main()
