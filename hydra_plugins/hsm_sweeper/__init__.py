"""hsm's sweeper for Hydra: ``hydra/sweeper=hsm``.

Every Hydra app on the machine imports this package, `config` and `sweeper` at its start, so they
import next to nothing.
"""
