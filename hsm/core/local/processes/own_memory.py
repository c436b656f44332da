"""What `multiprocessing` shares between processes, given to each job as its own.

A lock, semaphore or Event that the app made at import lies in memory which a fork shares: a job
that is killed while it holds one would keep all others waiting for ever, and what one job writes to
a `Value`, another would read. So this memory is replaced by a copy, at the same addresses:

    launching process: find()    which memory there is
    fork server:       own()     as it is at launch, whatever the launching process does later
    each job:          own()     the same again, shared with the job's own processes alone

The locks of a queue stay shared, as its pipe does, and so do those that are kept together with one:
a logger that sends its records to a thread of the launching process waits for its answer.

Nothing in Python changes, so whoever holds a lock, or its bound `acquire`, has the job's own.
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import mmap
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from hsm.core.own_process import LINUX

#: Bytes of one piece of a heap that are copied for each job. What is larger is data, not state: it
#: stays shared.
MAX_SIZE = 16 << 20

_libc = ctypes.CDLL(None, use_errno=True)
_MAP_FIXED = 0x10  # linux/mman.h
_MREMAP_MAYMOVE_FIXED = 1 | 2
_MAP_FAILED = ctypes.c_void_p(-1).value
#: Bytes; glibc's and musl's sem_t have 32 or less.
_SEMAPHORE_SIZE = 32
_RECURSIVE = 0  # the kind of an RLock
_PROTECTION = mmap.PROT_READ | mmap.PROT_WRITE


@dataclass(frozen=True)
class _Lock:
    """A `multiprocessing.synchronize.SemLock`.

    Attributes:
        lock: the object.
        held: how often the launching thread had acquired it; None if another thread held it.
    """

    lock: Any
    held: int | None

    @classmethod
    def of(cls, lock: Any) -> _Lock:
        semaphore = lock._semlock
        count: int = semaphore._count()
        return cls(lock, count if not count or semaphore._is_mine() else None)

    def own(self) -> None:
        """Replace its memory."""
        _replace(self.lock._semlock.handle, mmap.PAGESIZE)

    def hold(self) -> None:
        """Have the job hold it as the launching thread did, and hand it on as the job's own.

        What another thread or process held, and could alone release, is free.
        """
        semaphore = self.lock._semlock
        is_unreleasable = self.held is None or semaphore.kind == _RECURSIVE
        if is_unreleasable and semaphore.maxvalue == 1:
            if semaphore._is_zero():
                _post(semaphore.handle)
            for _ in range(self.held or 0):
                semaphore.acquire()
        if semaphore.name is not None:
            self.lock.__getstate__ = partial(_named_state, self.lock)


@dataclass(frozen=True)
class _Arena:
    """A piece of the heap behind `Value` and `Array`."""

    arena: Any

    def own(self) -> None:
        """Replace its memory, and the file that a spawned child of the job would map."""
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.arena.buffer))
        size = self.arena.size
        file = os.memfd_create("hsm-heap", os.MFD_CLOEXEC)
        try:
            os.ftruncate(file, size)
            _replace(address, size, file)
            if self.arena.fd != -1:
                os.dup2(file, self.arena.fd, inheritable=os.get_inheritable(self.arena.fd))
        finally:
            os.close(file)


@dataclass(frozen=True)
class SharedMemory:
    """The memory that jobs are to have for themselves.

    Attributes:
        locks: of any kind, and those inside an Event, a Condition, a Barrier or a Value.
        arenas: of the heap.
    """

    locks: tuple[_Lock, ...] = ()
    arenas: tuple[_Arena, ...] = ()

    @classmethod
    def find(cls) -> SharedMemory:
        """Find it; to be called by the thread that is about to fork."""
        if not LINUX:
            return cls()
        return cls(tuple(map(_Lock.of, _locks())), tuple(map(_Arena, _arenas())))

    def own(self) -> None:
        """Give this process a copy of its own, which processes that it forks will share."""
        for lock in self.locks:
            lock.own()
        for arena in self.arenas:
            arena.own()

    def hold(self) -> None:
        """In a job, after `own` and multiprocessing's own fork hooks: hold the locks again."""
        for lock in self.locks:
            lock.hold()


def _locks() -> Iterator[Any]:
    synchronize = sys.modules.get("multiprocessing.synchronize")
    util = sys.modules.get("multiprocessing.util")
    if synchronize is None or util is None:
        return
    registered = list(util._afterfork_registry.values())
    locks = [one for one in registered if isinstance(one, synchronize.SemLock)]
    with_queues = _beside_queues() if locks else set()
    for lock in locks:
        # Each lies in a page of its own, as sem_open maps it.
        if id(lock) not in with_queues and lock._semlock.handle % mmap.PAGESIZE == 0:
            yield lock


def _beside_queues() -> set[int]:
    """Ids of the locks of each queue, and of those in objects that have a queue."""
    module = sys.modules.get("multiprocessing.queues")
    if module is None:
        return set()
    objects = gc.get_objects()
    kinds = (module.Queue, module.SimpleQueue)
    types = {kind for kind in set(map(type, objects)) if issubclass(kind, kinds)}
    queues = list(itertools.compress(objects, map(types.__contains__, map(type, objects))))
    del objects
    # An object's attributes are in a dict or, since Python 3.11, in the object itself.
    owners = [one for one in gc.get_referrers(*queues) if one is not queues] if queues else []
    found: set[int] = set()
    for owner in [*queues, *owners]:
        attributes = owner if isinstance(owner, dict) else getattr(owner, "__dict__", {})
        if "__builtins__" not in attributes:  # else it is a module, or what a function was given
            _add_locks(list(attributes.values()), found)
    return found


def _add_locks(values: list[Any], found: set[int]) -> None:
    """Add the ids of the locks among `values`, those inside an Event or a Condition included."""
    synchronize = sys.modules["multiprocessing.synchronize"]
    for value in values:
        if isinstance(value, synchronize.SemLock):
            found.add(id(value))
        elif type(value).__module__ == synchronize.__name__:
            _add_locks(list(vars(value).values()), found)


def _arenas() -> Iterator[Any]:
    heap = sys.modules.get("multiprocessing.heap")
    if heap is not None:
        for arena in heap.BufferWrapper._heap._arenas:
            if arena.size <= MAX_SIZE:
                yield arena


def _replace(address: int, size: int, file: int = -1) -> None:
    """Map memory that only this process and its forks share over `size` bytes, with their content.

    Args:
        file: what to map; anonymous memory by default.
    """
    content = ctypes.string_at(address, size)
    flags = mmap.MAP_SHARED | _MAP_FIXED | (mmap.MAP_ANONYMOUS if file < 0 else 0)
    _map("mmap", address, size, _PROTECTION, flags, file, 0)
    ctypes.memmove(address, content, size)


def _named_state(lock: Any) -> tuple[Any, ...]:
    """The `SemLock.__getstate__` of a job's own copy, for a process that the job spawns.

    That one opens the semaphore by its name, under which it finds the launching process's. So the
    copy gets a name of its own when it is first asked for it.
    """
    from multiprocessing import context, resource_tracker, util

    context.assert_spawning(lock)
    semaphore = lock._semlock
    name = lock.__dict__.get("_hsm_name")
    if name is None:
        name = lock._hsm_name = lock._make_name()
        named = type(semaphore)(semaphore.kind, 0, semaphore.maxvalue, name, False)
        resource_tracker.register(name, "semaphore")
        util.Finalize(lock, lock._cleanup, (name,), exitpriority=0)
        ctypes.memmove(named.handle, semaphore.handle, _SEMAPHORE_SIZE)
        # A length of 0 leaves the mapping where it is, and maps the same memory there too.
        _map("mremap", named.handle, 0, mmap.PAGESIZE, _MREMAP_MAYMOVE_FIXED, semaphore.handle)
    return semaphore.handle, semaphore.kind, semaphore.maxvalue, name


def _map(call: str, address: int, *arguments: int) -> None:
    """Call mmap or mremap. Raises OSError."""
    function = getattr(_libc, call)
    function.restype = ctypes.c_void_p
    # Each as wide as a register: what the functions take as int is in its lower half.
    if function(ctypes.c_void_p(address), *map(ctypes.c_long, arguments)) == _MAP_FAILED:
        error = ctypes.get_errno()
        raise OSError(error, f"{call}: {os.strerror(error)}")


def _post(handle: int) -> None:
    _libc.sem_post(ctypes.c_void_p(handle))
