"""The program of the helper process that asks NVIDIA's driver; see `hsm.core.gpu.nvml_probe`.

    python nvml_reader.py FOLDER

FOLDER is where the module `pynvml` is. The helper is asked over a socket, its standard input: a
byte is a request, and a line of JSON the answer. That is ``{"gpus": [...]}`` with the fields of
`GpuReading`, or ``{"error": "..."}``, after which the helper ends. It also ends when its connection
does, even while the driver keeps a call waiting. An empty line is a sign of life: waking GPUs that
nobody uses takes a driver a second or more for each.

It imports nothing of hsm, so that it starts fast, and it writes its answers to no standard stream,
so that it does not matter what a library prints.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

_CONNECTION = 0
#: Errors after which a GPU is of no use before somebody has done something about it.
_FAULTS = ("NVML_ERROR_GPU_IS_LOST", "NVML_ERROR_RESET_REQUIRED", "NVML_ERROR_GPU_NOT_FOUND")
#: Newest first. An old driver, or an old pynvml, lacks the newest.
_VERSIONS = ("_v3", "_v2", "")


class Reader:
    """Reads all GPUs.

    Args:
        nvml: the module `pynvml`.
        show_life: called after each GPU.
    """

    def __init__(self, nvml: Any, show_life: Callable[[], object]) -> None:
        self._nvml = nvml
        self._show_life = show_life
        self._faults = {getattr(nvml, name, None) for name in _FAULTS}
        # By index, what was last read of a GPU or its parts: one that is lost tells nothing.
        self._known: dict[int, list[dict[str, Any]]] = {}

    def look(self) -> list[dict[str, Any]]:
        """The fields of a `GpuReading` for each GPU and part. Raises NVMLError."""
        found = []
        for index in range(self._nvml.nvmlDeviceGetCount()):
            found += self._look_at(index)
            self._show_life()
        return found

    def _look_at(self, index: int) -> list[dict[str, Any]]:
        try:
            handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
            if self._is_split(handle):
                read = self._parts(index, handle)
            else:
                read = [self._read(index, handle)]
        except self._nvml.NVMLError as error:
            nothing: dict[str, Any] = {"used": None, "load": None, "processes": [], "drawing": []}
            known: list[dict[str, Any]] = self._known.get(index) or [{"index": index, "uuid": ""}]
            return [each | nothing | {"fault": words(error)} for each in known]
        self._known[index] = read
        return read

    def _is_split(self, handle: Any) -> bool:
        mode = self._ask("nvmlDeviceGetMigMode", handle)
        return mode is not None and mode[0] == self._nvml.NVML_DEVICE_MIG_ENABLE

    def _parts(self, index: int, handle: Any) -> list[dict[str, Any]]:
        count = self._ask("nvmlDeviceGetMaxMigDeviceCount", handle) or 0
        handles = [
            self._ask("nvmlDeviceGetMigDeviceHandleByIndex", handle, n) for n in range(count)
        ]
        parts = [self._read(index, part, is_mig=True) for part in handles if part is not None]
        return [part for part in parts if part["uuid"]]  # without one it was just being removed

    def _read(self, index: int, handle: Any, *, is_mig: bool = False) -> dict[str, Any]:
        memory = self._memory(handle)
        load = self._ask("nvmlDeviceGetUtilizationRates", handle)
        processes = self._processes(handle)
        drawing = self._listed("nvmlDeviceGetGraphicsRunningProcesses", handle) or {}
        return {
            "index": index,
            "uuid": self._ask("nvmlDeviceGetUUID", handle) or "",
            "name": self._ask("nvmlDeviceGetName", handle) or "",
            "memory": None if memory is None else memory.total,
            "used": None if memory is None else memory.used,
            "load": None if load is None else load.gpu,
            "processes": list((processes or {}).items()),
            "drawing": [each for each in drawing.items() if each[0] not in (processes or {})],
            "processes_known": processes is not None,
            "is_mig": is_mig,
        }

    def _memory(self, handle: Any) -> Any:
        """Of the first version, `used` has what the driver keeps for itself, too."""
        memory = None
        if (version := getattr(self._nvml, "nvmlMemory_v2", None)) is not None:
            memory = self._ask("nvmlDeviceGetMemoryInfo", handle, version)
        return memory or self._ask("nvmlDeviceGetMemoryInfo", handle)

    def _processes(self, handle: Any) -> dict[int, int | None] | None:
        """The bytes of each process that computes, by its pid; None if the driver tells none."""
        found = self._listed("nvmlDeviceGetComputeRunningProcesses", handle)
        if found is not None:
            # Those that share a GPU through NVIDIA's multi-process service are in a list of theirs.
            found |= self._listed("nvmlDeviceGetMPSComputeRunningProcesses", handle) or {}
        return found

    def _listed(self, name: str, handle: Any) -> dict[int, int | None] | None:
        for version in _VERSIONS:
            processes = self._ask(name + version, handle)
            if processes is not None:
                return {process.pid: process.usedGpuMemory for process in processes}
        return None

    def _ask(self, name: str, *arguments: Any) -> Any:
        """The answer; None if there is none.

        Raises:
            NVMLError: the GPU cannot be used.
        """
        try:
            return getattr(self._nvml, name)(*arguments)
        except self._nvml.NVMLError as error:
            if error.value in self._faults:
                raise
        except Exception:  # pynvml has no such function, or cannot decode what it got
            pass
        return None


def words(error: BaseException) -> str:
    """An error of pynvml's as a text; pynvml shows those that it does not know as bytes."""
    text = str(error) or type(error).__name__
    return text[2:-1] if text.startswith(("b'", 'b"')) else text


def _answer(answer: dict[str, Any]) -> None:
    _write(json.dumps(answer))


def _show_life() -> None:
    _write("")


def _write(line: str) -> None:
    unsent = line.encode() + b"\n"
    while unsent:
        unsent = unsent[os.write(_CONNECTION, unsent) :]


def _hear(requests: SimpleQueue[bytes]) -> None:
    """Take requests until there can be no more, and then end, whatever the driver is doing."""
    try:
        while request := os.read(_CONNECTION, 1):
            requests.put(request)
    finally:
        os._exit(0)


def _serve(requests: SimpleQueue[bytes]) -> str:
    """Answer requests; return why that came to an end."""
    try:
        import pynvml
    except Exception as error:
        return f"pynvml cannot be imported: {words(error)}"
    _show_life()
    try:
        pynvml.nvmlInit()
    except Exception as error:
        return f"NVIDIA's driver is not there: {words(error)}"
    _show_life()
    reader = Reader(pynvml, _show_life)
    while True:
        requests.get()
        try:
            read = reader.look()
        except Exception as error:
            return f"NVIDIA's driver gives no answer any more: {words(error)}"
        _answer({"gpus": read})


def main() -> None:
    """Serve the connection on descriptor 0."""
    # Last, so that nothing that lies beside it is taken for a module of the standard library.
    sys.path.append(sys.argv[1])
    requests: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_hear, args=(requests,), daemon=True).start()
    why = _serve(requests)
    _answer({"error": why})
    os._exit(1)


if __name__ == "__main__":
    main()
