"""A linear classifier that learns to read digits, epoch by epoch: what `pruning.py` optimises."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier

#: How much of the data is not learnt from.
_HELD_OUT = 0.3


def learn(loss: str, eta0: float, alpha: float, *, epochs: int, seed: int) -> Iterator[float]:
    """Learn; yields the accuracy on data that were held out, after each epoch.

    Args:
        loss, eta0, alpha: as SGDClassifier takes them.
        epochs: how many; BENCHMARK_RECORD names a file that gets a byte for each.
        seed: decides which data are held out, and the order of the others.
    """
    random = np.random.RandomState(seed)
    data, digits = load_digits(return_X_y=True)
    order = random.permutation(len(digits))
    held_out, learnt = np.split(order, [int(_HELD_OUT * len(order))])
    model = SGDClassifier(
        loss=loss, eta0=eta0, alpha=alpha, learning_rate="constant", random_state=seed
    )
    for _ in range(epochs):
        with Path(os.environ["BENCHMARK_RECORD"]).open("ab") as record:
            record.write(b".")
        epoch = random.permutation(learnt)
        model.partial_fit(data[epoch] / 16, digits[epoch], classes=np.arange(10))
        yield float(model.score(data[held_out] / 16, digits[held_out]))
