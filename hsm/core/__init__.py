"""hsm's core: jobs, sweeps, sources and the journal, without terminals, commands or Hydra apps."""
