from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import ValidationError

from helpers.processes import SOURCE
from helpers.settings import refusal, write
from hsm.core.settings.resolve import (
    BUILT_IN,
    FOLLOWS,
    SETTINGS,
    UNSET,
    LocalConf,
    ProgressMode,
    StartMethod,
    SweepConf,
    resolve_local,
)


def test_the_built_in_values() -> None:
    conf = resolve_local().conf
    assert conf == LocalConf()
    promised = {
        "max_parallel_jobs": 4,
        "timeout": None,
        "show_output": False,
        "cleanup_on_exit": True,
        "start_method": StartMethod.auto,
        "kill_grace": 5.0,
        "fail_fast": False,
        "progress": ProgressMode.auto,
    }
    assert {name: getattr(conf, name) for name in promised} == promised


def test_every_field_is_described_and_its_default_is_allowed() -> None:
    assert list(SETTINGS) == [field.name for field in dataclasses.fields(LocalConf)]
    for name, setting in SETTINGS.items():
        assert setting.help.endswith(".")
        assert setting.kind.allowed
        assert setting.check(setting.default, "here") == setting.default
        assert setting.default == getattr(LocalConf(), name)


def test_this_machines_settings_are_those_of_any_sweep_and_some_more() -> None:
    of_any, here = ({field.name for field in dataclasses.fields(c)} for c in (SweepConf, LocalConf))
    assert here - of_any == {
        "start_method",
        "cpus",
        "cpu_affinity",
        "min_free_memory",
        "cleanup_on_exit",
        "exit_hooks",
        "warm",
        "gpu_ids",
        "gpu_busy",
        "gpu_wait",
        "gpu_settle",
    }
    assert of_any <= here


def test_variables_and_flags() -> None:
    promised = {
        "max_parallel_jobs": ("HSM_LOCAL_MAX_JOBS", "--parallel-jobs"),
        "timeout": ("HSM_LOCAL_TIMEOUT", "--timeout"),
        "show_output": ("HSM_LOCAL_SHOW_OUTPUT", "--show-output"),
        "cleanup_on_exit": ("HSM_LOCAL_CLEANUP_ON_EXIT", "--cleanup-on-exit"),
        "start_method": ("HSM_LOCAL_START_METHOD", "--start-method"),
        "kill_grace": ("HSM_LOCAL_KILL_GRACE", "--kill-grace"),
        "fail_fast": ("HSM_LOCAL_FAIL_FAST", "--fail-fast"),
        "progress": ("HSM_LOCAL_PROGRESS", "--progress"),
    }
    named = {name: (setting.variable, setting.flag) for name, setting in SETTINGS.items()}
    assert {name: named[name] for name in promised} == promised
    for position in (0, 1):
        assert len({names[position] for names in named.values()}) == len(SETTINGS)


@pytest.mark.parametrize("member", [*StartMethod, *ProgressMode])
def test_a_choice_is_its_plain_word(member: StartMethod | ProgressMode) -> None:
    assert str(member) == f"{member}" == member.name == member
    assert json.loads(json.dumps(member)) == member.name


def test_settings_can_be_recorded_as_json() -> None:
    recorded = json.loads(json.dumps(dataclasses.asdict(LocalConf())))
    assert recorded["start_method"] == "auto"
    assert resolve_local(recorded).conf == LocalConf()


def test_it_is_a_structured_config() -> None:
    conf = OmegaConf.merge(OmegaConf.structured(LocalConf), {"start_method": "fork", "timeout": 3})
    made = OmegaConf.to_object(conf)
    assert isinstance(made, LocalConf)
    # OmegaConf 2.3 makes lists of tuples; checking makes tuples of them again.
    checked = resolve_local(vars(made)).conf
    assert checked == LocalConf(start_method=StartMethod.fork, timeout=3.0)
    with pytest.raises(ValidationError, match=r"\[auto, fork, spawn\]"):
        OmegaConf.merge(conf, {"start_method": "thread"})


def test_unset_stays_one_object() -> None:
    assert copy.deepcopy(UNSET) is copy.copy(UNSET) is pickle.loads(pickle.dumps(UNSET)) is UNSET
    assert repr(UNSET) == "UNSET"


#: For each setting a value of every source: argument, hsm.yaml, environment.
_VALUES: dict[str, tuple[Any, Any, str]] = {
    "max_parallel_jobs": (1, 2, "3"),
    "timeout": (1.0, 2.0, "3"),
    "timeout_factor": (2.0, 3.0, "4"),
    "memory_limit": (10**9, 2 * 10**9, "3GB"),
    "kill_grace": (1.0, 2.0, "3"),
    "resources": ({"a": 1}, {"b": 2}, "c=3, d=4"),
    "needs": ({}, {}, "none"),  # any other would have to be among the resources
    "gpus": (1, 2, "0.5"),
    "gpu_memory": (10**9, 2 * 10**9, "3GiB"),
    "start_delay": (1.0, 2.0, "3s"),
    "fail_fast": (True, True, "on"),
    "max_failures": (1, 2, "3"),
    "max_consecutive_failures": (1, 2, "3"),
    "max_retries": (1, 2, "3"),
    "retry_delay": (2.0, 3.0, "4"),
    "retry_max_delay": (1.0, 2.0, "3m"),
    "retry_on": (("failed",), ("timeout", "crashed"), "crashed, failed"),
    "resume": (True, True, "yes"),
    "rerun": ("failed", "timeout", "all"),
    "accept_changes": (True, True, "1"),
    "progress": ("rich", "plain", "none"),
    "show_output": (True, True, "true"),
    "log_limit": (10**6, 2 * 10**6, "3MiB"),
    "metric": ("loss", "val.f1", " acc "),
    "direction": ("minimize", "maximize", "minimize"),
    "env": ({"A": "1"}, {"B": "b c", "C": "2"}, "D='d, e=f' E="),
    "share_with_group": (True, True, "1"),
    "on_sweep_end": (("a", "b c"), ("d",), "e 'f g'"),
    "start_method": ("fork", "spawn", "fork"),
    "warm": (True, "false", "true"),
    "cpus": (1, 2, "none"),
    "cpu_affinity": ("share", "none", "share"),
    "min_free_memory": (10**9, 2 * 10**9, "3GiB"),
    "gpu_ids": ([0, 1], ["GPU-8f1c"], "2,MIG-1"),
    "gpu_busy": ("ignore", "wait", "ignore"),
    "gpu_wait": (1.0, 2.0, "3h"),
    "gpu_settle": (1.0, 2.0, "0"),
    "cleanup_on_exit": (False, False, "no"),
    "exit_hooks": (True, True, "on"),
}
#: Settings that one must not be without.
_BESIDE: dict[str, dict[str, Any]] = {"gpu_ids": {"gpus": 1, "max_parallel_jobs": 1}}


def test_the_table_of_values_is_complete() -> None:
    assert list(_VALUES) == list(SETTINGS)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("given_in", list(itertools.product([False, True], repeat=3)))
def test_precedence(name: str, given_in: tuple[bool, bool, bool]) -> None:
    setting = SETTINGS[name]
    in_arguments, in_file, in_environment = given_in
    of_argument, of_file, of_environment = _VALUES[name]
    path = Path("hsm.yaml").absolute()
    if in_file:
        write(path, f"local:\n  {name}: {json.dumps(of_file)}\n")
    environ = {setting.variable: of_environment} if in_environment else {}
    beside = _BESIDE.get(name, {})
    arguments = {**beside, name: of_argument if in_arguments else UNSET}
    resolved = resolve_local(arguments, environ=environ)
    sources = [
        (in_arguments, of_argument, f"argument {name}"),
        (in_file, of_file, f"local.{name} in {path}, line 2"),
        (
            in_environment,
            setting.parse(of_environment, "here"),
            f"environment variable {setting.variable}",
        ),
        (True, setting.default, BUILT_IN),
    ]
    _, value, origin = next(source for source in sources if source[0])
    assert getattr(resolved.conf, name) == setting.check(value, "here")
    assert resolved.origins[name] == origin
    others = {other for other in SETTINGS if other != name} - set(beside)
    if name in ("gpus", "gpu_memory") and any(given_in):
        others.remove("max_parallel_jobs")
        assert resolved.origins["max_parallel_jobs"] == FOLLOWS
    assert {resolved.origins[other] for other in others} == {BUILT_IN}


def test_an_argument_of_none_is_given() -> None:
    write("hsm.yaml", "local: {timeout: 3}")
    assert resolve_local({"timeout": None}).conf.timeout is None
    assert resolve_local({"timeout": UNSET}).conf.timeout == 3.0


def test_null_in_the_file_is_given() -> None:
    write("hsm.yaml", "local: {timeout: null}")
    assert resolve_local(environ={"HSM_LOCAL_TIMEOUT": "3"}).conf.timeout is None


def test_the_built_in_value_as_an_argument_beats_the_file() -> None:
    write("hsm.yaml", "local: {max_parallel_jobs: 9}")
    assert resolve_local({"max_parallel_jobs": 4}).conf.max_parallel_jobs == 4


def test_a_bad_value_is_refused_even_where_another_source_wins() -> None:
    assert refusal({"timeout": 3}, environ={"HSM_LOCAL_TIMEOUT": "soon"}).value == "soon"
    write("hsm.yaml", "local: {timeout: 0}")
    assert refusal({"timeout": 3}).value == 0


def test_two_settings_never_share_anything() -> None:
    first, second = resolve_local(), resolve_local()
    first.conf.max_parallel_jobs = 99
    assert second.conf == LocalConf()
    assert SETTINGS["max_parallel_jobs"].default == 4


def test_importing_it_loads_nothing_heavy() -> None:
    heavy = "yaml omegaconf hydra psutil rich typer cloudpickle numpy"
    program = (
        f"import sys, hsm.core.settings.resolve; print(*(set({heavy.split()}) & set(sys.modules)))"
    )
    environ = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
