"""Make a forked process forget that it was forked: a job sees nothing of launcher or other jobs.

What a script set up at import (globals, signal handlers, seeds, open files) is the script's and
stays, as `python train.py` would have it. What belongs to the launching process (exit hooks,
children, helper processes, buffered output) goes.
"""

from __future__ import annotations

import atexit
import gc
import io
import itertools
import logging
import os
import signal
import sys
import tempfile
import threading
import weakref
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from hsm.core.local import telemetry
from hsm.core.local.process import flush_c_buffers, process_name, set_process_name
from hsm.core.local.rng import RandomStates, capture

if TYPE_CHECKING:
    from hsm.core.local.own_files import OpenFile
    from hsm.core.local.own_memory import SharedMemory

_HELPERS = (
    ("multiprocessing.resource_tracker", "_resource_tracker", ("_fd", "_pid")),
    (
        "multiprocessing.forkserver",
        "_forkserver",
        ("_forkserver_address", "_forkserver_alive_fd", "_forkserver_pid"),
    ),
)
#: Signals that reach everybody with a Ctrl-C, a hang-up or a service manager's stop.
_MEANT_FOR_THE_LAUNCHER = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGTSTP,
)
#: Whatever the app makes of these two, a peer that is gone or a full log ends no process of hsm's.
_NO_ENDS = (signal.SIGPIPE, signal.SIGXFSZ)
#: All whose disposition differs between the launching process and a server or keeper.
_CHANGED = (*_MEANT_FOR_THE_LAUNCHER, *_NO_ENDS, signal.SIGCHLD, signal.SIGCONT)
# As C has them: `signal` makes enums of what they return, at ten times the cost, and of each job.
_raw: Any = signal._signal  # type: ignore[attr-defined]
_get_signal, _set_signal, _set_mask = _raw.getsignal, _raw.signal, _raw.pthread_sigmask
_BINARY = frozenset((io.BufferedWriter, io.BufferedRandom))
_BUFFERED = _BINARY | {io.TextIOWrapper}


@dataclass(frozen=True)
class LaunchState:
    """What the launching process looked like when the fork server was started.

    Attributes:
        signals: disposition of each signal that a server or a keeper changes, as C has it.
        random: random number generators.
        files: open files with buffers of their own.
        name: the process's name.
        opened: what each job is to open for itself.
        is_forked: jobs are forked from that process, by way of a server and a keeper.
        memory: what each of those jobs is to have for itself.
        exit_hooks: whether the exit hooks that the app has registered run in each job.
    """

    signals: dict[int, Any]
    random: RandomStates
    files: list[Any]
    name: bytes
    is_forked: bool = False
    opened: list[OpenFile] = field(default_factory=list)
    memory: SharedMemory | None = None
    exit_hooks: bool = False

    @classmethod
    def take(cls) -> LaunchState:
        """Record it, and flush all buffers, or jobs would write what is in them once more."""
        files = _open_files()
        _flush(files)
        flush_c_buffers()
        handlers: dict[int, Any] = {}
        for number in _CHANGED:
            handler = _get_signal(number)
            # Those that hsm itself has installed in this process know what was there before.
            while hasattr(handler, "replaced"):
                handler = handler.replaced
            handlers[number] = int(handler) if isinstance(handler, int) else handler
        return cls(handlers, capture(), files, process_name())

    @classmethod
    def take_for_forks(cls, exit_hooks: bool) -> LaunchState:
        """The same, and what forked jobs would share; for the thread that is about to fork."""
        from hsm.core.local import own_files  # A spawned job has no use for the two.
        from hsm.core.local.own_memory import SharedMemory

        return replace(
            cls.take(),
            is_forked=True,
            opened=own_files.find(),
            memory=SharedMemory.find(),
            exit_hooks=exit_hooks,
        )

    def restore_signals(self) -> None:
        """Give every signal its disposition back, and let all of them in."""
        for number, handler in self.signals.items():
            if handler is not None:  # None: installed from C (faulthandler), so still in place
                _set_signal(number, handler)
        _set_mask(signal.SIG_SETMASK, ())


def _do_nothing(number: int, frame: FrameType | None) -> None:
    """A signal's handler: unlike SIG_IGN, it does not outlive an exec."""


def _ignore_signals() -> None:
    """Leave to the launcher what is meant for it, and to each system call what it has to tell."""
    for number in _MEANT_FOR_THE_LAUNCHER:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _do_nothing)
    for number in _NO_ENDS:
        if signal.getsignal(number) is not None:  # None: installed from C, and could not come back
            signal.signal(number, signal.SIG_IGN)


def become_server(state: LaunchState) -> None:
    """In the fork server: drop what is the launcher's own, and keep its objects as they are.

    Garbage collection would touch, and so copy, every page that the jobs share. What is done here
    is done once; what is left to the jobs costs each of them pages of its own.
    """
    gc.freeze()
    if state.is_forked:
        _own_streams()
    state.opened[:] = [file for file in state.opened if file.is_open()]
    _forget_exit_hooks(state.exit_hooks)
    _forget_finalizers()
    if state.memory is not None:
        state.memory.own()
    _ignore_signals()


def _forget_exit_hooks(but_the_apps: bool) -> None:
    if not but_the_apps:
        atexit._clear()
        return
    # Each job registers these two for itself.
    atexit.unregister(logging.shutdown)
    if (util := sys.modules.get("multiprocessing.util")) is not None:
        atexit.unregister(util._exit_function)


def _forget_finalizers() -> None:
    """Drop the launcher's `weakref.finalize` objects: a TemporaryDirectory of the script's, say.

    Their exit hook was cleared too; the next such object registers it anew.
    """
    weakref.finalize._registry.clear()  # type: ignore[attr-defined]
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]


def enter_job(state: LaunchState) -> None:
    """In a job's process, before its function is called."""
    set_process_name(state.name)
    state.random.apply(is_forked=state.is_forked)
    tempfile.tempdir = None
    for file in state.opened:
        file.reopen()
    if state.memory is not None:
        state.memory.own()
    # The last that is registered runs first: this comes after the job's own hooks.
    atexit.register(telemetry.flush)
    _forget_multiprocessing()
    if state.memory is not None:
        state.memory.hold()
    atexit.register(logging.shutdown)
    if not state.is_forked:
        _own_streams()


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
    # An app with torch has half a million objects: this way they take a third of a loop's time.
    objects = gc.get_objects()
    return list(itertools.compress(objects, map(_BUFFERED.__contains__, map(type, objects))))


def _flush(files: list[Any]) -> None:
    # Text first: it flushes into the binary buffer below it.
    for file in sorted(files, key=_is_binary):
        try:
            if not file.closed and file.writable():
                file.flush()
        except Exception:
            continue  # A pipe without reader, a full disk: as at any interpreter's end.


def _is_binary(file: Any) -> bool:
    return type(file) in _BINARY


def _own_streams() -> None:
    """Have `sys.stdout` and `sys.stderr` write to descriptors 1 and 2, line by line.

    In the launcher they may have been anything: a notebook's, a pytest's. There is nothing to read.
    """
    for fd, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        if fd == 0 or not _is_open(fd):
            nothing = os.open(os.devnull, flags)
            if nothing == fd:
                os.set_inheritable(fd, True)
            else:
                os.dup2(nothing, fd)
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


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _fileno(stream: Any) -> int:
    try:
        return int(stream.fileno())
    except (OSError, ValueError):
        return -1


def _forget_multiprocessing() -> None:
    """Have the job neither wait for the launcher's children and helper processes nor end them."""
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
