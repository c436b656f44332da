"""A sweep with a failed job ends as under Hydra's basic launcher: with the app's own error."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import hydra
import pytest

from helpers.hydra import DEADLINE, clean_environment, write_files
from helpers.processes import SOURCE
from hsm.core.program.reports import RemoteError
from hsm.hydra_app.carried_errors import CarriedError

_APP = """
    import os
    import signal
    import sys
    import time
    from pathlib import Path

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
            raise RuntimeError("two\\nlines") from error


    def context():
        try:
            value()
        finally:
            raise KeyError("another")


    def odd():
        raise Odd("the app's own", 2)


    def noted():
        error = ValueError("the app's own")
        if sys.version_info >= (3, 11):
            error.add_note("a note")
        raise error


    def grouped():
        kind = ExceptionGroup if sys.version_info >= (3, 11) else lambda text, errors: errors[0]
        raise kind("some", [ValueError("one"), TypeError("two")])


    def syntax():
        compile("a b c", "text.py", "exec")


    def deep(n=50):
        return deep(n - 1) if n else value()


    def interpolation():
        from omegaconf import OmegaConf

        return OmegaConf.create({"a": "${b}"}).a


    def waits():
        while not Path("failed").exists():
            time.sleep(0.01)
        time.sleep(600)


    def fails():
        Path("failed").touch()
        value()


    def exits():
        sys.exit(3)


    def killed():
        os.kill(os.getpid(), signal.SIGKILL)


    @hydra.main(version_base=None, config_path=None)
    def main(cfg):
        return globals()[cfg.kind]()


    if __name__ == "__main__":
        main()
"""
_SWEEPER = """
    from hydra.core.config_store import ConfigStore
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper


    class RaisingSweeper(BasicSweeper):
        def sweep(self, arguments):
            launched = self.launcher.launch([arguments], initial_job_idx=0)
            for _ in range(5):
                try:
                    launched[0].return_value
                except Exception:
                    pass
            return launched[0].return_value


    node = {"_target_": "hydra_plugins.raising.RaisingSweeper", "max_batch_size": None}
    ConfigStore.instance().store(group="hydra/sweeper", name="raising", node=node)
"""
_KINDS = ("cause", "context", "odd", "noted", "grouped", "syntax", "deep", "interpolation")
_HYDRA_1_3 = hydra.__version__.startswith("1.3.")


def _screen(folder: Path, *overrides: str, **env: str) -> tuple[int, str]:
    """Run the app; return its exit code, and both its streams as one, as a terminal shows them."""
    write_files(folder, {"train.py": _APP, "hydra_plugins/raising.py": _SWEEPER})
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "train.py", "-m", "hydra.sweep.dir=sweep", *overrides],
        cwd=folder,
        env=clean_environment(**env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=DEADLINE,
        check=False,
    )
    return done.returncode, done.stdout.decode()


def _end(screen: str) -> list[str]:
    """What comes from Hydra; without the marks below lines, which its 1.4 does not send."""
    lines = screen[screen.index("Error executing job") :].splitlines()
    return [line for line in lines if _HYDRA_1_3 or line.strip(" |^~") or not line.strip()]


@pytest.mark.parametrize(
    "kind", ["value", *(pytest.param(kind, marks=pytest.mark.slow) for kind in _KINDS)]
)
def test_a_failed_sweep_ends_as_under_the_basic_launcher(tmp_path: Path, kind: str) -> None:
    code, basic = _screen(tmp_path, f"+kind={kind}")
    assert code == 1
    code, screen = _screen(tmp_path, "hydra/launcher=hsm_local", f"+kind={kind}")
    assert code == 1
    assert _end(screen) == _end(basic)
    assert screen.index("1 job: 1 failed") < screen.index("Error executing job")


@pytest.mark.slow
def test_all_frames_are_shown_on_request(tmp_path: Path) -> None:
    code, screen = _screen(
        tmp_path, "hydra/launcher=hsm_local", "+kind=cause", HYDRA_FULL_ERROR="1"
    )
    assert code == 1
    end = screen[screen.index("Error executing job") :]
    for function in ("run_and_report", "run_job", "main", "cause", "value"):
        assert f"{function}\n" in end
    assert end.count("direct cause") == 1
    own_folders = [f"{os.sep}{name}{os.sep}" for name in ("hsm", "hydra_plugins")]
    assert not any(str(SOURCE) + folder in end for folder in own_folders)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "message"), [("exits", "exit code 3"), ("killed", "killed by SIGKILL")]
)
def test_a_job_that_raised_nothing_ends_the_sweep_with_one_line(
    tmp_path: Path, kind: str, message: str
) -> None:
    code, screen = _screen(tmp_path, "hydra/launcher=hsm_local", f"+kind={kind}")
    assert code == 1
    assert _end(screen)[1] == f"job 0 (+kind={kind}) FAILED: {message}"
    assert (
        str(Path(hydra.__file__).parent) not in screen
    )  # Hydra 1.4 writes them into the job's log


@pytest.mark.slow
def test_the_error_is_of_the_job_that_failed_not_of_one_that_was_stopped_for_it(
    tmp_path: Path,
) -> None:
    fail_fast = ("hydra/launcher=hsm_local", "hydra.launcher.fail_fast=true")
    code, screen = _screen(tmp_path, *fail_fast, "+kind=waits,fails")
    assert code == 1
    assert _end(screen)[0] == "Error executing job with overrides: ['+kind=fails']"
    assert "ValueError: the app's own" in _end(screen)


@pytest.mark.slow
def test_a_sweeper_that_asks_for_the_error_again_and_again_ends_like_hydras_own(
    tmp_path: Path,
) -> None:
    own = "hydra/sweeper=raising"
    _, basic = _screen(tmp_path, "+kind=cause")
    code, screen = _screen(tmp_path, own, "hydra/launcher=hsm_local", "+kind=cause")
    assert code == 1
    end = iter(_end(screen))  # Hydra 1.3 has the summary after it, and 1.4 within it.
    assert all(line in end for line in _end(basic))
    assert str(Path(hydra.__file__).parent) not in screen


def _cause() -> None:
    try:
        _value()
    except ValueError as error:
        raise RuntimeError("outer") from error


def _context() -> None:
    try:
        _value()
    finally:
        raise KeyError("another")


def _circle() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    raise first


def _value() -> None:
    raise ValueError(
        "in several lines",
    )


def _syntax() -> None:
    compile("a b c", "text.py", "exec")


class _Odd(Exception):
    def __init__(self, first: str, second: int) -> None:
        super().__init__(first)


def _odd() -> None:
    raise _Odd("the message", 2)


def _odd_cause() -> None:
    try:
        _odd()
    except _Odd as error:
        raise ValueError("outer") from error


def _generated() -> None:
    exec(compile("\n\nraise ValueError('from a text')", "<generated>", "exec"))


@pytest.mark.parametrize(
    "raises", [_value, _cause, _context, _circle, _syntax, _odd, _odd_cause, _generated]
)
def test_an_error_carried_to_another_process_is_shown_as_it_was(
    raises: Callable[[], None],
) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        raises()
    carried = pickle.loads(pickle.dumps(CarriedError.of(caught.value)))
    try:
        loaded = pickle.loads(pickle.dumps(caught.value))
    except TypeError:
        loaded = RemoteError("_Odd", "the message")
    assert traceback.format_exception(carried.restore(loaded)) == traceback.format_exception(
        caught.value
    )


@pytest.mark.skipif(sys.version_info < (3, 11), reason="there are no groups and no notes")
def test_the_members_of_a_group_keep_their_tracebacks_and_notes() -> None:
    errors = []
    for raises in (_cause, _odd):
        with pytest.raises(Exception) as caught:  # noqa: PT011
            raises()
        caught.value.__notes__ = ["a note"]  # type: ignore[attr-defined]
        errors.append(caught.value)
    group = ExceptionGroup("some", errors[:1])  # type: ignore[name-defined]  # noqa: F821
    carried = pickle.loads(pickle.dumps(CarriedError.of(group)))
    restored = carried.restore(pickle.loads(pickle.dumps(group)))
    assert traceback.format_exception(restored) == traceback.format_exception(group)
    assert restored.exceptions[0].__notes__ == ["a note"]
