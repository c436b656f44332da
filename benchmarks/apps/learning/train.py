"""The Hydra application that `pruning.py` optimises: it reports each epoch, and may be pruned."""

from __future__ import annotations

import hydra
from omegaconf import DictConfig

import hsm
from apps.learning.curves import learn


@hydra.main(version_base=None, config_path=None)
def main(cfg: DictConfig) -> float:
    """Learn; return the accuracy after the last epoch."""
    accuracy = 0.0
    curve = learn(cfg.loss, cfg.eta0, cfg.alpha, epochs=cfg.epochs, seed=cfg.data_seed)
    for epoch, accuracy in enumerate(curve, 1):
        hsm.report(accuracy, step=epoch)
        if hsm.should_prune():
            raise hsm.Pruned
    return accuracy


if __name__ == "__main__":
    main()
