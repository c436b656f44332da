"""How a sweep of several batches is interrupted, and the command that goes on with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.hydra import clean_environment, write_files
from helpers.processes import App, wait_for
from hsm.core.record.sweep import read_sweep

_SLOW_SWEEPER = """
    import time
    from dataclasses import dataclass
    from pathlib import Path

    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins
    from hydra.plugins.sweeper import Sweeper


    class Slow(Sweeper):
        "Two batches, and between them it thinks until it is told to go on."

        def setup(self, *, hydra_context, task_function, config):
            self.launcher = Plugins.instance().instantiate_launcher(
                hydra_context=hydra_context, task_function=task_function, config=config
            )

        def sweep(self, arguments):
            self.launcher.launch([["job=0"]], initial_job_idx=0)
            Path("thinking").touch()
            while not Path("go").exists():
                time.sleep(0.02)
            self.launcher.launch([["job=1"]], initial_job_idx=1)


    @dataclass
    class SlowConf:
        _target_: str = "hydra_plugins.slow.Slow"


    ConfigStore.instance().store(group="hydra/sweeper", name="slow", node=SlowConf)
"""


def test_a_request_to_cancel_between_two_batches_is_heard(tmp_path: Path) -> None:
    app = App(tmp_path, "def job(cfg):\n    if cfg.job:\n        time.sleep(60)")
    write_files(tmp_path, {"hydra_plugins/slow.py": _SLOW_SWEEPER})
    with app.start("hydra/sweeper=slow", "job=0") as running:
        running.wait_for_files("thinking")
        requests = running.sweep_dir / ".hsm" / "requests"
        requests.mkdir()
        (requests / "all").touch()
        (tmp_path / "go").touch()
        assert running.finish().code == 143


@pytest.mark.slow
@pytest.mark.parametrize("directory", ["r/lr=0.1", "r/a,b", "r/it is (v1)", "r/plain"])
def test_the_command_that_is_printed_resumes_the_sweep(tmp_path: Path, directory: str) -> None:
    """Also of a module in a package, and whatever the sweep's directory is called."""
    write_files(
        tmp_path,
        {
            "pkg/__init__.py": "",
            "pkg/helper.py": "def triple(x): return 3 * x\n",
            "pkg/app.py": """
                import time
                from pathlib import Path

                import hydra

                from .helper import triple


                @hydra.main(version_base=None, config_path=None)
                def main(cfg):
                    Path(f"started-{cfg.x}").touch()
                    while not Path("go").exists():
                        time.sleep(0.02)
                    return triple(cfg.x)


                if __name__ == "__main__":
                    main()
            """,
        },
    )
    words = ["-m", "pkg.app", "-m", "hydra/launcher=hsm_local", "+x=1,2,3"]
    words += ["hydra.launcher.max_parallel_jobs=2", f"hydra.sweep.dir='{directory}'"]
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=tmp_path,
        env=clean_environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        wait_for((tmp_path / "started-2").exists, "the second job")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    (command,) = [line for line in err.splitlines() if line.startswith("To resume: ")]
    (tmp_path / "go").touch()
    done = subprocess.run(
        ["sh", "-c", command.partition(": ")[2]],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    jobs = read_sweep(os.path.join(tmp_path, directory)).jobs
    assert [job.value for job in jobs.values()] == [3, 6, 9]
