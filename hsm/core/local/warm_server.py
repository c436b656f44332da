"""In the interpreter that does a script's imports for all its jobs: becoming their fork server.

    begin()   before the script's first import
    serve()   after the last one: tells the launcher whether jobs can be forked, and does that

If an import prints, fails or ends the process, the launcher notices: see `WarmStart`.
"""

from __future__ import annotations

import os
import pickle
import resource
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

import psutil

from hsm.core.local.cpu_shares import COUNT
from hsm.core.local.fork_safety import descriptors, native_pools
from hsm.core.local.fork_safety.start_method import look
from hsm.core.local.processes import own_files
from hsm.core.local.processes.job_process import ScriptBegins
from hsm.core.local.processes.messages import Channel, Imported
from hsm.core.local.processes.own_memory import SharedMemory
from hsm.core.local.processes.process_tree import become_subreaper, die_with_parent
from hsm.core.local.processes.server_process import serve as serve_jobs
from hsm.core.local.shared_objects import SharedObjects, finalize_at_exit
from hsm.core.own_process import set_process_name
from hsm.core.own_sockets import own
from hsm.core.program.import_watch import ImportWatch
from hsm.core.program.isolation import LaunchState, renew_multiprocessing
from hsm.core.program.made_generators import MadeGenerators

#: Used by functions that import them: here, before the script's directory is in the path, in which
#: anything may be named like a module that they need.
_NEEDED = (psutil, descriptors, native_pools)
#: Endings of files that Python imports.
_ENDINGS = ("py", "pyc", "so")


@dataclass
class _Begun:
    """What `begin` leaves for `serve`."""

    control: socket.socket
    launcher: int
    soft_limit: int
    scratch: str | None
    path: list[str]
    directory: str
    modules: frozenset[str]
    limits: tuple[int, int]
    watch: ImportWatch


_begun: list[_Begun] = []


def begin(script: str, directory: str | None) -> None:
    """Prepare this process for the script's imports.

    Args:
        script: its path, as a command line names it.
        directory: the first place to import from; None if that is not its directory.
    """
    fd, launcher, soft_limit, *scratch = sys.argv[1:]
    control = socket.socket(fileno=int(fd))
    control.set_inheritable(False)
    own(control)
    # Until it serves, it runs code of the app's, and may never look at its launcher.
    die_with_parent(signal.SIGKILL, int(launcher))
    become_subreaper()
    finalize_at_exit()
    sys.orig_argv[:] = [*sys.orig_argv[:2], script]
    sys.argv = [script]
    path = sys.path[:]
    if directory is not None:
        sys.path[0] = directory
    _begun.append(
        _Begun(
            control,
            int(launcher),
            int(soft_limit),
            scratch[0] if scratch else None,
            path,
            os.getcwd(),
            frozenset(name.partition(".")[0] for name in sys.modules),
            resource.getrlimit(resource.RLIMIT_NOFILE),
            ImportWatch(),
        )
    )


def serve(script: dict[str, Any], directory: str) -> tuple[str, list[str]]:
    """Be the fork server; return only in a job.

    Args:
        script: the script's globals.
        directory: where the script is.

    Returns:
        The job's own copy of the script, and the path without the script's directory.
    """
    begun = _begun.pop()
    shared = SharedObjects(script, begun.control)
    generators = MadeGenerators.find()
    channel = Channel(begun.control)
    state = LaunchState.take()._replace(
        is_forked=True,
        is_script=True,
        opened=[*own_files.find()],
        memory=SharedMemory.find(),
    )
    findings = look()
    why_not = next(_reasons(begun, directory), None)
    doubts = [
        each.text.replace("the launching process", "after its imports it") for each in findings
    ]
    if why_not is None and findings and findings[0].is_harmful:
        why_not = doubts[0]
    # The thread of the launcher that has waited for this may end from now on.
    die_with_parent(signal.SIGCONT, begun.launcher)
    channel.send(Imported(why_not, tuple(doubts)))
    _take_stderr(begun.control)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft_limit = begun.soft_limit if limits == begun.limits else limits[0]
    # Its libraries have read these, but a job may get fewer threads than they say.
    threads = dict(os.environ) if COUNT in os.environ else {}
    argument: bytes | None = None
    try:
        serve_jobs(begun.control, begun.launcher, state, None, begun.scratch, soft_limit, threads)
    except ScriptBegins as begins:
        argument = begins.argument
    shared.enter_job()
    _enter_job(state)
    generators.renew()
    assert argument is not None
    words, kept = pickle.loads(argument)
    _set_words(words)
    return kept, begun.path


def _take_stderr(control: socket.socket) -> None:
    """Wait until the launcher wants this server; write to the launcher's stderr from then on."""
    message, fds, _, _ = socket.recv_fds(control, 1, 1)
    if not message or not fds:
        os._exit(0)
    for stream in (1, 2):
        os.dup2(fds[0], stream)
    os.close(fds[0])


def _enter_job(state: LaunchState) -> None:
    """Make this fork what an interpreter is that has just done these imports itself."""
    set_process_name(state.name)
    threading.main_thread()._set_native_id()  # type: ignore[attr-defined]  # not all Pythons do
    state.random.apply(is_forked=True)
    for file in state.opened:
        file.reopen()
    if state.memory is not None:
        state.memory.own()
        state.memory.hold()
    renew_multiprocessing()


def _set_words(words: tuple[str, ...]) -> None:
    """Set the words that a job was started with: the interpreter, -u, the script, its arguments."""
    sys.orig_argv[:] = words
    sys.argv[:] = words[2:]


def _reasons(begun: _Begun, directory: str) -> Iterator[str]:
    """Yield what speaks against forks, apart from what any function's server looks at."""
    if (read := begun.watch.end()) is not None:
        yield f"an import {read}"
    if os.getcwd() != begun.directory:
        yield "an import changes the working directory"
    if _has_children():
        yield "an import starts processes"
    for name in sorted(_beside(directory)):
        # The script's own, or hsm's: one of the two would get the other's.
        if name in sys.modules and (name in begun.modules or name in sys.stdlib_module_names):
            yield f"{name} beside the script has the name of another module"
    if any(signal.getitimer(timer)[0] for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL)):
        yield "an import sets a timer"


def _has_children() -> bool:
    for listing in glob("/proc/self/task/*/children"):
        with suppress(OSError):
            if Path(listing).read_text().split():
                return True
    return False


def _beside(directory: str) -> Iterator[str]:
    """The names of modules and packages in a directory."""
    for entry in os.scandir(directory):
        stem, _, ending = entry.name.partition(".")
        if ending.endswith(_ENDINGS) or os.path.exists(os.path.join(entry.path, "__init__.py")):
            yield stem
