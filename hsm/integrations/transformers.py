"""A callback for the Trainer of Hugging Face's transformers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from transformers import TrainerCallback

from hsm.core.program.reporting import should_prune
from hsm.integrations._chosen_metrics import ChosenMetrics


class HsmCallback(TrainerCallback):
    """Reports what a Trainer logs, and stops the training of a job that is pruned.

    It asks whether to stop after each evaluation; without evaluations, after each log. The step is
    the epoch, from 0, if there is an evaluation after each (``eval_strategy="epoch"``); else it is
    ``state.global_step``.

        trainer = Trainer(…, callbacks=[HsmCallback("eval_loss")])

    Args:
        metrics: names of metrics, or one; None for all numbers that are logged.

    Raises:
        ValueError: at the end of the training, if none of `metrics` has been logged.
    """

    def __init__(self, metrics: str | Iterable[str] | None = None) -> None:
        self._metrics = ChosenMetrics(metrics)
        self._is_training = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self._is_training = True

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Mapping[str, Any], **more: Any
    ) -> None:
        if state.is_world_process_zero:
            numbers = {
                name: value
                for name, value in logs.items()
                if isinstance(value, int | float) and name != "epoch"
            }
            self._metrics.report(numbers, _step(args, state))
        if args.eval_strategy == "no":
            self._stop_if_pruned(args, state, control)

    def on_evaluate(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if args.eval_strategy != "no":
            self._stop_if_pruned(args, state, control)

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self._is_training = False
        if state.is_world_process_zero:
            self._metrics.check()

    def _stop_if_pruned(self, args: Any, state: Any, control: Any) -> None:
        if not self._is_training:
            return
        is_pruned = state.is_world_process_zero and should_prune()
        if args.world_size > 1:  # every rank stops, or those that go on would wait for the others
            from torch.distributed import broadcast_object_list

            told = [is_pruned]
            broadcast_object_list(told, src=0)
            (is_pruned,) = told
        if is_pruned:
            control.should_training_stop = True


def _step(args: Any, state: Any) -> int:
    if args.eval_strategy == "epoch" and state.epoch is not None:
        # An epoch's last step counts as the beginning of the next one.
        return max(0, math.ceil(float(state.epoch) - 1e-6) - 1)
    return int(state.global_step)
