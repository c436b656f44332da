"""A driver that is played: what hsm uses of nvidia-ml-py, with the same names and ways to fail.

What it says stands in a JSON file, which the variable FAKE_NVML names; `fake_gpus.FakeNvml` writes
it. It is read anew for each call. `test_nvml_reader.py` compares the names with the real module's.
"""

# The real module has these names, and no types.
# ruff: noqa: N802, N815, N816
# mypy: ignore-errors

import json
import os
import string
import time
from typing import ClassVar

NVML_ERROR_UNINITIALIZED = 1
NVML_ERROR_NOT_SUPPORTED = 3
NVML_ERROR_NO_PERMISSION = 4
NVML_ERROR_NOT_FOUND = 6
NVML_ERROR_DRIVER_NOT_LOADED = 9
NVML_ERROR_LIBRARY_NOT_FOUND = 12
NVML_ERROR_FUNCTION_NOT_FOUND = 13
NVML_ERROR_GPU_IS_LOST = 15
NVML_ERROR_RESET_REQUIRED = 16
NVML_ERROR_LIB_RM_VERSION_MISMATCH = 18
NVML_ERROR_GPU_NOT_FOUND = 28
NVML_ERROR_UNKNOWN = 999
NVML_DEVICE_MIG_DISABLE = 0x0
NVML_DEVICE_MIG_ENABLE = 0x1
nvmlMemory_v2 = 0x02000028


class NVMLLibraryMismatchError(Exception):
    pass


_TEXTS = {
    NVML_ERROR_UNINITIALIZED: "Uninitialized",
    NVML_ERROR_NOT_SUPPORTED: "Not Supported",
    NVML_ERROR_NO_PERMISSION: "Insufficient Permissions",
    NVML_ERROR_NOT_FOUND: "Not Found",
    NVML_ERROR_DRIVER_NOT_LOADED: "Driver Not Loaded",
    NVML_ERROR_LIBRARY_NOT_FOUND: "NVML Shared Library Not Found",
    NVML_ERROR_FUNCTION_NOT_FOUND: "Function Not Found",
    NVML_ERROR_GPU_IS_LOST: "GPU is lost",
    NVML_ERROR_RESET_REQUIRED: "GPU requires restart",
    NVML_ERROR_LIB_RM_VERSION_MISMATCH: "RM has detected an NVML/RM version mismatch.",
    NVML_ERROR_UNKNOWN: "Unknown Error",
}


class NVMLError(Exception):
    _valClassMapping: ClassVar = {}

    def __new__(cls, value):
        kind = NVMLError._valClassMapping.get(value, cls) if cls is NVMLError else cls
        error = Exception.__new__(kind)
        error.value = value
        return error

    def __str__(self):
        # The real one asks the driver for those that it has no text of, and gets bytes.
        return _TEXTS.get(self.value) or str(b"GPU %d" % self.value)


def _make_classes():
    for name, value in list(globals().items()):
        if name.startswith("NVML_ERROR_"):
            words = string.capwords(name.replace("NVML_ERROR_", ""), "_").replace("_", "")
            kind = type(
                f"NVMLError_{words}",
                (NVMLError,),
                {"__new__": lambda cls, *_, value=value: NVMLError.__new__(cls, value)},
            )
            globals()[kind.__name__] = NVMLError._valClassMapping[value] = kind


_make_classes()
_initialised = []
_LISTS = ("drawing", "clients", "processes")


class _Friendly:
    """What the real module returns: a structure whose fields are attributes."""

    def __init__(self, **fields):
        self.__dict__.update(fields)


class _Handle:
    def __init__(self, *path):
        self.path = path  # the GPU's index, and the part's


def _state():
    """What the driver says; reading it is what takes time in a driver that hangs."""
    try:
        with open(os.environ["FAKE_NVML"], encoding="utf-8") as file:
            return json.load(file)
    except (KeyError, FileNotFoundError):
        raise NVMLError(NVML_ERROR_LIBRARY_NOT_FOUND) from None


def _call(name):
    """The state, once a function of the driver lets one have it."""
    if not _initialised:
        raise NVMLError(NVML_ERROR_UNINITIALIZED)
    while name in (state := _state())["hanging"]:
        time.sleep(0.01)
    if state["prints"]:
        os.write(1, b"the driver prints\n")
        print("so does its module")
    if name in state["missing"]:
        raise NVMLError(NVML_ERROR_FUNCTION_NOT_FOUND)
    return state


def _device(name, handle):
    state = _call(name)
    index, *part = handle.path
    gpu = state["gpus"][index]
    if gpu["error"]:
        raise NVMLError(gpu["error"])
    if name in gpu["unsupported"]:
        raise NVMLError(NVML_ERROR_NOT_SUPPORTED)
    if part:
        gpu = (gpu["parts"] or [])[part[0]]
        if gpu is None:
            raise NVMLError(NVML_ERROR_NOT_FOUND)
    return gpu


def nvmlInit():
    state = _state()
    if state["init_error"]:
        raise NVMLError(state["init_error"])
    _initialised.append(True)
    _call("nvmlInit")


def nvmlDeviceGetCount():
    return len(_call("nvmlDeviceGetCount")["gpus"])


def nvmlDeviceGetHandleByIndex(index):
    handle = _Handle(index)
    _device("nvmlDeviceGetHandleByIndex", handle)
    return handle


def nvmlDeviceGetUUID(handle):
    return _device("nvmlDeviceGetUUID", handle)["uuid"]


def nvmlDeviceGetName(handle):
    return _device("nvmlDeviceGetName", handle)["name"]


def nvmlDeviceGetMemoryInfo(handle, version=None):
    gpu = _device("nvmlDeviceGetMemoryInfo" + ("_v2" if version else ""), handle)
    total, reserved, used = gpu["memory"], gpu["reserved"], gpu["used"]
    if used is None:
        processes = {each["pid"]: each for name in _LISTS for each in _alive(gpu[name])}
        used = sum(each["memory"] or 0 for each in processes.values())
    free = total - reserved - used
    if not version:
        return _Friendly(total=total, free=free, used=used + reserved)
    return _Friendly(version=version, total=total, reserved=reserved, free=free, used=used)


def nvmlDeviceGetUtilizationRates(handle):
    if len(handle.path) > 1:
        raise NVMLError(NVML_ERROR_NOT_SUPPORTED)
    return _Friendly(gpu=_device("nvmlDeviceGetUtilizationRates", handle)["load"], memory=0)


def nvmlDeviceGetMigMode(handle):
    parts = _device("nvmlDeviceGetMigMode", handle)["parts"]
    if parts is None:
        raise NVMLError(NVML_ERROR_NOT_SUPPORTED)
    mode = NVML_DEVICE_MIG_ENABLE if parts else NVML_DEVICE_MIG_DISABLE
    return [mode, mode]


def nvmlDeviceGetMaxMigDeviceCount(handle):
    return 7 if _device("nvmlDeviceGetMaxMigDeviceCount", handle)["parts"] else 0


def nvmlDeviceGetMigDeviceHandleByIndex(handle, index):
    parts = _device("nvmlDeviceGetMigDeviceHandleByIndex", handle)["parts"]
    if index >= len(parts) or parts[index] is None:
        raise NVMLError(NVML_ERROR_NOT_FOUND)
    return _Handle(*handle.path, index)


def _alive(processes):
    """Those that have not ended; of others a driver that keeps something still tells."""
    return [each for each in processes if each["stays"] or _is_alive(each["pid"])]


def _is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def _processes(name, which, handle):
    return [
        _Friendly(
            pid=each["pid"],
            usedGpuMemory=each["memory"],
            gpuInstanceId=0xFFFFFFFF,
            computeInstanceId=0xFFFFFFFF,
        )
        for each in _alive(_device(name, handle)[which])
    ]


def nvmlDeviceGetComputeRunningProcesses_v2(handle):
    return _processes("nvmlDeviceGetComputeRunningProcesses_v2", "processes", handle)


def nvmlDeviceGetComputeRunningProcesses_v3(handle):
    return _processes("nvmlDeviceGetComputeRunningProcesses_v3", "processes", handle)


def nvmlDeviceGetComputeRunningProcesses(handle):
    try:
        return nvmlDeviceGetComputeRunningProcesses_v3(handle)
    except NVMLError as error:
        if error.value == NVML_ERROR_FUNCTION_NOT_FOUND:
            raise NVMLLibraryMismatchError("the versions do not match") from error
        raise


def nvmlDeviceGetGraphicsRunningProcesses_v3(handle):
    return _processes("nvmlDeviceGetGraphicsRunningProcesses_v3", "drawing", handle)


def nvmlDeviceGetMPSComputeRunningProcesses_v3(handle):
    return _processes("nvmlDeviceGetMPSComputeRunningProcesses_v3", "clients", handle)
