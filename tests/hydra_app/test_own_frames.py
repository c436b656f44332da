"""What a job's own failure and its warnings show is the app's: no frame and no line of hsm."""

from __future__ import annotations

from pathlib import Path

import hydra
import pytest

from helpers.hydra import Finished, run_sweep, write_files
from helpers.processes import SOURCE, START_METHODS, both_methods, first_fast

pytestmark = pytest.mark.thorough

_OWN = str(SOURCE / "hsm")
_LOGGED = (
    "+hydra.callbacks.log._target_=hydra.experimental.callbacks.LogJobReturnCallback",
    "hydra.launcher.progress=plain",
)
_APP = """
    import sys
    import warnings

    import hydra


    class Odd(Exception):
        "Cannot be unpickled."

        def __init__(self, first, second):
            super().__init__(first)


    def value():
        raise ValueError("the app's own")


    def cause():
        try:
            value()
        except ValueError as error:
            raise RuntimeError("the app's own") from error


    def context():
        try:
            value()
        finally:
            raise KeyError("the app's own")


    def odd():
        raise Odd("the app's own", 2)


    def exit():
        sys.exit("the app's own")


    def deep():
        return deep()


    def again():
        try:
            value()
        except ValueError as error:
            raise error.with_traceback(error.__traceback__)


    @hydra.main(version_base={version}, config_path=None)
    def main(cfg):
        warnings.warn("at the caller", stacklevel=2)
        warnings.warn("further out", stacklevel=4)
        return globals()[cfg.kind]()


    if __name__ == "__main__":
        main()
"""
_KINDS = ("value", "cause", "context", "odd", "exit", "deep", "again")


def _shown(folder: Path, *overrides: str, start_method: str, version: str = "None") -> Finished:
    """Everything that a sweep of this app shows, in the launcher and in the jobs' logs."""
    write_files(folder, {"train.py": _APP.replace("{version}", version)})
    return run_sweep(folder, *overrides, *_LOGGED, start_method=start_method, jobs=1)


@pytest.mark.parametrize("start_method", first_fast(*START_METHODS))
def test_no_traceback_of_the_app_has_a_frame_of_hsm(tmp_path: Path, start_method: str) -> None:
    done = _shown(tmp_path, f"+kind={','.join(_KINDS)}", start_method=start_method)
    assert done.code == 1
    assert _OWN not in done.text
    for num, kind in enumerate(_KINDS):
        folder = tmp_path / "sweep" / str(num)
        logs = {path.name: path.read_text() for path in folder.glob("*.log")}
        assert set(logs) == {"train.log", "stdout.log", "stderr.log"}
        for name, text in logs.items():
            assert _OWN not in text, (kind, name)
        assert f"in {kind}" in logs["train.log"]
        assert "in main" in logs["train.log"]


@pytest.mark.slow
@both_methods
@pytest.mark.skipif(not hydra.__version__.startswith("1.3."), reason="1.4 has no such warning")
def test_hydras_own_warnings_name_no_line_of_hsm(tmp_path: Path, start_method: str) -> None:
    done = _shown(tmp_path, "+kind=value", start_method=start_method, version="'1.1'")
    shown = (tmp_path / "sweep" / "0" / "stderr.log").read_text()
    assert "Future Hydra versions will no longer change working directory" in shown
    assert _OWN not in shown + done.text


@pytest.mark.slow
def test_a_warning_names_the_place_that_it_would_name_without_hsm(tmp_path: Path) -> None:
    _shown(tmp_path, "+kind=value", start_method="fork")
    shown = (tmp_path / "sweep" / "0" / "stderr.log").read_text().splitlines()
    (line,) = [line for line in shown if "UserWarning: at the caller" in line]
    assert Path(line.partition(":")[0]).parts[-3:] == ("hydra", "core", "utils.py")
    following = shown[shown.index(line) + 1]
    assert following.strip() == "ret.return_value = task_function(task_cfg)"
