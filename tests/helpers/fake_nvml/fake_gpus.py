"""Says what the fake driver beside this file says: for tests, and for the jobs of their sweeps.

Only the standard library is imported, and the folder is on the jobs' PYTHONPATH (see `env`).
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

GIB = 1 << 30
FOLDER = Path(__file__).parent
IS_LOST, NEEDS_RESET, UNKNOWN_ERROR = 15, 16, 999


class FakeNvml:
    """GPUs of a driver that is played, by their indices. Any process may change them at any time.

    Args:
        path: the file in which they stand; that of the variable FAKE_NVML unless it is given.
        gpus: how many there are, if the file is to be made.
    """

    def __init__(self, path: Path | None = None, gpus: int | None = None) -> None:
        self.path = path or Path(os.environ["FAKE_NVML"])
        if gpus is not None:
            state = {"init_error": 0, "hanging": [], "missing": [], "prints": False, "gpus": []}
            self._write(state | {"gpus": [_gpu(index) for index in range(gpus)]})

    def env(self) -> dict[str, str]:
        """The variables with which a process finds this driver instead of a real one."""
        path = [str(FOLDER), os.environ.get("PYTHONPATH", "")]
        return {"FAKE_NVML": str(self.path), "PYTHONPATH": os.pathsep.join(filter(None, path))}

    def set_gpu(self, index: int, **facts: Any) -> None:
        """Set facts of a GPU: `used`, `load`, `memory`, `reserved`, `name`, `uuid`, `unsupported`.

        `used` is None while it follows from the processes.
        """
        with self._changing() as state:
            unknown = facts.keys() - state["gpus"][index].keys()
            assert not unknown, unknown
            state["gpus"][index].update(facts)

    def add_process(
        self,
        index: int,
        pid: int,
        memory: int | None = GIB,
        *,
        part: int | None = None,
        stays: bool = False,
        is_client: bool = False,
    ) -> None:
        """Have a process compute on a GPU.

        Args:
            index: the GPU.
            pid: the process.
            memory: bytes that it has there; None if the driver does not tell.
            part: on which part of a split GPU.
            stays: whether the driver goes on naming it when there is no such process.
            is_client: whether it computes through the multi-process service.
        """
        with self._changing() as state:
            gpu = state["gpus"][index]
            place = gpu if part is None else gpu["parts"][part]
            processes = place["clients" if is_client else "processes"]
            processes.append({"pid": pid, "memory": memory, "stays": stays})

    def draw(self, index: int, pid: int, memory: int) -> None:
        """Have a process draw on a GPU with so many bytes, and no other; it need not be there."""
        with self._changing() as state:
            state["gpus"][index]["drawing"] = [{"pid": pid, "memory": memory, "stays": True}]

    def remove_process(self, index: int, pid: int) -> None:
        """Have a process leave a GPU."""
        with self._changing() as state:
            gpu = state["gpus"][index]
            for each in (gpu, *filter(None, gpu["parts"] or ())):
                each["processes"] = [one for one in each["processes"] if one["pid"] != pid]

    def split(self, index: int, parts: int, memory: int = 5 * GIB) -> None:
        """Split a GPU into parts (MIG)."""
        made = [_gpu(number, f"MIG-{index}-", memory) for number in range(parts)]
        with self._changing() as state:
            state["gpus"][index]["parts"] = made

    def lose(self, index: int, error: int = IS_LOST) -> None:
        """Have every call about a GPU fail."""
        self.set_gpu(index, error=error)

    def find(self, index: int) -> None:
        """Have a lost GPU back."""
        self.set_gpu(index, error=0)

    def hang(self, *functions: str) -> None:
        """Have only these functions of the driver not return, until the next call."""
        with self._changing() as state:
            state["hanging"] = functions

    def miss(self, *functions: str) -> None:
        """Have the driver be an old one, without these functions."""
        with self._changing() as state:
            state["missing"] = functions

    def fail_to_start(self, error: int) -> None:
        """Have nvmlInit fail."""
        with self._changing() as state:
            state["init_error"] = error

    def print_much(self) -> None:
        """Have the driver and its module write to standard output in each call."""
        with self._changing() as state:
            state["prints"] = True

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Any]]:
        with open(f"{self.path}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = json.loads(self.path.read_text())
            yield state
            self._write(state)

    def _write(self, state: dict[str, Any]) -> None:
        temporary = Path(f"{self.path}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps(state))
        temporary.replace(self.path)


def _gpu(index: int, prefix: str = "GPU-", memory: int = 24 * GIB) -> dict[str, Any]:
    return {
        "uuid": f"{prefix}{index:08x}-0000-0000-0000-000000000000",
        "name": "NVIDIA Fake 4090",
        "memory": memory,
        "reserved": GIB // 4,
        "used": None,
        "load": 0,
        "processes": [],
        "clients": [],
        "drawing": [],
        "parts": None,
        "error": 0,
        "unsupported": [],
    }
