"""Hiding the launcher's state from forked jobs: the part that the fork server does once.

Each job does the rest for itself, in `hsm.core.program.isolation`. Everything done there costs each
job memory pages of its own.
"""

from __future__ import annotations

import atexit
import gc
import signal
import sys
from types import FrameType

from hsm.core.program.isolation import MEANT_FOR_THE_LAUNCHER, NO_ENDS, LaunchState, own_streams
from hsm.core.program.warning_places import pass_over_hsm


def take_for_forks(exit_hooks: bool) -> LaunchState:
    """Take the launch state, with files and memory that forks would share, in the forking thread.

    Args:
        exit_hooks: whether exit hooks that the app has registered run in each job.
    """
    from hsm.core.local.processes import own_files  # Spawned jobs need neither of the two.
    from hsm.core.local.processes.own_memory import SharedMemory

    return LaunchState.take()._replace(
        is_forked=True,
        opened=[*own_files.find()],
        memory=SharedMemory.find(),
        exit_hooks=exit_hooks,
    )


def _do_nothing(number: int, frame: FrameType | None) -> None:
    """A signal handler which, unlike SIG_IGN, does not survive an exec."""


def _ignore_signals(state: LaunchState) -> None:
    """Ignore signals meant for the launcher; let system calls fail with errors, not signals."""
    for number in MEANT_FOR_THE_LAUNCHER:
        if state.signals[number] is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _do_nothing)
    for number in NO_ENDS:
        if state.signals[number] is not None:
            signal.signal(number, signal.SIG_IGN)


def become_server(state: LaunchState) -> None:
    """In the fork server: drop what belongs to the launcher, without touching its other objects.

    Objects are frozen, because garbage collection would touch, and so copy, every page that the
    jobs share.
    """
    gc.freeze()
    if state.is_script:
        _ignore_signals(state)
        return
    if state.is_forked:
        own_streams()
        pass_over_hsm()
    state.opened[:] = [file for file in state.opened if file.is_open()]
    _forget_exit_hooks(keep_apps=state.exit_hooks)
    _forget_finalizers()
    if state.memory is not None:
        state.memory.own()
    _ignore_signals(state)


def _forget_exit_hooks(*, keep_apps: bool) -> None:
    if not keep_apps:
        atexit._clear()
        return
    # Each job registers these two again.
    if (logging := sys.modules.get("logging")) is not None:
        atexit.unregister(logging.shutdown)
    if (util := sys.modules.get("multiprocessing.util")) is not None:
        atexit.unregister(util._exit_function)


def _forget_finalizers() -> None:
    """Drop the launcher's `weakref.finalize` objects, such as that of a TemporaryDirectory.

    Their exit hook was cleared as well; the next such object registers it again.
    """
    if (weakref := sys.modules.get("weakref")) is not None:
        weakref.finalize._registry.clear()
        weakref.finalize._registered_with_atexit = False
