"""What a fork server does, once, so that the jobs forked from it see nothing of the launcher.

The rest each job does for itself, see `hsm.core.program.isolation`: what is done there costs each
of them pages of its own.
"""

from __future__ import annotations

import atexit
import gc
import logging
import signal
import sys
import weakref
from dataclasses import replace
from types import FrameType

from hsm.core.program.isolation import MEANT_FOR_THE_LAUNCHER, NO_ENDS, LaunchState, own_streams


def take_for_forks(exit_hooks: bool) -> LaunchState:
    """`LaunchState.take`, and what forked jobs would share; for the thread that is about to fork.

    Args:
        exit_hooks: whether the exit hooks that the app has registered run in each job.
    """
    from hsm.core.local.processes import own_files  # A spawned job has no use for the two.
    from hsm.core.local.processes.own_memory import SharedMemory

    return replace(
        LaunchState.take(),
        is_forked=True,
        opened=[*own_files.find()],
        memory=SharedMemory.find(),
        exit_hooks=exit_hooks,
    )


def _do_nothing(number: int, frame: FrameType | None) -> None:
    """A signal's handler: unlike SIG_IGN, it does not outlive an exec."""


def _ignore_signals() -> None:
    """Leave to the launcher what is meant for it, and to each system call what it has to tell."""
    for number in MEANT_FOR_THE_LAUNCHER:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _do_nothing)
    for number in NO_ENDS:
        if signal.getsignal(number) is not None:  # None: installed from C, and could not come back
            signal.signal(number, signal.SIG_IGN)


def become_server(state: LaunchState) -> None:
    """In the fork server: drop what is the launcher's own, and keep its objects as they are.

    Garbage collection would touch, and so copy, every page that the jobs share. What is done here
    is done once; what is left to the jobs costs each of them pages of its own.
    """
    gc.freeze()
    if state.is_forked:
        own_streams()
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
