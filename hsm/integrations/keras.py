"""A callback for Keras 3, on any of its backends."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from keras.callbacks import Callback

from hsm.core.program.reporting import should_prune
from hsm.integrations._chosen_metrics import ChosenMetrics


class HsmCallback(Callback):
    """Reports each epoch's metrics, and stops the training of a job that is pruned.

    The step is the epoch, from 0.

        model.fit(…, callbacks=[HsmCallback("val_loss")])

    Of a training in several processes the first reports, by the variable RANK; none of them stops
    by itself, so use ``prune=stop``.

    Args:
        metrics: names of metrics, or one; None for all that are logged.

    Raises:
        ValueError: at the end of the training, if none of `metrics` has been logged.
    """

    def __init__(self, metrics: str | Iterable[str] | None = None) -> None:
        super().__init__()
        self._metrics = ChosenMetrics(metrics)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if os.environ.get("RANK", "0") == "0":
            self._metrics.report(logs or {}, epoch)
            if os.environ.get("WORLD_SIZE", "1") == "1" and should_prune():
                self.model.stop_training = True

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        if os.environ.get("RANK", "0") == "0":
            self._metrics.check()
