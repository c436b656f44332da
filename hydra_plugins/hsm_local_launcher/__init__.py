"""hsm's launcher for Hydra: ``hydra/launcher=hsm_local``.

Every Hydra app on the machine imports this package, `config` and `launcher` at its start, so they
import next to nothing.
"""
