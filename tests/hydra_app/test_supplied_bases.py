"""Jobs of a sweeper that validates nothing compose from bases, too."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.hydra import launcher_args, read_journal, run_python, write_files

_FILES = {
    "train.py": """
        import hydra
        from hydra.core.global_hydra import GlobalHydra


        @hydra.main(version_base=None, config_path="conf", config_name="config")
        def main(cfg):
            loader = GlobalHydra.instance().hydra.config_loader
            return [cfg.lr, len(loader.bases.known())]


        main()
    """,
    "conf/config.yaml": "lr: 0\n",
    "hydra_plugins/unchecked.py": """
        from hydra.core.config_store import ConfigStore
        from hydra.core.plugins import Plugins
        from hydra.plugins.sweeper import Sweeper


        class Unchecked(Sweeper):
            "Launches batches of `size` without a look at them."

            def __init__(self, size):
                self.size = size

            def setup(self, **given):
                self.launcher = Plugins.instance().instantiate_launcher(**given)

            def sweep(self, arguments):
                for first in range(0, 12, self.size):
                    batch = [[f"lr={first + each}"] for each in range(self.size)]
                    self.launcher.launch(batch, initial_job_idx=first)


        node = {"_target_": "hydra_plugins.unchecked.Unchecked", "size": 4}
        ConfigStore.instance().store(group="hydra/sweeper", name="unchecked", node=node)
    """,
}


@pytest.mark.slow
@pytest.mark.parametrize(("size", "without"), [(12, 0), (4, 4)])
def test_a_batch_that_is_large_enough_finds_a_base_and_later_ones_are_sent_it(
    tmp_path: Path, size: int, without: int
) -> None:
    write_files(tmp_path, _FILES)
    arguments = ["-m", *launcher_args(), "hydra/sweeper=unchecked", f"hydra.sweeper.size={size}"]
    done = run_python(tmp_path, "train.py", *arguments, "hydra.sweep.dir=sweep")
    assert done.code == 0, done.text
    values = {tuple(each["value"]) for each in read_journal(tmp_path / "sweep") if "value" in each}
    assert values == {(lr, 0 if lr < without else 1) for lr in range(12)}
