"""A callback for PyTorch Lightning, from the package ``lightning``."""

from __future__ import annotations

from lightning.pytorch import Callback

from hsm.integrations._lightning_hooks import LightningHooks


class HsmCallback(LightningHooks, Callback):
    """Reports what a module logs, and ends jobs that are pruned: see `LightningHooks`."""
