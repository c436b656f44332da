"""What people are told of GPUs before jobs run, and while they do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from helpers.reliability import Recorder, source
from hsm.core.engine.admission import Admission
from hsm.core.engine.backend import Backend, Work
from hsm.core.engine.explaining import Explaining
from hsm.core.engine.ledger import JobHandle, Ledger
from hsm.core.gpu.device import Gpu
from hsm.core.gpu.gpu_texts import describe_gpus, gpu_table, launch_facts, unshared_hint
from hsm.core.gpu.grant import GpuGrant
from hsm.core.gpu.need import GpuNeed
from hsm.core.gpu.visible import FoundGpus
from hsm.core.record.gpu_facts import RecordedGpu, recorded_gpus
from hsm.core.record.job import Job
from hsm.core.record.journal import Journal
from hsm.core.record.paths import SweepPaths
from hsm.core.settings.spelling import as_flag, as_override, in_python

GIB = 1 << 30
FOUR = [Gpu(str(num), index=num, name="NVIDIA RTX A6000", memory=48 * GIB) for num in range(4)]
MODEL = "(NVIDIA RTX A6000, 48 GiB)"
MIG = Gpu("MIG-1", uuid="MIG-1", index=0, is_mig=True)


@pytest.mark.parametrize(
    ("gpus", "need", "places", "told"),
    [
        (FOUR, GpuNeed(), 4, f"4 jobs at once: 1 on each of 4 GPUs {MODEL}"),
        (FOUR, GpuNeed(share=0.5), 8, f"8 jobs at once: 2 on each of 4 GPUs {MODEL}"),
        (FOUR, GpuNeed(share=0.5), 5, f"5 jobs at once, on 4 GPUs {MODEL}"),
        (FOUR, GpuNeed(), 3, f"3 jobs at once: 1 of 4 GPUs {MODEL} for each"),
        (FOUR, GpuNeed(count=2), 2, f"2 jobs at once: 2 of 4 GPUs {MODEL} for each"),
        (FOUR, GpuNeed(), 1, f"1 job at once, on 1 of 4 GPUs {MODEL}"),
        (FOUR, GpuNeed(count=3), 1, f"1 job at once, on 3 of 4 GPUs {MODEL}"),
        (
            FOUR[:2],
            GpuNeed(share=0.0, memory=GIB),
            1,
            f"1 job at once with 1.0 GiB, on 1 of 2 GPUs {MODEL}",
        ),
        (FOUR[2:3], GpuNeed(), 1, f"1 job at once on GPU 2 {MODEL}"),
        (
            FOUR,
            GpuNeed(share=0.0, memory=10 * GIB),
            16,
            f"16 jobs at once with 10 GiB each: 4 on each of 4 GPUs {MODEL}",
        ),
        ([MIG], GpuNeed(), 1, "1 job at once on GPU MIG-1"),
    ],
)
def test_how_many_jobs_get_what(gpus: list[Gpu], need: GpuNeed, places: int, told: str) -> None:
    assert describe_gpus(gpus, need, places) == told


@pytest.mark.parametrize(
    ("visible", "env", "params", "told"),
    [
        (4, {}, {"lr": 1}, "each job sees all 4 GPUs; gpus=1 gives each its own"),
        (2, {}, {}, "each job sees both GPUs; gpus=1 gives each its own"),
        (1, {}, {}, ""),
        (0, {}, {}, ""),
        (4, {"CUDA_VISIBLE_DEVICES": "1"}, {}, ""),
        (4, {"ZE_AFFINITY_MASK": "1"}, {}, ""),
        (4, {"OMP_NUM_THREADS": "1"}, {"model.depth": 1}, "each job sees all 4 GPUs; …"),
        (4, {}, {"trainer.devices": "[1]"}, ""),
        (4, {}, {"--gpu-id": 3}, ""),
        (4, {}, {"gpu": 3}, ""),
        (4, {}, {"cuda_device": 3}, ""),
        (4, {}, {"n_gpu_layers": 3, "augpu": 1, "device_name": 2}, "each job sees all 4 GPUs; …"),
    ],
)
def test_that_jobs_see_the_same_gpus_unless_somebody_looks_after_that(
    visible: int, env: Mapping[str, str], params: Mapping[str, Any], told: str
) -> None:
    hint = unshared_hint(visible, env, params, in_python)
    assert hint.startswith(told.removesuffix("…"))
    assert bool(hint) == bool(told)


def test_a_hint_is_written_as_its_reader_would_write_it() -> None:
    assert "; --gpus 1 gives " in unshared_hint(4, (), (), as_flag)
    assert "; hydra.launcher.gpus=1 gives " in unshared_hint(4, (), (), as_override)


@pytest.mark.parametrize(
    ("jobs", "settings", "told"),
    [
        (2, {}, ["each job sees all 4 GPUs; gpus=1 gives each its own"]),
        (1, {}, []),
        (2, {"max_parallel_jobs": 1}, []),
        (2, {"gpus": 0}, []),
        (2, {"env": {"CUDA_VISIBLE_DEVICES": "1"}}, []),
    ],
)
def test_a_sweep_says_so_once_as_it_begins(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    jobs: int,
    settings: dict[str, Any],
    told: list[str],
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    recorder = Recorder()
    points = [{"x": num} for num in range(jobs)]
    with source(recorder, **{"max_parallel_jobs": 2, **settings}) as made:
        for _ in range(2):
            made.submit_jobs(points, "s", tmp_path / "s", command=["true"])
        made.wait()
    assert recorder.messages == told


def test_who_has_which_gpu() -> None:
    shared = GpuGrant(3, GpuNeed(share=0.5), (FOUR[0],), peak_memory=6 * GIB)
    both = GpuGrant(1, GpuNeed(count=2), (FOUR[1], FOUR[2]))
    grants = [shared, GpuGrant(2, GpuNeed(share=0.5), (FOUR[0],)), both]
    assert gpu_table(FOUR, grants, {FOUR[3].key: "pid 4711 (18 GiB)"}) == [
        "GPU  model                     used by",
        "  0  NVIDIA RTX A6000, 48 GiB  job 2, job 3 (6.0 GiB)",
        "  1  NVIDIA RTX A6000, 48 GiB  job 1",
        "  2  NVIDIA RTX A6000, 48 GiB  job 1",
        "  3  NVIDIA RTX A6000, 48 GiB  pid 4711 (18 GiB)",
    ]
    assert gpu_table([MIG], []) == ["GPU    used by", "MIG-1  nobody"]


@pytest.mark.parametrize("found", [None, FoundGpus((FOUR[0],))])
def test_explaining_a_sweep_ends_with_its_gpus(tmp_path: Path, found: FoundGpus | None) -> None:
    journal = Journal(SweepPaths(tmp_path), "s", {})
    ledger, admission = Ledger(), Admission(1, resources={})
    handles = [JobHandle(Job(num, f"s_{num}"), Work(), None, journal, "/") for num in range(2)]
    ledger.add(handles)
    admission.add(handles)
    assert admission.admit() is handles[0]
    handles[0].grant = GpuGrant(0, GpuNeed(), (FOUR[0],))
    table = ["GPU  model                     used by", "  0  NVIDIA RTX A6000, 48 GiB  job 0"]
    pool = None if found is None else SimpleNamespace(found=found, others=dict)
    place = cast("Backend", SimpleNamespace(gpus=pool))
    lines = Explaining(ledger, admission, place).of_all()
    assert lines[:3] == [
        "0 running, 2 waiting; at most 1 run at once",
        "job 0 waits for nothing: it is being started",
        "job 1 waits for a place: 1 place is taken (max_parallel_jobs)",
    ]
    assert lines[3:] == (table if found is not None else [])
    journal.close("finished")


def test_a_launch_record_names_the_gpus_that_jobs_may_have() -> None:
    allowed = (FOUR[0], Gpu("GPU-1", uuid="GPU-1"), MIG)
    assert recorded_gpus(launch_facts(allowed)) == [
        RecordedGpu(0, "NVIDIA RTX A6000", 48 * GIB),
        RecordedGpu("GPU-1"),
        RecordedGpu("MIG-1"),
    ]
    assert launch_facts(()) == {}


@pytest.mark.parametrize(
    ("entries", "ids"),
    [
        (
            [{"id": 0, "later": {"x": 1}}, {"id": "GPU-1", "name": 5, "memory": "much"}],
            [0, "GPU-1"],
        ),
        ([{}, {"id": -1}, {"id": None}, {"id": 1.5}, {"id": True}, {"id": 1}], [1]),
        ("all", []),
        (None, []),
    ],
)
def test_odd_entries_of_a_record_are_left_out(entries: object, ids: list[int | str]) -> None:
    assert [gpu.id for gpu in recorded_gpus({"gpus": entries})] == ids
