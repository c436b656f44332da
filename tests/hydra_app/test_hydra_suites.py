"""Hydra's own test suites, run for hsm_local under both start methods, and for hsm's sweeper.

They come with hydra-core, so each supported Hydra brings the version that it expects to pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hydra import version
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.test_utils.launcher_common_tests import (
    BatchedSweeperTestSuite,
    IntegrationTestSuite,
    LauncherTestSuite,
)

from helpers.hydra import clean_environment
from helpers.processes import START_METHODS

# The suites call Hydra without a version_base, which Hydra 1.3 comments on in every job.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Future Hydra versions will no longer change:UserWarning"
)


@pytest.fixture(autouse=True)
def _findable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the scripts that the suites run find hsm where these tests found it."""
    monkeypatch.setenv("PYTHONPATH", clean_environment()["PYTHONPATH"])


@pytest.fixture(autouse=True)
def _oldest_version_base() -> Iterator[None]:
    """The suites leave the version_base open; some other test in this process has chosen one."""
    oldest = getattr(version, "__compat_version__", None)  # Hydra 1.4 knows no other than its own
    state = version.VersionBase.instance()
    before = state.version_base  # by itself, since it may be none: setbase() takes versions only
    if oldest is not None:
        state.setbase(oldest)
    yield
    state.version_base = before


def _settings(start_method: str) -> list[str]:
    return [
        f"hydra.launcher.start_method={start_method}",
        "hydra.launcher.max_parallel_jobs=2",
        "hydra.launcher.progress=none",
    ]


def _suite(names: str, given: Callable[[list[str]], tuple[Any, list[str]]]) -> pytest.MarkDecorator:
    """Parametrise a suite with what it is given for the settings of each start method."""
    fork, spawn = (given(_settings(method)) for method in START_METHODS)
    rows = [
        pytest.param(*fork, id="fork"),
        pytest.param(*spawn, id="spawn", marks=pytest.mark.slow),
    ]
    return pytest.mark.parametrize(names.split(), rows)


def test_hydra_discovers_the_launcher() -> None:
    names = [plugin.__name__ for plugin in Plugins.instance().discover(Launcher)]
    assert "HsmLocalLauncher" in names


def test_hydra_discovers_the_sweeper() -> None:
    names = [plugin.__name__ for plugin in Plugins.instance().discover(Sweeper)]
    assert "HsmSweeper" in names


@_suite("launcher_name overrides", lambda settings: ("hsm_local", settings))
class TestLauncher(LauncherTestSuite):
    """The jobs of one batch: their order, overrides, config, directories and failures."""


_BATCHED = ["hydra/sweeper=basic", "hydra.sweeper.max_batch_size=2"]


@_suite("launcher_name overrides", lambda settings: ("hsm_local", [*_BATCHED, *settings]))
class TestBatchedSweeper(BatchedSweeperTestSuite):
    """Six jobs in three batches."""


_FLAGS = ["-m", "hydra/job_logging=hydra_debug", "hydra/job_logging=disabled"]


@pytest.mark.slow
@_suite(
    "task_launcher_cfg extra_flags",
    lambda settings: ({}, [*_FLAGS, "hydra/launcher=hsm_local", *settings]),
)
class TestIntegration(IntegrationTestSuite):
    """Scripts run by their own interpreter: job names, sweep directories, original directory."""


_SWEEPER = "hydra/sweeper=hsm"
_OWN_BATCHED = [_SWEEPER, "hydra.sweeper.max_batch_size=2"]


@pytest.mark.parametrize(
    ("launcher_name", "overrides"),
    [
        pytest.param("hsm_local", [_SWEEPER, *_settings("fork")], id="hsm_local"),
        pytest.param("basic", [_SWEEPER], id="basic"),
    ],
)
class TestSweeper(LauncherTestSuite):
    """What a sweep promises, whichever launcher the points go to."""


@pytest.mark.parametrize(
    ("launcher_name", "overrides"),
    [
        pytest.param("hsm_local", [*_OWN_BATCHED, *_settings("fork")], id="hsm_local"),
        pytest.param("basic", [*_OWN_BATCHED], id="basic"),
    ],
)
class TestSweepersBatches(BatchedSweeperTestSuite):
    """Six jobs, which the sweeper gives back in three batches."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task_launcher_cfg", "extra_flags"),
    [
        pytest.param(
            {}, [*_FLAGS, _SWEEPER, "hydra/launcher=hsm_local", *_settings("fork")], id="hsm_local"
        ),
        pytest.param({}, [*_FLAGS, _SWEEPER], id="basic"),
    ],
)
class TestSweepersIntegration(IntegrationTestSuite):
    """Scripts run by their own interpreter, with hsm's sweeper."""
