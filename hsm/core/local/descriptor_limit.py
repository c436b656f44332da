"""The limit on open files: enough for the launcher while it has sources, and unchanged for jobs.

The soft limit of a shell is 1024 for the sake of old programs that use select(2). So this process
gets only what its sources need, and its jobs get the limit that it had before.
"""

from __future__ import annotations

import os
import resource
import threading
from contextlib import suppress
from dataclasses import replace

from hsm.core.at_fork import in_child
from hsm.core.settings.resolve import LocalConf

#: Descriptors of a source, and of each of its slots: a socket and a file that is being read or
#: written, or in the fork server a socket and two pipes; and two more to follow a job's output.
_OF_SOURCE, _OF_SLOT, _OF_OUTPUT = 64, 3, 2
_UNLIMITED = resource.RLIM_INFINITY


class DescriptorLimit:
    """Raises the soft limit as far as a source needs it, until `close`."""

    def __init__(self, conf: LocalConf) -> None:
        self._conf = conf
        self.allow(conf.max_parallel_jobs)

    def allow(self, jobs: int) -> None:
        """Raise the limit for so many jobs at once."""
        conf = replace(self._conf, max_parallel_jobs=max(jobs, self._conf.max_parallel_jobs))
        _limit.raise_for(self, needed_descriptors(conf))

    def keep_up(self) -> None:
        """Raise the limit again if many files were opened since: each open sweep has three."""
        _limit.keep_up()

    def close(self) -> None:
        """Restore the limit, if no other source needs it. Idempotent."""
        _limit.give_back(self)


def needed_descriptors(conf: LocalConf) -> int:
    """About how many files a source opens."""
    of_slot = _OF_SLOT + (_OF_OUTPUT if conf.show_output else 0)
    slots: int = conf.max_parallel_jobs
    return _OF_SOURCE + slots * of_slot


def soft_limit_of_jobs() -> int:
    """The soft limit that this process would have without any source."""
    return _limit.before()


class _SoftLimit:
    """This process's soft limit, and who needs how much of it. Thread-safe."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._needs: dict[object, int] = {}
        self._before = self._raised = 0  # the limits before and after it was raised

    def raise_for(self, user: object, need: int) -> None:
        with self._mutex:
            soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            if not self._needs or soft != self._raised:  # the app has changed it in between
                self._before = soft
            self._needs[user] = need
            self._raise(_count_open())

    def keep_up(self) -> None:
        with self._mutex:
            if self._raised != _UNLIMITED and _next() + sum(self._needs.values()) > self._raised:
                self._raise(2 * _count_open())

    def _raise(self, opened: int) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        total = opened + sum(self._needs.values())
        if hard != _UNLIMITED:
            total = min(total, hard)
        if soft != _UNLIMITED and soft < total:
            with suppress(OSError, ValueError):  # macOS says "unlimited", but refuses it
                resource.setrlimit(resource.RLIMIT_NOFILE, (total, hard))
        self._raised = resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    def give_back(self, user: object) -> None:
        with self._mutex:
            if self._needs.pop(user, None) is None or self._needs:
                return
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            if soft == self._raised:
                with suppress(OSError, ValueError):
                    resource.setrlimit(resource.RLIMIT_NOFILE, (self._before, hard))

    def before(self) -> int:
        with self._mutex:
            soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            return self._before if self._needs and soft == self._raised else soft

    def forget(self) -> None:
        """In a forked child, which hsm gives the limit of jobs."""
        self._mutex = threading.Lock()
        self._needs = {}


_limit = _SoftLimit()
in_child(_limit, _SoftLimit.forget)


def _next() -> int:
    """The lowest free descriptor, which is about the number of open files."""
    fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.close(fd)
    return fd


def _count_open() -> int:
    try:
        return len(os.listdir("/dev/fd"))
    except OSError:
        return 3
