"""What a place has to do so that jobs run there: the contract between the engine and a backend.

    prepare(function) --> Work: what jobs do, and how the place does it
    attempt(work, launch) --> Attempt
        start() --> started() --> ended(), perhaps after end(grace) --> close()

The engine decides which job runs, when it has run for too long, what its end means and what comes
next; it writes the record and tells observers. A backend starts processes somewhere, ends them, and
tells how they ended. The two share a file system: logs and reports are files of the sweep.

Every method may be called from any thread, and those of several attempts at the same time. No wait
is without a bound but those for a job's own end and for room: whatever a place does or leaves
undone (it hangs, is stopped, was killed), the methods return or raise one of the errors here.

If the launching process dies, whatever a backend has started here ends soon, and without its help.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from hsm.core.errors import HsmError

if TYPE_CHECKING:
    from hsm.core.record.journal import Journal

#: CPU in percent of one core, and resident bytes, of all processes of a job; None: not known (yet).
Usage = tuple[float | None, int | None]


class CannotStart(HsmError):
    """A job got no process there, and this attempt has failed; says why."""


class PlaceGone(HsmError):
    """Where an attempt was to run is gone, and nothing has started there: ask for another."""


class JobLost(HsmError):
    """A job was killed together with what looked after it; nothing of it is left."""


@dataclass(eq=False)
class Work:
    """What jobs do: call a function with their argument, or exec a command.

    Attributes:
        function: for a Python job.
        command: for the others, word by word.
        how: of a function, how the place runs it, for the record; a new mapping whenever that
            changes. None if there is nothing to tell.
    """

    function: Callable[[Any], Any] | None = None
    command: tuple[str, ...] | None = None
    how: Mapping[str, Any] | None = field(default=None, repr=False)
    _recorded: dict[Journal, Mapping[str, Any]] = field(
        default_factory=dict, init=False, repr=False
    )
    _mutex: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def record_how(self, journal: Journal) -> None:
        """Write into `journal` how the place runs it, unless that is there.

        Raises:
            OSError, JournalLost: see `Journal.append`.
        """
        how = self.how
        with self._mutex:
            if how is None or self._recorded.get(journal) is how:
                return
            self._recorded[journal] = how
        journal.append("server", keep=True, **how)


@dataclass(frozen=True)
class Launch:
    """What a job's process is to be.

    Attributes:
        num: the job's number in its sweep.
        env: variables to set on top of the launching process's. A backend gives it a TMPDIR.
        root: the sweep's directory.
        stdout, stderr: log files below it, in one directory; appended to, and every byte is kept.
        header: a line to write into both first; None for the first attempt.
        cwd: working directory.
        command: what to exec; None for the work's function. One that is not there, or cannot be
            executed, has ended with 127 or 126, and a line ``hsm: <program>: <reason>`` in stderr.
        argument: pickled argument of that function.
        result: where its report goes, see `hsm.core.program.reports`.
        grace: seconds that processes which the job leaves behind get between SIGTERM and SIGKILL.
    """

    num: int
    env: dict[str, str]
    root: str
    stdout: str
    stderr: str
    cwd: str
    command: tuple[str, ...] | None
    argument: bytes | None
    result: str
    grace: float
    header: str | None = None


@dataclass(frozen=True)
class Started:
    """The job has a process.

    Attributes:
        pid: its process on this machine, for the record; None if it has none here.
        log_sizes: where its part of stdout's and of stderr's log begins, in bytes: at its header,
            which begins a line, if it has one.
    """

    pid: int | None
    log_sizes: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Ended:
    """How a job's process ended. It is gone, and so is all that it left behind.

    Attributes:
        exit_code: None if a signal ended it.
        signal: that signal's name, ``"SIGKILL"``.
        asked: whether `Attempt.end` came while it still ran: it may have ended because of that.
        cpu_seconds: user and system time of all its processes; None if it is not known.
        max_memory: the most bytes that they held; None if it is not known.
        out_of_memory: why its end counts as one for want of memory, in a line; None if it does not.
        report: what a function's job has told of itself by the way, see `report.write`; what is not
            told is read from the file.
        lost: what of its output is not in its logs, and why; None if all of it is.
    """

    exit_code: int | None
    signal: str | None = None
    asked: bool = False
    cpu_seconds: float | None = None
    max_memory: int | None = None
    out_of_memory: str | None = None
    report: bytes | None = None
    lost: str | None = None


class Attempt(Protocol):
    """One attempt of one job, opaque to the engine: a process, a task of an allocation, a step.

    The engine calls `start` once, then, if that raised nothing, `started`, then `ended` until it
    returns an `Ended`; `end` from any thread at any time after `start`; `usage` at any time; and
    `close` in any case, once, when nobody can call `end` any more.
    """

    def start(self) -> None:
        """Have the job started; `started` then tells of it. Must not wait: a lock is held.

        What takes a while, such as a fork, may be left to `started`.

        Raises:
            PlaceGone: nothing was started.
        """

    def started(self) -> Started:
        """Wait until the job has a process.

        Raises:
            CannotStart, JobLost.
        """

    def ended(self, deadline: float | None) -> Ended | None:
        """How the job ended; None if it still runs at `deadline` (`time.monotonic()`).

        Once `end` was called, this returns or raises soon after the grace that was given there.

        Raises:
            JobLost.
        """

    def end(self, grace: float) -> None:
        """Have all that the job has started ended: SIGTERM now, SIGKILL `grace` seconds later.

        Returns at once. May be called again, to shorten the grace, and when the job has ended.
        """

    def usage(self) -> Usage:
        """What the job uses now; a sample may be some seconds old."""
        return None, None

    def close(self) -> None:
        """Free what the attempt holds. A job that still runs is killed first: nothing is left.

        Raises nothing. May come after the backend's `close`.
        """


class Backend(Protocol):
    """A place where jobs run."""

    def prepare(self, function: Callable[[Any], Any] | None) -> Work:
        """Get ready to run a function (None: commands); the same work for the same function.

        Called by the thread that submits jobs, before any of them starts.

        Raises:
            HsmError: the place cannot run it.
        """

    def wait_for_room(self, is_wanted: Callable[[], bool], notice: Callable[[str], None]) -> None:
        """Wait until the place has room for one job more; a job's thread calls it before `attempt`.

        Args:
            is_wanted: whether the job still is to start; looked at every second at least.
            notice: tells people in a line why jobs wait; not again while it lasts.
        """

    def attempt(self, work: Work, launch: Launch) -> Attempt:
        """A place for one attempt of a job, and all that is needed there.

        Args:
            work: what `prepare` returned or, for a command, any other: `launch.command` says all.

        Raises:
            CannotStart: there is none.
        """

    def close(self) -> None:
        """End whatever still runs and free everything. Idempotent."""
