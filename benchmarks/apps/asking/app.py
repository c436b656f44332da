"""The Hydra application that `asking.py` sweeps: jobs of 2 s and of 0.2 s, in turn."""

from __future__ import annotations

import time

import hydra
from omegaconf import DictConfig

LONG, SHORT = 2.0, 0.2


@hydra.main(version_base=None, config_path=None)
def main(cfg: DictConfig) -> int:
    """Take the time that a job with this number takes; return the number."""
    time.sleep(SHORT if cfg.num % 2 else LONG)
    return int(cfg.num)


if __name__ == "__main__":
    main()
