"""Makes a forked process forget its parent, so that a job sees nothing of the launcher.

What the script set up at import (globals, signal handlers, seeds, open files) stays, as with
`python train.py`. What belongs to the launcher's process (exit hooks, children, helper processes,
buffered output) goes.
"""

from __future__ import annotations

import atexit
import gc
import io
import itertools
import os
import signal
import sys
import threading
from typing import Any, NamedTuple, NoReturn, Protocol

from hsm.core.own_process import (
    caught_signals,
    flush_c_buffers,
    open_closed_streams,
    process_name,
    set_process_name,
)
from hsm.core.program import telemetry
from hsm.core.program.rng import RandomStates, capture
from hsm.core.program.warning_places import pass_over_hsm

_HELPERS = (
    ("multiprocessing.resource_tracker", "_resource_tracker", ("_fd", "_pid")),
    (
        "multiprocessing.forkserver",
        "_forkserver",
        ("_forkserver_address", "_forkserver_alive_fd", "_forkserver_pid"),
    ),
)
#: Signals that a terminal, a service or batch system, or a job may send to all processes at once.
MEANT_FOR_THE_LAUNCHER = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGTSTP,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
#: hsm's own processes ignore these whatever the app does, lest a lost peer or a full log end them.
NO_ENDS = (signal.SIGPIPE, signal.SIGXFSZ)
#: All signals whose disposition differs between the launcher's process and a server or keeper.
_CHANGED = (*MEANT_FOR_THE_LAUNCHER, *NO_ENDS, signal.SIGCHLD, signal.SIGCONT)
# The C functions: `signal` turns results into enums, ten times slower, and each job pays for it.
_raw: Any = signal._signal  # type: ignore[attr-defined]
_get_signal, _set_signal, _set_mask = _raw.getsignal, _raw.signal, _raw.pthread_sigmask
_BINARY = frozenset((io.BufferedWriter, io.BufferedRandom))
_BUFFERED = _BINARY | {io.TextIOWrapper}


class SharedFile(Protocol):
    """A file that the launcher's process has open, and that each job opens for itself."""

    def is_open(self) -> bool: ...

    def reopen(self) -> None: ...


class SharedMemory(Protocol):
    """Memory that forks would share, but of which each job gets its own."""

    def own(self) -> None: ...

    def hold(self) -> None: ...


class LaunchState(NamedTuple):
    """The state of the launcher's process when the fork server was started.

    Attributes:
        signals: the disposition, as C sees it, of each signal that a server or keeper changes;
            None for a handler that C code has installed, which Python could not restore.
        random: the random number generators.
        files: open files that have buffers.
        name: the process's name.
        opened: files that each job opens for itself.
        is_forked: whether jobs are forked from that process, through a server and a keeper.
        memory: memory of which each forked job gets its own.
        exit_hooks: whether each job runs the app's exit hooks.
        is_script: whether each job goes on with the script that this process runs: it has all that
            this process has, and ends as any interpreter does.
    """

    signals: dict[int, Any]
    random: RandomStates
    files: list[Any]
    name: bytes
    opened: list[SharedFile]
    is_forked: bool = False
    memory: SharedMemory | None = None
    exit_hooks: bool = False
    is_script: bool = False

    @classmethod
    def take(cls) -> LaunchState:
        """Record the state, and flush all buffers, or jobs would write their content again."""
        files = _open_files()
        _flush(files)
        flush_c_buffers()
        handlers: dict[int, Any] = {}
        caught = caught_signals()
        for number in _CHANGED:
            handler = _get_signal(number)
            if handler == signal.SIG_DFL and number in caught:
                handler = None
            # A handler of hsm's own knows the one that it replaced.
            while hasattr(handler, "replaced"):
                handler = handler.replaced
            handlers[number] = int(handler) if isinstance(handler, int) else handler
        return cls(handlers, capture(), files, process_name(), [])

    def restore_signals(self) -> None:
        """Restore every signal's disposition, and unblock all signals."""
        for number, handler in self.signals.items():
            if handler is not None:
                _set_signal(number, handler)
        _set_mask(signal.SIG_SETMASK, ())


def enter_job(state: LaunchState) -> None:
    """Prepare a job's process, before it calls the job's function."""
    set_process_name(state.name)
    state.random.apply(is_forked=state.is_forked)
    if (tempfile := sys.modules.get("tempfile")) is not None:
        tempfile.tempdir = None  # type: ignore[attr-defined]
    for file in state.opened:
        file.reopen()
    if state.memory is not None:
        state.memory.own()
    # Exit hooks run in reverse order, so this one runs after those that the job registers.
    atexit.register(telemetry.flush)
    _forget_multiprocessing()
    if state.memory is not None:
        state.memory.hold()
    if (logging := sys.modules.get("logging")) is not None:  # else it does so as it is imported
        atexit.register(logging.shutdown)
    if not state.is_forked:  # else the fork server has done this for all
        own_streams()
        pass_over_hsm()


def leave_job(state: LaunchState, exit_code: int) -> NoReturn:
    """End a job's process as the interpreter would, without unwinding the launcher's stack."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # joins the non-daemon threads
        atexit._run_exitfuncs()
        _flush([*state.files, *_open_files(), sys.stdout, sys.stderr])
        flush_c_buffers()
    finally:
        os._exit(exit_code)


def _open_files() -> list[Any]:
    # An app with torch has half a million objects; this takes a third of the time of a loop.
    objects = gc.get_objects()
    return list(itertools.compress(objects, map(_BUFFERED.__contains__, map(type, objects))))


def _flush(files: list[Any]) -> None:
    # Text files first: they flush into the binary buffers below them.
    for file in sorted(files, key=_is_binary):
        try:
            if not file.closed and file.writable():
                file.flush()
        except Exception:
            continue  # A pipe without a reader, a full disk: any exiting interpreter ignores it.


def _is_binary(file: Any) -> bool:
    return type(file) in _BINARY


def own_streams() -> None:
    """Make `sys.stdout` and `sys.stderr` write to descriptors 1 and 2, line by line.

    In the launcher they may have been anything, such as a notebook's or pytest's. Stdin is empty.
    """
    open_closed_streams()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    for name, fd in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if type(stream) is io.TextIOWrapper and _fileno(stream) == fd:
            stream.reconfigure(line_buffering=True)
            continue
        encoding = getattr(stream, "encoding", None) or "utf-8"
        own = open(  # noqa: SIM115
            fd, "w", buffering=1, encoding=encoding, errors="backslashreplace", closefd=False
        )
        setattr(sys, name, own)
    for name in ("stdin", "stdout", "stderr"):
        setattr(sys, f"__{name}__", getattr(sys, name))


def _fileno(stream: Any) -> int:
    try:
        return int(stream.fileno())
    except (OSError, ValueError):
        return -1


def renew_multiprocessing() -> None:
    """Give this process a key of its own, as `multiprocessing` does when it is imported."""
    if (process := sys.modules.get("multiprocessing.process")) is not None:
        process.current_process().authkey = os.urandom(32)


def _forget_multiprocessing() -> None:
    """Keep the job from waiting for, or ending, the launcher's children and helper processes."""
    process = sys.modules.get("multiprocessing.process")
    util = sys.modules.get("multiprocessing.util")
    if process is None or util is None:
        return
    process._children = set()  # type: ignore[attr-defined]
    util._finalizer_registry.clear()
    util._run_after_forkers()
    atexit.register(util._exit_function)
    for module, helper, attributes in _HELPERS:
        if module in sys.modules:
            for attribute in attributes:
                setattr(getattr(sys.modules[module], helper), attribute, None)
