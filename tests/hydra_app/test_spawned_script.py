"""What a job under spawn finds of the script: `__main__`, its definitions, multiprocessing."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.hydra import launcher_args, read_journal, run_python, run_sweep, succeed, write_files
from helpers.processes import both_methods


def values(folder: Path) -> list[object]:
    events = read_journal(folder / "sweep")
    ends = {event["job"]: event.get("value") for event in events if event["event"] == "end"}
    return [ends[num] for num in sorted(ends)]


@both_methods
def test_a_class_of_the_script_that_only_the_config_names(
    tmp_path: Path, start_method: str
) -> None:
    write_files(
        tmp_path,
        {
            "train.py": """
                import threading

                import hydra

                lock = threading.Lock()  # cannot be pickled, and nothing of the job uses it


                class Model:
                    def __init__(self, width):
                        self.width = width


                def unrelated():
                    return lock


                @hydra.main(version_base=None, config_path=None)
                def main(cfg):
                    return hydra.utils.instantiate(cfg.model).width


                if __name__ == "__main__":
                    main()
            """
        },
    )
    model = "+model={_target_:__main__.Model,width:3},{_target_:__main__.Model,width:4}"
    succeed(run_sweep(tmp_path, model, start_method=start_method))
    assert values(tmp_path) == [3, 4]


@pytest.mark.slow
@both_methods
def test_a_module_of_a_package_may_start_processes_of_its_own(
    tmp_path: Path, start_method: str
) -> None:
    """Those import `__main__` anew: under its name, or its relative imports fail."""
    write_files(
        tmp_path,
        {
            "pkg/__init__.py": "",
            "pkg/helper.py": "def square(x): return x * x\n",
            "pkg/app.py": """
                import multiprocessing

                import hydra

                from .helper import square

                if __name__ == "__main__":
                    multiprocessing.set_start_method("spawn")


                @hydra.main(version_base=None, config_path=None)
                def main(cfg):
                    with multiprocessing.Pool(1) as pool:
                        return [multiprocessing.get_start_method(), *pool.map(square, [1, cfg.x])]


                if __name__ == "__main__":
                    main()
            """,
        },
    )
    arguments = [*launcher_args(start_method), "hydra.sweep.dir=sweep", "+x=2"]
    succeed(run_python(tmp_path, "-m", "pkg.app", "-m", *arguments))
    assert values(tmp_path) == [["spawn", 1, 4]]


@pytest.mark.slow
def test_the_working_directory_does_not_shadow_the_standard_library(tmp_path: Path) -> None:
    write_files(
        tmp_path,
        {
            "app/train.py": """
                import hydra


                @hydra.main(version_base=None, config_path=None)
                def main(cfg):
                    return cfg.x


                if __name__ == "__main__":
                    main()
            """,
            "types.py": "raise ImportError('not this one')\n",
        },
    )
    succeed(run_sweep(tmp_path, "+x=5", start_method="spawn", script=("app/train.py",)))
    assert values(tmp_path) == [5]


def test_a_script_that_has_replaced_stdout(tmp_path: Path) -> None:
    """With an object that has no more than `write` and `flush`, as people do to log."""
    write_files(
        tmp_path,
        {
            "train.py": """
                import sys

                import hydra


                class Tee:
                    def __init__(self, stream):
                        self.stream = stream

                    def write(self, text):
                        self.stream.write(text)

                    def flush(self):
                        self.stream.flush()


                sys.stdout = Tee(sys.stdout)


                @hydra.main(version_base=None, config_path=None)
                def main(cfg):
                    return cfg.x


                if __name__ == "__main__":
                    main()
            """
        },
    )
    done = succeed(run_sweep(tmp_path, "+x=5"))
    assert "1 completed" in done.text


def test_a_callback_that_cannot_be_sent_is_named(tmp_path: Path) -> None:
    write_files(
        tmp_path,
        {
            "cbs.py": """
                import threading

                from hydra.experimental.callback import Callback


                class Watcher(Callback):
                    def __init__(self):
                        self.lock = threading.Lock()
            """,
            "train.py": """
                import hydra


                @hydra.main(version_base=None, config_path=None)
                def main(cfg):
                    return 1


                if __name__ == "__main__":
                    main()
            """,
        },
    )
    callback = "+hydra.callbacks.watcher={_target_:cbs.Watcher}"
    done = run_sweep(tmp_path, "+x=1", callback, start_method="spawn")
    assert done.code == 1
    assert "the callback Watcher: cannot pickle" in done.text
    assert not (tmp_path / "sweep" / ".hsm" / "results" / "0.pkl").exists()
