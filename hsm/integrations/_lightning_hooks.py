"""What the callbacks for both packages of PyTorch Lightning do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hsm.core.program.reporting import should_prune
from hsm.integrations._chosen_metrics import ChosenMetrics


class LightningHooks:
    """Reports the metrics that a module logs, and stops the training of a job that is pruned.

    It does so at the end of each epoch; where an epoch has several validations, or there is one
    only every few epochs, after each validation. So does Lightning's EarlyStopping. The step is the
    epoch, from 0; if there are several validations in an epoch, ``trainer.global_step``. As with
    EarlyStopping, ``min_epochs`` and ``min_steps`` are trained in any case.

        trainer = Trainer(callbacks=[HsmCallback("val_loss")])

    Args:
        metrics: names of metrics, or one; None for all that are logged.

    Raises:
        ValueError: after the first epoch or validation, if none of `metrics` has been logged.
    """

    def __init__(self, metrics: str | Iterable[str] | None = None) -> None:
        super().__init__()
        self._metrics = ChosenMetrics(metrics)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if _is_validated_once_an_epoch(trainer):
            self._report(trainer)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        is_training = trainer.state.fn == "fit" and not trainer.sanity_checking
        if is_training and not _is_validated_once_an_epoch(trainer):
            self._report(trainer)

    def _report(self, trainer: Any) -> None:
        is_pruned = False
        if trainer.is_global_zero:
            is_by_epoch = trainer.val_check_interval == 1.0
            step = trainer.current_epoch if is_by_epoch else trainer.global_step
            self._metrics.report(trainer.callback_metrics, step)
            is_pruned = should_prune()
        # Every rank stops, or those that go on would wait for the others for ever.
        if trainer.strategy.reduce_boolean_decision(is_pruned, all=False):
            trainer.should_stop = True
        self._metrics.check()


def _is_validated_once_an_epoch(trainer: Any) -> bool:
    return bool(trainer.val_check_interval == 1.0 and trainer.check_val_every_n_epoch == 1)
