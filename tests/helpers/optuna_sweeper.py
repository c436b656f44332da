"""Which hydra-optuna-sweeper is installed: 1.3 does not go with the Optuna that hsm wants."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import pytest


def release(distribution: str) -> tuple[int, int]:
    """The first two numbers of a version; zeros if it is not installed."""
    try:
        major, minor = version(distribution).split(".")[:2]
    except PackageNotFoundError:
        return 0, 0
    return int(major), int(minor)


SWEEPER, OPTUNA = release("hydra-optuna-sweeper"), release("optuna")
needs_optuna_sweeper = [
    pytest.mark.skipif(SWEEPER == (0, 0), reason="hydra-optuna-sweeper is not installed"),
    pytest.mark.skipif(
        SWEEPER == (1, 3) and release("hydra-core") > (1, 3),
        reason="hydra-optuna-sweeper 1.3 gets no sampler from Hydra 1.4, only its config",
    ),
]
