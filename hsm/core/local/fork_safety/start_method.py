"""How the processes of Python jobs come to life: forked from the launching one, or spawned afresh.

A fork takes milliseconds and carries everything that is loaded; but a fork has only the thread that
forks, and shares what its parent has open. So before each fork server is started, hsm looks at what
speaks against it:

    find_threads   Python's threads: a lock that one of them held stays locked for ever
    find_pools     threads of C libraries, which some of these wait for in vain
    find_shared    descriptors: connections, pipes, event loops, a GPU's driver
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import FrameType

from hsm.core.engine.own_threads import OWN_THREADS
from hsm.core.local.fork_safety.finding import Finding, listed
from hsm.core.own_process import LINUX

#: Where the code of threads begins that serve a test runner alone: pytest-xdist's.
_RUNNERS = frozenset(("execnet.gateway_base",))
_NOT_LINUX = Finding("this is not Linux", is_harmful=False)


@dataclass(frozen=True)
class ServerStart:
    """How a fork server for a function is started, and what the look before it has found.

    Attributes:
        start_method: of its jobs: "fork" or "spawn".
        reason: why it is not what was to be expected; None if it is.
        found: what speaks against a fork, in short clauses; empty if nobody looked.
        time: when it was started, in Unix seconds.
    """

    start_method: str
    reason: str | None = None
    found: tuple[str, ...] = ()
    time: float = field(default_factory=time.time)


def look() -> list[Finding]:
    """What speaks against a fork of this process by this thread, what is worst first.

    OpenMP runtimes are told to end their threads: these are found only if they do not. Takes some
    milliseconds at most.
    """
    if not LINUX:
        return [_NOT_LINUX]
    from hsm.core.local.fork_safety.descriptors import (
        find_shared,  # Sweeps of commands need neither.
    )
    from hsm.core.local.fork_safety.native_pools import find_pools

    threads = threading.enumerate()
    frames = sys._current_frames()
    # This thread's own would be kept alive by itself, and with it all that its callers hold: a
    # launcher, whose sweep ends when it goes.
    frames.pop(threading.get_ident(), None)
    known = {thread.ident for thread in threads}
    # Those that only `_thread` knows.
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
    """Python's threads, other than this one and hsm's own."""
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
    """Whether a thread is inside hsm, as one that has submitted jobs is while a slot forks."""
    calls = [module for module in _modules(frame) if module != "threading"]
    return bool(calls) and calls[0].startswith("hsm.")


def _modules(frame: FrameType | None) -> list[str]:
    """The modules of a frame and of those that have called it, the innermost first."""
    modules = []
    while frame is not None:
        modules.append(str(frame.f_globals.get("__name__")))
        frame = frame.f_back
    return modules


def choose(asked: str) -> tuple[ServerStart, list[Finding]]:
    """How to start a fork server now, and what speaks against a fork.

    Args:
        asked: "auto", "fork" or "spawn".
    """
    findings = [] if asked == "spawn" else look()
    found = tuple(finding.text for finding in findings)
    if asked != "auto":
        return ServerStart(asked, None, found), findings
    if not findings:
        return ServerStart("fork"), []
    more = f" (and {len(found) - 1} more: hsm show tells)" if len(found) > 1 else ""
    return ServerStart("spawn", found[0] + more, found), findings
