"""What a job is told of the GPUs that it has, or has not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.reliability import conf
from hsm.core.errors import SettingsError
from hsm.core.gpu.device import Family, Gpu
from hsm.core.gpu.grant import GpuGrant
from hsm.core.gpu.job_variables import (
    check_env,
    gpu_variables,
    master_variables,
    no_gpu_variables,
    tokens_of,
)
from hsm.core.gpu.need import GpuNeed
from hsm.core.gpu.visible import FoundGpus
from hsm.core.local.machine import check_machine

CUDA, HIP = "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"
ROCR, ZE = "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"
ORDER = "CUDA_DEVICE_ORDER"

GPUS = tuple(Gpu(str(at), index=at, uuid=f"GPU-{at}", name="A100", memory=at) for at in range(4))
FOUND = FoundGpus(GPUS, origin="NVML")


def grant(*gpus: Gpu) -> GpuGrant:
    return GpuGrant(0, GpuNeed(len(gpus)), gpus)


def inherited(variable: str, *tokens: str, family: Family = Family.nvidia) -> FoundGpus:
    gpus = tuple(Gpu(token, family) for token in tokens)
    return FoundGpus(gpus, family, variable, variable)


def variables(found: FoundGpus, places: list[int], environ: dict[str, str]) -> dict[str, str]:
    """Those of a job that has the GPUs at these places, without what they are."""
    told = gpu_variables(grant(*(found.gpus[at] for at in places)), found, environ)
    assert len(json.loads(told.pop("HSM_GPUS"))) == len(places)
    return told


def test_numbers_are_those_of_the_pci_bus() -> None:
    by_pci = {ORDER: "PCI_BUS_ID"}
    assert variables(FOUND, [1], {}) == {CUDA: "1", **by_pci}
    assert variables(FOUND, [3, 1], {}) == {CUDA: "1,3", **by_pci}  # in their order
    assert variables(FOUND, [1], {ORDER: ""}) == {CUDA: "1", **by_pci}
    assert variables(FOUND, [1], {ORDER: "FASTEST_FIRST"}) == {CUDA: "1"}


def test_inherited_tokens_keep_their_meaning() -> None:
    found = inherited(CUDA, "3", "GPU-8f", "1x")
    assert variables(found, [2, 0], {CUDA: "3,GPU-8f,1x"}) == {CUDA: "3,1x"}


@pytest.mark.parametrize(
    ("found", "environ", "expected"),
    [
        (FoundGpus(GPUS, Family.amd, ROCR, "/sys/class/kfd"), {}, {ROCR: "0"}),
        (inherited(ROCR, "2", "3", family=Family.amd), {ROCR: "2,3"}, {ROCR: "2"}),
        (inherited(HIP, "1", "0", family=Family.amd), {HIP: "1,0", ROCR: "2,3"}, {HIP: "1"}),
        # PyTorch, Ray and others refuse to guess between two different ones.
        (
            inherited(HIP, "1", "0", family=Family.amd),
            {HIP: "1,0", CUDA: "1,0"},
            {HIP: "1", CUDA: "1"},
        ),
        (inherited(HIP, "1", "0", family=Family.amd), {HIP: "1,0", CUDA: "5"}, {HIP: "1"}),
        (inherited(CUDA, "1", "0", family=Family.amd), {CUDA: "1,0"}, {CUDA: "1"}),
        (FoundGpus(GPUS, Family.intel, ZE, "/dev/dri"), {}, {ZE: "0"}),
        (inherited(ZE, "0.1", "1", family=Family.intel), {ZE: "0.1,1"}, {ZE: "0.1"}),
    ],
)
def test_one_variable_of_the_maker(
    found: FoundGpus, environ: dict[str, str], expected: dict[str, str]
) -> None:
    assert variables(found, [0], environ) == expected


def test_what_the_gpus_are() -> None:
    part = Gpu("MIG-1", index=0, uuid="MIG-1", name="A100 MIG 3g", memory=5, is_mig=True)
    unknown = Gpu("2")
    found = FoundGpus((unknown, part), origin="NVML")
    told = gpu_variables(grant(part, unknown), found, {})
    assert json.loads(told["HSM_GPUS"]) == [
        {"index": None, "uuid": None, "name": None, "memory": None},
        {"index": 0, "uuid": "MIG-1", "name": "A100 MIG 3g", "memory": 5},
    ]
    assert told[CUDA] == tokens_of(grant(part, unknown), found) == "2,MIG-1"


def test_a_gpu_that_was_left_out_since_is_told_all_the_same() -> None:
    fewer = FoundGpus(GPUS[1:], origin="NVML")
    assert tokens_of(grant(GPUS[0], GPUS[2]), fewer) == "2,0"


@pytest.mark.parametrize(
    ("devices", "environ", "expected"),
    [
        ([], {}, {CUDA: ""}),
        ([], {CUDA: "0", ORDER: "PCI_BUS_ID"}, {CUDA: ""}),
        (["kfd"], {}, {CUDA: "", HIP: "-1", ROCR: ""}),
        ([], {HIP: "0"}, {CUDA: "", HIP: "-1", ROCR: ""}),
        ([], {ROCR: "0"}, {CUDA: "", HIP: "-1", ROCR: ""}),
        (["dri"], {}, {CUDA: "", ZE: "9999"}),
        ([], {ZE: "0"}, {CUDA: "", ZE: "9999"}),
    ],
)
def test_no_gpu_is_none_of_any_maker(
    tmp_path: Path, devices: list[str], environ: dict[str, str], expected: dict[str, str]
) -> None:
    (tmp_path / "dev").mkdir()
    for name in devices:
        (tmp_path / "dev" / name).touch()
    assert no_gpu_variables(environ, root=tmp_path) == {**expected, "HSM_GPUS": "[]"}


@pytest.mark.parametrize(
    ("environ", "is_told"),
    [
        ({}, True),
        ({"MASTER_PORT": "29500"}, False),
        ({"MASTER_ADDR": "node1"}, False),
        ({"MASTER": "x"}, True),
    ],
)
def test_where_processes_meet_unless_the_user_says(environ: dict[str, str], is_told: bool) -> None:
    expected = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "20000"} if is_told else {}
    assert master_variables(20000, environ) == expected


def test_env_may_not_say_too_which_gpus_jobs_see() -> None:
    check_env({"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "MASTER_PORT": "1", "X": ""}, "gpus")
    for name in (CUDA, HIP, ROCR, ZE):
        with pytest.raises(SettingsError, match=f"env sets {name}, but gpus sets it for each job"):
            check_env({"X": "", name: "0"}, "gpus")


def test_the_machine_refuses_both() -> None:
    env = {CUDA: "0"}
    check_machine(conf(env=env))
    for given in ({"gpus": 1}, {"gpus": 0}, {"gpu_memory": "1GiB"}):
        [name] = given
        with pytest.raises(SettingsError, match=f"env sets {CUDA}, but {name} sets it"):
            check_machine(conf(env=env, **given))
