"""The Hydra application that `growth.py` sweeps: jobs that do nothing."""

from __future__ import annotations

import hydra
from omegaconf import DictConfig


@hydra.main(version_base=None, config_path=None)
def main(cfg: DictConfig) -> int:
    """Return the job's number."""
    return int(cfg.num)


if __name__ == "__main__":
    main()
