"""The settings of GPUs: what they may be, and what they mean for each other."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import pytest

from helpers.settings import refusal, write
from hsm.core.errors import SettingsError
from hsm.core.needs import NO_NEEDS
from hsm.core.settings.gpu_settings import still_wanted
from hsm.core.settings.point_needs import Shared, read_needs, take_needs
from hsm.core.settings.resolve import BUILT_IN, FOLLOWS, SETTINGS, GpuBusy, resolve_local
from hydra_plugins.hsm_local_launcher.config import validated

GIB = 1 << 30

# --- values -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("none", None),
        (0, 0),
        (0.0, 0),
        ("0", 0),
        (1, 1),
        (1.0, 1),
        (" 2 ", 2),
        ("2.", 2),
        (8, 8),
        (0.5, 0.5),
        ("0.5", 0.5),
        (".25", 0.25),
        (0.01, 0.01),
        (Fraction(1, 3), 1 / 3),
        (Fraction(2, 1), 2),
    ],
)
def test_gpus_per_job(value: Any, expected: Any) -> None:
    found = resolve_local({"gpus": value}).conf.gpus
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("kind", "number", "expected"),
    [("int64", 2, 2), ("float32", 0.5, 0.5), ("float64", 1.0, 1), ("uint8", 0, 0)],
)
def test_numpys_numbers_are_gpus(kind: str, number: float, expected: float) -> None:
    numpy = pytest.importorskip("numpy")
    found = resolve_local({"gpus": getattr(numpy, kind)(number)}).conf.gpus
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize("value", [1.5, "2.25"])
def test_a_share_of_several_gpus_is_explained(value: Any) -> None:
    assert str(refusal({"gpus": value})).endswith(
        "; a share is of one GPU: a job has whole ones, or part of one"
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, (0,)),
        ("0", (0,)),
        ([0, 3], (0, 3)),
        ((3, 0), (3, 0)),
        (range(2), (0, 1)),
        ("0, 3", (0, 3)),
        (["0", 3], (0, 3)),
        ("GPU-8f1c", ("GPU-8f1c",)),
        ("1,MIG-GPU-5c89/1/0", (1, "MIG-GPU-5c89/1/0")),
        (["GPU-8f1c2d-3e", "MIG-41b3-359c"], ("GPU-8f1c2d-3e", "MIG-41b3-359c")),
        ("none", None),
        (None, None),
    ],
)
def test_which_gpus(value: Any, expected: Any) -> None:
    conf = resolve_local({"gpus": 1, "gpu_ids": value}).conf
    assert conf.gpu_ids == expected
    shareable = SETTINGS["gpu_ids"].kind.shareable(conf.gpu_ids)
    assert resolve_local({"gpus": 1, "gpu_ids": shareable}).conf.gpu_ids == expected
    shown = SETTINGS["gpu_ids"].show(conf.gpu_ids)
    assert resolve_local({"gpus": 1, "gpu_ids": shown}).conf.gpu_ids == expected


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("0,1,0", "0 is named twice"),
        (["GPU-a", "GPU-a"], "GPU-a is named twice"),
        ([], "gpus=0 is"),
    ],
)
def test_ids_that_make_no_sense_are_explained(value: Any, hint: str) -> None:
    assert refusal({"gpus": 1, "gpu_ids": value}).hint.startswith(hint)


def test_the_others() -> None:
    conf = resolve_local({"gpu_busy": "ignore", "gpu_wait": "2h", "gpu_settle": 0}).conf
    assert (conf.gpu_busy, conf.gpu_wait, conf.gpu_settle) == (GpuBusy.ignore, 7200.0, 0.0)


# --- what they mean for each other --------------------------------------------------------------


@pytest.mark.parametrize(
    "given", [{"gpus": 1}, {"gpus": 0.5}, {"gpu_memory": GIB}, {"gpus": 2, "gpu_memory": GIB}]
)
def test_with_gpus_the_number_of_jobs_follows_from_them(given: Mapping[str, Any]) -> None:
    resolved = resolve_local(given, environ={})
    assert resolved.conf.max_parallel_jobs == "auto"
    assert resolved.origins["max_parallel_jobs"] == FOLLOWS
    variables = {SETTINGS[name].variable: str(value) for name, value in given.items()}
    assert resolve_local(environ=variables).conf == resolved.conf


@pytest.mark.parametrize("given", [{}, {"gpus": 0}, {"gpus": None}, {"gpu_wait": 3}])
def test_without_gpus_it_is_the_built_in_number(given: Mapping[str, Any]) -> None:
    resolved = resolve_local(given, environ={})
    assert resolved.conf.max_parallel_jobs == 4
    assert resolved.origins["max_parallel_jobs"] == BUILT_IN


def test_a_number_that_somebody_has_set_stays() -> None:
    assert resolve_local({"gpus": 1, "max_parallel_jobs": 3}).conf.max_parallel_jobs == 3
    by_variable = resolve_local({"gpus": 1}, environ={"HSM_LOCAL_MAX_JOBS": "4"})
    assert by_variable.conf.max_parallel_jobs == 4
    write("hsm.yaml", "local: {max_parallel_jobs: 4}")
    assert resolve_local({"gpus": 1}, environ={}).conf.max_parallel_jobs == 4


@pytest.mark.parametrize(
    ("arguments", "file", "environ"),
    [
        ({"gpus": 0, "gpu_memory": "10GiB"}, "", {}),
        ({}, "gpus: 0, gpu_memory: 10GiB", {}),
        ({"gpu_memory": "10GiB"}, "gpus: 0", {}),
        ({}, "gpu_memory: 10GiB", {"HSM_LOCAL_GPUS": "0"}),
    ],
)
def test_memory_of_hidden_gpus_is_refused(
    arguments: Mapping[str, Any], file: str, environ: Mapping[str, str]
) -> None:
    write("hsm.yaml", f"local: {{{file}}}")
    error = refusal(arguments, environ=environ)
    assert error.key == "gpu_memory"
    assert "gpu_memory=10 GiB makes no sense with gpus=0 (" in str(error)


@pytest.mark.parametrize(
    ("arguments", "environ"),
    [({"gpus": 0}, {}), ({}, {"HSM_LOCAL_GPU_MEMORY": "1GiB", "HSM_LOCAL_GPUS": "1"})],
)
def test_a_stronger_source_may_hide_the_gpus(
    arguments: Mapping[str, Any], environ: Mapping[str, str]
) -> None:
    write("hsm.yaml", f"local: {{{'gpu_memory: 1GiB' if arguments else 'gpus: 0'}}}")
    conf = resolve_local(arguments, environ=environ).conf
    assert (conf.gpus, conf.max_parallel_jobs) == (0, 4)


def test_ids_alone_are_refused() -> None:
    error = refusal({"gpu_ids": [0, "GPU-8f"]})
    assert str(error) == (
        "argument gpu_ids: gpu_ids=0,GPU-8f says which GPUs jobs may have, and nothing how many "
        "each gets: set gpus, too, such as gpus=1, or 0.5 for two jobs on each GPU"
    )
    for given in ({"gpus": 0}, {"gpus": 1}, {"gpu_memory": GIB}):
        assert resolve_local({"gpu_ids": [0], **given}).conf.gpu_ids == (0,)


@pytest.mark.parametrize("name", ["gpus", "gpu_memory"])
def test_gpus_are_no_resource(name: str) -> None:
    for setting in ("resources", "needs"):
        error = refusal({setting: {name: 1}})
        assert error.hint == f"{name} is a setting of its own: set {name}, not a resource"
        assert refusal({setting: f"{name}=1"}).hint == error.hint
    assert resolve_local({"resources": {"gpu": 2}}).conf.resources == {"gpu": 2}


# --- Hydra --------------------------------------------------------------------------------------


def test_hydra_too_tells_which_settings_make_no_sense_together() -> None:
    with pytest.raises(SettingsError) as caught:
        validated({"gpu_ids": [0]})
    assert str(caught.value).startswith("hydra.launcher.gpu_ids: gpu_ids=0 says which GPUs")


# --- resuming -----------------------------------------------------------------------------------


_FOUR_GPUS = {"gpus": 1, "gpu_ids": (0, 1), "gpu_memory": None, "max_parallel_jobs": "auto"}
_NO_GPUS = {"gpus": None, "gpu_memory": None, "gpu_ids": None, "max_parallel_jobs": 4}


@pytest.mark.parametrize(
    ("recorded", "named", "gone"),
    [
        (_FOUR_GPUS, {}, set()),
        (_FOUR_GPUS, {"gpu_wait": 3.0}, set()),
        (_FOUR_GPUS, {"gpus": 2}, {"max_parallel_jobs"}),
        ({**_FOUR_GPUS, "max_parallel_jobs": 3}, {"gpus": 2}, set()),
        (_FOUR_GPUS, {"gpus": 0}, {"max_parallel_jobs", "gpu_ids", "gpu_memory"}),
        (_FOUR_GPUS, {"gpus": None}, {"max_parallel_jobs", "gpu_ids", "gpu_memory"}),
        ({**_FOUR_GPUS, "gpu_memory": GIB}, {"gpus": None}, {"max_parallel_jobs"}),
        (_NO_GPUS, {"gpus": 1}, {"max_parallel_jobs"}),
        (_NO_GPUS, {"gpu_memory": GIB}, {"max_parallel_jobs"}),
        ({**_NO_GPUS, "max_parallel_jobs": 5}, {"gpus": 1}, set()),
        ({"max_parallel_jobs": 4}, {"gpus": 1}, {"max_parallel_jobs"}),
        ({}, {"gpus": 1}, set()),
    ],
)
def test_what_a_resumed_sweep_takes_over(
    recorded: dict[str, Any], named: dict[str, Any], gone: set[str]
) -> None:
    wanted = still_wanted(recorded, named, 4)
    assert wanted == {name: value for name, value in recorded.items() if name not in gone}
    resolve_local({**wanted, **named}, environ={})  # nothing of it is refused


# --- points -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "needs"),
    [
        ({"gpus": 2, "gpu_memory": "20GiB", "licence": 1}, (2, 20 * GIB, 1)),
        ("gpus=0.5,licence=1", (0.5, None, 1)),
        (" gpus = .5 , gpu_memory = 1.5 GiB", (0.5, 3 * GIB // 2, None)),
        ({"gpus": "0.5"}, (0.5, None, None)),
        ("gpus=0", (0, None, None)),
    ],
)
def test_a_point_says_what_it_needs_of_gpus(value: Any, needs: Any) -> None:
    found = read_needs(value, "here")
    names = ("gpus", "gpu_memory", "licence")
    assert found == {name: n for name, n in zip(names, needs, strict=True) if n is not None}
    assert read_needs(found, "here") == found


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ({"gpus": 1.5}, "a share is of one GPU"),
        ("gpus=none", "gpus must be a number of GPUs, or a share of one"),
        ({"gpus": None}, "gpus must be a number of GPUs, or a share of one"),
        ({"gpu_memory": None}, "gpu_memory must be a number of bytes above 0"),
        ({"gpu_memory": 0}, "gpu_memory must be a number of bytes above 0"),
        ({"gpus": True}, "gpus must be a number"),
        ("gpus=1,gpus=2", "gpus is given twice"),
        ({"licence": 0.5}, ""),
        ("licence=0.5", ""),
    ],
)
def test_bad_needs_of_a_point(value: Any, hint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_needs(value, "_needs_ of point 3")
    assert str(caught.value).startswith("_needs_ of point 3: needs must be names with integers of")
    assert caught.value.hint.startswith(hint)
    assert bool(caught.value.hint) == bool(hint)


@pytest.mark.parametrize(
    ("needs", "shared", "said"),
    [
        (
            {"gpus": 2},
            Shared(),
            "gpus needs a sweep that gives jobs GPUs: set gpus, such as gpus=1",
        ),
        ({"gpu_memory": GIB}, Shared(), "gpu_memory needs a sweep that gives jobs GPUs: set gpus"),
        ({"gpus": 0.5}, Shared(gpus=0), "gpus needs a sweep that gives jobs GPUs, and gpus is 0"),
        ({"gpus": 0, "gpu_memory": GIB}, Shared(gpus=1), "gpu_memory makes no sense with gpus=0"),
        ({"licnce": 1, "gpus": 1}, Shared({"licence": 1}, 1), "there is no resource 'licnce'; did"),
    ],
)
def test_needs_that_no_job_can_have(needs: dict[str, Any], shared: Shared, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        take_needs(3, {"_needs_": needs}, shared)
    assert str(caught.value).startswith(f"_needs_ of point 3: {said}")


def test_needs_that_jobs_can_have() -> None:
    of_sweep = Shared.of(resolve_local({"gpu_memory": "10GiB"}).conf)
    assert of_sweep == Shared(gpu_memory=10 * GIB)
    for needs in ({"gpus": 2}, {"gpus": 0}, {"gpu_memory": GIB}):
        point = {"x": 1, "_needs_": needs}
        assert take_needs(0, point, of_sweep) == needs
        assert point == {"x": 1}
    assert take_needs(0, {"_needs_": {"gpus": 0}}, Shared()) == {"gpus": 0}
    assert take_needs(0, {"x": 1}, of_sweep) is NO_NEEDS
