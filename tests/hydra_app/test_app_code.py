"""Whatever code an app is made of: any callable, any globals, threads, edits meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.hydra import (
    ends,
    read_json,
    run_sweep,
    succeed,
    write_files,
)
from helpers.processes import both_methods

EDITING = """
    import json
    from pathlib import Path

    import hydra
    from hydra.core.hydra_config import HydraConfig
    import helper

    VALUE = "old"


    def note(cfg):
        return {"script": VALUE, "helper": helper.VALUE, "base": cfg.base, "model": cfg.model.name}


    @hydra.main(version_base=None, config_path="conf", config_name="config")
    def main(cfg):
        runtime = HydraConfig.get().runtime
        Path(runtime.output_dir, "seen.json").write_text(json.dumps(note(cfg)))
        if HydraConfig.get().job.num == 0:
            for path in Path("edits").rglob("*"):
                if path.is_file():
                    Path(path.relative_to("edits")).write_text(path.read_text())
            Path("conf/model/removed.yaml").unlink()


    if __name__ == "__main__":
        main()
"""


@both_methods
@pytest.mark.parametrize(
    "batch",
    [
        pytest.param([], id="whole"),
        pytest.param(["hydra.sweeper.max_batch_size=2"], id="batches", marks=pytest.mark.slow),
    ],
)
def test_edits_made_during_the_sweep_change_no_pending_job(
    tmp_path: Path, start_method: str, batch: list[str]
) -> None:
    config = """
        defaults: [model: a, _self_]
        base: {value}
    """
    write_files(
        tmp_path,
        {
            "train.py": EDITING,
            "helper.py": "VALUE = 'old'\n",
            "conf/config.yaml": config.format(value="old"),
            "conf/model/a.yaml": "name: old-a\n",
            "conf/model/b.yaml": "name: old-b\n",
            "conf/model/removed.yaml": "name: old-removed\n",
            "edits/train.py": EDITING.replace("old", "new"),
            "edits/helper.py": "VALUE = 'new'\n",
            "edits/conf/config.yaml": config.format(value="new"),
            "edits/conf/model/a.yaml": "name: new-a\n",
            "edits/conf/model/b.yaml": "name: new-b\n",
        },
    )
    # Before each batch the sweeper itself checks that it can be composed, from the files on disk.
    models = ["a", "b"] if batch else ["a", "b", "removed"]
    overrides = ["model=" + ",".join(models), "+n=0,1", *batch]
    succeed(run_sweep(tmp_path, *overrides, start_method=start_method, jobs=1))
    assert (tmp_path / "conf" / "model" / "b.yaml").read_text() == "name: new-b\n"
    for num in range(2 * len(models)):
        seen = read_json(tmp_path / "sweep" / str(num) / "seen.json")
        assert seen["script"] == "old"
        assert seen["base"] == "old"
        assert seen["model"] == "old-" + models[num // 2]
        if start_method == "fork":  # a fresh interpreter imports the script's modules again
            assert seen["helper"] == "old"


TASKS = """
    import functools, sys
    import hydra


    def make(factor):
        def inner(cfg):
            return cfg.n * factor
        return inner


    class Task:
        def __call__(self, cfg):
            return cfg.n * 2


    def double(factor, cfg):
        return cfg.n * factor


    class Trainer:
        factor = 2

        def train(self, cfg):
            return cfg.n * self.factor


    TASKS = {
        "lambda": lambda cfg: cfg.n * 2,
        "closure": make(2),
        "callable_object": Task(),
        "partial": functools.update_wrapper(functools.partial(double, 2), double),
        "method": Trainer().train,
    }

    if __name__ == "__main__":
        given = sys.argv[1:]
        for kind, task in TASKS.items():
            sys.argv[1:] = [*given, f"hydra.sweep.dir=sweep/{kind}"]
            hydra.main(version_base=None, config_path=None)(task)()
"""


@pytest.mark.slow
@both_methods
def test_the_task_may_be_any_callable(tmp_path: Path, start_method: str) -> None:
    write_files(tmp_path, {"train.py": TASKS})
    succeed(run_sweep(tmp_path, "+n=1,2", start_method=start_method))
    for kind in ("lambda", "closure", "callable_object", "partial", "method"):
        values = [end["value"] for _, end in sorted(ends(tmp_path / "sweep" / kind).items())]
        assert values == [2, 4], kind


UNPICKLABLE = """
    import os, threading
    import hydra

    LOCK = threading.Lock()
    NUMBERS = iter(range(10))
    GENERATED = (n for n in range(10))
    FILE = open("shared.log", "a")
    SQUARE = lambda n: n * n


    @hydra.main(version_base=None, config_path=None)
    def main(cfg):
        with LOCK:
            FILE.write(f"{cfg.n}\\n")
        LOCK.acquire()  # a lock that a finished job still holds blocks nobody else
        return [next(NUMBERS), next(GENERATED), SQUARE(cfg.n)]


    if __name__ == "__main__":
        main()
"""


def test_globals_that_cannot_be_pickled_work_under_fork(tmp_path: Path) -> None:
    write_files(tmp_path, {"train.py": UNPICKLABLE})
    succeed(run_sweep(tmp_path, "+n=1,2,3", start_method="fork"))
    values = [end["value"] for _, end in sorted(ends(tmp_path / "sweep").items())]
    assert values == [[0, 0, 1], [0, 0, 4], [0, 0, 9]]
    assert sorted((tmp_path / "shared.log").read_text().split()) == ["1", "2", "3"]


LIBRARY = """
    import hydra
    import {library}

    if {warm}:
        # Enough work for the library's own worker threads to exist before the first job.
        WARM = float(({library}.ones((400, 400)) @ {library}.ones((400, 400))).sum())


    @hydra.main(version_base=None, config_path=None)
    def main(cfg):
        return float(({library}.ones((400, 400)) @ {library}.ones((400, 400))).sum()) + cfg.n


    if __name__ == "__main__":
        main()
"""


@pytest.mark.slow
@both_methods
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_libraries_with_threads_of_their_own_work(
    tmp_path: Path, library: str, start_method: str
) -> None:
    pytest.importorskip(library)
    # torch's threads are OpenMP's, which do not survive a fork: README, limits.
    warm = library == "numpy" or start_method == "spawn"
    write_files(tmp_path, {"train.py": LIBRARY.format(library=library, warm=warm)})
    succeed(run_sweep(tmp_path, "+n=0,1,2", start_method=start_method))
    values = [end["value"] for _, end in sorted(ends(tmp_path / "sweep").items())]
    assert values == [400.0**3, 400.0**3 + 1, 400.0**3 + 2]


def test_auto_takes_spawn_when_the_script_has_threads(tmp_path: Path) -> None:
    app = """
        import os, threading
        import hydra

        @hydra.main(version_base=None, config_path=None)
        def main(cfg):
            return threading.active_count()

        if __name__ == "__main__":
            done = threading.Event()
            threading.Thread(target=done.wait, name="watcher").start()
            try:
                main()
            finally:
                done.set()
    """
    write_files(tmp_path, {"train.py": app})
    done = succeed(run_sweep(tmp_path))
    assert "spawn" in done.text
    assert ends(tmp_path / "sweep")[0]["value"] == 1


TIDY = """
    import os, shutil, sys
    import hydra
    from hydra.core.hydra_config import HydraConfig


    @hydra.main(version_base=None, config_path=None)
    def main(cfg):
        if cfg.kind == "closes_descriptors":
            os.closerange(3, 256)
        if cfg.kind == "removes_its_directory":
            shutil.rmtree(HydraConfig.get().runtime.output_dir)
        return [sys.flags.optimize, sys.warnoptions]


    if __name__ == "__main__":
        main()
"""


@both_methods
def test_jobs_may_close_and_remove_what_is_theirs_and_have_the_interpreters_options(
    tmp_path: Path, start_method: str
) -> None:
    write_files(tmp_path, {"train.py": TIDY})
    kinds = "+kind=closes_descriptors,removes_its_directory,neither"
    script = ("-O", "-W", "ignore::ImportWarning", "train.py")
    succeed(run_sweep(tmp_path, kinds, start_method=start_method, script=script))
    finals = ends(tmp_path / "sweep").values()
    assert [end["state"] for end in finals] == ["COMPLETED"] * 3
    assert [end["value"] for end in finals] == [[1, ["ignore::ImportWarning"]]] * 3
