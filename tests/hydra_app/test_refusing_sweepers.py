"""A sweep that never began, since its sweeper refused its settings, leaves nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from helpers.hydra import launcher_args, run_python, succeed, write_files
from helpers.processes import first_fast
from hsm.core.record.claim import claim_beside, claimable, lock_directory, unclaim
from hsm.core.record.paths import SweepPaths

pytestmark = pytest.mark.thorough

_SWEEPER = """
    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins
    from hydra.plugins.sweeper import Sweeper


    class Refusing(Sweeper):
        def __init__(self, where):
            self.where = where

        def setup(self, **given):
            self.launcher = Plugins.instance().instantiate_launcher(**given)
            if self.where == "setup":
                raise ValueError("refused")

        def sweep(self, arguments):
            if self.where == "sweep":
                raise ValueError("refused")
            self.launcher.launch([], initial_job_idx=0)


    node = {"_target_": "hydra_plugins.refusing.Refusing", "where": "setup"}
    ConfigStore.instance().store(group="hydra/sweeper", name="refusing", node=node)
"""
_APP = """
    import threading

    import hydra

    LOCK = threading.Lock()


    @hydra.main(version_base=None, config_path=None)
    def main(cfg):
        return LOCK.locked()


    if __name__ == "__main__":
        main()
"""
_FILES = {"app.py": _APP, "hydra_plugins/refusing.py": _SWEEPER}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the app."""
    write_files(tmp_path / "app", _FILES)
    return tmp_path / "app"


def _names(folder: Path) -> set[str]:
    """What is there, but for the app."""
    names = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    return {name for name in names if name != "app.py" and not name.startswith("hydra_plugins")}


def _registered() -> list[str]:
    state = Path(os.environ["XDG_STATE_HOME"], "hsm")
    return sorted(path.read_text() for path in state.rglob("*") if path.is_file())


@pytest.mark.parametrize("where", first_fast("setup", "sweep", "nothing"))
def test_a_sweeper_that_refuses_its_settings_leaves_no_directory(folder: Path, where: str) -> None:
    known = _registered()
    words = ("hydra/sweeper=refusing", f"hydra.sweeper.where={where}", "hydra.sweep.dir=a/b/c")
    done = run_python(folder, "app.py", "-m", *launcher_args(), *words)
    assert done.code == (0 if where == "nothing" else 1)
    assert ("refused" in done.err) == (where != "nothing")
    assert _names(folder) == set()
    assert _registered() == known


@pytest.mark.slow
def test_what_was_there_before_stays(folder: Path) -> None:
    write_files(folder, {"sweep/.hidden": ""})
    words = ("app.py", "-m", *launcher_args(), "hydra.sweep.dir=sweep")
    refusing = ("hydra/sweeper=refusing", "hydra.sweeper.where=sweep")
    run_python(folder, *words, *refusing)
    assert _names(folder) == {"sweep", "sweep/.hidden"}
    succeed(run_python(folder, *words, "+x=1"))
    before = _names(folder)
    run_python(folder, *words, *refusing)
    assert _names(folder) == before


@pytest.mark.slow
def test_optunas_sweeper_refuses_a_bad_value(folder: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    bad = ("hydra/sweeper=optuna", "hydra.sweeper.direction=sideways", "+x=interval(0,1)")
    done = run_python(folder, "app.py", "-m", *launcher_args(), *bad)
    assert done.code == 1
    assert _names(folder) == set()


@pytest.mark.slow
def test_jobs_that_cannot_be_sent_to_their_processes(folder: Path) -> None:
    """Hydra's own sweeper has written its file by then."""
    words = ("hydra.sweep.dir=sweep", "+x=1")
    done = run_python(folder, "app.py", "-m", *launcher_args("spawn"), *words)
    assert done.code == 1
    assert "LOCK" in done.err
    assert _names(folder) == {"sweep", "sweep/multirun.yaml"}


def test_a_directory_that_another_launcher_uses_meanwhile_stays(folder: Path) -> None:
    paths = SweepPaths(folder / "a" / "b")
    made = [place for place in claimable(paths) if not place.exists()]
    lock = lock_directory(paths)
    place, other = claim_beside(str(paths.sweep_dir))
    unclaim(paths, made)
    lock.release()
    assert _names(folder / "a") == {
        "b-2",
        "b-2/.hsm",
        *(f"b-2/.hsm/{n}" for n in ("lock", "logs", "metrics", "results")),
    }
    unclaim(SweepPaths(place), claimable(SweepPaths(place))[:2])
    other.release()
    assert _names(folder) == {"a"}
    lock = lock_directory(paths)
    paths.stdout(0).touch()
    unclaim(paths, made)
    lock.release()
    assert paths.lock.exists()
