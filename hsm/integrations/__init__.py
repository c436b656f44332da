"""Callbacks for training libraries: they report what is logged, and end a job that is pruned.

    from hsm.integrations.lightning import HsmCallback          # lightning.pytorch
    from hsm.integrations.pytorch_lightning import HsmCallback  # pytorch_lightning
    from hsm.integrations.keras import HsmCallback              # Keras 3
    from hsm.integrations.transformers import HsmCallback       # Hugging Face's Trainer

Each module imports its library, so none is imported here. All of them stop the training as the
library itself does when it stops early: checkpoints are written, loggers closed, all ranks end
together. What stands after the training still runs, and the job's state is PRUNED all the same;
``if hsm.should_prune(): raise hsm.Pruned`` leaves it out. Outside of hsm they do nothing.
"""
