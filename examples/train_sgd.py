"""Train a linear classifier of handwritten digits in epochs, and report how it does after each.

    python examples/train_sgd.py learning_rate=0.1
    python examples/train_sgd.py -m

The second one searches for the best learning rate, schedule and penalty, see conf/sgd.yaml. Outside
of a sweep, hsm.report does nothing, and hsm.should_prune is False.
"""

from __future__ import annotations

import logging
from typing import Any

import hydra
import numpy as np
from omegaconf import DictConfig
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

import hsm

log = logging.getLogger(__name__)

# Hydra 1.3 warns if version_base is missing, Hydra 1.4 if it is there.
HYDRA_OPTIONS: dict[str, Any] = (
    {} if hasattr(hydra.utils, "execution_whitelist") else {"version_base": None}
)


@hydra.main(config_path="../conf", config_name="sgd", **HYDRA_OPTIONS)
def main(cfg: DictConfig) -> float:
    """Train for `cfg.epochs` epochs, unless the sweep's pruner ends it before.

    Returns:
        The validation accuracy, 0 to 1.
    """
    images, digits = load_digits(return_X_y=True)
    train_x, valid_x, train_y, valid_y = train_test_split(
        images / 16.0,
        digits,
        test_size=cfg.validation_fraction,
        stratify=digits,
        random_state=cfg.seed,
    )
    model = SGDClassifier(
        loss="log_loss",
        learning_rate=cfg.schedule,
        eta0=cfg.learning_rate,
        alpha=cfg.alpha,
        random_state=cfg.seed,
    )
    accuracy = 0.0
    for epoch in range(cfg.epochs):
        model.partial_fit(train_x, train_y, classes=np.arange(10))
        accuracy = float(model.score(valid_x, valid_y))
        log.info("epoch %d: validation accuracy %.4f", epoch, accuracy)
        hsm.report(step=epoch, validation_accuracy=accuracy)
        if hsm.should_prune():
            raise hsm.Pruned
    return accuracy


if __name__ == "__main__":
    main()
