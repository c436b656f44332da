"""Every test has an empty directory and a clean environment, and may leave no process behind."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import hypothesis
import psutil
import pytest
from hydra.core.plugins import Plugins
from xdist.scheduler import LoadScopeScheduling

from helpers.cli import Project
from helpers.processes import PATIENCE, describe
from helpers.sweeps import PROFILE

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
#: Modules elsewhere that show what a version of Hydra may change, and none of Python does.
_OF_HYDRA = ("test_plugin_config", "test_sweeper_configs", "test_new_setting", "test_adding_points")
#: Modules of tests/hydra_app that every Python runs.
_OF_PYTHON = (
    *("test_hydra_suites", "test_hydra_promises", "test_app_code", "test_isolation"),
    *("test_faults", "test_job_endings", "test_job_returns", "test_spawned_script"),
)


def pytest_configure(config: pytest.Config) -> None:
    # The person who runs the tests has settings, sweeps and perhaps an hsm.yaml: not ours to touch
    # or read. Here and not in a fixture, so that it holds for what modules share as well.
    for name in [name for name in os.environ if name.startswith(("HSM_", "HYDRA_"))]:
        del os.environ[name]
    # Without byte code, each of thousands of processes would compile its modules anew.
    for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"):
        os.environ.pop(name, None)
    home = tempfile.TemporaryDirectory(prefix="hsm-tests-")
    config.add_cleanup(home.cleanup)
    for name in ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        os.environ[name] = home.name
    # Hydra 1.4 registers its own configs when its plugins are first looked for. If that is inside a
    # test whose singletons are restored afterwards, no later test finds them.
    Plugins.instance()
    # Its deadlines and health checks measure time, which a busy machine lengthens.
    hypothesis.settings.register_profile("steady", PROFILE)
    hypothesis.settings.load_profile("steady")
    # Whoever runs the tests in the background, or under nohup, has some of these ignored. What is
    # started here would find them so, and rightly leave it at that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    if sys.platform.startswith("linux"):
        # Orphans, daemons among them, become children of this process and not of init: so all that
        # a test has started, however often it forked, stays below this process and can be found.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class _Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # it is not typed
    """Gives tests to workers one by one, but those of a module that share a sweep to one."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return path if self._shares(path) else nodeid

    @cache  # noqa: B019 -- there is one, for the whole run
    def _shares(self, path: str) -> bool:
        return 'scope="module"' in (self.config.rootpath / path).read_text(encoding="utf-8")


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling | None:
    return _Scheduling(config, log) if config.getvalue("dist") == "loadscope" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what no version of Python changes, and what none of Hydra changes either.

    The latter is what hypothesis makes examples for. Of the tests of Hydra's apps, Hydra's own
    suites and a few others show what a version of Python does to them.
    """
    for item in items:
        is_generated = getattr(getattr(item, "function", None), "is_hypothesis_test", False)
        if is_generated:
            item.add_marker(pytest.mark.thorough)
        in_hydra_app = item.path.parent.name == "hydra_app"
        if item.path.stem in _OF_HYDRA or (in_hydra_app and item.path.stem not in _OF_PYTHON):
            item.add_marker(pytest.mark.of_hydra)


@pytest.fixture(autouse=True)
def project_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory: empty, and of a user who has never started a sweep."""
    for name, place in (("HOME", "home"), ("XDG_CONFIG_HOME", "xdg"), ("HSM_STATE_DIR", "state")):
        monkeypatch.setenv(name, str(tmp_path / place))
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def project(project_dir: Path) -> Project:
    """A directory in which `hsm` runs, with no settings but its own, and no sweeps yet."""
    return Project(project_dir)


@pytest.fixture(autouse=True)
def pipes_end_nobody() -> Iterator[None]:
    """Fail a test that leaves SIGPIPE with the default action that `hsm` gives it.

    A later test's write to a pipe would end this process, far from the cause.
    """
    yield
    handler = signal.getsignal(signal.SIGPIPE)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    assert handler is signal.SIG_IGN


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    """Fail a test that leaves a process behind, and end that process."""
    yield
    deadline = time.monotonic() + PATIENCE
    while (left := _descendants()) and time.monotonic() < deadline:
        time.sleep(0.05)
    if left:
        message = f"processes left behind:\n{describe(left)}"
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=5)
        pytest.fail(message, pytrace=False)


def _descendants() -> list[psutil.Process]:
    """All below this process. Zombies do not count; those that fell to this process are reaped."""
    found: list[psutil.Process] = []
    if sys.platform.startswith("linux"):
        try:  # Much cheaper than a look at every process, after thousands of tests.
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return found  # no child, so nothing below one: orphans become children
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
            elif process.ppid() == os.getpid():
                with suppress(ChildProcessError):
                    os.waitpid(process.pid, os.WNOHANG)
    return found
