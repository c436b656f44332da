"""What jobs need of GPUs, how many have room at once, and what no job can ever have."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from hsm.core.errors import SettingsError
from hsm.core.gpu.device import Family, Gpu
from hsm.core.gpu.gpu_checks import check_gpus, check_own_gpus
from hsm.core.gpu.need import GpuNeed, GpuNeeds, fits, gpu_need, gpu_places
from hsm.core.local import places
from hsm.core.local.places import with_places
from hsm.core.needs import NO_NEEDS
from hsm.core.settings.resolve import HsmConfig, LocalConf, resolve_local

GIB = 1 << 30


def gpus(count: int, memory: float | None = 24, *, mig: int = 0) -> list[Gpu]:
    """GPUs with so many GiB, of which the last ones are parts."""
    size = None if memory is None else int(memory * GIB)
    return [Gpu(str(i), index=i, memory=size, is_mig=i >= count - mig) for i in range(count)]


def conf(**settings: Any) -> LocalConf:
    return resolve_local(settings, environ={}, hsm_config=HsmConfig()).conf


# --- needs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "memory", "need", "text"),
    [
        (None, None, None, ""),
        (0, None, None, ""),
        (0, GIB, None, ""),
        (1, None, GpuNeed(), "a GPU"),
        (2, None, GpuNeed(count=2), "2 GPUs"),
        (0.5, None, GpuNeed(share=0.5), "0.5 of a GPU"),
        (None, GIB, GpuNeed(share=0.0, memory=GIB), "a GPU with 1.0 GiB"),
        (1, GIB, GpuNeed(share=0.0, memory=GIB), "a GPU with 1.0 GiB"),
        (2, GIB, GpuNeed(count=2, share=0.0, memory=GIB), "2 GPUs with 1.0 GiB"),
        (0.5, GIB, GpuNeed(share=0.5, memory=GIB), "0.5 of a GPU with 1.0 GiB"),
    ],
)
def test_what_the_settings_mean(
    count: float | None, memory: int | None, need: GpuNeed | None, text: str
) -> None:
    assert gpu_need(count, memory) == need
    assert need is None or str(need) == text


def test_what_a_point_says_wins_by_name_and_equal_needs_are_one_object() -> None:
    needs = GpuNeeds(1)
    usual = needs.of(NO_NEEDS)
    assert usual == GpuNeed()
    assert needs.of({"licence": 1}) is needs.of({"gpus": 1}) is usual
    assert needs.of({"gpus": 0.5}) is needs.of({"gpus": 0.5, "licence": 2})
    assert needs.of({"gpus": 0.5}) == GpuNeed(share=0.5)
    assert needs.of({"gpus": 0}) is None
    assert needs.of({"gpu_memory": GIB}) == GpuNeed(share=0.0, memory=GIB)
    assert GpuNeeds(None, GIB).of({"gpus": 2}) == GpuNeed(count=2, share=0.0, memory=GIB)
    assert GpuNeeds().of(NO_NEEDS) is GpuNeeds(0).of({"gpus": 0}) is None


# --- places -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("need", "there", "jobs"),
    [
        (gpu_need(1, None), gpus(4), 4),
        (gpu_need(2, None), gpus(5), 2),
        (gpu_need(4, None), gpus(4), 1),
        (gpu_need(5, None), gpus(4), 0),
        (gpu_need(1, None), [], 0),
        (gpu_need(0.5, None), gpus(3), 6),
        (gpu_need(0.1, None), gpus(1), 10),
        (gpu_need(0.33, None), gpus(1), 3),
        (gpu_need(0.34, None), gpus(1), 2),
        (gpu_need(1 / 3, None), gpus(1), 3),
        (gpu_need(0.01, None), gpus(1), 100),
        (gpu_need(0.6, None), gpus(4), 4),
        (gpu_need(None, 10 * GIB), gpus(2, 24), 4),
        (gpu_need(None, 12 * GIB), gpus(2, 24), 2),  # as 512 MiB are the driver's
        (gpu_need(None, 12 * GIB), gpus(2, 24.5), 4),
        (gpu_need(None, 10 * GIB), [*gpus(1, 80), *gpus(1, 8), *gpus(1, 24)], 9),
        (gpu_need(None, 10 * GIB), gpus(2, None), 0),
        (gpu_need(0.5, 10 * GIB), gpus(2, 80), 4),
        (gpu_need(0.25, 10 * GIB), gpus(2, 24), 4),
        (gpu_need(2, 10 * GIB), gpus(2, 24), 2),
        (gpu_need(2, 10 * GIB), [*gpus(1, 80), *gpus(1, 24)], 2),
        (gpu_need(2, 10 * GIB), gpus(3, 24), 3),
        (gpu_need(1, None), gpus(4, mig=3), 4),
        (gpu_need(2, None), gpus(4, mig=2), 1),
        (gpu_need(2, None), gpus(4, mig=4), 0),
        (gpu_need(0.5, None), gpus(2, mig=2), 4),
        (GpuNeed(share=0.25, alone=True), gpus(2), 2),
        (GpuNeed(share=0.0, memory=GIB, alone=True), gpus(2), 2),
        (GpuNeed(share=0.0, memory=80 * GIB, alone=True), gpus(2), 0),
    ],
)
def test_how_many_jobs_have_room(need: GpuNeed, there: Sequence[Gpu], jobs: int) -> None:
    assert gpu_places(need, there) == jobs


def test_every_share_of_a_whole_number_of_jobs_has_room_for_so_many() -> None:
    for jobs in range(1, 101):
        assert fits(GpuNeed(share=1 / jobs), Gpu("0")) == jobs


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_places_of_several_gpus_per_job_are_those_that_can_be_dealt_out(count: int) -> None:
    """Against what handing them out job by job gives, always from the emptiest GPUs."""
    for memory in itertools.combinations_with_replacement(range(1, 7), 4):
        there = [Gpu(str(i), memory=(size * 2 + 1) * GIB) for i, size in enumerate(memory)]
        free, jobs = list(memory), 0
        while True:
            free.sort(reverse=True)
            if not all(free[:count]):
                break
            free[:count] = [each - 1 for each in free[:count]]
            jobs += 1
        assert gpu_places(GpuNeed(count=count, share=0.0, memory=2 * GIB), there) == jobs


@pytest.mark.parametrize(
    ("settings", "there", "jobs"),
    [
        ({"gpus": 1}, gpus(4), 4),
        ({"gpus": 0.5}, gpus(20), 40),
        ({"gpus": 2}, gpus(4), 2),
        ({"gpu_memory": "10GiB"}, gpus(2), 4),
        ({"gpus": 1, "max_parallel_jobs": "auto"}, gpus(4), 4),
        ({"gpus": 1, "max_parallel_jobs": 3}, gpus(4), 3),
        ({"gpus": 1, "max_parallel_jobs": 9}, gpus(4), 4),
        ({"gpus": 0.1, "cpus": 4}, gpus(4), 4),
        ({"gpus": 0.1, "cpus": 40}, gpus(4), 1),
        ({"gpus": 0.1, "cpus": None}, gpus(4), 40),
        ({"gpus": 0.1, "cpu_affinity": "share"}, gpus(4), 16),
        ({"gpus": 0, "max_parallel_jobs": 9}, gpus(4), 9),
        ({"gpus": 5}, gpus(4), 1),  # which `check_gpus` refuses
        ({"gpus": 1}, [], 16),  # before anybody has looked
        ({}, gpus(2), 4),
    ],
)
def test_how_many_jobs_run_at_once_on_16_cpus(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], there: Sequence[Gpu], jobs: int
) -> None:
    monkeypatch.setattr(places, "available_cpus", lambda: 16)
    given = conf(**settings)
    assert with_places(given, there) == LocalConf(**{**vars(given), "max_parallel_jobs": jobs})


# --- checks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "there", "environ", "said"),
    [
        (
            {"gpus": 1},
            [],
            {},
            "gpus=1: there is no GPU here: the driver, /proc/driver/nvidia, /sys/class/kfd and "
            "/dev/dri name none",
        ),
        (
            {"gpus": 0.5},
            [],
            {"CUDA_VISIBLE_DEVICES": ""},
            "gpus=0.5: there is no GPU here: CUDA_VISIBLE_DEVICES is empty",
        ),
        (
            {"gpus": 1},
            [],
            {"CUDA_VISIBLE_DEVICES": "3, 0,0"},
            "gpus=1: there is no GPU here: CUDA_VISIBLE_DEVICES=3, 0,0 names 0 twice, and then "
            "CUDA shows none",
        ),
        (
            {"gpu_memory": GIB},
            [],
            {"CUDA_VISIBLE_DEVICES": "-1", "HIP_VISIBLE_DEVICES": "7"},
            "gpu_memory=1.0 GiB: there is no GPU here: CUDA_VISIBLE_DEVICES=-1, "
            "HIP_VISIBLE_DEVICES=7",
        ),
        ({"gpus": 3}, gpus(2), {}, "gpus=3: a job cannot have 3 GPUs: there are 2 for it"),
        (
            {"gpus": 2, "gpu_ids": [3]},
            gpus(1),
            {"CUDA_VISIBLE_DEVICES": "0,3"},
            "gpus=2: a job cannot have 2 GPUs: there is 1 for it (gpu_ids=3, "
            "CUDA_VISIBLE_DEVICES=0,3)",
        ),
        (
            {"gpus": 2},
            gpus(3, mig=3),
            {},
            "gpus=2: a job cannot have 2 GPUs: there is none for it; a part (MIG) of a GPU is one "
            "per job",
        ),
        (
            {"gpu_memory": "24GiB"},
            [*gpus(1, 16), *gpus(2, 24)[1:]],
            {},
            "gpu_memory=24 GiB: a job cannot have 24 GiB of a GPU: GPU 1 has 24 GiB, of which 512 "
            "MiB are the driver's",
        ),
        (
            {"gpus": 2, "gpu_memory": "20GiB"},
            [*gpus(1, 24), *gpus(2, 16)],
            {},
            "gpus=2, gpu_memory=20 GiB: a job cannot have 2 GPUs with 20 GiB: of 3, 1 has so much",
        ),
        (
            {"gpu_memory": "1GiB"},
            gpus(2, None),
            {},
            "gpu_memory=1.0 GiB: the memory of the GPUs is unknown here: the driver does not tell",
        ),
    ],
)
def test_what_no_job_can_have_is_refused(
    settings: dict[str, Any], there: Sequence[Gpu], environ: dict[str, str], said: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        check_gpus(conf(**settings), there, environ)
    assert str(caught.value) == said
    assert caught.value.key in settings


@pytest.mark.parametrize("there", [[], gpus(2, None)])
def test_a_driver_that_says_nothing_is_told_as_the_reason(there: Sequence[Gpu]) -> None:
    with pytest.raises(SettingsError, match="here: the driver sleeps"):
        check_gpus(conf(gpu_memory="1GiB"), there, {}, "the driver sleeps")
    if there:
        own = {"gpu_memory": GIB}
        with pytest.raises(SettingsError, match=r"_needs_ of point 0: .* here: the driver sleeps"):
            check_own_gpus([own], GpuNeeds(1), there, silence="the driver sleeps")


def test_memory_that_no_driver_is_asked_for() -> None:
    amds = [replace(each, family=Family.amd) for each in gpus(2, None)]
    with pytest.raises(SettingsError, match="unknown here: hsm asks NVIDIA's driver alone"):
        check_gpus(conf(gpu_memory="1GiB"), amds, {})


@pytest.mark.parametrize(
    ("settings", "there"),
    [
        ({}, []),
        ({"gpus": 0}, []),
        ({"gpus": 2}, gpus(2)),
        ({"gpus": 0.5}, gpus(1, mig=1)),
        ({"gpu_memory": "23.5GiB"}, gpus(1, 24)),
        ({"gpu_memory": "20GiB"}, [*gpus(1, None), *gpus(1, 24)]),
    ],
)
def test_what_jobs_can_have_is_not(settings: dict[str, Any], there: Sequence[Gpu]) -> None:
    check_gpus(conf(**settings), there, {})


def test_points_are_checked_too() -> None:
    usual = GpuNeeds(1)
    fine = [NO_NEEDS, {"gpus": 2}, {"gpus": 0}, {"licence": 9}, {"gpu_memory": 20 * GIB}]
    check_own_gpus(fine, usual, gpus(2))
    with pytest.raises(SettingsError) as caught:
        check_own_gpus([*fine, {"gpus": 3}], usual, gpus(2), first=10)
    assert str(caught.value) == "_needs_ of point 15: a job cannot have 3 GPUs: there are 2 for it"
    with pytest.raises(SettingsError) as caught:
        check_own_gpus([{"gpu_memory": 30 * GIB}], usual, gpus(2))
    assert str(caught.value).startswith(
        "_needs_ of point 0: a job cannot have 30 GiB of a GPU: GPU"
    )
