"""All that knows Hydra and is no plugin: its sweeps, its jobs, its configs."""
