from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import cloudpickle
import pytest
from hydra import compose, initialize
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from helpers.processes import SOURCE
from helpers.settings import write
from hsm.core.errors import SettingsError, UnknownSetting
from hsm.core.settings.resolve import (
    SETTINGS,
    CpuAffinity,
    GpuBusy,
    LocalConf,
    ProgressMode,
    Rerun,
    StartMethod,
)
from hydra_plugins.hsm_local_launcher import _registration
from hydra_plugins.hsm_local_launcher.config import validated

TARGET = "hydra_plugins.hsm_local_launcher.launcher.HsmLocalLauncher"

_APP = """\
import hydra
import omegaconf

@hydra.main(**{arguments})
def main(cfg):
    print(hydra.core.hydra_config.HydraConfig.get().launcher.max_parallel_jobs)

if __name__ == "__main__":
    main()
"""


@pytest.fixture(autouse=True)
def hydras_own_state() -> Iterator[None]:
    """Hydra's singletons and OmegaConf's resolvers are, afterwards, what they were before."""
    Plugins.instance()
    state = copy.deepcopy(Singleton.get_state())
    yield
    Singleton.set_state(state)


def launcher(*overrides: str) -> DictConfig:
    """The config below hydra.launcher as Hydra composes it."""
    with warnings.catch_warnings():
        # Hydra 1.3 warns if version_base is left out, Hydra 1.4 if it is given.
        warnings.simplefilter("ignore")
        with initialize(config_path=None):
            config = compose(
                overrides=["hydra/launcher=hsm_local", *overrides], return_hydra_config=True
            )
    composed: DictConfig = config.hydra.launcher
    return composed


def launcher_arguments(*overrides: str) -> dict[str, Any]:
    """What Hydra calls the launcher with."""
    made: Any = Plugins.instance()._instantiate(launcher(*overrides))
    assert type(made).__name__ == "HsmLocalLauncher"
    return dict(made.settings)


def values(config: DictConfig) -> dict[str, Any]:
    """The config's values, as plain data."""
    resolved = OmegaConf.to_container(config, resolve=True)
    assert isinstance(resolved, dict)
    assert resolved.pop("_target_") == TARGET
    assert resolved.pop("sweep_id") is None
    # A mapping is composed as a text, or None if it is empty.
    return {
        str(key): {} if value is None and isinstance(SETTINGS[str(key)].default, dict) else value
        for key, value in resolved.items()
    }


# --- the values -----------------------------------------------------------------------------


def test_the_built_in_values_in_their_types() -> None:
    found = values(launcher())
    assert found == vars(LocalConf())
    assert [type(found[name]) for name in SETTINGS] == [
        type(setting.default) for setting in SETTINGS.values()
    ]
    assert validated(found) == LocalConf()


def test_hsm_yaml_and_the_environment_show_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HSM_LOCAL_MAX_JOBS", "3")
    monkeypatch.setenv("HSM_LOCAL_PROGRESS", "plain")
    write("hsm.yaml", "local: {max_parallel_jobs: 7, timeout: 2h, start_method: spawn}")
    found = values(launcher("hydra.launcher.kill_grace=1"))
    assert found == vars(
        LocalConf(
            max_parallel_jobs=7,
            timeout=7200.0,
            start_method=StartMethod.spawn,
            kill_grace=1.0,
            progress=ProgressMode.plain,
        )
    )
    assert validated(found) == LocalConf(**found)


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("max_parallel_jobs=2", 2),
        ("max_parallel_jobs=auto", "auto"),
        ("cpus=2", 2),
        ("cpus=auto", "auto"),
        ("cpus=none", None),
        ("cpus=null", None),
        ("gpus=2", 2),
        ("gpus=0.5", 0.5),
        ("gpus='0.5'", 0.5),
        ("gpus=none", None),
        ("gpu_memory=10GiB", 10 << 30),
        ("gpu_busy=ignore", GpuBusy.ignore),
        ("gpu_wait=2h", 7200.0),
        ("gpu_settle=0", 0.0),
        ("cpu_affinity=share", CpuAffinity.share),
        ("cpu_affinity=none", None),
        ("timeout=90", 90.0),
        ("timeout=90s", 90.0),
        ("timeout=2h", 7200.0),
        ("kill_grace=0.5s", 0.5),
        ("retry_delay=1m", 60.0),
        ("retry_max_delay=1d", 86400.0),
        ("timeout=null", None),
        ("show_output=true", True),
        ("cleanup_on_exit=false", False),
        ("start_method=fork", StartMethod.fork),
        ("kill_grace=0", 0.0),
        ("fail_fast=yes", True),
        ("progress=none", ProgressMode.none),
        ("max_retries=2", 2),
        ("retry_on=[timeout,failed]", ("timeout", "failed")),
        ("max_failures=3", 3),
        ("rerun=all", Rerun.all),
        ("timeout_factor=2.5", 2.5),
        ("memory_limit=4GB", 4 * 10**9),
        ("memory_limit=4096", 4096),
        ("memory_limit=null", None),
        ("on_sweep_end='echo a'", ("echo", "a")),
        ("on_sweep_end=[echo,'a b']", ("echo", "a b")),
    ],
)
def test_an_override_wins(override: str, value: Any) -> None:
    write(
        "hsm.yaml",
        "local: {max_parallel_jobs: 7, timeout: 2h, show_output: false, cleanup_on_exit: true,"
        " start_method: spawn, kill_grace: 9, fail_fast: false, progress: rich}",
    )
    name = override.partition("=")[0]
    found = getattr(validated(launcher_arguments(f"hydra.launcher.{override}")), name)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("override", "value"),
    [("[0,3]", (0, 3)), ("0", (0,)), ("GPU-8f1c", ("GPU-8f1c",)), ("'0,MIG-1'", (0, "MIG-1"))],
)
def test_gpus_are_named(override: str, value: Any) -> None:
    given = ("hydra.launcher.gpus=1", f"hydra.launcher.gpu_ids={override}")
    assert validated(launcher_arguments(*given)).gpu_ids == value


@pytest.mark.parametrize(
    ("overrides", "jobs"),
    [
        (["gpus=1"], "auto"),
        (["gpus=0.5"], "auto"),
        (["gpu_memory=10GiB"], "auto"),
        (["gpus=1", "max_parallel_jobs=3"], 3),
        (["gpus=0"], 4),
        ([], 4),
    ],
)
def test_the_number_of_jobs_follows_from_gpus(overrides: list[str], jobs: Any) -> None:
    composed = launcher(*(f"hydra.launcher.{override}" for override in overrides))
    assert composed.max_parallel_jobs == jobs
    assert validated(values(composed)).max_parallel_jobs == jobs


@pytest.mark.parametrize(
    ("file", "override", "jobs"),
    [
        ("gpus: 1", "gpus=null", 4),
        ("gpus: 1", "gpus=2", "auto"),
        ("gpus: 1, max_parallel_jobs: 7", "gpus=2", 7),
        ("max_parallel_jobs: 7", "gpus=2", 7),
        ("gpu_ids: [0, 1], timeout: 3", "gpus=1", "auto"),
    ],
)
def test_it_follows_from_all_sources(file: str, override: str, jobs: Any) -> None:
    write("hsm.yaml", f"local: {{{file}}}")
    conf = validated(launcher_arguments(f"hydra.launcher.{override}"))
    assert conf.max_parallel_jobs == jobs
    assert conf.timeout == (3.0 if "timeout" in file else None)


def test_settings_of_several_sources_may_need_each_other() -> None:
    write("hsm.yaml", "local: {needs: {licence: 1}, timeout: 3}")
    conf = validated(launcher_arguments("hydra.launcher.resources.licence=2"))
    assert (conf.needs, conf.timeout) == ({"licence": 1}, 3.0)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("max_retries=many", "could not be converted to Integer"),
        ("max_retries=2.5", "could not be converted to Integer"),
        ("max_retries=null", "max_retries"),
        ("show_output=perhaps", "is not a valid bool"),
        ("start_method=thread", "expected one of [auto, fork, spawn]"),
        ("progress=loud", "expected one of [auto, rich, plain, none]"),
    ],
)
def test_hydra_checks_types(override: str, said: str) -> None:
    with pytest.raises((HydraException, OmegaConfBaseException)) as caught:
        launcher(f"hydra.launcher.{override}")
    text = f"{caught.value} {caught.value.__cause__}"
    assert said in text
    assert override.partition("=")[0] in text


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("max_parallel_jobs=0", "0"),
        ("max_parallel_jobs=many", "'many'"),
        ("max_parallel_jobs=2.5", "2.5"),
        ("max_parallel_jobs=null", "None"),
        ("cpus=0", "0"),
        ("cpus=all", "'all'"),
        ("gpus=1.5", "1.5"),
        ("gpus=-1", "-1"),
        ("gpus=many", "'many'"),
        ("gpu_ids=-1", "-1"),
        ("cpu_affinity=mine", "'mine'"),
        ("max_parallel_jobs=-1", "-1"),
        ("timeout=0", "0"),
        ("timeout=soon", "'soon'"),
        ("timeout=nan", "nan"),
        ("timeout=inf", "inf"),
        ("kill_grace=-1", "-1"),
    ],
)
def test_validated_checks_the_values(override: str, value: str) -> None:
    name = override.partition("=")[0]
    with pytest.raises(SettingsError) as caught:
        validated(values(launcher(f"hydra.launcher.{override}")))
    allowed = SETTINGS[name].kind.allowed
    assert str(caught.value).startswith(f"hydra.launcher.{name} must be {allowed}, not {value}")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("failfast=true", "failfast; did you mean fail_fast"),
        ("max_paralel=3", "max_paralel; did you mean max_parallel_jobs"),
        ("n_jobs=2", "n_jobs; write max_parallel_jobs for joblib's n_jobs"),
        ("mem_gb=4", "mem_gb; write memory_limit for submitit's mem_gb"),
        ("max_num_timeout=4", "max_num_timeout; write max_retries and retry_on for submitit's"),
        ("partition=a", "partition; hsm has nothing like submitit's partition"),
        ("ray.init.num_cpus=2", "ray; write max_parallel_jobs for ray's ray.init.num_cpus"),
        ("ray.init.address=a", "ray; hsm has nothing like ray's ray"),
    ],
)
def test_validated_refuses_an_unknown_name(override: str, said: str) -> None:
    """Hydra lets it pass, so that hsm's own error can say what to write instead."""
    for plus in ("", "+"):
        with pytest.raises(UnknownSetting) as caught:
            validated(launcher_arguments(f"{plus}hydra.launcher.{override}"))
        assert str(caught.value).startswith(f"unknown setting hydra.launcher.{said}")


@pytest.mark.parametrize(
    ("name", "text", "origin"),
    [
        ("HSM_LOCAL_TIMEOUT", "soon", "environment variable HSM_LOCAL_TIMEOUT"),
        ("HSM_LOCAL_TIMOUT", "3", "environment variable HSM_LOCAL_TIMOUT"),
        ("HSM_CONFIG", "missing.yaml", "environment variable HSM_CONFIG"),
        (None, "local: {max_parallel_jobs: 0}", "local.max_parallel_jobs in "),
        (None, "local: {", "hsm.yaml, line 1"),
    ],
)
def test_a_bad_source_spoils_no_config_and_is_refused_by_validated(
    name: str | None, text: str, origin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name is None:
        write("hsm.yaml", text)
    else:
        monkeypatch.setenv(name, text)
    found = values(launcher("hydra.launcher.timeout=3"))
    assert found == vars(LocalConf(timeout=3.0))
    with pytest.raises(SettingsError) as caught:
        validated(found)
    assert origin in str(caught.value)


def test_the_resolver_refuses_a_name_that_does_not_exist() -> None:
    config = OmegaConf.create({"x": "${hsm_local:time_out}"})
    with pytest.raises(OmegaConfBaseException, match="did you mean timeout"):
        _ = config.x


# --- registration ---------------------------------------------------------------------------


def test_the_resolvers_may_be_cleared() -> None:
    assert values(launcher())
    OmegaConf.clear_resolvers()
    assert values(launcher()) == vars(LocalConf())


def test_the_config_store_may_be_emptied() -> None:
    ConfigStore.instance().repo.clear()
    _registration.register()
    assert ConfigStore.instance().list("hydra/launcher") == ["hsm_local.yaml"]


def test_registering_again_changes_nothing() -> None:
    node = ConfigStore.instance().load("hydra/launcher/hsm_local.yaml")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _registration.register()
    assert ConfigStore.instance().load("hydra/launcher/hsm_local.yaml") == node
    assert node.provider == "hsm"


def test_hydras_singletons_can_be_saved_and_restored() -> None:
    state = cloudpickle.loads(cloudpickle.dumps(Singleton.get_state()))
    OmegaConf.clear_resolvers()
    Singleton.set_state(state)
    assert OmegaConf.has_resolver("hsm_local")
    assert values(launcher("hydra.launcher.timeout=3")) == vars(LocalConf(timeout=3.0))


@pytest.mark.parametrize("pickler", [pickle, cloudpickle], ids=lambda module: module.__name__)
def test_a_composed_config_can_be_pickled(pickler: Any) -> None:
    config = launcher("hydra.launcher.start_method=fork")
    assert values(pickler.loads(pickler.dumps(config)))["start_method"] is StartMethod.fork


def test_a_scan_of_hydra_finds_the_plugin() -> None:
    found = {plugin.__name__ for plugin in Plugins.instance().discover()}
    assert {"HsmLocalLauncher", "HsmLocalRegistration"} <= found


# --- whole apps -----------------------------------------------------------------------------


def run_app(*args: str, **env: str) -> str:
    """What an app with Hydra's options prints; it must do so without a word on stderr."""
    arguments: dict[str, Any] = {"config_path": "."}
    if hydra_version() < (1, 4):  # there it is asked for, later it is not to be given
        arguments["version_base"] = None
    write("app.py", _APP.format(arguments=arguments))
    done = subprocess.run(
        [sys.executable, "app.py", *args],
        env={**os.environ, "PYTHONPATH": str(SOURCE), **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def hydra_version() -> tuple[int, int]:
    import hydra

    major, minor, *_ = hydra.__version__.split(".")
    return int(major), int(minor)


def read_shown(text: str) -> dict[Any, Any]:
    shown = OmegaConf.to_container(OmegaConf.create(text))
    assert isinstance(shown, dict)
    return shown


_SHOW = ("--cfg", "hydra", "-p", "hydra.launcher", "--resolve")


def test_cfg_shows_what_holds() -> None:
    write("hsm.yaml", "local: {max_parallel_jobs: 7, timeout: 2h}")
    shown = run_app(
        "hydra/launcher=hsm_local",
        "hydra.launcher.start_method=fork",
        *_SHOW,
        HSM_LOCAL_TIMEOUT="3",
        HSM_LOCAL_PROGRESS="plain",
    )
    expected = {
        "max_parallel_jobs": 7,
        "timeout": 7200.0,
        "show_output": False,
        "cleanup_on_exit": True,
        "start_method": "fork",
        "kill_grace": 5.0,
        "fail_fast": False,
        "progress": "plain",
        "_target_": TARGET,
    }
    found = read_shown(shown)
    assert set(found) == {*SETTINGS, "sweep_id", "_target_"}
    assert {name: found[name] for name in expected} == expected


def test_cfg_shows_something_in_spite_of_a_bad_value() -> None:
    shown = run_app("hydra/launcher=hsm_local", *_SHOW, HSM_LOCAL_MAX_JOBS="none")
    assert read_shown(shown)["max_parallel_jobs"] == 4


def test_the_config_of_an_app_may_choose_and_set() -> None:
    write("hsm.yaml", "local: {max_parallel_jobs: 7, kill_grace: 1}")
    write(
        "config.yaml",
        "defaults: [override hydra/launcher: hsm_local, _self_]\n"
        "hydra:\n  launcher: {max_parallel_jobs: 2, timeout: 60}\n"
        "  run: {dir: out}\n  output_subdir: null\n",
    )
    shown = read_shown(run_app("--config-name=config", *_SHOW))
    chosen = (shown["max_parallel_jobs"], shown["timeout"], shown["kill_grace"])
    assert chosen == (2, 60.0, 1.0)
    assert run_app("--config-name=config") == "2\n"
    assert run_app("--config-name=config", "hydra.launcher.max_parallel_jobs=3") == "3\n"


def test_other_apps_do_not_read_hsm_yaml() -> None:
    write("hsm.yaml", "local: {")
    assert "BasicLauncher" in run_app(*_SHOW, HSM_LOCAL_NONSENSE="1")


def test_discovery_loads_nothing_heavy() -> None:
    modules = "hydra.core.plugins, hydra.core.config_store, hydra.plugins.search_path_plugin"
    launcher, sweeper = "hydra_plugins.hsm_local_launcher", "hydra_plugins.hsm_sweeper"
    program = (
        f"import sys, {modules}, hydra.plugins.launcher, hydra.plugins.sweeper\n"
        f"before = set(sys.modules)\nimport {launcher}.config, {launcher}.launcher\n"
        f"import {sweeper}.config, {sweeper}.sweeper\nprint(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    loaded = [name for name in done.stdout.split() if not name.startswith("hydra_plugins")]
    assert set(loaded) <= {"__future__"}
