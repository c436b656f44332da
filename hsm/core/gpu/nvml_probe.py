"""Asking NVIDIA's driver, in a process of its own.

    launcher: NvmlProbe <--socket--> helper: nvml_reader.py --> pynvml --> the driver

Nothing of the driver is ever loaded in the launcher, whose forks it would harm, and a driver that
hangs stops only the helper. That ends when the connection does, and so with the launcher, however
that ends.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from hsm.core.gpu.probe import GpuProbe, GpuProcess, GpuReading, ProbeGone
from hsm.core.interpreter import NO_INTERPRETER, interpreter
from hsm.core.own_sockets import private_pair

#: Seconds for which a driver may give no sign of life.
PATIENCE = 10.0
READER = Path(__file__).with_name("nvml_reader.py")
#: Bytes; far above what an answer on 16 GPUs with hundreds of processes has.
_LONGEST_ANSWER = 1 << 22
_CHUNK = 1 << 16
#: Seconds in which a killed helper is gone, unless it is stuck in the kernel.
_EXIT_TIMEOUT, _EXIT_INTERVAL = 1.0, 0.005
_SEND_FLAGS = socket.MSG_DONTWAIT | getattr(socket, "MSG_NOSIGNAL", 0)  # not on macOS
_HELPER = "the helper that asks the GPU driver"
_INSTALL = "pip install 'hpc-sweep-manager[gpu]'"


class NvmlProbe(GpuProbe):
    """See `GpuProbe`. The helper starts with the first look.

    Args:
        patience: seconds for which the driver may give no sign of life.
        first_patience: the same for the first look, with which the helper starts.
        reader: the helper's program.
    """

    def __init__(
        self,
        *,
        patience: float = PATIENCE,
        first_patience: float = PATIENCE,
        reader: Path = READER,
    ) -> None:
        self._patience, self._first_patience = patience, first_patience
        self._reader = reader
        self._looking = threading.Lock()  # held during a look
        self._helper: _Helper | None = None
        self._gone = ""  # why there will be no more answers
        self._closed = threading.Event()

    def look(self) -> tuple[GpuReading, ...]:
        with self._looking:
            if self._closed.is_set():
                raise ProbeGone("the GPU driver is no longer asked")
            if self._gone:
                raise ProbeGone(self._gone)
            patience = self._patience
            try:
                if self._helper is None:
                    patience = self._first_patience
                    self._helper = _Helper(self._reader)
                    if self._closed.is_set():  # meanwhile
                        self._helper.interrupt()
                return self._helper.ask(patience)
            except ProbeGone as error:
                self._gone = str(error)
                if self._helper is not None:
                    self._helper.close()
                raise

    def close(self) -> None:
        self._closed.set()
        if (helper := self._helper) is not None:
            helper.interrupt()  # a look that waits for it, too
        with self._looking:
            if self._helper is not None:
                self._helper.close()


class _Helper:
    """The helper's process. Not thread-safe, except for `interrupt`. Raises ProbeGone."""

    def __init__(self, reader: Path) -> None:
        python = interpreter()
        if python is None:
            raise ProbeGone(f"the GPU driver cannot be asked: {NO_INTERPRETER}")
        # With -I, Python ignores PYTHONDONTWRITEBYTECODE. -I and -S keep out what could print, fail
        # or take the name of a module: PYTHONPATH, the working directory, sitecustomize.
        no_byte_code = ["-B"] if sys.dont_write_bytecode else []
        command = [python, *no_byte_code, "-I", "-S", str(reader), _pynvml_folder()]
        try:
            self._connect(command)
        except OSError as error:
            text = f"{_HELPER} cannot be started: {error.strerror or error}"
            raise ProbeGone(text) from error
        self._received = bytearray()

    def _connect(self, command: list[str]) -> None:
        self._socket, theirs = private_pair()
        try:
            self._errors, errors = private_pair()
        except OSError:
            self._socket.close()
            theirs.close()
            raise
        errors.setblocking(False)  # what does not fit, and nobody reads, is lost
        try:
            self._process = subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=errors.fileno(),
                cwd="/",
                start_new_session=True,  # a terminal's Ctrl-C is not for it
            )
        except OSError:
            self._socket.close()
            self._errors.close()
            raise
        finally:
            theirs.close()
            errors.close()

    def ask(self, patience: float) -> tuple[GpuReading, ...]:
        """Ask what the driver says.

        Args:
            patience: seconds for which there may be no sign of life.
        """
        with suppress(OSError):  # it has ended, and may have said why
            self._socket.send(b"?", _SEND_FLAGS)
        line = self._line(patience)
        try:
            answer: Any = json.loads(line)
            if "error" not in answer:
                return tuple(map(_reading, answer["gpus"]))
            why = str(answer["error"])
        except (ValueError, TypeError, KeyError) as error:
            raise ProbeGone(f"{_HELPER} gave a bad answer: {line[:80]!r}") from error
        raise ProbeGone(why)

    def _line(self, patience: float) -> bytes:
        """The next line that it says, but for signs of life. Raises ProbeGone if it stops."""
        deadline = time.monotonic() + patience
        while (end := self._received.find(b"\n")) <= 0:
            if end == 0:
                del self._received[:1]
                deadline = time.monotonic() + patience
                continue
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                chunk = self._socket.recv(_CHUNK)
            except TimeoutError as error:
                text = f"the GPU driver has given no answer for {patience:g} s"
                raise ProbeGone(text) from error
            except OSError:
                chunk = b""
            if not chunk or len(self._received) > _LONGEST_ANSWER:
                raise ProbeGone(self._end())
            self._received += chunk
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line

    def _end(self) -> str:
        """Kill it, if it has not ended, and tell how it ended, and what it has printed last."""
        self._kill()
        code, printed = self._process.returncode, b""
        with suppress(OSError):
            while chunk := self._errors.recv(_CHUNK, socket.MSG_DONTWAIT):
                printed += chunk
        lines = printed.decode(errors="replace").strip().splitlines()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return ": ".join([f"{_HELPER} has ended ({how})", *lines[-1:]])

    def interrupt(self) -> None:
        """Make a thread that waits for an answer stop waiting. Any thread may call this."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End it. Idempotent."""
        self._kill()
        self._socket.close()
        self._errors.close()

    def _kill(self) -> None:
        """Kill it, and wait until it is gone: not for long, since it may be stuck in the kernel."""
        deadline = time.monotonic() + _EXIT_TIMEOUT
        self._process.kill()
        while self._process.poll() is None:
            if time.monotonic() > deadline:
                self._process.returncode = -signal.SIGKILL  # or Popen warns that it still runs
                return
            time.sleep(_EXIT_INTERVAL)


def _pynvml_folder() -> str:
    """The folder from which the app, too, would import pynvml. Raises ProbeGone if there is none.

    It is only looked for: the launcher never imports it.
    """
    found = PathFinder.find_spec("pynvml")
    if found is None or found.origin is None:
        raise ProbeGone(f"GPUs cannot be looked at without pynvml: {_INSTALL}")
    path = Path(found.origin).absolute()
    return str((path if found.submodule_search_locations is None else path.parent).parent)


def _reading(gpu: dict[str, Any]) -> GpuReading:
    processes, drawing = _processes(gpu.pop("processes")), _processes(gpu.pop("drawing"))
    return GpuReading(**gpu, processes=processes, drawing=drawing)


def _processes(found: list[list[Any]]) -> tuple[GpuProcess, ...]:
    return tuple(GpuProcess(int(pid), memory) for pid, memory in found)
