"""Train a classifier on scikit-learn's bundled images of handwritten digits.

    python examples/train.py model=random_forest
    python examples/train.py -m hydra/launcher=hsm_local model=svm,logistic model.C=0.1,1,10

A part of the images is kept from training to validate the model on. A sweep that picks the model
with the best validation accuracy has used that part up: the winner's figure is a little too good.
"""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

log = logging.getLogger(__name__)

# Hydra 1.3 warns if version_base is missing, Hydra 1.4 if it is there. Hydra 1.4 also wants to know
# what a config may instantiate.
HYDRA_OPTIONS: dict[str, Any] = (
    {"execution_whitelist": "sklearn.*"}
    if hasattr(hydra.utils, "execution_whitelist")
    else {"version_base": None}
)


@hydra.main(config_path="../conf", config_name="config", **HYDRA_OPTIONS)
def main(cfg: DictConfig) -> float:
    """Train `cfg.model` and write ``metrics.json`` into the job's output directory.

    Returns:
        The validation accuracy, 0 to 1: what a sweeper would maximise.
    """
    # 1,797 images of 8x8 pixels, each 0 to 16: a scale known beforehand, not learnt from the data.
    images, digits = load_digits(return_X_y=True)
    train_x, valid_x, train_y, valid_y = train_test_split(
        images / 16.0,
        digits,
        test_size=cfg.validation_fraction,
        stratify=digits,
        random_state=cfg.seed,
    )
    log.info("%d images to train on, %d to validate on", len(train_y), len(valid_y))

    model = instantiate(cfg.model)
    log.info("fitting %s", type(model).__name__)
    started = time.perf_counter()
    model.fit(train_x, train_y)
    fit_seconds = time.perf_counter() - started
    log.info("fitted in %.2f s", fit_seconds)

    metrics = {
        "validation_accuracy": float(model.score(valid_x, valid_y)),
        "train_accuracy": float(model.score(train_x, train_y)),
        "fit_seconds": fit_seconds,
        "n_train": len(train_y),
        "n_validation": len(valid_y),
    }
    path = Path(HydraConfig.get().runtime.output_dir, "metrics.json")
    path.write_text(json.dumps(metrics, indent=2) + "\n")
    log.info("validation accuracy %.4f", metrics["validation_accuracy"])
    return metrics["validation_accuracy"]


if __name__ == "__main__":
    main()
