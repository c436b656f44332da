"""Choosing how to start the processes of Python jobs: fork the launching process, or spawn.

A fork takes milliseconds and inherits everything that is loaded. But it has only the thread that
forked, and it shares its parent's descriptors. So before starting a fork server, hsm looks for what
speaks against a fork:

    _find_threads  Python's threads: a lock that one of them holds stays locked forever
    find_pools     threads of C libraries, some of which wait for them in vain
    find_shared    descriptors: connections, pipes, event loops, a GPU driver
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import FrameType

from hsm.core.local.fork_safety.finding import Finding, listed
from hsm.core.own_process import LINUX
from hsm.core.own_threads import OWN_THREADS

#: Outermost modules of threads that only serve a test runner: pytest-xdist's.
_RUNNERS = frozenset(("execnet.gateway_base",))
_NOT_LINUX = Finding("this is not Linux", is_harmful=False)


@dataclass(frozen=True)
class ServerStart:
    """How the jobs of a function are started, and what speaks against a fork.

    Attributes:
        start_method: "fork" or "spawn"; for a script "warm" or "cold".
        reason: why the method is not the expected one; None if it is.
        found: what speaks against a fork, in short clauses; empty if spawn was asked for.
        time: when the server was started, in Unix seconds.
    """

    start_method: str
    reason: str | None = None
    found: tuple[str, ...] = ()
    time: float = field(default_factory=time.time)


def look() -> list[Finding]:
    """Find what speaks against this thread forking this process, harmful findings first.

    Tells OpenMP runtimes to end their threads, and reports only those that remain. Takes a few
    milliseconds at most.
    """
    if not LINUX:
        return [_NOT_LINUX]
    # Sweeps of commands need neither.
    from hsm.core.local.fork_safety.descriptors import find_shared
    from hsm.core.local.fork_safety.native_pools import find_pools

    threads = threading.enumerate()
    frames = sys._current_frames()
    # Drop this thread's own frame: the reference to itself would keep it alive, with everything
    # that its callers hold, such as a launcher whose sweep ends when the launcher is deleted.
    frames.pop(threading.get_ident(), None)
    known = {thread.ident for thread in threads}
    # Threads that were started with `_thread` directly.
    nameless = [frame for ident, frame in frames.items() if ident not in known]
    found = [
        *_find_threads(threads, frames, nameless),
        *find_pools({thread.native_id for thread in threads if thread.native_id}, len(nameless)),
        *find_shared(),
    ]
    return sorted(found, key=lambda finding: not finding.is_harmful)


def _find_threads(
    threads: list[threading.Thread], frames: Mapping[int, FrameType], nameless: list[FrameType]
) -> Iterator[Finding]:
    """Yield a finding if Python has threads other than this one and hsm's own."""
    here = threading.current_thread()
    names = [
        thread.name
        for thread in threads
        if thread is not here
        and not thread.name.startswith(OWN_THREADS)
        and not _waits_for_jobs(frames.get(thread.ident or 0))
    ]
    modules = [_modules(frame)[-1] for frame in nameless]
    names += [f"one of {module}" for module in modules if module not in _RUNNERS]
    if names:
        text = f"the launching process has other threads ({listed(names)})"
        yield Finding(text, is_harmful=False)


def _waits_for_jobs(frame: FrameType | None) -> bool:
    """Whether a thread is waiting inside hsm, such as one that has submitted jobs."""
    calls = [module for module in _modules(frame) if module != "threading"]
    return bool(calls) and calls[0].startswith("hsm.")


def _modules(frame: FrameType | None) -> list[str]:
    """Return the modules of a frame and its callers, the innermost first."""
    modules = []
    while frame is not None:
        modules.append(str(frame.f_globals.get("__name__")))
        frame = frame.f_back
    return modules


def choose(asked: str) -> tuple[ServerStart, list[Finding]]:
    """Choose how to start jobs now; also return what speaks against a fork.

    Args:
        asked: "auto", "fork" or "spawn".
    """
    findings = [] if asked == "spawn" else look()
    found = tuple(finding.text for finding in findings)
    if asked != "auto":
        return ServerStart(asked, None, found), findings
    if not findings:
        return ServerStart("fork"), []
    more = f" (and {len(found) - 1} more; see hsm show)" if len(found) > 1 else ""
    return ServerStart("spawn", found[0] + more, found), findings
