"""Running Hydra apps: sweeps, jobs and configs. Everything Hydra-specific except the plugins."""
