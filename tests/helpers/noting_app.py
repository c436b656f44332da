"""An app whose jobs note what Hydra tells them, and a callback that notes what it is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helpers.hydra import (
    read_json,
    run_sweep,
)

APP = """
    import json, logging, os
    from pathlib import Path

    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.utils import get_original_cwd, to_absolute_path
    from omegaconf import OmegaConf

    log = logging.getLogger("train")
    OmegaConf.register_new_resolver("doubled", lambda n: 2 * int(n))


    @hydra.main(version_base=None, config_path="conf", config_name="config")
    def main(cfg):
        hydra_cfg = HydraConfig.get()
        log.info("info of job %s", hydra_cfg.job.num)
        log.debug("debug of job %s", hydra_cfg.job.num)
        logging.getLogger("other").debug("other debug")
        seen = {
            "cfg": OmegaConf.to_container(cfg, resolve=True),
            "num": hydra_cfg.job.num,
            "id": hydra_cfg.job.id,
            "name": hydra_cfg.job.name,
            "mode": str(hydra_cfg.mode),
            "choices": OmegaConf.to_container(hydra_cfg.runtime.choices),
            "overrides": OmegaConf.to_container(hydra_cfg.overrides.task),
            "output_dir": hydra_cfg.runtime.output_dir,
            "runtime_cwd": hydra_cfg.runtime.cwd,
            "cwd": os.getcwd(),
            "original_cwd": get_original_cwd(),
            "absolute": to_absolute_path("data"),
            "set": os.environ.get("FROM_ENV_SET"),
            "copied": os.environ.get("COPIED"),
            "pid": os.getpid(),
        }
        Path(hydra_cfg.runtime.output_dir, "seen.json").write_text(json.dumps(seen))
        if cfg.fail == hydra_cfg.job.num:
            raise ValueError(f"boom of job {hydra_cfg.job.num}")
        return cfg.lr


    if __name__ == "__main__":
        main()
"""

SPY = """
    import json, os
    from pathlib import Path

    from hydra.experimental.callback import Callback


    class Spy(Callback):
        def note(self, event, **more):
            line = json.dumps({"event": event, "pid": os.getpid(), **more})
            with open(os.environ["SPY"], "a") as file:
                file.write(line + "\\n")

        def on_multirun_start(self, config, **kwargs):
            self.note("multirun_start")

        def on_multirun_end(self, config, **kwargs):
            self.note("multirun_end")

        def on_job_start(self, config, **kwargs):
            self.note("job_start", num=config.hydra.job.num, env=os.environ.get("FROM_ENV_SET"))

        def on_job_end(self, config, job_return, **kwargs):
            value = job_return._return_value
            self.note("job_end", num=config.hydra.job.num, status=job_return.status.name,
                      value=value if isinstance(value, float) else repr(value),
                      overrides=list(job_return.overrides))
"""

FILES = {
    "train.py": APP,
    "spy.py": SPY,
    "conf/config.yaml": """
        defaults: [model: small, _self_]
        lr: 0.5
        fail: -1
        tag: ${doubled:21}
        hydra:
          callbacks: {spy: {_target_: spy.Spy}}
          job:
            env_set: {FROM_ENV_SET: "job ${hydra.job.num}"}
            env_copy: [COPIED]
    """,
    "conf/model/small.yaml": "width: 1\n",
    "conf/model/large.yaml": "width: ${doubled:8}\n",
}


def environment(folder: Path) -> dict[str, str]:
    return {"SPY": str(folder / "spy.jsonl"), "COPIED": "from the shell"}


def sweep_app(folder: Path, *overrides: str, **how: Any) -> Any:
    return run_sweep(folder, *overrides, env=environment(folder), **how)


def seen_by(folder: Path, *parts: str) -> Any:
    return read_json(folder.joinpath("sweep", *parts, "seen.json"))
