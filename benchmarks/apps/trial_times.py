"""The Hydra application that `sweepers.py` optimises: a trial's number decides how long it takes.

BENCHMARK_RECORD names the file that gets a line of each trial.
"""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

_SHORTEST, _LONGEST = 0.3, 4.0


def durations(trials: int) -> list[float]:
    """Seconds of each trial: evenly spread in their logarithm, so most are short; shuffled."""
    steps = [number / max(1, trials - 1) for number in range(trials)]
    seconds = [_SHORTEST * (_LONGEST / _SHORTEST) ** step for step in steps]
    random.Random(15).shuffle(seconds)
    return seconds


@hydra.main(version_base=None, config_path=None)
def main(cfg: DictConfig) -> float:
    """Take this trial's time; return how far x and y are from the optimum."""
    # One clock for all processes of the machine, which nobody sets.
    started = time.monotonic()
    num = HydraConfig.get().job.num
    time.sleep(durations(int(os.environ["BENCHMARK_TRIALS"]))[num])
    line = {"num": num, "x": cfg.x, "y": cfg.y, "started": started, "ended": time.monotonic()}
    with Path(os.environ["BENCHMARK_RECORD"]).open("a", encoding="utf-8") as record:
        record.write(json.dumps(line) + "\n")  # short enough to be one write, so lines never mix
    return float((cfg.x - 1) ** 2 + (cfg.y + 2) ** 2)


if __name__ == "__main__":
    main()
