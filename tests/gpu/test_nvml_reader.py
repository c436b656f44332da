"""What the helper's program makes of pynvml's answers; a driver that is played gives them."""

from __future__ import annotations

import importlib.util
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from helpers.fake_nvml.fake_gpus import FOLDER, GIB, IS_LOST, NEEDS_RESET, UNKNOWN_ERROR, FakeNvml
from hsm.core.gpu import nvml_reader
from hsm.core.gpu.nvml_reader import Reader


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    driver = FakeNvml(tmp_path / "gpus.json", gpus=2)
    monkeypatch.setenv("FAKE_NVML", str(driver.path))
    return driver


@pytest.fixture
def reader(driver: FakeNvml) -> Reader:
    return Reader(begun_pynvml(), lambda: None)


def begun_pynvml() -> Any:
    nvml = fake_pynvml()
    nvml.nvmlInit()
    return nvml


def fake_pynvml() -> Any:
    """The fake module under a name of its own, since the real one may be there, too."""
    spec = importlib.util.spec_from_file_location("fake_pynvml", FOLDER / "pynvml.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_gpu_that_was_read_is_a_sign_of_life(driver: FakeNvml) -> None:
    signs = []
    reader = Reader(begun_pynvml(), lambda: signs.append(1))
    driver.lose(0)
    assert len(reader.look()) == len(signs) == 2


def test_all_gpus_are_read(driver: FakeNvml, reader: Reader) -> None:
    driver.set_gpu(1, load=87, name="NVIDIA H100", memory=80 * GIB)
    driver.add_process(1, 4711, 6 * GIB, stays=True)
    driver.add_process(1, 4712, None, stays=True)
    first, second = reader.look()
    assert first["processes"] == []
    assert second == {
        "index": 1,
        "uuid": "GPU-00000001-0000-0000-0000-000000000000",
        "name": "NVIDIA H100",
        "memory": 80 * GIB,
        "used": 6 * GIB,  # without what the driver reserves
        "load": 87,
        "processes": [(4711, 6 * GIB), (4712, None)],
        "drawing": [],
        "processes_known": True,
        "is_mig": False,
    }


def test_what_an_old_driver_lacks_is_asked_in_older_ways(driver: FakeNvml, reader: Reader) -> None:
    driver.add_process(0, 4711, GIB, stays=True)
    driver.miss("nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetComputeRunningProcesses_v3")
    read = reader.look()[0]
    assert read["processes"] == [(4711, GIB)]
    assert read["used"] == GIB + GIB // 4  # nobody tells it without what is reserved


def test_what_is_not_supported_is_unknown(driver: FakeNvml, reader: Reader) -> None:
    calls = ("MemoryInfo", "MemoryInfo_v2", "UtilizationRates", "Name")
    lists = ("ComputeRunningProcesses_v2", "ComputeRunningProcesses_v3")
    driver.set_gpu(0, unsupported=[f"nvmlDeviceGet{name}" for name in calls + lists])
    lacking, whole = reader.look()
    assert (lacking["memory"], lacking["used"], lacking["load"]) == (None, None, None)
    assert (lacking["name"], lacking["processes"], lacking["processes_known"]) == ("", [], False)
    assert lacking["uuid"]
    assert whole["processes_known"]


def test_clients_of_the_multi_process_service_compute_too(driver: FakeNvml, reader: Reader) -> None:
    driver.add_process(0, 100, 30 << 20, stays=True)
    driver.add_process(0, 4711, GIB, stays=True, is_client=True)
    assert reader.look()[0]["processes"] == [(100, 30 << 20), (4711, GIB)]


def test_who_draws_and_computes_computes(driver: FakeNvml, reader: Reader) -> None:
    driver.draw(0, 900, 2 * GIB)
    driver.draw(1, 4711, GIB)
    driver.add_process(1, 4711, GIB, stays=True)
    first, second = reader.look()
    assert (first["processes"], first["drawing"]) == ([], [(900, 2 * GIB)])
    assert (second["processes"], second["drawing"]) == ([(4711, GIB)], [])
    assert (first["used"], second["used"]) == (2 * GIB, GIB)


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (IS_LOST, "GPU is lost"),
        (NEEDS_RESET, "GPU requires restart"),
        (UNKNOWN_ERROR, "Unknown Error"),
        (28, "GPU 28"),  # of which pynvml has no text of its own
    ],
)
def test_a_lost_gpu_is_named_and_the_others_are_read(
    driver: FakeNvml, reader: Reader, error: int, fault: str
) -> None:
    driver.set_gpu(0, load=50)
    whole, _ = reader.look()
    driver.lose(0, error)
    lost, other = reader.look()
    nothing: dict[str, Any] = {"used": None, "load": None, "processes": [], "drawing": []}
    assert lost == {**whole, **nothing, "fault": fault}
    assert "fault" not in other
    driver.find(0)
    assert reader.look()[0] == whole


def test_a_gpu_that_was_lost_from_the_beginning_has_its_index(
    driver: FakeNvml, reader: Reader
) -> None:
    driver.lose(1)
    lost = {"index": 1, "uuid": "", "used": None, "load": None, "processes": [], "drawing": []}
    assert reader.look()[1] == {**lost, "fault": "GPU is lost"}


def test_parts_stand_for_the_gpu_that_is_split(driver: FakeNvml, reader: Reader) -> None:
    driver.split(0, parts=2)
    driver.add_process(0, 4711, GIB, part=1, stays=True)
    first, second, other = reader.look()
    assert (first["index"], second["index"], other["index"]) == (0, 0, 1)
    assert first["uuid"].startswith("MIG-")
    assert first["uuid"] != second["uuid"]
    assert (first["is_mig"], second["is_mig"], other["is_mig"]) == (True, True, False)
    assert (second["memory"], second["used"], second["load"]) == (5 * GIB, GIB, None)
    assert (first["processes"], second["processes"]) == ([], [(4711, GIB)])
    driver.lose(0)
    assert [each.get("fault") for each in reader.look()] == ["GPU is lost", "GPU is lost", None]


def test_a_gpu_that_is_split_into_nothing_cannot_be_used(driver: FakeNvml, reader: Reader) -> None:
    driver.set_gpu(0, parts=[None])
    assert [each["index"] for each in reader.look()] == [1]


def test_the_real_module_has_the_names_that_are_used() -> None:
    real = pytest.importorskip("pynvml")
    text = Path(nvml_reader.__file__).read_text()
    used = set(re.findall(r"\b(?:nvml[A-Z]\w+|NVML_\w+|NVMLError)\b", text))
    assert len(used) > 10
    # From what it is asked in several versions, the newest must be there.
    versioned = {name for name in used if name.endswith("RunningProcesses")}
    assert len(versioned) == 3
    used = used - versioned | {f"{name}_v3" for name in versioned}
    assert {name for name in used if not hasattr(real, name)} == set()
    assert {"total", "used"} <= {name for name, _ in real.c_nvmlMemory_v2_t._fields_}
    assert {"total", "used"} <= {name for name, _ in real.c_nvmlMemory_t._fields_}
    assert "gpu" in {name for name, _ in real.c_nvmlUtilization_t._fields_}
    assert {"pid", "usedGpuMemory"} <= {name for name, _ in real.c_nvmlProcessInfo_t._fields_}


def test_the_fake_module_is_like_the_real_one() -> None:
    real, fake = pytest.importorskip("pynvml"), fake_pynvml()
    public = {name for name in vars(fake) if name.lower().startswith("nvml")}
    assert len(public) > 30
    for name in public:
        ours, theirs = getattr(fake, name), getattr(real, name)
        if isinstance(ours, int):
            assert ours == theirs, name
        elif isinstance(ours, type):
            assert issubclass(theirs, Exception), name
        else:
            parameters = [len(inspect.signature(each).parameters) for each in (ours, theirs)]
            assert parameters[0] == parameters[1], name
    for module in (real, fake):
        error = module.NVMLError(module.NVML_ERROR_GPU_IS_LOST)
        assert type(error) is module.NVMLError_GpuIsLost
        assert (error.value, str(error)) == (15, "GPU is lost")
