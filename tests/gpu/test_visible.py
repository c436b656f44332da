"""Which GPUs there are: what answers first, and what is then known of them."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.sweeps import PROFILE
from hsm.core.errors import SettingsError
from hsm.core.gpu.device import Family, Gpu
from hsm.core.gpu.device_files import amd_gpus, intel_gpus, nvidia_gpus
from hsm.core.gpu.probe import GpuReading
from hsm.core.gpu.visible import NO_GPUS, FoundGpus, count_visible, find_gpus

CUDA, HIP = "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"
ROCR, ZE = "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"
BY_PCI = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
GIB = 1 << 30

NAMES = [f"GPU-{at}f1c0000-0000-0000-0000-00000000000{at}" for at in range(4)]
ALIKE = [GpuReading(at, name, "A100", 40 * GIB) for at, name in enumerate(NAMES)]
MIXED = [GpuReading(at, name, f"model {at}", at * GIB) for at, name in enumerate(NAMES)]
PART = "MIG-7a850dc0-0000-0000-0000-00000000000a"
OTHER_PART = "MIG-7b850dc0-0000-0000-0000-00000000000b"
#: GPU 0 is split in two.
SPLIT = [
    GpuReading(0, PART, "A100 MIG 3g", 20 * GIB, is_mig=True),
    GpuReading(0, OTHER_PART, "A100 MIG 3g", 20 * GIB, is_mig=True),
    *ALIKE[1:3],
]


def nvidia_files(root: Path, *gpus: dict[str, str]) -> Path:
    """The files of GPUs on the PCI buses 0x0a, 0x1b, 0x2c …, made last one first."""
    for at, facts in reversed(list(enumerate(gpus))):
        bus = f"0000:{at}{'abcdef'[at]}:00.0"
        folder = root / "proc/driver/nvidia/gpus" / bus
        folder.mkdir(parents=True)
        lines = {"Model": "A100", "IRQ": "47", "GPU UUID": NAMES[at], "Bus Type": "PCIe", **facts}
        text = "".join(f"{name}: \t\t {value}\n" for name, value in lines.items())
        (folder / "information").write_text(text)
    return root


def amd_files(root: Path, *uniques: int, memory: int = 64 * GIB) -> Path:
    """A processor as node 0, and a GPU with each of these ids as one of the nodes after."""
    for at, unique in enumerate((None, *uniques)):
        node = root / f"sys/class/kfd/kfd/topology/nodes/{at}"
        (node / "mem_banks/0").mkdir(parents=True)
        simds = 0 if unique is None else 440
        minor = 0 if unique is None else 127 + at
        (node / "properties").write_text(
            f"cpu_cores_count 0\nsimd_count {simds}\ndrm_render_minor {minor}\n"
            f"unique_id {unique or 0}\n"
        )
        (node / "name").write_text("" if unique is None else "gfx90a\n")
        heap = 0 if unique is None else 1
        (node / "mem_banks/0/properties").write_text(
            f"heap_type {heap}\nsize_in_bytes {memory}\nflags 0\n"
        )
    return root


def intel_files(root: Path, *vendors: str) -> Path:
    """A render node of each of these vendors' GPUs, and what else is beside them."""
    (root / "dev/dri/by-path").mkdir(parents=True, exist_ok=True)
    (root / "dev/dri/card0").touch()
    for at, vendor in enumerate(vendors, 128):
        (root / f"dev/dri/renderD{at}").touch()
        device = root / f"sys/class/drm/renderD{at}/device"
        device.mkdir(parents=True)
        (device / "vendor").write_text(f"{vendor}\n")
    return root


def tokens(found: FoundGpus) -> list[str]:
    return [gpu.token for gpu in found.gpus]


def indices(found: FoundGpus) -> list[int | None]:
    return [gpu.index for gpu in found.gpus]


# --- what answers first ---


def everything(root: Path) -> Path:
    return intel_files(
        amd_files(nvidia_files(root, {}, {}, {}), 7, 8), "0x1002", "0x1002", "0x8086"
    )


@pytest.mark.parametrize(
    ("environ", "readings", "family", "origin", "expected"),
    [
        ({CUDA: "1", HIP: "0", ROCR: "0", ZE: "0"}, ALIKE, Family.nvidia, CUDA, ["1"]),
        ({HIP: "1", ROCR: "1,0", ZE: "0"}, ALIKE, Family.amd, HIP, ["1"]),
        ({ROCR: "1", ZE: "0"}, ALIKE, Family.amd, ROCR, ["1"]),
        ({ZE: "0.1"}, ALIKE, Family.intel, ZE, ["0.1"]),
        ({}, ALIKE, Family.nvidia, "NVML", ["0", "1", "2", "3"]),
        ({}, None, Family.nvidia, "/proc/driver/nvidia/gpus", ["0", "1", "2"]),
        ({}, [], Family.amd, "/sys/class/kfd", ["0", "1"]),  # NVML knows of none
        ({CUDA: ""}, ALIKE, Family.nvidia, CUDA, []),
        ({HIP: ""}, ALIKE, Family.amd, HIP, []),
        ({ROCR: ""}, ALIKE, Family.amd, ROCR, []),
        ({ZE: ""}, ALIKE, Family.nvidia, "NVML", ["0", "1", "2", "3"]),  # to Intel it means all
        ({ZE: "default"}, ALIKE, Family.nvidia, "NVML", ["0", "1", "2", "3"]),
    ],
)
def test_the_first_that_answers(
    tmp_path: Path,
    environ: dict[str, str],
    readings: list[GpuReading] | None,
    family: Family,
    origin: str,
    expected: list[str],
) -> None:
    found = find_gpus(None, environ, readings, root=everything(tmp_path))
    assert (found.family, found.origin, tokens(found)) == (family, origin, expected)
    assert found.is_inherited is bool(set(environ) & {origin})


def test_the_last_that_answer(tmp_path: Path) -> None:
    assert find_gpus(None, {}, None, root=tmp_path) == NO_GPUS
    found = find_gpus(None, {}, None, root=intel_files(tmp_path, "0x10de", "0x8086", "0x8086"))
    assert (found.family, found.variable, found.origin) == (Family.intel, ZE, "/dev/dri")
    assert tokens(found) == ["0", "1"]
    found = find_gpus(None, {}, None, root=amd_files(tmp_path, 0))
    assert (found.family, found.variable, found.origin) == (Family.amd, ROCR, "/sys/class/kfd")
    assert tokens(found) == ["0"]


@pytest.mark.parametrize(
    ("files", "variable", "expected"),
    [
        ("amd", CUDA, ["1"]),
        ("amd and HIP", HIP, ["0"]),
        ("intel", ZE, ["2"]),
        ("none", CUDA, ["1"]),
    ],
)
def test_slurm_sets_the_variables_of_all_makers(
    tmp_path: Path, files: str, variable: str, expected: list[str]
) -> None:
    environ = {CUDA: "1", ROCR: "0,1", ZE: "2"}
    if files.startswith("amd"):
        amd_files(tmp_path, 7, 8)
    if files == "amd and HIP":
        environ[HIP] = "0"
    if files == "intel":
        intel_files(tmp_path, "0x8086")
    found = find_gpus(None, environ, None, root=tmp_path)
    assert (found.variable, tokens(found)) == (variable, expected)
    assert count_visible(environ, root=tmp_path) == 1
    # Where NVIDIA's driver is, the GPUs are NVIDIA's.
    (tmp_path / "dev").mkdir(exist_ok=True)
    (tmp_path / "dev/nvidiactl").touch()
    found = find_gpus(None, environ, None, root=tmp_path)
    assert (found.family, found.variable, tokens(found)) == (Family.nvidia, CUDA, ["1"])


# --- what is known of NVIDIA's ---


@pytest.mark.parametrize(
    ("environ", "readings", "expected"),
    [
        ({CUDA: "3,1"}, ALIKE, [3, 1]),
        ({CUDA: " 3 ,1gpu"}, ALIKE, [3, 1]),
        ({CUDA: "3,1,4,0"}, ALIKE, [3, 1]),
        ({CUDA: "3,1"}, MIXED, [None, None]),  # CUDA numbers the fastest one first
        ({CUDA: "3,1", **BY_PCI}, MIXED, [3, 1]),
        ({CUDA: "3,1", "CUDA_DEVICE_ORDER": "FASTEST_FIRST"}, MIXED, [None, None]),
        ({CUDA: "3,4"}, MIXED, [None]),
        ({CUDA: "GPU-2,GPU-0f1c"}, MIXED, [2, 0]),
        ({CUDA: f"{NAMES[3]}"}, MIXED, [3]),
        ({CUDA: "0"}, MIXED[:1], [0]),
        ({CUDA: "0,1"}, [GpuReading(0, NAMES[0]), GpuReading(1, NAMES[1])], [None, None]),
        ({CUDA: "0,1"}, [], []),
        ({CUDA: PART}, SPLIT, [0]),
        ({CUDA: "0,1"}, SPLIT, [None, None]),
        ({CUDA: "0,3"}, SPLIT, [None]),
        ({CUDA: "0,7"}, None, [None, None]),
        ({CUDA: "0,7", **BY_PCI}, None, [0, 7]),
    ],
)
def test_the_numbers_of_inherited_gpus(
    tmp_path: Path,
    environ: dict[str, str],
    readings: list[GpuReading] | None,
    expected: list[int | None],
) -> None:
    found = find_gpus(None, environ, readings, root=tmp_path)
    assert indices(found) == expected
    for gpu in found.gpus:
        if readings and gpu.index is not None:
            [reading] = [each for each in readings if each.uuid == gpu.uuid]
            assert (gpu.name, gpu.memory) == (reading.name, reading.memory)
            assert gpu.key == reading.uuid
        else:
            assert (gpu.uuid, gpu.name, gpu.memory) == ("", "", None)


def test_inherited_tokens_are_kept_as_they_are(tmp_path: Path) -> None:
    environ = {CUDA: " GPU-2 ,GPU-0f1c"}
    assert tokens(find_gpus(None, environ, MIXED, root=tmp_path)) == ["GPU-2", "GPU-0f1c"]
    # Nobody else knows of these, but a whole name is one.
    environ = {CUDA: f"{NAMES[1]},GPU-2"}
    first, second = find_gpus(None, environ, None, root=tmp_path).gpus
    assert first == Gpu(NAMES[1], uuid=NAMES[1])
    assert second == Gpu("GPU-2")
    assert (second.key, second.id) == ("nvidia-GPU-2", "GPU-2")
    [part] = find_gpus(None, {CUDA: PART}, None, root=tmp_path).gpus
    assert part == Gpu(PART, uuid=PART, is_mig=True)


@pytest.mark.parametrize(
    ("readings", "environ", "expected"),
    [
        (MIXED, {}, ["0", "1", "2", "3"]),
        (MIXED, BY_PCI, ["0", "1", "2", "3"]),
        (MIXED, {"CUDA_DEVICE_ORDER": ""}, ["0", "1", "2", "3"]),
        # The user's order is not that of the numbers.
        (MIXED, {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}, NAMES),
        (ALIKE, {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}, ["0", "1", "2", "3"]),
        (SPLIT, {}, [PART, OTHER_PART, NAMES[1], NAMES[2]]),
    ],
)
def test_tokens_are_numbers_where_these_are_sure(
    readings: list[GpuReading], environ: dict[str, str], expected: list[str], tmp_path: Path
) -> None:
    found = find_gpus(None, environ, readings, root=tmp_path)
    assert tokens(found) == expected
    assert [gpu.uuid for gpu in found.gpus] == [reading.uuid for reading in readings]
    assert indices(found) == [reading.index for reading in readings]
    assert [gpu.is_mig for gpu in found.gpus] == [reading.is_mig for reading in readings]


# --- files ---


def test_files_of_nvidias_driver(tmp_path: Path) -> None:
    root = nvidia_files(
        tmp_path,
        {},
        {"GPU Excluded": "Yes"},
        {"GPU UUID": "GPU-????????-????-????-????-????????????", "Model": "T4: new"},
    )
    (root / "proc/driver/nvidia/gpus/0000:ff:00.0").mkdir()  # of which nothing can be read
    (root / "proc/driver/nvidia/gpus/README").touch()
    assert nvidia_gpus(root) == (
        GpuReading(0, NAMES[0], "A100"),
        GpuReading(1, "", "T4: new"),
        GpuReading(2, ""),
    )


def test_gpus_are_numbered_in_the_order_of_the_bus(tmp_path: Path) -> None:
    for bus in ("0001:00:00.0", "0000:0a:00.0", "0000:09:00.0", "10000:01:00.0"):
        folder = tmp_path / "proc/driver/nvidia/gpus" / bus
        folder.mkdir(parents=True)
        (folder / "information").write_text(f"Model: {bus}\n")
    names = [gpu.name for gpu in nvidia_gpus(tmp_path)]
    assert names == ["0000:09:00.0", "0000:0a:00.0", "0001:00:00.0", "10000:01:00.0"]


def test_files_of_amds_driver(tmp_path: Path) -> None:
    amd_files(tmp_path, 0x1F, 0, (1 << 64) - 1)
    assert amd_gpus(tmp_path) == (
        GpuReading(0, "GPU-000000000000001f", "gfx90a", 64 * GIB),
        GpuReading(1, "", "gfx90a", 64 * GIB),
        GpuReading(2, "GPU-ffffffffffffffff", "gfx90a", 64 * GIB),
    )
    # A container that has only the second and third.
    intel_files(tmp_path, "0x8086", "0x1002", "0x1002")
    (tmp_path / "dev/dri/renderD128").unlink()
    assert [gpu.uuid for gpu in amd_gpus(tmp_path)] == ["", "GPU-ffffffffffffffff"]
    assert len(intel_gpus(tmp_path)) == 0


@pytest.mark.parametrize("text", ["", "simd_count", "simd_count x", "simd_count -1", "\0\xff" * 99])
def test_damaged_files_say_nothing(tmp_path: Path, text: str) -> None:
    amd_files(tmp_path, 7)
    nodes = tmp_path / "sys/class/kfd/kfd/topology/nodes"
    (nodes / "1/properties").write_text(text)
    (nodes / "x").mkdir()
    assert amd_gpus(tmp_path) == ()


# --- AMD's two layers ---


@pytest.mark.parametrize(
    ("environ", "variable", "expected"),
    [
        ({}, ROCR, [("0", 0), ("1", 1), ("2", 2)]),
        ({ROCR: "2,0"}, ROCR, [("2", 2), ("0", 0)]),
        ({ROCR: "GPU-000000000000000a,0"}, ROCR, [("GPU-000000000000000a", 1), ("0", 0)]),
        ({HIP: "2,0"}, HIP, [("2", 2), ("0", 0)]),
        ({ROCR: "2,0", HIP: "1,0"}, HIP, [("1", 0), ("0", 2)]),  # HIP counts what ROCr leaves
        ({ROCR: "2,0", HIP: "0,2"}, HIP, [("0", 2)]),
        ({ROCR: "", HIP: "0"}, HIP, []),
        ({ROCR: "1", CUDA: "0"}, CUDA, [("0", 1)]),  # which HIP reads, if it has none of its own
    ],
)
def test_one_layer_says_which_gpus_a_job_has(
    tmp_path: Path, environ: dict[str, str], variable: str, expected: list[tuple[str, int]]
) -> None:
    found = find_gpus(None, environ, None, root=amd_files(tmp_path, 9, 10, 0))
    assert (found.family, found.variable) == (Family.amd, variable)
    assert [(gpu.token, gpu.index) for gpu in found.gpus] == expected


def test_amds_layers_without_files(tmp_path: Path) -> None:
    environ = {ROCR: "GPU-000000000000001f,3", HIP: "GPU-000000000000001f"}
    assert tokens(find_gpus(None, environ, None, root=tmp_path)) == ["GPU-000000000000001f"]
    found = find_gpus(None, {ROCR: "5,3", HIP: "1,0,2"}, None, root=tmp_path)
    assert [(gpu.token, gpu.index) for gpu in found.gpus] == [("1", None), ("0", None)]
    found = find_gpus(None, {ROCR: "5,3"}, None, root=tmp_path)
    assert [(gpu.token, gpu.index) for gpu in found.gpus] == [("5", 5), ("3", 3)]


# --- gpu_ids ---


@pytest.mark.parametrize(
    ("ids", "environ", "readings", "expected"),
    [
        ([3, 0], {}, ALIKE, ["0", "3"]),
        (["GPU-2f1c", 0], {}, ALIKE, ["0", "2"]),
        ([NAMES[1].upper()], {}, ALIKE, ["1"]),
        ([1, NAMES[1]], {}, ALIKE, ["1"]),
        ([0], {}, SPLIT, [PART, OTHER_PART]),
        (["MIG-7a", 2], {}, SPLIT, [PART, NAMES[2]]),
        ([1, 3], {CUDA: "3,2,1"}, ALIKE, ["3", "1"]),
        ([1, 3], {CUDA: "3,2,1"}, MIXED, ["3", "1"]),
        ([1, 3], {CUDA: "3,2,1"}, None, ["3", "1"]),
        ([2], {CUDA: "GPU-2,GPU-0"}, ALIKE, ["GPU-2"]),
        ([NAMES[2]], {CUDA: "GPU-2,GPU-0"}, None, ["GPU-2"]),
        (["GPU-2"], {CUDA: f"{NAMES[2]},{NAMES[0]}"}, None, [NAMES[2]]),
        (["GPU-0"], {CUDA: "GPU-0,GPU-1"}, None, ["GPU-0"]),
    ],
)
def test_chosen_gpus(
    tmp_path: Path,
    ids: list[int | str],
    environ: dict[str, str],
    readings: list[GpuReading] | None,
    expected: list[str],
) -> None:
    assert tokens(find_gpus(ids, environ, readings, root=tmp_path)) == expected


@pytest.mark.parametrize(
    ("ids", "environ", "readings", "message"),
    [
        (
            [7],
            {},
            ALIKE[:2],
            f"gpu_ids: there is no GPU 7; there are 0 (A100, {NAMES[0]}), 1 (A100",
        ),
        ([0, "GPU-9"], {}, ALIKE, "gpu_ids: there is no GPU GPU-9; there are 0 (A100"),
        (["GPU-"], {}, ALIKE, "gpu_ids: GPU- is the beginning of several names; there are 0"),
        (["MIG-7"], {}, SPLIT, "MIG-7 is the beginning of several names"),
        ([0], {CUDA: "3,1"}, ALIKE, f"there is no GPU 0; {CUDA} leaves 3 (A100, {NAMES[3]}), 1 (A"),
        ([0], {CUDA: ""}, ALIKE, f"there is no GPU 0; {CUDA} leaves none"),
        ([0], {CUDA: "GPU-0"}, None, f"there is no GPU 0; {CUDA} leaves GPU-0"),
        ([0], {}, None, "there is no GPU 0; there are none"),
        ([2], {CUDA: "3,1"}, MIXED, f"{CUDA} leaves 3, 1"),
        ([1 << 80], {}, ALIKE, f"there is no GPU {1 << 80}"),
    ],
)
def test_what_is_not_there_cannot_be_chosen(
    tmp_path: Path,
    ids: list[int | str],
    environ: dict[str, str],
    readings: list[GpuReading] | None,
    message: str,
) -> None:
    with pytest.raises(SettingsError) as error:
        find_gpus(ids, environ, readings, root=tmp_path)
    assert message in str(error.value)
    assert error.value.key == "gpu_ids"


# --- counting ---


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, 3),
        ({CUDA: "0,1"}, 2),
        ({CUDA: ""}, 0),
        ({CUDA: "0,0"}, 0),
        ({HIP: "0", ROCR: "0,1"}, 1),
        ({ROCR: "0,1"}, 2),
        ({ZE: "0.0,0.1"}, 2),
    ],
)
def test_counting_what_a_process_sees(
    tmp_path: Path, environ: dict[str, str], expected: int
) -> None:
    assert count_visible(environ, root=everything(tmp_path)) == expected


def test_counting_without_nvidias_driver(tmp_path: Path) -> None:
    assert count_visible({}, root=tmp_path) == 0
    assert count_visible({}, root=intel_files(tmp_path, "0x8086", "0x8086")) == 2
    assert (
        count_visible({}, root=amd_files(tmp_path, 7, 8, 9)) == 2
    )  # those that have a render node
    assert count_visible({}, root=tmp_path / "a\0b") == 0


def test_counting_is_quick(tmp_path: Path) -> None:
    root = nvidia_files(tmp_path, {}, {}, {}, {})

    def seconds(environ: dict[str, str]) -> float:
        began = time.perf_counter()
        count_visible(environ, root=root)
        return time.perf_counter() - began

    for environ in ({}, {CUDA: "0,1,2,3"}):
        assert min(seconds(environ) for _ in range(20)) < 0.001


# --- any input ---

ITEMS = st.one_of(
    st.integers(-1, 9).map(str), st.sampled_from([*NAMES, PART, "GPU-1", "x", " 1"]), st.text()
)
VALUES = st.one_of(st.text(), st.lists(ITEMS, max_size=4).map(",".join))
IDS = st.lists(
    st.one_of(st.integers(), st.sampled_from([*NAMES, PART, "GPU-1"]), st.text(min_size=1))
)


@settings(PROFILE, max_examples=200)
@given(
    st.dictionaries(st.sampled_from([CUDA, HIP, ROCR, ZE, *BY_PCI]), VALUES),
    st.sampled_from([None, [], ALIKE, MIXED, SPLIT]),
    st.none() | IDS,
)
def test_no_environment_is_too_odd(environ: dict[str, str], readings: Any, ids: Any) -> None:
    root = Path("/nowhere")
    everywhere = find_gpus(None, environ, readings, root=root)
    assert len(set(tokens(everywhere))) == len(everywhere.gpus)
    assert count_visible(environ, root=root) >= 0
    with suppress(SettingsError):
        found = find_gpus(ids, environ, readings, root=root)
        assert set(found.gpus) <= set(everywhere.gpus)
