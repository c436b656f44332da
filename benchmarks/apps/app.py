"""The Hydra application that `launchers.py` sweeps: its jobs leave a line each and return at once.

BENCHMARK_IMPORTS names modules that the script imports when it starts, as a real one would in its
first lines; each job needs them. BENCHMARK_RECORD names the file that gets the lines.
"""

from __future__ import annotations

import importlib
import json
import os
import time
from pathlib import Path

import hydra
from omegaconf import DictConfig

NAMES = os.environ.get("BENCHMARK_IMPORTS", "").split()
MODULES = [importlib.import_module(name) for name in NAMES]


@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg: DictConfig) -> int:
    """Record this job and return its number."""
    imports = [module.__name__ for module in MODULES]
    job = {"num": cfg.num, "pid": os.getpid(), "imports": imports, "started": time.time()}
    with Path(os.environ["BENCHMARK_RECORD"]).open("a", encoding="utf-8") as record:
        record.write(json.dumps(job) + "\n")  # short enough to be one write, so lines never mix
    return int(cfg.num)


if __name__ == "__main__":
    main()
