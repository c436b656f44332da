"""hsm's core: jobs, sweeps, sources and the journal.

It knows nothing of terminals, commands or Hydra apps.
"""
