"""Giving each job its own copy of the memory that `multiprocessing` shares between processes.

A lock, semaphore or Event that the app made at import is in memory that forks share. If a job is
killed while it holds one, all others would wait forever; and what one job writes to a `Value`,
another would read. So this memory is replaced by a copy, at the same addresses:

    launching process: find()    which memory there is
    fork server:       own()     a copy as of the launch, independent of the launching process
    each job:          own()     a copy of that, shared only with the job's own processes

The locks of a queue stay shared, like its pipe. So do locks kept in the same object as a queue: a
logger that sends its records to a thread of the launching process waits for its answer.

Python objects do not change, so references to a lock, or to its bound `acquire`, remain valid.
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

#: Bytes of an arena of the heap. Larger ones hold data rather than state, and stay shared.
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
        lock: the SemLock.
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
        """Replace its memory by a copy."""
        _replace(self.lock._semlock.handle, mmap.PAGESIZE)

    def hold(self) -> None:
        """Make the job hold the lock like the launching thread, and pass it on as the job's own.

        A lock that another thread or process held, and that only it could release, becomes free.
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
        """Replace its memory by a copy, and the file that a spawned child of the job would map."""
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
    """The memory that each job gets a copy of.

    Attributes:
        locks: all kinds of locks, including those inside an Event, Condition, Barrier or Value.
        arenas: the arenas of the heap.
    """

    locks: tuple[_Lock, ...] = ()
    arenas: tuple[_Arena, ...] = ()

    @classmethod
    def find(cls) -> SharedMemory:
        """Find the memory; call this in the thread that is about to fork."""
        if not LINUX:
            return cls()
        return cls(tuple(map(_Lock.of, _locks())), tuple(map(_Arena, _arenas())))

    def own(self) -> None:
        """Give this process its own copy, which its forks will share."""
        for lock in self.locks:
            lock.own()
        for arena in self.arenas:
            arena.own()

    def hold(self) -> None:
        """In a job, after `own` and multiprocessing's fork hooks: hold the locks again."""
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
        # sem_open maps each semaphore to a page of its own.
        if id(lock) not in with_queues and lock._semlock.handle % mmap.PAGESIZE == 0:
            yield lock


def _beside_queues() -> set[int]:
    """Return the id()s of the locks of queues, and of locks in objects that have a queue."""
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
        if "__builtins__" not in attributes:  # skip the globals of modules and exec()
            _add_locks(list(attributes.values()), found)
    return found


def _add_locks(values: list[Any], found: set[int]) -> None:
    """Add the id()s of the locks among `values`, including those inside an Event or Condition."""
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
    """Replace `size` bytes by a copy in memory that only this process and its forks share.

    Args:
        address: the start of the memory.
        size: its length in bytes.
        file: the file to map; by default, anonymous memory.
    """
    content = ctypes.string_at(address, size)
    flags = mmap.MAP_SHARED | _MAP_FIXED | (mmap.MAP_ANONYMOUS if file < 0 else 0)
    _map("mmap", address, size, _PROTECTION, flags, file, 0)
    ctypes.memmove(address, content, size)


def _named_state(lock: Any) -> tuple[Any, ...]:
    """Replace `SemLock.__getstate__` of a job's own copy, for processes that the job spawns.

    A spawned process opens the semaphore by name, and would get the launching process's. So on
    first use, the copy gets a name of its own.
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
        # With a length of 0, mremap keeps the old mapping and maps the same memory again.
        _map("mremap", named.handle, 0, mmap.PAGESIZE, _MREMAP_MAYMOVE_FIXED, semaphore.handle)
    return semaphore.handle, semaphore.kind, semaphore.maxvalue, name


def _map(call: str, address: int, *arguments: int) -> None:
    """Call mmap or mremap. Raises OSError."""
    function = getattr(_libc, call)
    function.restype = ctypes.c_void_p
    # Pass all as register-wide longs; the functions read their int arguments from the lower half.
    if function(ctypes.c_void_p(address), *map(ctypes.c_long, arguments)) == _MAP_FAILED:
        error = ctypes.get_errno()
        raise OSError(error, f"{call}: {os.strerror(error)}")


def _post(handle: int) -> None:
    _libc.sem_post(ctypes.c_void_p(handle))
